"""Policies on the same scenes: what one gains over another, with interval and exact test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.result import Evaluation, card_name
from robosteer_training.evaluation.statistics import describe_rate, holm, mcnemar_exact, paired_bootstrap

SCHEMA = "robosteer.comparison/1"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A policy against the reference, on the same scenes.

    Attributes:
        name: of the policy.
        reference: of the policy that it is compared with.
        trials: pairs.
        successes: of the policy.
        reference_successes: of the reference.
        gained: scenes that only the policy masters.
        lost: scenes that only the reference masters.
        difference: of the success rates, policy minus reference.
        interval_95: of the difference, bootstrap over grid cells.
        p: exact McNemar, two-sided.
        p_holm: the same, adjusted for the number of comparisons.
    """

    name: str
    reference: str
    trials: int
    successes: int
    reference_successes: int
    gained: int
    lost: int
    difference: float
    interval_95: tuple[float, float]
    p: float
    p_holm: float


def require_same_scenes(first: tuple[str, Evaluation], second: tuple[str, Evaluation]) -> None:
    """Refuse results that are no pairs.

    Raises:
        RobosteerError: naming the first field of conditions or scenes that differs.
    """
    (name, a), (other, b) = first, second
    for field in sorted({*a.conditions, *b.conditions}):
        if a.conditions.get(field) != b.conditions.get(field):
            raise RobosteerError(
                f"compare: {field}: found {b.conditions.get(field)} in {other}, expected {a.conditions.get(field)} as "
                f"in {name}; evaluate both under the same conditions"
            )
    if len(a.trials) != len(b.trials):
        raise RobosteerError(
            f"compare: found {len(b.trials)} trials in {other}, expected {len(a.trials)} as in {name}; evaluate both "
            "on the same cells and seeds"
        )
    for number, (x, y) in enumerate(zip(a.trials, b.trials, strict=True)):
        left, right = dataclasses.asdict(x.scene), dataclasses.asdict(y.scene)
        for field, value in left.items():
            if right[field] != value:
                raise RobosteerError(
                    f"compare: {field} of trial {number}: found {right[field]!r} in {other}, expected {value!r} as in "
                    f"{name}; evaluate both on the same tasks, cells and seeds"
                )
        if x.card != y.card:
            raise RobosteerError(
                f"compare: task card of {x.scene.task!r}: found {card_name(y.card)} in {other}, expected "
                f"{card_name(x.card)} as in {name}; evaluate both with one card"
            )


def compare(evaluations: Mapping[str, Evaluation], *, samples: int = 10_000, seed: int = 0) -> list[Difference]:
    """Every policy against the first one.

    Args:
        evaluations: by name, the reference first.
        samples: bootstrap draws.
        seed: of the draws.

    Raises:
        RobosteerError: fewer than two, results of different scenes, or no draws.
    """
    if len(evaluations) < 2:
        raise RobosteerError(f"compare: found {len(evaluations)} results, expected at least two")
    if samples < 1:
        raise RobosteerError(f"--samples: found {samples}, expected at least 1")
    (name, reference), *others = evaluations.items()
    for other in others:
        require_same_scenes((name, reference), other)
    p_values = [mcnemar_exact(reference.vector, other.vector) for _, other in others]
    # Variations are tried on the same placements: they are no more independent than seeds in one cell.
    groups = [(t.scene.task, t.scene.grid_cell) for t in reference.trials]
    return [
        Difference(
            name=other_name,
            reference=name,
            trials=len(groups),
            successes=other.successes,
            reference_successes=reference.successes,
            gained=sum(b and not a for a, b in zip(reference.vector, other.vector, strict=True)),
            lost=sum(a and not b for a, b in zip(reference.vector, other.vector, strict=True)),
            difference=(other.successes - reference.successes) / len(groups),
            interval_95=paired_bootstrap(reference.vector, other.vector, groups, samples=samples, seed=seed),
            p=p,
            p_holm=adjusted,
        )
        for (other_name, other), p, adjusted in zip(others, p_values, holm(p_values), strict=True)
    ]


def comparison_json(differences: Sequence[Difference]) -> dict[str, Any]:
    """Plain JSON."""
    return {"schema": SCHEMA, "differences": [dataclasses.asdict(d) for d in differences]}


def comparison_text(differences: Sequence[Difference]) -> str:
    """For people."""
    first = differences[0]
    lines = [f"{first.reference}: {describe_rate(first.reference_successes, first.trials)}"]
    for d in differences:
        low, high = (100 * x for x in d.interval_95)
        adjusted = f", {d.p_holm:.3g} adjusted for {len(differences)} comparisons" if len(differences) > 1 else ""
        lines += [
            f"{d.name}: {describe_rate(d.successes, d.trials)}",
            f"  {100 * d.difference:+.1f} points against {d.reference} (95 % interval {low:+.1f} to {high:+.1f}); "
            f"{d.gained} scenes gained, {d.lost} lost; McNemar exact p = {d.p:.3g}{adjusted}",
        ]
    return "\n".join(lines)
