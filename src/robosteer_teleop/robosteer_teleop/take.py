"""One episode from its opening to its label."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.episode_record import Outcome, episode_json
from robosteer_teleop.episodes import Command
from robosteer_teleop.streams import Problem
from robosteer_teleop.survey import BagSurvey

NOTES = ("", "slow", "second attempt", "collision", "object moved", "occluded")
"""Presets that the thumbstick steps through; "" is none."""
LABELS: dict[Command, Outcome] = {
    Command.LABEL_SUCCESS: "success",
    Command.LABEL_FAILURE: "failure",
    Command.LABEL_PRACTICE: "practice",
}


@dataclasses.dataclass
class Take:
    """The episode that is being recorded, reviewed, or was discarded or kept last.

    Attributes:
        episode: its number.
        directory: where its bag is written.
        writer: of the bag.
        label: outcome that a keep gives it.
        note: index into `NOTES`.
        start_ns: when the recording proper began, wall clock; earlier messages are pre-roll.
        problems: of its streams.
        notes: what happened.
        teleop: how it was steered.
        survey: of the closed bag; None while it is open.
        warned: the operator was told that it is degraded.
    """

    episode: int
    directory: Path
    writer: BagWriter
    label: Outcome = "success"
    note: int = 0
    start_ns: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    teleop: dict[str, Any] = dataclasses.field(default_factory=dict)
    survey: BagSurvey | None = None
    warned: bool = False

    def content(self, outcome: Outcome) -> dict[str, Any]:
        """The content of episode.json."""
        if self.survey is None:
            raise RuntimeError(f"episode {self.episode} was not closed before it was labelled")
        survey = dataclasses.replace(self.survey, path=self.directory / self.survey.path.name)
        problems = [problem.to_json() for problem in self.problems]
        notes = [*self.notes, *([NOTES[self.note]] if self.note else [])]
        content = episode_json(survey, outcome, problems=problems, notes=notes)
        content["markers"] = {"start_ns": self.start_ns or survey.start_ns}
        if self.teleop:
            content["teleop"] = self.teleop
        return content
