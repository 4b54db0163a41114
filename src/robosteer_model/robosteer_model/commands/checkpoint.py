"""Look at a checkpoint, verify it, merge its adapter, or compare two."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from robosteer_model.checkpoint_report import Contents


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show what a checkpoint holds, without reading its arrays."""

    path: tyro.conf.Positional[Path]
    """Checkpoint directory (the one that holds params/)."""
    leaves: bool = False
    """List every stored array with shape and dtype."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check every leaf (present, shape, finite), the statistics and the tokenizer. Exit code 1 on a problem."""

    path: tyro.conf.Positional[Path]
    """Checkpoint directory."""
    config: str | None = None
    """Stock config by openpi's name (pi05_droid, ...); default: the one in robosteer.json."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Merge:
    """Fold LoRA adapters into the weights, in float32, so that stock configs without LoRA load the result."""

    path: tyro.conf.Positional[Path]
    """Checkpoint directory with LoRA leaves, or an adapter (`robosteer finetune --adapter`)."""
    out: tyro.conf.Positional[Path]
    """Directory to create."""
    base: Path | None = None
    """The checkpoint that the adapter was trained on."""
    config: str | None = None
    """Stock config by openpi's name; default: the one in robosteer.json."""
    dtype: Literal["keep", "float32", "bfloat16"] = "keep"
    """Dtype of the written leaves; `keep` leaves them as stored and merged weights in float32."""


@dataclasses.dataclass(frozen=True)
class Diff:
    """List the leaves in which two checkpoints differ, with changed heads. Exit code 1 when they differ."""

    a: tyro.conf.Positional[Path]
    """Checkpoint directory."""
    b: tyro.conf.Positional[Path]
    """Checkpoint directory."""
    json: bool = False
    """Print JSON."""


Command = (
    Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Merge, tyro.conf.subcommand("merge")]
    | Annotated[Diff, tyro.conf.subcommand("diff")]
)


def main(argv: list[str]) -> int:
    """Run `robosteer checkpoint <inspect|verify|merge|diff> ...`.

    Raises:
        ModelError: for a path that is no sound checkpoint.
    """
    command: Any = tyro.cli(Command, prog="robosteer checkpoint", description=__doc__, args=argv)  # pyright: ignore[reportArgumentType, reportCallIssue]
    handlers = {Inspect: _inspect, Verify: _verify, Merge: _merge, Diff: _diff}
    return handlers[type(command)](command)


def _inspect(command: Inspect) -> int:
    from robosteer_model.checkpoint_report import inspect

    contents = inspect(command.path)
    if command.json:
        document = dataclasses.asdict(contents)
        if not command.leaves:
            del document["leaves"]
        print(json.dumps(document, indent=2))
        return 0
    for name, value in _summary(contents).items():
        print(f"{name:<14} {value}")
    for leaf in contents.leaves if command.leaves else ():
        print(f"  {leaf.path:<90} {leaf.dtype:<9} {leaf.shape}")
    return 0


def _summary(contents: Contents) -> dict[str, str]:
    ranks = sorted(set(contents.lora.values()))
    return {
        "checkpoint": contents.path,
        "model": contents.model_type or "not recorded (no robosteer.json)",
        "fits": ", ".join(contents.fits) or "no stock config",
        "parameters": f"{contents.parameters:,} in {len(contents.leaves)} leaves, {contents.nbytes / 2**20:.1f} MiB",
        "dtypes": ", ".join(f"{dtype}: {count:,}" for dtype, count in contents.dtypes.items()),
        "LoRA": f"{len(contents.lora)} modules, ranks {ranks}" if ranks else "none",
        "statistics": ", ".join(contents.asset_ids) or "none",
        "tokenizer": f"own, sha256 {contents.tokenizer_sha256[:12]}" if contents.tokenizer_sha256 else "PaliGemma's",
        "provenance": json.dumps(contents.provenance) if contents.provenance else "not recorded",
    }


def _verify(command: Verify) -> int:
    from robosteer_model.checkpoint_report import verify

    problems = verify(command.path, command.config)
    if command.json:
        print(json.dumps({"ok": not problems, "problems": problems}, indent=2))
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(f"{command.path}: {'sound' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


def _merge(command: Merge) -> int:
    from robosteer_model.adapter_file import is_adapter, merge_adapter
    from robosteer_model.errors import ModelError
    from robosteer_model.merge import merge_checkpoint

    dtype = None if command.dtype == "keep" else command.dtype
    if not is_adapter(command.path):
        if command.base is not None:
            raise ModelError(f"--base: found a checkpoint in {command.path}, expected an adapter; leave --base out")
        merge_checkpoint(command.path, command.out, config=command.config, dtype=dtype)
    elif command.base is None:
        raise ModelError(f"--base: found none, expected the checkpoint that {command.path} was trained on")
    else:
        merge_adapter(command.path, command.base, command.out, dtype=dtype)
    print(f"merged into {command.out}")
    return 0


def _diff(command: Diff) -> int:
    from robosteer_model.checkpoint_report import diff

    changes = diff(command.a, command.b)
    if command.json:
        print(json.dumps([dataclasses.asdict(change) for change in changes], indent=2))
        return 1 if changes else 0
    for change in changes:
        heads = f"; heads (layer, head): {' '.join(f'{la},{h}' for la, h in change.heads)}" if change.heads else ""
        print(f"{change.path}: {change.kind}, {change.detail}{heads}")
    print(f"{len(changes)} leaves differ" if changes else "identical")
    return 1 if changes else 0
