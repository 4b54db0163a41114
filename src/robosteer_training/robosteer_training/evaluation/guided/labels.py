"""What happened on the robot, one key per trial, kept line by line: nothing is lost, anything can be undone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from robosteer_rig.environment import Failure
from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.guided.plan import PlannedTrial, TrialPlan
from robosteer_training.evaluation.lines import append_line, read_lines
from robosteer_training.evaluation.scenes import GRID_COLUMNS

SCHEMA = "robosteer.trial_labels/1"
LABELS_FILE = "labels.jsonl"
START, SUCCESS, UNDO, QUIT = " ", "s", "u", "q"
FAILURES = {str(number): failure for number, failure in enumerate(Failure, 1)}


@dataclasses.dataclass(frozen=True)
class Label:
    """What the operator said.

    Attributes:
        trial: number of the trial in the plan.
        success: whether the task was done in time.
        duration_s: from the start of the policy to the key.
        failure: why it failed; None for a success.
    """

    trial: int
    success: bool
    duration_s: float
    failure: str | None = None


class Labels:
    """Labels of a plan, in the order of its trials."""

    def __init__(self, directory: Path, plan: TrialPlan) -> None:
        """Open, or begin.

        Raises:
            RobosteerError: labels of another plan, or a damaged file.
        """
        self.path = directory / LABELS_FILE
        self._labels: list[Label] = []
        if not self.path.exists():
            append_line(self.path, {"schema": SCHEMA, "plan": plan.digest()})
            return
        header, *records = read_lines(self.path) or [{}]
        if header.get("schema") != SCHEMA or header.get("plan") != plan.digest():
            raise RobosteerError(f"{self.path}: found labels of another plan, expected this one's; move the file away")
        for record in records:
            self._take(record)

    def _take(self, record: Any) -> None:
        try:
            if "undo" in record:
                self._labels.pop()
                return
            label = Label(**record)
            if label.trial != len(self._labels):
                raise ValueError(label.trial)
            self._labels.append(label)
        except (TypeError, ValueError, IndexError):
            raise RobosteerError(
                f"{self.path}: found a damaged label {record}, expected that of trial {len(self._labels)} or an undo; "
                "mend or delete the line"
            ) from None

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self._labels)

    def add(self, label: Label) -> None:
        """Keep a label."""
        append_line(self.path, dataclasses.asdict(label))
        self._labels.append(label)

    def undo(self) -> Label | None:
        """Take the last label back; None when there is none."""
        if not self._labels:
            return None
        append_line(self.path, {"undo": self._labels[-1].trial})
        return self._labels.pop()


def describe_trial(number: int, total: int, trial: PlannedTrial, limit_s: float) -> str:
    """What the operator has to do."""
    row, column = divmod(trial.scene.grid_cell, GRID_COLUMNS)
    return (
        f"\ntrial {number + 1} of {total}: place {trial.place + 1}, cell {trial.scene.grid_cell} (row {row}, column "
        f"{column}), yaw {trial.yaw_deg:+d} degrees; policy {trial.code}, at most {limit_s:g} s"
    )


def help_text() -> str:
    """The keys."""
    failures = ", ".join(f"[{key}] {failure.replace('_', ' ')}" for key, failure in FAILURES.items())
    return f"keys: [space] the policy starts, [s] success, failed because {failures}; [u] undo the last label, [q] stop"


def label_trials(
    plan: TrialPlan, labels: Labels, keys: Iterator[str], say: Callable[[str], None], clock: Callable[[], float]
) -> None:
    """Lead through the trials that have no label yet, until all have one, [q], or the keys end.

    Args:
        plan: the trials.
        labels: those of earlier sessions; new ones are added.
        keys: one character at a time.
        say: tells the operator something.
        clock: s, monotonic.
    """
    say(help_text())
    shown, started = -1, None
    while len(labels) < len(plan.trials):
        number = len(labels)
        if shown != number:
            say(describe_trial(number, len(plan.trials), plan.trials[number], plan.time_limit_s))
            shown, started = number, None
        key = next(keys, QUIT)
        if key == QUIT:
            say(f"{number} of {len(plan.trials)} trials are labelled and kept; the same command goes on")
            return
        if key == UNDO:
            undone = labels.undo()
            say("nothing to undo" if undone is None else f"label of trial {undone.trial + 1} is undone")
            shown = -1
        elif key == START:
            started = clock()
            say("the clock runs")
        elif key != SUCCESS and key not in FAILURES:
            say(help_text())
        elif started is None:
            say("press [space] first, when the policy starts")
        else:
            label = judge(number, key, clock() - started, plan.time_limit_s)
            labels.add(label)
            say(f"{label.duration_s:.1f} s: {'success' if label.success else label.failure}")
    say(f"all {len(plan.trials)} trials are labelled; run `robosteer evaluate guide report`")


def judge(number: int, key: str, seconds: float, limit_s: float) -> Label:
    """From key and time to a label; a success after the limit is none."""
    if key == SUCCESS and seconds <= limit_s:
        return Label(number, True, seconds)
    failure = FAILURES.get(key, Failure.TIMED_OUT)
    return Label(number, False, min(seconds, limit_s), str(failure))
