"""Checks that our parameter trees are openpi's: path, shape and dtype of every leaf at full size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from robosteer_model.config import ModelConfig, pi0, pi0_fast, pi05
from robosteer_model.freeze import count_trainable
from robosteer_model.golden.report import Comparison, compare_exact, miss
from robosteer_model.params import count, flatten, param_shapes

MODELS: dict[str, ModelConfig] = {
    f"{name}{suffix}": make(lora=bool(suffix))
    for name, make in {"pi0": pi0, "pi05": pi05, "pi0_fast": pi0_fast}.items()
    for suffix in ("", "_lora")
}


def claims(keys: frozenset[str]) -> frozenset[str]:
    """Every key of a manifest (parameter paths) or of the summary (model names)."""
    is_manifest = any(key.startswith("PaliGemma/") for key in keys)
    return keys if is_manifest or (keys and keys <= MODELS.keys()) else frozenset()


def check(path: Path) -> Iterator[Comparison]:
    """Compare with the stock model that the file is named after; the summary holds one entry per model."""
    content = json.loads(path.read_text())
    yield from _summary(content) if content.keys() <= MODELS.keys() else _manifest(path.stem, content)


def _manifest(name: str, expected: dict[str, tuple[list[int], str]]) -> Iterator[Comparison]:
    if name not in MODELS:
        yield miss(name, f"expected a file named after one of {', '.join(MODELS)}")
        return
    ours = flatten(param_shapes(MODELS[name]))
    for leaf, (shape, dtype) in expected.items():
        if leaf not in ours:
            yield miss(leaf, "our model has no such parameter")
        else:
            yield compare_exact(leaf, [*map(str, ours[leaf].shape), str(ours[leaf].dtype)], [*map(str, shape), dtype])
    for leaf in sorted(set(ours) - set(expected)):
        yield miss(leaf, "our model has this parameter, openpi's does not")


def _summary(content: dict[str, dict[str, int]]) -> Iterator[Comparison]:
    for name, expected in content.items():
        shapes = param_shapes(MODELS[name])
        yield compare_exact(f"{name}/leaves", len(flatten(shapes)), expected["leaves"])
        yield compare_exact(f"{name}/total", count(shapes), expected["total"])
        yield compare_exact(f"{name}/trainable", count_trainable(MODELS[name]), expected["trainable"])
