"""Notice that a chunk does not come, or comes too late: a GPU that stalls, a slow network, a server that hangs."""

from __future__ import annotations

import math

from robosteer_rig.errors import RobosteerError

OVERRUN_STEPS, STALL_S, MAX_OBSERVATION_AGE_S = 1, 0.5, 1.0


class Lateness:
    """Limits how long an old chunk is executed when the next one is missing, and how old a new one may be.

    A chunk that is due is waited for as long as a slow inference takes, in whole periods; then `overrun_steps` more
    actions of the old chunk are executed, then the arm rests, and after `stall_s` at rest the run ends. A chunk whose
    observation is too old when it comes is not begun with; one that was discarded counts as missing.

    Args:
        period_ns: of actions; chunks are taken over once per period.
        overrun_steps: how many actions the arm may go on with, so that a little jitter does not stop it.
        stall_s: shorter pauses end by themselves.
        max_observation_age_s: largest age of an observation when the first action computed from it is executed.

    Attributes:
        pauses: how often the arm has rested because of this.
        discarded: how many chunks came too late to be begun with.

    Raises:
        RobosteerError: for a negative number of steps, or no time.
    """

    def __init__(
        self,
        period_ns: int,
        overrun_steps: int = OVERRUN_STEPS,
        stall_s: float = STALL_S,
        max_observation_age_s: float = MAX_OBSERVATION_AGE_S,
    ) -> None:
        if overrun_steps < 0:
            raise RobosteerError(f"overrun_steps: found {overrun_steps}, expected at least 0")
        if not 0 < stall_s <= 3600:
            raise RobosteerError(f"stall_s: found {stall_s}, expected more than 0 and at most 3600")
        if not 0 < max_observation_age_s <= 3600:
            found = f"max_observation_age_s: found {max_observation_age_s}"
            raise RobosteerError(f"{found}, expected more than 0 and at most 3600")
        self._period_ns = period_ns
        self._overrun_ns, self._stall_ns = overrun_steps * period_ns, round(stall_s * 1e9)
        self._max_age_ns = round(max_observation_age_s * 1e9)
        self.pauses = self.discarded = 0
        self.begin()

    def begin(self) -> None:
        """A run starts: nothing is executed, so nothing can be late."""
        self._asked_ns = self._due_ns = 0
        self._begun = self._waiting = self._pausing = False
        self._old = ""

    def asked(self, now_ns: int, slow_ns: int) -> None:
        """An inference begins; unless the answer to an earlier one is still missing, its chunk is waited for.

        Args:
            now_ns: time.
            slow_ns: duration of an inference that is slow, and nothing is wrong yet.
        """
        if self._begun and not self._waiting:
            # What takes longer than its observation may age is of no use: one that hung teaches no patience.
            steps = max(math.ceil(min(slow_ns, self._max_age_ns) / self._period_ns), 1)
            self._asked_ns, self._due_ns, self._waiting = now_ns, now_ns + steps * self._period_ns, True

    def too_old(self, stamp_ns: int, now_ns: int) -> str:
        """Why a chunk must be discarded, or an empty string; the first one, which nothing waits for, too.

        Args:
            stamp_ns: of its observation.
            now_ns: when its first action would be executed.
        """
        age_ns = now_ns - stamp_ns
        if age_ns <= self._max_age_ns:
            return ""
        self.discarded += 1
        self._begun = True  # the next one is waited for: a run of which every chunk is too old ends
        limit_s = self._max_age_ns * 1e-9
        self._old = f"discarded actions for an observation {age_ns * 1e-9:.2f} s old, limit {limit_s:.2f} s"
        return self._old

    def accepted(self) -> None:
        """A chunk has taken over."""
        self._begun, self._waiting, self._old = True, False, ""

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
        old = f", {self._old}" if self._old else ""
        return f"{line}{old}; look at the load of the GPU, or at the policy server"
