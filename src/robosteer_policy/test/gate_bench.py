"""A gate on a bench: an arm that follows exactly, and a clock that only the test moves."""

import numpy as np

from robosteer_policy.guard.gate import Gate, Source
from robosteer_policy.guard.settings import GuardSettings
from robosteer_policy.guard.streams import Command, Instant

from .panda import JOINTS, READY, VELOCITY_MAX, limits

MS = 1_000_000
EPOCH = 1_700_000_000_000_000_000


class Bench:
    """A gate, an arm that follows exactly, and a clock that only the test moves."""

    def __init__(self, source=Source.POLICY, *, armed=True):
        self.gate = Gate(JOINTS, limits(), GuardSettings(), source)
        self.steady = 10_000 * MS
        self.offset = EPOCH
        self.position = READY.copy()
        self.velocity = np.zeros(7)
        self.measuring = True
        self.period()
        if armed:
            assert self.gate.arm(self.now) == ""

    @property
    def now(self):
        return Instant(self.steady, self.steady + self.offset)

    def period(self, ms=10):
        """One control period: time passes, the arm moves, is measured, and the gate speaks."""
        self.steady += ms * MS
        self.position = self.position + self.velocity * ms * 1e-3
        if self.measuring:
            self.gate.on_joint_state(self.now.clock_ns, JOINTS, self.position, self.velocity, self.now)
        before, self.velocity = self.velocity, self.gate.tick(self.now)
        assert np.isfinite(self.velocity).all()
        assert (np.abs(self.velocity) <= VELOCITY_MAX + 1e-6).all()
        return (self.velocity - before) / 0.01

    def say(self, velocity, source=Source.POLICY, age_ms=0, names=JOINTS, **more):
        return self.gate.on_command(source, Command(self.now.clock_ns - age_ms * MS, names, velocity, **more), self.now)

    def run(self, velocity, seconds, source=Source.POLICY, every_ms=20):
        """A source at 50 Hz, as the rig's command timeout of 50 ms asks for."""
        for k in range(round(seconds * 100)):
            if k * 10 % every_ms == 0:
                assert self.say(velocity, source) == ""
            self.period()

    def until_rest(self):
        """Seconds until the gate sends zeros."""
        start = self.steady
        while self.velocity.any():
            self.period()
            assert self.steady - start < 1000 * MS
        return (self.steady - start) * 1e-9
