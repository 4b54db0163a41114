"""How strongly each preset acts at a time: ramps, time to live, deadman, limits. Pure; time is passed in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from robosteer_policy.steering.presets import Preset, conflicts
from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import FieldError, build, require

REQUEST_SCHEMA = "robosteer.steer/1"
STATE_SCHEMA = "robosteer.steer_state/1"
ALL = "*"


@dataclasses.dataclass(frozen=True)
class SteerRequest:
    """One wish.

    Attributes:
        schema: version of this format.
        preset: its name; "*" with strength 0 releases all.
        strength: λ to reach, 0 ... 1.
        ramp_s: time to get there, s; longer where the preset's max_rate asks for it.
        ttl_s: after this time λ returns to 0 by itself, s.
        deadman: return to 0 as soon as the deadman topic stops saying true.
    """

    preset: str
    strength: float
    ramp_s: float = 1.0
    ttl_s: float = 30.0
    deadman: bool = False
    schema: Literal["robosteer.steer/1"] = REQUEST_SCHEMA

    def __post_init__(self) -> None:
        require(0 <= self.strength <= 1, "strength", self.strength, "0 ... 1")
        require(0 <= self.ramp_s <= 60, "ramp_s", self.ramp_s, "0 ... 60 s")
        require(0 < self.ttl_s <= 3600, "ttl_s", self.ttl_s, "more than 0 and at most 3600 s")
        require(self.preset != ALL or self.strength == 0, "preset", self.preset, "a name, unless strength is 0")


def parse_request(text: str) -> SteerRequest:
    """Read a request from JSON.

    Raises:
        RobosteerError: one line for the person who sent it.
    """
    try:
        return build(SteerRequest, json.loads(text))
    except FieldError as error:
        raise RobosteerError(f"steer: {error}") from None
    except (ValueError, RecursionError):
        raise RobosteerError(f"steer: found {text[:40]!r}, expected JSON of {REQUEST_SCHEMA}") from None


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A straight change of λ in time; monotone, and exactly its target after its end.

    Attributes:
        begin: λ at `begin_ns`.
        begin_ns: start.
        target: λ at the end.
        duration_ns: length; 0 jumps.
    """

    begin: float
    begin_ns: int
    target: float
    duration_ns: int

    def at(self, now_ns: int) -> float:
        """λ at a time."""
        if now_ns >= self.begin_ns + self.duration_ns:
            return self.target
        share = max(now_ns - self.begin_ns, 0) / self.duration_ns
        return self.begin + (self.target - self.begin) * share


@dataclasses.dataclass(frozen=True)
class _Held:
    """A preset that acts: its ramp, when it expires, and whether a deadman holds it."""

    ramp: Ramp
    release_s: float
    expires_ns: int
    deadman: bool


