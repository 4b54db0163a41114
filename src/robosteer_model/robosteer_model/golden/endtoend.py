"""Checks the whole policy: raw observation to model inputs to actions, on a checkpoint of openpi."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_model.checkpoint import load_checkpoint
from robosteer_model.golden.checkpoints import checkpoint_beside
from robosteer_model.golden.model_file import Arrays, below, load_arrays, model_config
from robosteer_model.golden.report import BFLOAT16_TOLERANCE, Comparison, compare, compare_exact, miss
from robosteer_model.policy import Policy
from robosteer_model.tokenizer import SentencePiece
from robosteer_model.transforms import Transforms

NAME = re.compile(r"(?P<set>.+)_e2e_(?P<kind>.+)")
KEY = re.compile(r"\d+/(in|mid|out)/.+")


def claims(keys: frozenset[str]) -> frozenset[str]:
    """Every key of a file of numbered requests."""
    return keys if keys and all(KEY.fullmatch(key) for key in keys) else frozenset()


def check(path: Path) -> Iterator[Comparison]:
    """Compare what reaches the model exactly, and the actions within bfloat16's tolerance.

    Actions are computed at openpi's shapes, and again without absent cameras and prompt padding.
    """
    match = NAME.fullmatch(path.stem)
    if match is None:
        yield miss("0/out/actions", f"found {path.name}, expected <set>_e2e_<kind>.npz beside its checkpoint")
        return
    arrays = load_arrays(path)
    sizes = load_arrays(path.with_name(f"{match['set']}_ckpt_{match['kind']}_params.npz"))
    source = checkpoint_beside(path, match["set"], match["kind"])
    checkpoint = load_checkpoint(source, config=model_config(sizes, "bf16"), dtype="compute")
    tokenizer = SentencePiece.from_file(path.with_name(f"{match['set']}_tokenizer.model"))
    for keep_absent in (True, False):
        transforms = Transforms(checkpoint.config, checkpoint.norm_stats, tokenizer, keep_absent=keep_absent)
        policy = Policy(checkpoint, transforms=transforms, full_prompt=keep_absent)
        for index in sorted({name.split("/")[0] for name in arrays}, key=int):
            request = below(arrays, f"{index}/")
            raw = {name.replace("|", "/"): value for name, value in below(request, "in/").items()}
            noise = raw.pop("noise")
            if keep_absent:
                yield from _inputs(index, below(request, "mid/"), transforms.inputs(raw))
            suffix = "" if keep_absent else " (pruned)"
            actions = policy.infer(raw, noise)["actions"]
            yield compare(f"{index}/out/actions{suffix}", actions, request["out/actions"], BFLOAT16_TOLERANCE)


def _inputs(index: str, expected: Arrays, inputs: dict[str, Any]) -> Iterator[Comparison]:
    found = {name: value for name, value in inputs.items() if not isinstance(value, dict)}
    found |= {f"image_uint8/{name}": image for name, image in inputs["image"].items()}
    found |= {f"image_mask/{name}": mask for name, mask in inputs["image_mask"].items()}
    for name, value in expected.items():
        key = f"{index}/mid/{name}"
        if name not in found:
            yield miss(key, "our transforms give nothing of this name")
        elif value.dtype.kind == "f":
            yield compare(key, np.asarray(found[name])[None], value)
        else:
            yield compare_exact(key, np.asarray(found[name])[None], value)
