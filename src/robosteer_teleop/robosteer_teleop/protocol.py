"""What travels between the operator's page and the robot host: binary pose frames up, JSON both ways, images down.

Every client speaks this: the page in the headset, the observer's page, the scripted operator, the tests. The words are
explained in docs/reference/teleop-protocol.md. Pure: no sockets, no clock.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import struct
from typing import Any, Final

VERSION: Final = 1
FRAME_SIZE: Final = 96
_FRAME = struct.Struct("<BBHIdd3f4fff2f3f4f")
_IMAGE = struct.Struct("<BBHId")
IMAGE_HEADER_SIZE: Final = _IMAGE.size
_JPEG_KIND: Final = 1
_NORM_TOLERANCE = 1e-2  # A float32 quaternion from a browser is normalised far better than this.
_LIMIT_M = 1000.0  # Nothing tracked is farther away; keeps later arithmetic finite.


class ProtocolError(ValueError):
    """A message that no honest client sends; the connection that sent it is closed."""


class Flags(enum.IntFlag):
    """State bits of a pose frame."""

    TRACKED = 1
    """The grip pose is there; without it position and orientation mean nothing."""
    EMULATED = 2
    """The position is a guess of the headset (dead reckoning)."""
    VISIBLE = 4
    """The XR session is `visible`: not blurred by the system menu, not hidden by taking the headset off."""


class Buttons(enum.IntFlag):
    """Pressed buttons of the right controller, at their WebXR index."""

    TRIGGER = 1 << 0
    SQUEEZE = 1 << 1
    STICK = 1 << 3
    A = 1 << 4
    B = 1 << 5


_FLAG_BITS = sum(Flags)
_BUTTON_BITS = sum(Buttons)

_NO_BUTTONS = Buttons(0)

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class PoseFrame:
    """One sample of the operator's right hand, in WebXR's `local-floor` space (x right, y up, z back).

    Attributes:
        seq: number of the frame, from 0 in each connection, +1 each; u32.
        send_time: the client's clock when it sent, s. Monotonic within one page, near the Unix epoch, never compared
            with the host's clock without the offset that the host estimates.
        frame_time: the client's clock for which the pose was predicted, s.
        flags: state bits.
        buttons: pressed buttons.
        position: of the grip space, m.
        orientation: of the grip space, unit quaternion (x, y, z, w).
        trigger: 0 open, 1 pulled.
        squeeze: 0 open, 1 squeezed (the clutch).
        stick: thumbstick (right, down), each -1 to 1.
        head_position: of the viewer, m; zeros when unknown.
        head_orientation: of the viewer, unit quaternion (x, y, z, w).
    """

    seq: int
    send_time: float
    frame_time: float
    flags: Flags = Flags.TRACKED | Flags.VISIBLE
    buttons: Buttons = _NO_BUTTONS
    position: Vector3 = (0.0, 0.0, 0.0)
    orientation: Quaternion = (0.0, 0.0, 0.0, 1.0)
    trigger: float = 0.0
    squeeze: float = 0.0
    stick: tuple[float, float] = (0.0, 0.0)
    head_position: Vector3 = (0.0, 0.0, 0.0)
    head_orientation: Quaternion = (0.0, 0.0, 0.0, 1.0)

    @property
    def tracked(self) -> bool:
        """Whether the pose is there."""
        return Flags.TRACKED in self.flags

    @property
    def emulated(self) -> bool:
        """Whether the position is a guess."""
        return Flags.EMULATED in self.flags

    @property
    def visible(self) -> bool:
        """Whether the operator sees the session."""
        return Flags.VISIBLE in self.flags

    def encode(self) -> bytes:
        """The 96 bytes of this frame, little endian.

        Raises:
            ProtocolError: for a value that `decode` would refuse.
        """
        try:
            data = _FRAME.pack(
                VERSION,
                int(self.flags),
                int(self.buttons),
                self.seq,
                self.send_time,
                self.frame_time,
                *self.position,
                *self.orientation,
                self.trigger,
                self.squeeze,
                *self.stick,
                *self.head_position,
                *self.head_orientation,
            )
        except (struct.error, OverflowError, TypeError) as error:
            raise ProtocolError(f"pose frame: {error}") from error
        _check_frame(self)
        return data

    @classmethod
    def decode(cls, data: bytes) -> PoseFrame:
        """Read 96 bytes from a client that is not trusted.

        Raises:
            ProtocolError: for another size or version, unknown bits, a number that is not finite or out of range, or
                a quaternion that is not a rotation.
        """
        if len(data) != FRAME_SIZE:
            raise ProtocolError(f"pose frame: found {len(data)} bytes, expected {FRAME_SIZE}")
        version, flags, buttons, seq, send_time, frame_time, *rest = _FRAME.unpack(data)
        if version != VERSION:
            raise ProtocolError(f"pose frame: found version {version}, expected {VERSION}")
        if flags & ~_FLAG_BITS or buttons & ~_BUTTON_BITS:
            raise ProtocolError(f"pose frame: found unknown bits (flags {flags:#x}, buttons {buttons:#x})")
        frame = cls(
            seq=seq,
            send_time=send_time,
            frame_time=frame_time,
            flags=Flags(flags),
            buttons=Buttons(buttons),
            position=tuple(rest[0:3]),
            orientation=tuple(rest[3:7]),
            trigger=rest[7],
            squeeze=rest[8],
            stick=tuple(rest[9:11]),
            head_position=tuple(rest[11:14]),
            head_orientation=tuple(rest[14:18]),
        )
        _check_frame(frame)
        return frame


def _check_frame(frame: PoseFrame) -> None:
    """Refuse numbers that are not finite, ranges that no controller has and quaternions that are no rotation."""
    numbers = (
        *(frame.send_time, frame.frame_time, frame.trigger, frame.squeeze),
        *(*frame.position, *frame.orientation, *frame.stick, *frame.head_position, *frame.head_orientation),
    )
    if not all(math.isfinite(number) for number in numbers):
        raise ProtocolError("pose frame: found a number that is not finite")
    if min(frame.send_time, frame.frame_time) < 0:
        raise ProtocolError("pose frame: found a negative time")
    if max(map(abs, (*frame.position, *frame.head_position))) > _LIMIT_M:
        raise ProtocolError(f"pose frame: found a position beyond {_LIMIT_M:g} m")
    if not (0 <= frame.trigger <= 1 and 0 <= frame.squeeze <= 1 and max(map(abs, frame.stick)) <= 1):
        raise ProtocolError("pose frame: found trigger, squeeze or stick out of range")
    for quaternion in (frame.orientation, frame.head_orientation):
        if abs(math.hypot(*quaternion) - 1) > _NORM_TOLERANCE:
            raise ProtocolError("pose frame: found a quaternion whose length is not 1")


class Role(enum.StrEnum):
    """What a client may do."""

    OPERATOR = "operator"
    """Moves the arm and drives episodes; one at a time."""
    OBSERVER = "observer"
    """Sees state and cameras; nothing it sends reaches the robot."""


class Close(enum.IntEnum):
    """WebSocket close codes of ours. 1009 (too big) comes from the socket layer."""

    MALFORMED = 4400
    CREDENTIALS = 4401
    FORBIDDEN = 4403
    HELLO_TIMEOUT = 4408
    OPERATOR_TAKEN = 4409
    REPLACED = 4410
    LOCKED = 4423
    TOO_FAST = 4429
    SHUTDOWN = 4503


class Command(enum.StrEnum):
    """Episode commands that an operator may send as JSON; the same transitions as the buttons and the services."""

    START = "start"
    STOP = "stop"
    KEEP = "keep"
    DISCARD = "discard"
    RELABEL = "relabel"
    UNDO_LAST = "undo_last"
    ABORT = "abort"
    ALIGN = "align"
    SCALE = "scale"


@dataclasses.dataclass(frozen=True)
class Haptic:
    """A pulse train of the haptic grammar.

    Attributes:
        strength: 0 to 1.
        duration_ms: of each pulse.
        repeats: number of pulses; the pause equals the pulse.
    """

    strength: float
    duration_ms: int
    repeats: int = 1


HAPTICS: Final[dict[str, Haptic]] = {
    "engage": Haptic(0.3, 20),
    "release": Haptic(0.2, 20),
    "refuse": Haptic(0.8, 40, 2),
    "limiter": Haptic(0.25, 15),
    "record_start": Haptic(0.8, 80),
    "record_stop": Haptic(0.8, 80, 2),
    "saved": Haptic(0.5, 150),
    "discarded": Haptic(0.5, 60, 2),
    "stream_failed": Haptic(1.0, 300),
    "tracking_lost": Haptic(0.6, 40, 3),
    "countdown": Haptic(0.2, 30),
}
"""Cue name -> pulses. The page plays the sound of the same name; `limiter` is sent at most at 5 Hz."""


def encode_image(camera: int, seq: int, time_s: float, jpeg: bytes) -> bytes:
    """A binary message down: 16 bytes header (version, kind, camera index, number, host clock in s) and the JPEG."""
    return _IMAGE.pack(VERSION, _JPEG_KIND, camera, seq & 0xFFFFFFFF, time_s) + jpeg


@dataclasses.dataclass(frozen=True)
class ImageMessage:
    """A decoded binary message down."""

    camera: int
    seq: int
    time_s: float
    jpeg: bytes


def decode_image(data: bytes) -> ImageMessage:
    """Read what `encode_image` wrote.

    Raises:
        ProtocolError: for anything else.
    """
    if len(data) <= IMAGE_HEADER_SIZE:
        raise ProtocolError(f"image: found {len(data)} bytes, expected more than {IMAGE_HEADER_SIZE}")
    version, kind, camera, seq, time_s = _IMAGE.unpack_from(data)
    if (version, kind) != (VERSION, _JPEG_KIND):
        raise ProtocolError(f"image: found version {version} kind {kind}, expected {VERSION} and {_JPEG_KIND}")
    return ImageMessage(camera, seq, time_s, data[IMAGE_HEADER_SIZE:])


def _finite(digits: str) -> float:
    """A number of a message. Python reads 1e999 as infinity, and has whole numbers that no float can hold."""
    number = float(digits)
    if not math.isfinite(number):
        raise ProtocolError(f"message: found {digits[:40]}, expected finite numbers")
    return number


def _whole(digits: str) -> int:
    _finite(digits)
    return int(digits)


def decode_json(text: str) -> dict[str, Any]:
    """Read a JSON message: an object with a `type` string.

    Raises:
        ProtocolError: for anything else, numbers that are not finite and text that is no Unicode included.
    """
    try:
        message = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
        json.dumps(message, ensure_ascii=False).encode()  # half of a surrogate pair could not be answered or logged
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"message: not JSON ({error})") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("message: expected a JSON object with a type")
    return message


def encode_json(message: dict[str, Any]) -> str:
    """The text of a JSON message.

    Raises:
        ValueError: for numbers that are not finite.
    """
    return json.dumps(message, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
