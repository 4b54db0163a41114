"""What the cell can be asked to do: task cards, and the judge that decides whether it was done."""

from __future__ import annotations

import dataclasses

from robosteer_rig.errors import RobosteerError
from robosteer_sim.cell_model import COLOURS


@dataclasses.dataclass(frozen=True)
class LiftCriterion:
    """An object counts as picked up when it is held high enough for long enough.

    Attributes:
        height_m: of the object above its place on the table.
        hold_s: for how long without a break, with both pads in contact.
    """

    height_m: float = 0.05
    hold_s: float = 0.5


@dataclasses.dataclass(frozen=True)
class TaskCard:
    """One task.

    Attributes:
        prompt: the instruction, which is also the task's name.
        target: the object to pick up.
        distractors: objects one of which lies in the scene too, drawn from the scene's seed.
        success: the judge's tolerances.
        time_limit_s: after which an attempt counts as failed.
    """

    prompt: str
    target: str
    distractors: tuple[str, ...]
    success: LiftCriterion = LiftCriterion()
    time_limit_s: float = 12.0


OBJECTS = tuple(f"{colour} cube" for colour in COLOURS)


def _pick_up(target: str) -> TaskCard:
    return TaskCard(f"pick up {target}", target, tuple(name for name in OBJECTS if name != target))


TASKS: dict[str, TaskCard] = {card.prompt: card for card in map(_pick_up, OBJECTS)}


def task_card(prompt: str) -> TaskCard:
    """The card of an instruction.

    Raises:
        RobosteerError: for an unknown instruction; the message lists the known ones.
    """
    if prompt not in TASKS:
        raise RobosteerError(f"task: found {prompt!r}, expected one of {sorted(TASKS)}")
    return TASKS[prompt]


@dataclasses.dataclass
class LiftJudge:
    """Watches an episode and says which object has been picked up.

    Attributes:
        card: the task.
        lifted: the first object that met the criterion; any object counts, so that a wrong choice can be told.
    """

    card: TaskCard
    lifted: str | None = None
    _held: str | None = None
    _held_since_s: float = 0.0

    def observe(self, time_s: float, held: str | None) -> None:
        """Take note of one instant.

        Args:
            time_s: time since the reset.
            held: the object that is above the criterion's height with both pads in contact; None for none.
        """
        if held is None or held != self._held:
            self._held, self._held_since_s = held, time_s
        elif self.lifted is None and time_s - self._held_since_s >= self.card.success.hold_s:
            self.lifted = held

    @property
    def success(self) -> bool:
        """Whether the target was picked up, and nothing else before it."""
        return self.lifted == self.card.target

    @property
    def failure(self) -> str | None:
        """Why the episode cannot succeed any more; None while it can, or when it did."""
        if self.lifted is None or self.success:
            return None
        return f"picked up {self.lifted} instead of {self.card.target}"
