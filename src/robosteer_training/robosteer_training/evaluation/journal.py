"""Trials on disk as they happen: a line each, so that an interrupted evaluation goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.lines import append_line, read_lines
from robosteer_training.evaluation.result import Evaluation, trial_from_json, trial_to_json
from robosteer_training.evaluation.rollout import Trial

SCHEMA = "robosteer.evaluation_journal/1"


class Journal:
    """Trials of one result file that is not finished: `<out>.trials.jsonl` beside it.

    The first line says what is tried and how; a last line that was cut short by a crash is ignored.

    Attributes:
        path: the file.
        known: trials of earlier sessions, by scene.
        seconds: wall time of the earlier sessions that this one counts on.
    """

    def __init__(self, out: Path, identity: dict[str, Any], *, resume: bool) -> None:
        """Open.

        Args:
            out: the result file.
            identity: what must be the same for trials to belong together, by name.
            resume: take over what is there: unfinished trials, and those of a finished result file.

        Raises:
            RobosteerError: unfinished trials without `resume`, or trials of something else; the message names it.
        """
        self.path = out.with_name(out.name + ".trials.jsonl")
        self.known: dict[Scene, Trial] = {}
        self.seconds = 0.0
        self._identity = identity
        if self.path.exists() and len(read_lines(self.path)) < 2:
            self.path.unlink()  # no trial had finished
        if self.path.exists() and not resume:
            raise RobosteerError(
                f"--out: found an unfinished evaluation in {self.path}, expected none; give --resume, or delete it"
            )
        if resume and out.exists():
            before = Evaluation.load(out)
            self._check({**before.conditions, **before.policy}, out)
            self.known |= {trial.scene: trial for trial in before.trials}
            self.seconds += before.seconds
        if self.path.exists():
            self._read()
        else:
            append_line(self.path, {"schema": SCHEMA, "identity": identity})

    def add(self, trial: Trial, seconds: float) -> None:
        """Take note of a trial; it is on disk when this returns.

        Args:
            trial: the trial.
            seconds: wall time since the trial before.
        """
        self.known[trial.scene] = trial
        self.seconds += seconds
        append_line(self.path, {"trial": trial_to_json(trial), "seconds": seconds})

    def close(self) -> None:
        """The result file is written: the journal has served."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        try:
            header, *records = read_lines(self.path)
            if header["schema"] != SCHEMA:
                raise ValueError(header["schema"])
            trials = [(trial_from_json(r["trial"]), float(r["seconds"])) for r in records]
        except (ValueError, KeyError, TypeError) as error:
            raise RobosteerError(f"{self.path}: found a damaged journal ({error!r}); delete it") from error
        self._check(header["identity"], self.path)
        for trial, seconds in trials:
            self.known[trial.scene] = trial
            self.seconds += seconds

    def _check(self, found: dict[str, Any], where: Path) -> None:
        wanted = json.loads(json.dumps(self._identity))
        for name in wanted:
            if found.get(name) != wanted[name]:
                raise RobosteerError(
                    f"--resume: {name}: found {found.get(name)} in {where}, expected {wanted[name]}; "
                    "give the same options or another --out"
                )
