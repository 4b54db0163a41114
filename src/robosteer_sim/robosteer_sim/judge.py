"""The judge: watches an episode, decides on success, and says why there is none."""

from __future__ import annotations

import numpy as np

from robosteer_rig.environment import Failure
from robosteer_sim.criteria import UPRIGHT, Lifted
from robosteer_sim.instant import Instant
from robosteer_sim.objects import KINDS, kind_of
from robosteer_sim.tasks import TaskCard

APPROACH_M = 0.12
"""The tool has approached an object when the point between the pads was so near to it."""
DISTURBED_M = 0.03
"""An object that moved so far, or was held so high, was acted upon."""
_FALLEN_M = -0.05


class Judge:
    """Watches an episode of one task.

    Attributes:
        card: the task.
        lifted: the first object that was picked up; any object counts, so that a wrong choice can be told.
    """

    def __init__(self, card: TaskCard) -> None:
        """Begin an episode.

        Args:
            card: the task.
        """
        self.card = card
        self.lifted: str | None = None
        self._done = False
        self._since: dict[int, float] = {}
        self._now: Instant | None = None
        self._start = np.zeros((0, 3))
        self._nearest = np.zeros(0)
        self._begun = False
        self._lift = card.success if isinstance(card.success, Lifted) else Lifted(DISTURBED_M, 0.2)

    def observe(self, now: Instant) -> None:
        """Take note of one instant, whether or not the task is done."""
        if self._now is None or now.names != self._now.names:
            self._start, self._nearest = now.positions, np.full(len(now.names), np.inf)
        self._now = now
        np.minimum(self._nearest, np.linalg.norm(now.positions - now.tip, axis=1), out=self._nearest)
        target = now.number(self.card.target)
        self._begun = self._begun or self.card.success.begun(now, target, self._start)
        self._watch_lifts(now)
        if self._lift is self.card.success:
            self._done = self.lifted == self.card.target
        elif not self._done:
            goal = None if self.card.goal is None else now.number(self.card.goal)
            met = self.card.success.met(now, target, goal)
            self._done = self._lasting(-1, now.time_s, met, self.card.success.hold_s)

    def _watch_lifts(self, now: Instant) -> None:
        """Whether something has been held up for long enough."""
        for number, name in enumerate(now.names):
            held = self._lift.met(now, number, None)
            if self._lasting(number, now.time_s, held, self._lift.hold_s) and self.lifted is None:
                self.lifted = name

    def _lasting(self, what: int, time_s: float, holds: bool, duration_s: float) -> bool:
        """Whether something has been the case for so long without a break."""
        if not holds:
            self._since.pop(what, None)
            return False
        return time_s - self._since.setdefault(what, time_s) >= duration_s

    @property
    def success(self) -> bool:
        """Whether the task is done; nothing that happens later undoes it."""
        return self._done

    @property
    def failure(self) -> Failure | None:
        """Why the attempt would count as failed if it ended now; None once it has succeeded."""
        return None if self._done else self._diagnose()[0]

    @property
    def detail(self) -> str:
        """The same for people, in words; empty after a success."""
        return "" if self._done else self._diagnose()[1]

    def _diagnose(self) -> tuple[Failure, str]:
        """What went wrong: what cannot be mended comes first."""
        now, card = self._now, self.card
        if now is None:
            return Failure.NEVER_APPROACHED, "nothing has happened yet"
        target = now.number(card.target)
        for name in filter(None, (card.target, card.goal)):
            if self._lies(now, name):
                return Failure.KNOCKED_OVER, f"{name} lies on its side"
        if now.heights[target] < _FALLEN_M and kind_of(card.target) != "button":
            return Failure.MISPLACED, f"{card.target} fell off the table"
        wrong = self._wrong(now)
        if wrong is not None:
            return Failure.WRONG_OBJECT, wrong
        if not self._begun:
            if self._nearest[target] > APPROACH_M:
                return Failure.NEVER_APPROACHED, f"{card.target} was {self._nearest[target]:.2f} m away at best"
            return Failure.MISSED, f"{card.target} was approached but never {card.doing}"
        goal = None if card.goal is None else now.number(card.goal)
        setback = card.success.setback(now, target, goal, self._start)
        if setback is not None:
            return setback, f"{card.target} was {setback.value} after it was {card.doing}"
        return Failure.TIMED_OUT, f"{card.target} was being {card.doing}, but not long, far or hard enough"

    def _lies(self, now: Instant, name: str) -> bool:
        """Whether something that must stand does not, and nobody is holding it."""
        number = now.number(name)
        return KINDS[kind_of(name)].stands and now.upright(number) < UPRIGHT and not now.gripped(number)

    def _wrong(self, now: Instant) -> str | None:
        """Whether another object was picked up, or moved instead of the target."""
        card = self.card
        if self._begun and self._lift is not card.success:
            return None
        if self.lifted not in (None, card.target):
            return f"picked up {self.lifted} instead of {card.target}"
        if self._begun:
            return None
        for number, name in enumerate(now.names):
            moved = float(np.linalg.norm(now.positions[number] - self._start[number]))
            if name not in (card.target, card.goal) and moved > DISTURBED_M:
                return f"moved {name} instead of {card.target}"
        return None
