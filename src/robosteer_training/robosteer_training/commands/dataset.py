"""`robosteer dataset`: exchange datasets with LeRobot and look at what they hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from robosteer_training.commands.progress import progress


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a dataset in LeRobot's format. Everything is read back and counted before the directory appears."""

    dataset: tyro.conf.Positional[Path]
    """The dataset, as `robosteer convert` made it."""
    out: Path
    """Directory to make."""
    version: Literal["v2.1", "v3.0"] = "v2.1"
    """v2.1: lerobot 0.1-0.3, and what openpi trains from. v3.0: lerobot 0.4 and newer."""
    images: Literal["png", "video"] | None = None
    """png: exact, embedded in the tables. video: H.264. By default png for v2.1 and video for v3.0."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Import:
    """Take a LeRobot dataset (v2.0, v2.1, v3.0) into a store that `robosteer steer` and the others read."""

    lerobot: tyro.conf.Positional[Path]
    """The LeRobot dataset's directory, the one with meta/."""
    out: Path
    """The store."""
    rig: Path | None = None
    """Rig file: what the actions mean and how images are cropped. By default the one that an export of ours carries."""
    image: tuple[str, ...] = ()
    """Names of images that differ from the policy's, as key=feature: wrist_image_left=observation.images.wrist."""
    joints: str = "joint_position"
    """Feature with the seven joint positions in rad, or eight numbers with the gripper as last."""
    gripper: str = "gripper_position"
    """Feature with the gripper, 0 open to 1 closed."""
    actions: str = "actions"
    """Feature with seven normalised joint velocities and the gripper command."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Verify:
    """Decode a LeRobot dataset from beginning to end: every row must have its frame of every camera."""

    lerobot: tyro.conf.Positional[Path]
    """The LeRobot dataset's directory."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Say whether a dataset is fit to be trained on: quality.html and quality.json. Exit code 1 when it is not."""

    dataset: tyro.conf.Positional[Path]
    """The dataset, as `robosteer convert` made it."""
    out: Path | None = None
    """Directory for the two files; by default the dataset's own."""
    max_normalised: float = 50.0
    """Hard stop: largest state or action normalised by the dataset's 1st and 99th percentile."""
    json: bool = False
    """Print the content of quality.json."""


Command = (
    Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Report, tyro.conf.subcommand("report")]
)


def main(argv: list[str]) -> int:
    """Run `robosteer dataset <export|import|verify|report> ...`.

    Raises:
        RobosteerError: for anything that does not fit together.
    """
    command: Any = tyro.cli(Command, prog="robosteer dataset", description=__doc__, args=argv)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if isinstance(command, Report):
        return _report(command)
    run: Callable[[Any], dict[str, Any]] = {Export: _export, Import: _import, Verify: _verify}[type(command)]
    report = run(command)
    if command.json:
        print(json.dumps(report))
    else:
        print("; ".join(f"{name} {value}" for name, value in report.items()))
    return 0


def _export(command: Export) -> dict[str, Any]:
    from robosteer_training.dataset import load_dataset
    from robosteer_training.lerobot.export import export_lerobot

    dataset = load_dataset(command.dataset)
    with progress("export") as report:
        verified = export_lerobot(dataset, command.out, version=command.version, images=command.images, progress=report)
    return {"out": str(command.out), **dataclasses.asdict(verified)}


def _import(command: Import) -> dict[str, Any]:
    from robosteer_rig.errors import RobosteerError
    from robosteer_rig.rig import load_rig
    from robosteer_training.lerobot.importing import Mapping, import_lerobot

    pairs = [text.partition("=") for text in command.image]
    if wrong := [key for key, sign, feature in pairs if not (key and sign and feature)]:
        raise RobosteerError(f"--image: found {wrong[0]!r}, expected key=feature")
    images = {key: feature for key, _, feature in pairs}
    mapping = Mapping(images, command.joints, command.gripper, command.actions)
    rig = None if command.rig is None else load_rig(command.rig)
    with progress("import") as report:
        dataset = import_lerobot(command.lerobot, command.out, rig, mapping=mapping, progress=report)
    return {"out": str(command.out), "episodes": len(dataset.episodes), "frames": len(dataset)}


def _verify(command: Verify) -> dict[str, Any]:
    from robosteer_training.lerobot.verify import verify

    return dataclasses.asdict(verify(command.lerobot))


def _report(command: Report) -> int:
    from robosteer_training.dataset import load_dataset
    from robosteer_training.files import write_bytes, write_json
    from robosteer_training.quality.judge import judge
    from robosteer_training.quality.measure import Limits, measure
    from robosteer_training.quality.page import render

    dataset = load_dataset(command.dataset)
    report = measure(dataset)
    errors, warnings = judge(report, Limits(max_normalised=command.max_normalised))
    out = command.out or command.dataset
    content = {**report, "errors": errors, "warnings": warnings}
    write_json(out / "quality.json", content)
    write_bytes(out / "quality.html", render(dataset, report, errors, warnings).encode())
    if command.json:
        print(json.dumps(content))
    else:
        lines = [*(f"stop: {line}" for line in errors), *(f"warning: {line}" for line in warnings)]
        print("\n".join([*lines, f"{out / 'quality.html'}: {len(errors)} errors, {len(warnings)} warnings"]))
    return 1 if errors else 0
