"""Checks the functions around the model: images, statistics, transforms, state bins, wire format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.augmentation import augment_images
from robosteer_model.config import ModelConfig, ModelType, pi0, pi0_fast, pi05
from robosteer_model.golden.model_file import Arrays, below, load_arrays
from robosteer_model.golden.report import Comparison, compare, compare_exact, miss
from robosteer_model.images import convert_to_uint8, resize_with_pad, resize_with_pad_pil
from robosteer_model.layouts import DROID
from robosteer_model.norm_stats import (
    NormStats,
    RunningStats,
    norm_stats_from_json,
    norm_stats_to_json,
    normalize,
    unnormalize,
)
from robosteer_model.serving.wire import pack, unpack
from robosteer_model.tokenizer import discretize_state
from robosteer_model.transforms import absolute_actions, delta_actions, pad_to_dim

Check = Callable[[Arrays], Iterator[Comparison]]
MODELS: dict[ModelType, Callable[[], ModelConfig]] = {"pi0": pi0, "pi05": pi05, "pi0_fast": pi0_fast}
# Histogram edges are float64 in openpi; z-scores and float32 arrays differ by rounding only.
EXACT = 1e-9


def claims(keys: frozenset[str]) -> frozenset[str]:
    """The keys of the functions below, in a file that also has other units."""
    groups = {key.split("/")[0] for key in keys}
    return frozenset(key for key in keys if key.split("/")[0] in CHECKS) if len(groups) > 1 else frozenset()


def check(path: Path) -> Iterator[Comparison]:
    """Compare what every function gives."""
    arrays = load_arrays(path)
    for group, compare_group in CHECKS.items():
        mine = below(arrays, f"{group}/")
        if not mine:
            continue
        # Normalisation needs the statistics' text, padding the arrays of `delta/`.
        context = mine | {f"/{name}": value for name, value in arrays.items()}
        for result in compare_group(context):
            yield Comparison(f"{group}/{result.name}", result.error, result.tolerance, result.ok, result.note)


def _own(arrays: Arrays) -> Arrays:
    return {name: value for name, value in arrays.items() if not name.startswith("/")}


def _resize(arrays: Arrays) -> Iterator[Comparison]:
    for case in sorted({name.split("/")[0] for name in _own(arrays)}):
        image = arrays[f"{case}/image_uint8"]
        height, width = (int(n) for n in arrays[f"{case}/target_hw"])
        as_float = image.astype(np.float32) / 255.0 * 2.0 - 1.0
        yield compare_exact(f"{case}/pil_uint8", resize_with_pad_pil(image, height, width), arrays[f"{case}/pil_uint8"])
        found = resize_with_pad(jnp.asarray(image), height, width)
        yield compare_exact(f"{case}/jax_uint8", found, arrays[f"{case}/jax_uint8"])
        found = resize_with_pad(jnp.asarray(as_float), height, width)
        yield compare(f"{case}/jax_float", found, arrays[f"{case}/jax_float"])


def _convert(arrays: Arrays) -> Iterator[Comparison]:
    yield compare_exact("out", convert_to_uint8(arrays["in"]), arrays["out"])


def _augment(arrays: Arrays) -> Iterator[Comparison]:
    images = {name: jnp.asarray(image) for name, image in below(arrays, "in/").items()}
    found = augment_images(jax.random.key(int(arrays["key_seed"])), images)
    for name, expected in below(arrays, "out/").items():
        yield compare(f"out/{name}", found[name], expected)


def _running_stats(arrays: Arrays) -> Iterator[Comparison]:
    running = RunningStats()
    for name in sorted((n for n in _own(arrays) if n.startswith("batch")), key=lambda n: int(n[5:])):
        running.update(arrays[name])
    stats = running.result()
    for name in ("mean", "std"):
        yield compare(name, getattr(stats, name), arrays[name])
    for name in ("q01", "q99"):
        yield compare(name, getattr(stats, name), arrays[name], EXACT)


def _stats(arrays: Arrays) -> dict[str, NormStats]:
    return norm_stats_from_json(str(arrays["/normalize/norm_stats_json"]))


def _normalize(arrays: Arrays) -> Iterator[Comparison]:
    stats = _stats(arrays)
    text = str(arrays["norm_stats_json"])
    yield compare_exact("norm_stats_json", norm_stats_to_json(stats), text)
    for kind in ("zscore", "quantile"):
        for name, expected in below(arrays, f"{kind}/").items():
            field = "actions" if name.startswith("actions") else "state"
            found = normalize(arrays[name], stats[field], quantile=kind == "quantile")
            yield compare(f"{kind}/{name}", found, expected)


def _unnormalize(arrays: Arrays) -> Iterator[Comparison]:
    stats = _stats(arrays)
    for name, expected in _own(arrays).items():
        kind, what = name.split("/")
        field = "actions" if what.startswith("actions") else "state"
        found = unnormalize(arrays[f"/normalize/{what}"], stats[field], quantile=kind == "quantile")
        yield compare(name, found, expected)


def _delta(arrays: Arrays) -> Iterator[Comparison]:
    state, actions, mask = arrays["state"], arrays["actions"], [bool(m) for m in arrays["mask"]]
    yield compare("delta_actions", delta_actions(actions, state, mask), arrays["delta_actions"])
    yield compare("absolute_actions", absolute_actions(actions, state, mask), arrays["absolute_actions"])


def _pad(arrays: Arrays) -> Iterator[Comparison]:
    for name, expected in _own(arrays).items():
        source = arrays[f"/delta/{name.rstrip('0123456789')}"]
        yield compare(name, pad_to_dim(source, expected.shape[-1]), expected)


def _droid(arrays: Arrays) -> Iterator[Comparison]:
    raw = {name.replace("|", "/"): value for name, value in below(arrays, "in/").items()}
    for kind, config in MODELS.items():
        expected = below(arrays, f"{kind}/")
        if not expected:
            continue
        images = DROID.read_images(raw, config())
        order = [str(name) for name in expected["image_order"]]
        yield compare_exact(f"{kind}/state", DROID.read_state(raw), expected["state"])
        yield compare_exact(f"{kind}/image_order", list(images), order)
        for slot in order:
            image = images[slot]
            shown = np.zeros_like(expected[f"image/{slot}"]) if image is None else image
            yield compare_exact(f"{kind}/image/{slot}", shown, expected[f"image/{slot}"])
            # pi0-FAST leaves padding images unmasked.
            mask = image is not None or kind == "pi0_fast"
            yield compare_exact(f"{kind}/mask/{slot}", mask, expected[f"mask/{slot}"])
    yield compare("outputs_out", arrays["outputs_in"][..., : DROID.action_dim], arrays["outputs_out"])


def _discretize(arrays: Arrays) -> Iterator[Comparison]:
    yield compare_exact("bins", discretize_state(arrays["state"]), arrays["bins"])


def _msgpack(arrays: Arrays) -> Iterator[Comparison]:
    raw = arrays["bytes"].tobytes()
    message = unpack(raw)
    yield compare_exact("bytes", np.frombuffer(pack(message), np.uint8), arrays["bytes"])
    for name, expected in _own(arrays).items():
        if name == "bytes":
            continue
        field = name.replace("|", "/")
        yield compare_exact(name, message[field], expected) if field in message else miss(name, "not in the message")


CHECKS: dict[str, Check] = {
    "resize": _resize,
    "convert_to_uint8": _convert,
    "augment": _augment,
    "running_stats": _running_stats,
    "normalize": _normalize,
    "unnormalize": _unnormalize,
    "delta": _delta,
    "pad": _pad,
    "droid": _droid,
    "discretize": _discretize,
    "msgpack": _msgpack,
}
