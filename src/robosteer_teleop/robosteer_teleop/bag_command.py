"""`robosteer bag`: look at recordings, cut, split, merge, relabel and repair them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from robosteer_teleop.survey import BagSurvey


@dataclasses.dataclass(frozen=True)
class Info:
    """Show what an episode, a bag or a directory of episodes holds."""

    path: tyro.conf.Positional[Path]
    """An episode directory, an .mcap file, or a directory of episodes."""
    json: bool = False
    """Print JSON instead of tables."""


@dataclasses.dataclass(frozen=True)
class Recover:
    """Copy everything readable of an MCAP bag that was never closed into a new bag. The original is only read."""

    path: tyro.conf.Positional[Path]
    """A bag directory or .mcap file."""
    out: Path | None = None
    """Directory of the new bag; default: <path>.recovered beside the original."""


@dataclasses.dataclass(frozen=True)
class Label:
    """Change an episode's outcome, for example of a recovered one that turned out well."""

    path: tyro.conf.Positional[Path]
    """The episode's directory."""
    outcome: tyro.conf.Positional[Literal["success", "failure"]]
    """What the demonstration was."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """Copy a piece of a recording. The original is only read."""

    path: tyro.conf.Positional[Path]
    """A bag directory (MCAP or SQLite)."""
    out: Path
    """Directory of the new bag."""
    start_s: float = 0.0
    """Where it begins, s after the first message."""
    end_s: float = float("inf")
    """Where it ends, s after the first message."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Copy a recording in pieces of equal length, OUT/000000 and so on. The original is only read."""

    path: tyro.conf.Positional[Path]
    """A bag directory (MCAP or SQLite)."""
    out: Path
    """Directory for the pieces."""
    every_s: float
    """Length of a piece, s."""


@dataclasses.dataclass(frozen=True)
class Merge:
    """Put recordings of the same time into one bag, by log time. The originals are only read."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Bag directories; instruction and rig are those of the first."""
    out: Path
    """Directory of the new bag."""


@dataclasses.dataclass(frozen=True)
class Relabel:
    """Copy a recording with another instruction or outcome. The original is only read."""

    path: tyro.conf.Positional[Path]
    """A bag directory (MCAP or SQLite)."""
    out: Path
    """Directory of the new bag."""
    instruction: str | None = None
    """What was shown."""
    outcome: Literal["success", "failure"] | None = None
    """What the demonstration was."""


Command = (
    Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Recover, tyro.conf.subcommand("recover")]
    | Annotated[Label, tyro.conf.subcommand("label")]
    | Annotated[Cut, tyro.conf.subcommand("cut")]
    | Annotated[Split, tyro.conf.subcommand("split")]
    | Annotated[Merge, tyro.conf.subcommand("merge")]
    | Annotated[Relabel, tyro.conf.subcommand("relabel")]
)


def main(argv: list[str]) -> int:
    """Run `robosteer bag <info|recover|label|cut|split|merge|relabel> ...`.

    Raises:
        RobosteerError: for a path that is no bag.
    """
    command: Any = tyro.cli(Command, prog="robosteer bag", description=__doc__, args=argv)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if isinstance(command, Recover):
        return _recover(command)
    if isinstance(command, Label):
        return _label(command)
    if isinstance(command, Info):
        return _info(command)
    return _edit(command)


def _edit(command: Cut | Split | Merge | Relabel) -> int:
    from robosteer_teleop import bag_edit

    if isinstance(command, Cut):
        surveys = [bag_edit.cut_bag(command.path, command.out, command.start_s, command.end_s)]
    elif isinstance(command, Split):
        surveys = bag_edit.split_bag(command.path, command.out, command.every_s)
    elif isinstance(command, Merge):
        surveys = [bag_edit.merge_bags(command.paths, command.out)]
    else:
        survey = bag_edit.relabel_bag(
            command.path, command.out, instruction=command.instruction, outcome=command.outcome
        )
        surveys = [survey]
    for survey in surveys:
        print(f"{survey.path.parent}: {survey.count} messages, {survey.duration_s:.2f} s")
    return 0


