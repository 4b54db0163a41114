"""All trials of one policy, what they add up to, and the file that holds them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.motion import Motion
from robosteer_training.evaluation.rollout import Trial
from robosteer_training.evaluation.statistics import describe_rate, wilson_interval
from robosteer_training.files import write_json

SCHEMA = "robosteer.evaluation/2"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All trials of one policy.

    Attributes:
        checkpoint: where it lies, or its name.
        conditions: everything besides the scenes that two comparable runs share, by name (rig, environment, limits).
        policy: what was tried, by name (digest, how it was run).
        trials: in an order that comparable runs share.
        seconds: wall time of all sessions together.
    """

    checkpoint: str
    conditions: Mapping[str, Any]
    policy: Mapping[str, Any]
    trials: tuple[Trial, ...]
    seconds: float = 0.0

    @property
    def successes(self) -> int:
        """Number of successful trials."""
        return sum(t.success for t in self.trials)

    @property
    def vector(self) -> list[bool]:
        """Success of every trial, in the order of the scenes."""
        return [t.success for t in self.trials]

    def describe(self) -> str:
        """Rate with its 95 % Wilson interval, for people."""
        return describe_rate(self.successes, len(self.trials))

    def only(self, scenes: Sequence[Scene]) -> Evaluation:
        """The trials of these scenes alone."""
        known = {trial.scene: trial for trial in self.trials}
        return dataclasses.replace(self, trials=tuple(known[scene] for scene in scenes))

    def by(self, *names: str) -> dict[tuple[Any, ...], list[Trial]]:
        """Trials grouped by fields of their scenes, in the order of first appearance."""
        groups: dict[tuple[Any, ...], list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(tuple(getattr(trial.scene, name) for name in names), []).append(trial)
        return groups

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is its inverse."""
        return {
            "schema": SCHEMA,
            "checkpoint": self.checkpoint,
            **summary(self.trials),
            "tasks": [
                {"task": task, "variation": variation, **summary(trials)}
                for (task, variation), trials in self.by("task", "variation").items()
            ],
            "cells": [{"grid_cell": cell, **_rate(trials)} for (cell,), trials in sorted(self.by("grid_cell").items())],
            "seconds": self.seconds,
            "conditions": dict(self.conditions),
            "policy": dict(self.policy),
            "results": [trial_to_json(t) for t in self.trials],
        }

    @classmethod
    def from_json(cls, data: Any, source: str) -> Evaluation:
        """Rebuild an evaluation.

        Raises:
            RobosteerError: another schema, or fields that are missing or malformed.
        """
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        if found != SCHEMA:
            raise RobosteerError(f"{source}: found schema {found!r}, expected {SCHEMA!r}; run `robosteer evaluate`")
        try:
            trials = tuple(trial_from_json(t) for t in data["results"])
            if not trials:
                raise ValueError("found no trials")
            known = data["checkpoint"], data["conditions"], data["policy"]
            return cls(*known, trials, float(data["seconds"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RobosteerError(f"{source}: malformed ({error!r}); run `robosteer evaluate` again") from error

    def save(self, path: Path) -> None:
        """Write the JSON in one piece."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read a result file.

        Raises:
            RobosteerError: no such file, no JSON, another schema.
        """
        try:
            return cls.from_json(json.loads(path.read_text()), str(path))
        except OSError as error:
            raise RobosteerError(
                f"evaluation: cannot read {path} ({error.strerror}); give a result of `robosteer evaluate --out`"
            ) from error
        except ValueError as error:
            raise RobosteerError(
                f"{path}: found no JSON ({error}), expected a result of `robosteer evaluate`"
            ) from error


def card_name(card: str | None) -> str:
    """A task card's digest for people; results of before cards were told have none."""
    return "none of the user's" if card is None else card[:12]


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """Plain JSON; a card is told only where there is one of the user's own, so that older releases read the rest."""
    data = dataclasses.asdict(trial)
    if trial.card is None:
        del data["card"]
    return data


def trial_from_json(data: Mapping[str, Any]) -> Trial:
    """Inverse of `trial_to_json`."""
    motion = None if data["motion"] is None else Motion(**data["motion"])
    return Trial(**{**data, "scene": Scene(**data["scene"]), "motion": motion})


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Rate with interval, times, failures by kind, motion: means over the trials that measured it."""
    times = [t.duration_s for t in trials if t.success]
    moved = [t.motion for t in trials if t.motion is not None]
    failures = Counter(t.failure or "unknown" for t in trials if not t.success)
    return {
        **_rate(trials),
        "time_to_success_s": None
        if not times
        else {"median": float(np.median(times)), "fastest": min(times), "slowest": max(times)},
        "failures": dict(failures.most_common()),
        "motion": None
        if not moved
        else {
            "rms_acceleration": float(np.mean([m.rms_acceleration for m in moved])),
            "peak_velocity": max(m.peak_velocity for m in moved),
            **{name: _share(moved, name) for name in ("clipped_steps", "overspeed_steps", "near_limit_steps")},
        },
    }


def _share(moved: Sequence[Motion], name: str) -> float:
    """Share of all steps."""
    return sum(getattr(m, name) for m in moved) / sum(m.steps for m in moved)


def _rate(trials: Sequence[Trial]) -> dict[str, Any]:
    successes = sum(t.success for t in trials)
    return {
        "successes": successes,
        "trials": len(trials),
        "rate": successes / len(trials),
        "wilson_95": list(wilson_interval(successes, len(trials))),
    }
