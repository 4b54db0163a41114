"""One inference: everything that it depends on, what came out, and both as a record that can be replayed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from robosteer_policy.chunks import Chunk
from robosteer_policy.strategies import Continuation
from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame

SCHEMA = "robosteer.chunk/1"


@dataclasses.dataclass(frozen=True)
class Steering:
    """How an inference is steered.

    Attributes:
        strengths: preset -> λ, 0 ... 1; absent presets are 0.
        shadow: which of the two policies, "plain" or "steered", is computed and published but not executed; empty
            computes only what is executed.
    """

    strengths: Mapping[str, float] = dataclasses.field(default_factory=dict)
    shadow: str = ""

    @property
    def active(self) -> dict[str, float]:
        """The presets that act."""
        return {name: value for name, value in sorted(self.strengths.items()) if value != 0.0}


@dataclasses.dataclass(frozen=True)
class Request:
    """What one inference depends on, apart from the checkpoint, the seed and the flow steps.

    Attributes:
        run: the run it belongs to.
        sequence: numbers the inferences of a process from 1; with the seed it fixes the noise.
        frame: what is seen.
        instruction: in words.
        steering: what is steered, fixed for the whole inference.
        continuation: the chunk that is continued.
        overlays: kinds of `overlays` that somebody wants to see.
    """

    run: int
    sequence: int
    frame: Frame
    instruction: str
    steering: Steering = dataclasses.field(default_factory=Steering)
    continuation: Continuation | None = None
    overlays: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an inference made.

    Attributes:
        chunk: to be executed.
        shadow: of the policy that is not executed, in shadow mode.
        latency_ns: duration of the inference.
    """

    chunk: Chunk
    shadow: Chunk | None = None
    latency_ns: int = 0


@dataclasses.dataclass(frozen=True)
class Look:
    """What somebody wanted to see of an inference.

    Attributes:
        request: of the inference.
        overlays: kind -> field of an image -> (patch rows, patch columns).
        trouble: why there is nothing to see, one line; empty otherwise.
    """

    request: Request
    overlays: Mapping[str, Mapping[str, np.ndarray]]
    trouble: str = ""


def _actions(chunk: Chunk) -> dict[str, Any]:
    # Python writes floats so that they read back to the same bits.
    return {"velocity": chunk.velocity.tolist(), "gripper": chunk.gripper.tolist()}


def record(request: Request, outcome: Outcome, *, accepted: bool, origin: Mapping[str, Any]) -> str:
    """The JSON text that is published beside every chunk.

    Args:
        request: of the inference.
        outcome: of it.
        accepted: whether the chunk is executed.
        origin: what stays the same for the process: checkpoint, seed, num_steps.
    """
    frame, chunk = request.frame, outcome.chunk
    return json.dumps(
        {
            "schema": SCHEMA,
            "run": request.run,
            "sequence": request.sequence,
            "stamp_ns": frame.stamp_ns,
            "inputs": {name: frame.stamp_ns - age for name, age in sorted(frame.ages_ns.items())},
            "instruction": request.instruction,
            "steering": request.steering.active,
            "continuation": None if request.continuation is None else dataclasses.asdict(request.continuation),
            "accepted": accepted,
            "latency_ms": round(outcome.latency_ns / 1e6, 3),
            "period_ns": chunk.period_ns,
            **_actions(chunk),
            "shadow": None
            if outcome.shadow is None
            else {"policy": request.steering.shadow, **_actions(outcome.shadow)},
            **origin,
        }
    )


@dataclasses.dataclass(frozen=True)
class Record:
    """A published record, read back.

    Attributes:
        fields: the whole JSON object.
        inputs: stream -> stamp of the message that was used, ns.
    """

    fields: dict[str, Any]
    inputs: dict[str, int]

    def request(self, frame: Frame) -> Request:
        """The request again, with the frame made from the recorded inputs."""
        fields = self.fields
        continuation = fields["continuation"]
        return Request(
            run=fields["run"],
            sequence=fields["sequence"],
            frame=frame,
            instruction=fields["instruction"],
            steering=Steering(fields["steering"], fields["shadow"]["policy"] if fields["shadow"] else ""),
            continuation=None if continuation is None else Continuation(**continuation),
        )

    def differences(self, outcome: Outcome) -> float:
        """Largest difference between the recorded and a new outcome's actions; 0.0 means the same bits."""
        pairs = [(self.fields, outcome.chunk)]
        if self.fields["shadow"] is not None and outcome.shadow is not None:
            pairs.append((self.fields["shadow"], outcome.shadow))
        found = 0.0
        for recorded, chunk in pairs:
            for name in ("velocity", "gripper"):
                ours, theirs = getattr(chunk, name), np.asarray(recorded[name], dtype=np.float64)
                if ours.shape != theirs.shape:
                    return float("inf")
                found = max(found, float(np.abs(ours - theirs).max(initial=0.0)))
        return found


def parse_record(text: str) -> Record:
    """Read a record.

    Raises:
        RobosteerError: for text that is none of this schema.
    """
    try:
        fields = json.loads(text)
        known = isinstance(fields, dict) and fields.get("schema") == SCHEMA
        inputs = {str(k): int(v) for k, v in fields["inputs"].items()} if known else {}
    except (ValueError, KeyError, AttributeError, TypeError):
        known, fields, inputs = False, {}, {}
    if not known or not {"sequence", "velocity", "gripper", "shadow", "steering", "continuation"} <= fields.keys():
        raise RobosteerError(f"chunk record: found {text[:40]!r}, expected {SCHEMA}")
    return Record(fields, inputs)