def _recover(command: Recover) -> int:
    from robosteer_teleop.recovery import find_mcap, recover_bag

    source = find_mcap(command.path)
    base = command.path.resolve()
    target = command.out or base.with_name(f"{base.name.removesuffix('.mcap')}.recovered")
    survey, damage = recover_bag(source, target)
    print(f"{target}: {survey.count} messages, {survey.duration_s:.2f} s (the original: {damage})")
    return 0


def _label(command: Label) -> int:
    from robosteer_teleop.episode_record import label_episode

    label_episode(command.path, command.outcome)
    print(f"{command.path}: {command.outcome}")
    return 0


def _info(command: Info) -> int:
    from rich.console import Console

    surveys = [_describe(path) for path in _bags(command.path)]
    if command.json:
        print(json.dumps(surveys, indent=2, ensure_ascii=False))
        return 0
    console = Console()
    for entry in surveys:
        console.print(_table(entry) if len(surveys) == 1 else _line(entry), highlight=False)
    return 0


def _bags(path: Path) -> list[Path]:
    """Return the MCAP files, and the directories of SQLite bags, that a path means."""
    from robosteer_rig.errors import RobosteerError
    from robosteer_teleop.recovery import find_mcap

    def is_bag(directory: Path) -> bool:
        return any(directory.glob("*.mcap")) or any(directory.glob("*.db3"))

    def whole(bag: Path) -> Path:
        return bag if bag.is_dir() and any(bag.glob("*.db3")) else find_mcap(bag)

    if path.is_dir() and not is_bag(path):
        bags = sorted(child for child in path.iterdir() if child.is_dir() and is_bag(child))
        if not bags:
            raise RobosteerError(f"{path}: found no bag, expected episodes, an MCAP file or a rosbag2; check the path")
        return [whole(bag) for bag in bags]
    return [whole(path)]


def _describe(file: Path) -> dict[str, Any]:
    """Survey one bag, with its label where it has one."""
    from robosteer_teleop.episode_record import EPISODE_FILE, read_episode_json
    from robosteer_teleop.survey import survey_file

    if file.is_dir():
        from robosteer_teleop.bag_edit import survey_bag

        directory, survey = file, survey_bag(file)
    else:
        directory, survey = file.parent, survey_file(file)
    content = read_episode_json(directory) if (directory / EPISODE_FILE).exists() else {}
    return {
        "path": str(file),
        "state": str(survey.damage),
        "instruction": survey.custom_data.get("instruction"),
        "outcome": content.get("outcome"),
        "degraded": content.get("quality", {}).get("degraded"),
        "start_ns": survey.start_ns,
        "duration_s": survey.duration_s,
        "messages": survey.count,
        "topics": {name: _topic(survey, name) for name in survey.topics},
    }


def _topic(survey: BagSurvey, name: str) -> dict[str, Any]:
    topic = survey.topics[name]
    return {
        "type": topic.type,
        "count": topic.count,
        "rate_hz": round(survey.rate_hz(name), 2),
        "max_gap_s": round(topic.max_gap_s, 4),
    }


def _line(entry: dict[str, Any]) -> str:
    label = entry["outcome"] or "unlabelled"
    degraded = ", degraded" if entry["degraded"] else ""
    size = f"{entry['duration_s']:.1f} s, {entry['messages']} messages"
    return f"{_name(Path(entry['path']))}  {label}{degraded}  {size}  {entry['state']}  {entry['instruction'] or ''}"


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.parent.name


def _table(entry: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=_line(entry), title_justify="left", title_style="bold")
    for heading, justify in (
        ("topic", "left"),
        ("type", "left"),
        ("count", "right"),
        ("Hz", "right"),
        ("gap s", "right"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name, topic in entry["topics"].items():
        numbers = (str(topic["count"]), f"{topic['rate_hz']:.1f}", f"{topic['max_gap_s']:.3f}")
        table.add_row(name, topic["type"].rpartition("/")[2], *numbers)
    return table
