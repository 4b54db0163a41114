"""Which heads learn from which task, when there are several."""

from __future__ import annotations

from collections.abc import Sequence

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads.knn import rank_heads
from robosteer_training.heads.selection import HeadSelection

Head = tuple[int, int]


def joint_heads(selections: Sequence[HeadSelection]) -> list[Head]:
    """The union of several selections, best ranks first; every head learns from every task."""
    ranked = sorted((rank, i, head) for i, s in enumerate(selections) for rank, head in enumerate(s.heads))
    return list(dict.fromkeys(head for _, _, head in ranked))


def in_task_order(selections: Sequence[HeadSelection], tasks: Sequence[str]) -> list[HeadSelection]:
    """One selection per task of the data, in the data's order.

    Selections that say on which task they were made are matched by it; otherwise the order in which they were given
    counts.

    Raises:
        RobosteerError: another number of selections than of tasks, or selections of other tasks.
    """
    if len(selections) != len(tasks):
        raise RobosteerError(
            f"--disjoint: found {len(selections)} selections, expected one for each of the data's {len(tasks)} tasks: "
            f"{', '.join(tasks)}"
        )
    told = [selection.provenance.get("tasks") or [] for selection in selections]
    if any(len(names) != 1 for names in told):
        return list(selections)
    names = [name for (name,) in told]
    if sorted(names) != sorted(tasks):
        raise RobosteerError(
            f"--disjoint: found selections made on {', '.join(names)}, expected one on each of the data's tasks: "
            f"{', '.join(tasks)}; give those files"
        )
    return [selections[names.index(task)] for task in tasks]


def disjoint_heads(selections: Sequence[HeadSelection], excluded: Sequence[Head] = ()) -> tuple[list[Head], list[int]]:
    """As many heads per task as its selection has, none in two of them.

    The tasks take turns; each takes its best head that is still free. A head that several tasks chose thus goes to the
    one that ranks it highest, and the others take their next best.

    Args:
        selections: one per task.
        excluded: heads that nobody may take, unless a selection chose them.

    Returns:
        The heads and, for each, the number of its task.

    Raises:
        RobosteerError: there are not enough heads.
    """
    wishes = [list(dict.fromkeys([*s.heads, *rank_heads(s.scores, excluded)])) for s in selections]
    taken: dict[Head, int] = {}
    for turn in range(max(s.m for s in selections)):
        for task, selection in enumerate(selections):
            if turn >= selection.m:
                continue
            free = next((head for head in wishes[task] if head not in taken), None)
            if free is None:
                raise RobosteerError(
                    f"--heads: found {sum(s.m for s in selections)} heads for {len(selections)} tasks, expected at "
                    f"most {selections[0].scores.size}, so that no two tasks share one; select fewer with --m"
                )
            taken[free] = task
    return list(taken), list(taken.values())
