"""Selections for several tasks: one per task, disjoint if wanted."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads.knn import rank_heads
from robosteer_training.heads.selection import HeadSelection


def make_disjoint(selections: Mapping[str, HeadSelection]) -> dict[str, HeadSelection]:
    """Sets that share no head: rank by rank, every task in turn takes its best head that is free.

    Args:
        selections: by task; each keeps its number of heads, its scores, and the heads that it may not choose.

    Raises:
        RobosteerError: fewer heads than the tasks want together.
    """
    wanted = {task: selection.m for task, selection in selections.items()}
    total = next(iter(selections.values())).scores.size
    barred = {task: _barred(selection) for task, selection in selections.items()}
    free = total - len(set.intersection(*map(set, barred.values())))
    if sum(wanted.values()) > free:
        raise RobosteerError(
            f"--disjoint: found {len(wanted)} tasks that want {sum(wanted.values())} heads, expected at most {free}; "
            "give a smaller --m"
        )
    order = {task: iter(rank_heads(s.scores, barred[task])) for task, s in selections.items()}
    taken: set[tuple[int, int]] = set()
    chosen: dict[str, list[tuple[int, int]]] = {task: [] for task in selections}
    while any(len(chosen[task]) < wanted[task] for task in chosen):
        for task, heads in chosen.items():
            if len(heads) < wanted[task]:
                head = next((h for h in order[task] if h not in taken), None)
                if head is None:
                    raise RobosteerError(f"--disjoint: found no head left for {task!r}; give a smaller --m")
                heads.append(head)
                taken.add(head)
    return {
        task: dataclasses.replace(s, heads=chosen[task], settings=s.settings | {"disjoint_from": _others(task, chosen)})
        for task, s in selections.items()
    }


def _barred(selection: HeadSelection) -> list[tuple[int, int]]:
    """Heads that the selection left out on purpose: the last layer, if dead heads were excluded."""
    if not selection.settings.get("exclude_dead_heads") or selection.provenance.get("model_type") == "pi0_fast":
        return []
    layers, heads = selection.scores.shape
    return [(layers - 1, head) for head in range(heads)]


def _others(task: str, chosen: Mapping[str, object]) -> list[str]:
    return [other for other in chosen if other != task]


def slug(task: str) -> str:
    """A file name for a task: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", task.lower()).strip("-")[:60] or "task"
