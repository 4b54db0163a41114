"""Which policy is tried where and when, without the operator knowing which policy it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.scenes import make_scenes
from robosteer_training.files import json_digest, write_json

SCHEMA = "robosteer.trial_plan/1"
PLAN_FILE, KEY_FILE = "plan.json", "key.json"
MAX_POLICIES = 4


@dataclasses.dataclass(frozen=True)
class PlannedTrial:
    """One trial.

    Attributes:
        place: number of the placement, in the order of the work; all policies are tried on it before the next.
        scene: task, cell and seed.
        yaw_deg: of the object, counter-clockwise seen from above, 0 points away from the robot.
        code: of the policy.
    """

    place: int
    scene: Scene
    yaw_deg: int
    code: str


@dataclasses.dataclass(frozen=True)
class TrialPlan:
    """All trials in the order of the work.

    Attributes:
        task: the instruction.
        time_limit_s: after which a trial has failed.
        rig_digest: of the robot.
        trials: in order.
    """

    task: str
    time_limit_s: float
    rig_digest: str
    trials: tuple[PlannedTrial, ...]

    @property
    def codes(self) -> list[str]:
        """Of the policies."""
        return sorted({trial.code for trial in self.trials})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    def digest(self) -> str:
        """Identifies the plan."""
        return json_digest(self.to_json())

    @classmethod
    def load(cls, directory: Path) -> TrialPlan:
        """Read the plan of a directory.

        Raises:
            RobosteerError: no plan there, or something else.
        """
        path = directory / PLAN_FILE
        try:
            data = json.loads(path.read_text())
            if data.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            trials = tuple(PlannedTrial(**(t | {"scene": Scene(**t["scene"])})) for t in data.pop("trials"))
            return cls(trials=trials, **data)
        except OSError as error:
            raise RobosteerError(
                f"{path}: cannot read ({error.strerror}), expected a plan; run `robosteer evaluate guide plan`"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RobosteerError(f"{path}: malformed ({error!r}), expected {SCHEMA}; plan again") from error


def balanced_orders(codes: Sequence[str], count: int, random: np.random.Generator) -> list[list[str]]:
    """`count` orders of the policies in which each comes first, second, ... equally often (up to one)."""
    start = [codes[i] for i in random.permutation(len(codes))]
    rotations = [start[i:] + start[:i] for i in range(len(start))]
    orders = [rotations[i % len(rotations)] for i in range(count)]
    return [orders[i] for i in random.permutation(count)]


def make_plan(
    task: str,
    policies: Sequence[str],
    cells: Sequence[int],
    seeds: Sequence[int],
    *,
    seed: int,
    time_limit_s: float,
    rig_digest: str,
) -> tuple[TrialPlan, dict[str, str]]:
    """Draw placements, their order, and who is tried when.

    Args:
        task: the instruction.
        policies: checkpoints or names.
        cells: of the grid.
        seeds: rounds over the grid; each has yaws of its own.
        seed: of order, yaws and codes; the same arguments give the same plan.
        time_limit_s: per trial.
        rig_digest: of the robot.

    Returns:
        The plan, and the key: code -> policy.

    Raises:
        RobosteerError: no policy, too many, or one twice.
    """
    if not 1 <= len(policies) <= MAX_POLICIES or len(set(policies)) != len(policies):
        raise RobosteerError(f"--policies: found {list(policies)}, expected 1 to {MAX_POLICIES} different ones")
    if not time_limit_s > 0:
        raise RobosteerError(f"--time-limit-s: found {time_limit_s}, expected more than 0")
    random = np.random.default_rng([seed, 5])
    codes = [f"P{i + 1}" for i in range(len(policies))]
    shuffled: list[str] = [policies[int(i)] for i in random.permutation(len(policies))]
    key = dict(zip(codes, shuffled, strict=True))
    places: list[Scene] = []
    for round_seed in seeds:
        scenes = make_scenes([task], cells, [round_seed])
        places += [scenes[i] for i in random.permutation(len(scenes))]
    yaws = random.integers(-180, 180, size=len(places))
    orders = balanced_orders(codes, len(places), random)
    trials = tuple(
        PlannedTrial(place, scene, int(yaw), code)
        for place, (scene, yaw, order) in enumerate(zip(places, yaws, orders, strict=True))
        for code in order
    )
    return TrialPlan(task, time_limit_s, rig_digest, trials), key


def save_plan(directory: Path, plan: TrialPlan, key: dict[str, str]) -> None:
    """Write plan, key, and for every policy that is a directory a link whose name does not tell which it is.

    Raises:
        RobosteerError: there is a plan already.
    """
    if (directory / PLAN_FILE).exists():
        raise RobosteerError(f"--out: found a plan in {directory}, expected none; give another directory or delete it")
    directory.mkdir(parents=True, exist_ok=True)
    for code, policy in key.items():
        target = Path(policy).expanduser().absolute()
        link = directory / code
        if target.is_dir():
            link.unlink(missing_ok=True)
            link.symlink_to(target, target_is_directory=True)
    write_json(directory / KEY_FILE, key)
    write_json(directory / PLAN_FILE, plan.to_json())


def read_key(directory: Path) -> dict[str, str]:
    """Code -> policy."""
    try:
        return json.loads((directory / KEY_FILE).read_text())
    except (OSError, ValueError) as error:
        raise RobosteerError(f"{directory / KEY_FILE}: cannot read ({error}), expected the plan's key") from error
