"""Find golden files and hand each to the checks that know its keys."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

import robosteer_model.golden as golden
from robosteer_model.errors import ModelError
from robosteer_model.golden.report import Comparison, miss


def checks() -> list[ModuleType]:
    """The modules of this package that define `claims` and `check`."""
    names = sorted(m.name for m in pkgutil.iter_modules(golden.__path__) if not m.name.startswith("_"))
    modules = [importlib.import_module(f"{golden.__name__}.{name}") for name in names if name != "dispatch"]
    return [module for module in modules if hasattr(module, "claims") and hasattr(module, "check")]


def golden_files(paths: list[Path]) -> list[Path]:
    """Expand folders into the files that hold expected numbers.

    In a folder these are `*.npz` and the parameter manifests; `*_config.json` files repeat what is inside the `.npz`,
    and checkpoints and tokenizers are inputs of the `.npz` beside them.

    Raises:
        ModelError: when a path does not exist or a folder holds nothing to compare.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
            continue
        # Resolved, so that the folder `manifests` itself can be given from anywhere.
        manifests = (file for file in path.resolve().glob("**/*.json") if file.parent.name == "manifests")
        inside = sorted([*path.glob("**/*.npz"), *manifests])
        if not inside:
            raise ModelError(f"golden: nothing to compare in {path}; give .npz files or a folder of them")
        found += inside
    return found


def file_keys(path: Path) -> frozenset[str]:
    """Array names of an `.npz`, top-level keys of a `.json`."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as data:
                return frozenset(data.files)
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"golden: {path} is not a readable .npz or .json file ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"golden: {path} holds a {type(content).__name__}, expected an object")
    return frozenset(content)


def check_file(path: Path, modules: list[ModuleType] | None = None) -> Iterator[Comparison]:
    """Compare one file with every check that claims some of its keys, then report the keys nobody claimed."""
    keys = file_keys(path)
    unclaimed = set(keys)
    for module in checks() if modules is None else modules:
        claimed = module.claims(keys)
        if claimed:
            unclaimed -= claimed
            try:
                yield from module.check(path)
            except (ModelError, KeyError, TypeError, ValueError) as error:
                # One unusable file must not hide the verdict on the others.
                yield miss(path.name, f"cannot be checked: {type(error).__name__}: {error}")
    for key in sorted(unclaimed):
        yield miss(key, "no check knows this key")
