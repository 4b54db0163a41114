"""From labels to the same result files as those of simulated evaluations."""

from __future__ import annotations

from collections.abc import Mapping

from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.guided.labels import Label, Labels
from robosteer_training.evaluation.guided.plan import TrialPlan
from robosteer_training.evaluation.result import Evaluation
from robosteer_training.evaluation.rollout import Trial


def evaluations(
    plan: TrialPlan, labels: Labels, key: Mapping[str, str], *, early: bool = False
) -> dict[str, Evaluation]:
    """One result per policy, over the placements on which all policies were tried; policy -> result.

    Args:
        plan: the trials.
        labels: what happened.
        key: code -> policy.
        early: open the key although trials are missing.

    Raises:
        RobosteerError: trials are missing and `early` was not given, or there is no whole placement.
    """
    done, total = len(labels), len(plan.trials)
    if done < total and not early:
        raise RobosteerError(
            f"report: found {done} of {total} trials labelled, expected all; opening the key ends the blinding, so go "
            "on with `robosteer evaluate guide run`, or give --early"
        )
    by_place: dict[int, dict[str, Label]] = {}
    for label in labels:
        planned = plan.trials[label.trial]
        by_place.setdefault(planned.place, {})[planned.code] = label
    whole = [found for found in by_place.values() if set(found) == set(plan.codes)]
    if not whole:
        raise RobosteerError("report: found no placement on which all policies were tried; label more trials")
    conditions = {
        "environment": "robot",
        "rig_digest": plan.rig_digest,
        "time_limit_s": plan.time_limit_s,
        "plan": plan.digest(),
    }
    return {
        policy: Evaluation(
            policy,
            conditions,
            {"code": code},
            tuple(_trial(plan, found[code]) for found in whole),
            sum(found[code].duration_s for found in whole),
        )
        for code, policy in sorted(key.items(), key=lambda item: item[1])
    }


def _trial(plan: TrialPlan, label: Label) -> Trial:
    return Trial(plan.trials[label.trial].scene, label.success, label.duration_s, label.failure)
