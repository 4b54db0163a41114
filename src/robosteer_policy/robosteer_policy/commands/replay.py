"""Replay a recorded run through the same code and compare every chunk, bit for bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from robosteer_policy.replay import Verdict


@dataclasses.dataclass(frozen=True)
class Replay:
    """Replay a run that was recorded with `robosteer deploy record:=true`.

    Exit code 0 when every chunk is reproduced bit for bit on this machine, 1 when one is not.
    """

    bag: tyro.conf.Positional[Path]
    """rosbag2 directory of the run."""
    checkpoint: str | None = None
    """Where the checkpoint is now; by default where it was."""
    preset_dir: str | None = None
    """Where the steering presets are now; by default where they were."""
    rig: Path | None = None
    """Rig file; by default the one inside the bag."""
    json: bool = False
    """Print JSON."""


def main(argv: list[str]) -> int:
    """Run `robosteer replay`.

    Raises:
        RobosteerError: for a bag or a checkpoint that cannot be read.
    """
    options = tyro.cli(Replay, prog="robosteer replay", args=argv)
    from rich.progress import track

    from robosteer_policy.replay import Recording

    recording = Recording(options.bag, options.rig)
    agent = recording.agent(options.checkpoint, options.preset_dir)
    total = len(recording.records)
    verdicts = list(track(recording.replay(agent), description="replaying", total=total, disable=options.json))
    unequal = [verdict for verdict in verdicts if not verdict.equal]
    if options.json:
        print(json.dumps({"chunks": total, "different": [dataclasses.asdict(verdict) for verdict in unequal]}))
    else:
        print(_summary(total, unequal))
    return 1 if unequal else 0


def _summary(total: int, unequal: list[Verdict]) -> str:
    if not unequal:
        return f"{total} chunks reproduced bit for bit"
    lines = [f"{len(unequal)} of {total} chunks differ"]
    for verdict in unequal[:10]:
        lines.append(f"  chunk {verdict.sequence}: {verdict.problem or f'differs by up to {verdict.difference:.3g}'}")
    return "\n".join(lines)
