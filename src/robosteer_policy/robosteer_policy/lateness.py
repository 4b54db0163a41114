"""Notice that the next chunk does not come: a GPU that stalls, a slow network, a server that hangs."""

from __future__ import annotations

import math

from robosteer_rig.errors import RobosteerError

OVERRUN_STEPS, STALL_S = 1, 0.5


class Lateness:
    """Limits how long an old chunk is executed when the next one is missing.

    A chunk that is due is waited for as long as a slow inference takes, in whole periods; then `overrun_steps` more
    actions of the old chunk are executed, then the arm rests, and after `stall_s` at rest the run ends.

    Args:
        period_ns: of actions; chunks are taken over once per period.
        overrun_steps: how many actions the arm may go on with, so that a little jitter does not stop it.
        stall_s: shorter pauses end by themselves.

    Attributes:
        pauses: how often the arm has rested because of this.

    Raises:
        RobosteerError: for a negative number of steps, or no time.
    """

    def __init__(self, period_ns: int, overrun_steps: int = OVERRUN_STEPS, stall_s: float = STALL_S) -> None:
        if overrun_steps < 0:
            raise RobosteerError(f"overrun_steps: found {overrun_steps}, expected at least 0")
        if not 0 < stall_s <= 3600:
            raise RobosteerError(f"stall_s: found {stall_s}, expected more than 0 and at most 3600")
        self._period_ns = period_ns
        self._overrun_ns, self._stall_ns = overrun_steps * period_ns, round(stall_s * 1e9)
        self.pauses = 0
        self.begin()

    def begin(self) -> None:
        """A run starts: nothing is executed, so nothing can be late."""
        self._asked_ns = self._due_ns = 0
        self._executing = self._waiting = self._pausing = False

    def asked(self, now_ns: int, slow_ns: int) -> None:
        """An inference begins; unless the answer to an earlier one is still missing, its chunk is waited for.

        Args:
            now_ns: time.
            slow_ns: duration of an inference that is slow, and nothing is wrong yet.
        """
        if self._executing and not self._waiting:
            steps = max(math.ceil(slow_ns / self._period_ns), 1)
            self._asked_ns, self._due_ns, self._waiting = now_ns, now_ns + steps * self._period_ns, True

    def accepted(self) -> None:
        """A chunk has taken over."""
        self._executing, self._waiting = True, False

    def late(self, now_ns: int) -> bool:
        """Whether the arm must rest until the next chunk comes."""
        late = self._waiting and now_ns - self._due_ns >= self._overrun_ns
        self.pauses += late and not self._pausing
        self._pausing = late
        return late

    def stalled(self, now_ns: int) -> str:
        """Why the run must end, or an empty string."""
        if not self._waiting or now_ns - self._due_ns < self._overrun_ns + self._stall_ns:
            return ""
        waited_s, usual_s = (now_ns - self._asked_ns) * 1e-9, (self._due_ns - self._asked_ns) * 1e-9
        line = f"inference: no new actions for {waited_s:.2f} s, expected them in {usual_s:.2f} s"
        return f"{line}; look at the load of the GPU, or at the policy server"