class Mixer:
    """Holds what was asked for and says what acts.

    Args:
        presets: by name.
        max_strength: of the node, below every preset's own.
        deadman_s: a deadman that is silent for longer counts as released.
        deadman_required: accept only requests with a deadman.
        allow_unbound: accept presets that do not say which checkpoint they were made for.

    Attributes:
        checkpoint: digest of the loaded parameters; empty until they are loaded.
        last: what became of the last request, for people.
    """

    def __init__(
        self,
        presets: Mapping[str, Preset],
        *,
        max_strength: float = 1.0,
        deadman_s: float = 0.3,
        deadman_required: bool = False,
        allow_unbound: bool = False,
    ) -> None:
        if not 0 < max_strength <= 1:
            raise RobosteerError(f"max_strength: found {max_strength}, expected more than 0 and at most 1")
        self._presets = dict(presets)
        self._max_strength, self._deadman_required = max_strength, deadman_required
        self._deadman_ns, self._allow_unbound = int(deadman_s * 1e9), allow_unbound
        self._held: dict[str, _Held] = {}
        self._pressed_ns: int | None = None
        self.checkpoint, self.last = "", "nothing asked yet"

    def set(self, request: SteerRequest, now_ns: int) -> str:
        """Take a request; returns why it is refused, or an empty string. A refused one changes nothing."""
        trouble = self._trouble(request, now_ns)
        self.last = trouble or f"{request.preset} to {request.strength:g} in {request.ramp_s:g} s"
        if trouble:
            return trouble
        if request.preset == ALL:
            self.release(now_ns, request.ramp_s)
            return ""
        present = self.strengths(now_ns).get(request.preset, 0.0)
        self._begin(request.preset, present, request, now_ns)
        return ""

    def deadman(self, pressed: bool, now_ns: int) -> None:
        """Hear the deadman."""
        self._pressed_ns = now_ns if pressed else None

    def release(self, now_ns: int, ramp_s: float = 0.0) -> None:
        """Bring every λ to 0."""
        for name in list(self._held):
            self._fall(name, now_ns, ramp_s)

    def strengths(self, now_ns: int) -> dict[str, float]:
        """λ of every preset that acts, without the zeros."""
        for name, held in list(self._held.items()):
            self._expire(name, held, now_ns)
        values = {name: held.ramp.at(now_ns) for name, held in self._held.items()}
        for name, value in values.items():
            if value == 0.0 and self._held[name].ramp.target == 0.0:
                del self._held[name]
        return {name: value for name, value in sorted(values.items()) if value != 0.0}

    def describe(self, now_ns: int) -> dict[str, Any]:
        """The content of `~/steer/state`."""
        strengths = self.strengths(now_ns)
        return {
            "schema": STATE_SCHEMA,
            "strengths": strengths,
            "targets": {name: held.ramp.target for name, held in sorted(self._held.items())},
            "remaining_s": {n: round(max(h.expires_ns - now_ns, 0) * 1e-9, 2) for n, h in sorted(self._held.items())},
            "presets": {name: preset.max_strength for name, preset in sorted(self._presets.items())},
            "checkpoint": self.checkpoint,
            "last": self.last,
        }

    def _trouble(self, request: SteerRequest, now_ns: int) -> str:
        if request.preset == ALL:
            return ""
        preset = self._presets.get(request.preset)
        if preset is None:
            wanted = f"one of {', '.join(self._presets)}" if self._presets else "none, as no preset_dir was given"
            return f"preset: found {request.preset!r}, expected {wanted}"
        if request.strength == 0:
            return ""
        if foreign := self._foreign(preset):
            return foreign
        limit = min(preset.max_strength, self._max_strength)
        if request.strength > limit:
            return f"strength: found {request.strength:g}, expected at most {limit:g} for {preset.name}"
        if self._deadman_required and not request.deadman:
            return "deadman: found false, expected true; this node requires it"
        if request.deadman and not self._pressed(now_ns):
            return "deadman: found released, expected it held; hold it first"
        strengths = self.strengths(now_ns)
        # A preset that is on its way up from 0 acts too.
        active = {n: self._presets[n] for n, h in self._held.items() if n in strengths or h.ramp.target != 0}
        clash = conflicts(preset, active)
        return f"conflict: {clash}; release one first" if clash else ""

    def _foreign(self, preset: Preset) -> str:
        """Why a preset must not act on this checkpoint: indices and units mean nothing on another one."""
        if not self.checkpoint:
            return "checkpoint: found it still being loaded, expected it ready; try again then"
        if not preset.checkpoint:
            advice = f"write `checkpoint: {self.checkpoint}` into it if it was, or set allow_unbound_presets"
            trouble = f"checkpoint: found none in preset {preset.name}, expected the one it was made for; {advice}"
            return "" if self._allow_unbound else trouble
        if preset.checkpoint == self.checkpoint:
            return ""
        return (
            f"checkpoint: found preset {preset.name} made for {preset.checkpoint}, expected {self.checkpoint}; "
            "load that checkpoint, or make the preset again for this one"
        )

    def _begin(self, name: str, present: float, request: SteerRequest, now_ns: int) -> None:
        change = abs(request.strength - present)
        ramp_s = max(request.ramp_s, change / self._presets[name].max_rate)
        ramp = Ramp(present, now_ns, request.strength, int(ramp_s * 1e9))
        self._held[name] = _Held(ramp, ramp_s, now_ns + int(request.ttl_s * 1e9), request.deadman)

    def _fall(self, name: str, now_ns: int, ramp_s: float) -> None:
        held, rate = self._held[name], self._presets[name].max_rate
        present = held.ramp.at(now_ns)
        ramp = Ramp(present, now_ns, 0.0, int(max(ramp_s, present / rate) * 1e9))
        self._held[name] = dataclasses.replace(held, ramp=ramp)

    def _expire(self, name: str, held: _Held, now_ns: int) -> None:
        if held.ramp.target == 0.0:
            return
        if now_ns >= held.expires_ns:
            self._fall(name, held.expires_ns, held.release_s)
        elif held.deadman and not self._pressed(now_ns):
            self._fall(name, now_ns, 0.0)

    def _pressed(self, now_ns: int) -> bool:
        return self._pressed_ns is not None and now_ns - self._pressed_ns <= self._deadman_ns
