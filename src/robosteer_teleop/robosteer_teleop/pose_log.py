"""The pose log: every call of the control core, in order, so that a session replays bit for bit.

A file is MAGIC, then records: u8 kind, u16 length, payload, little endian. The first record is the core's
configuration as JSON. Every tick carries a checksum of the target that it gave.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.control.config_file import config_from_dict, config_to_dict
from robosteer_teleop.control.core import CoreConfig, Target, TeleopCore
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.gates import HandSample
from robosteer_teleop.control.presets import Scaling
from robosteer_teleop.protocol import FRAME_SIZE, PoseFrame, ProtocolError

MAGIC = b"robosteer pose log 1\n"
_HEAD = struct.Struct("<BH")
_TIME = struct.Struct("<d")
_TICK = struct.Struct("<dd12dI")  # time, slow, measured pose (NaN when unknown), checksum


class Kind(IntEnum):
    """What was called."""

    CONFIG = 0
    FRAME = 1
    TICK = 2
    ENABLE = 3
    CONNECT = 4
    FAULT = 5
    RECENTRED = 6
    ALIGN = 7
    SCALING = 8
    SKIPPED = 9
    """A frame that arrived together with a newer one, which the core took instead."""


def sample_of(frame: PoseFrame) -> HandSample:
    """A frame of the protocol as the core takes it."""
    return HandSample(
        sequence=frame.seq,
        time_s=frame.frame_time,
        visible=frame.visible,
        tracked=frame.tracked,
        emulated=frame.emulated,
        position=np.array(frame.position),
        quaternion=np.array(frame.orientation),
        squeeze=frame.squeeze,
        trigger=frame.trigger,
    )


def checksum(target: Target) -> int:
    """CRC-32 of everything in a target."""
    flags = ",".join(target.flags.names()).encode()
    gripper = struct.pack("<d", -1.0 if target.gripper is None else target.gripper)
    crc = zlib.crc32(flags + bytes([target.engaged]) + gripper)
    if target.motion is None:
        return crc
    motion = target.motion
    for array in (motion.pose.position, motion.pose.rotation, motion.linear, motion.angular):
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    return crc


class LoggedCore:
    """The control core with a log of its calls.

    Attributes:
        core: the core itself, for reading.
        trouble: why the log has ended before its time, one line; empty otherwise. The core goes on.
    """

    def __init__(self, config: CoreConfig, path: Path | None) -> None:
        """Start a core.

        Args:
            config: of the core.
            path: new file for the log; None for none.

        Raises:
            RobosteerError: when the file cannot be written.
        """
        self.core, self.trouble = TeleopCore(config), ""
        self._file: BinaryIO | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("xb")
            except OSError as error:
                raise RobosteerError(f"pose log {path}: found {error.strerror}, expected a new file") from None
            self._file.write(MAGIC)
            self._log(Kind.CONFIG, json.dumps(config_to_dict(config)).encode())

    def _log(self, kind: Kind, payload: bytes = b"") -> None:
        if self._file is None:
            return
        try:
            self._file.write(_HEAD.pack(kind, len(payload)) + payload)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """A disk that takes nothing more must not keep the operator's faults from the core."""
        file, self._file = self._file, None
        self.trouble = f"pose log: found {error.strerror}, expected room for it; the log ends here"
        with contextlib.suppress(OSError):  # what is still in the buffer has no room either
            if file is not None:
                file.close()

    def enable(self, on: bool) -> None:
        """`TeleopCore.enable`."""
        self._log(Kind.ENABLE, bytes([on]))
        self.core.enable(on)

    def connect(self) -> None:
        """`TeleopCore.connect`."""
        self._log(Kind.CONNECT)
        self.core.connect()

    def fault(self, reason: str) -> None:
        """`TeleopCore.fault`."""
        self._log(Kind.FAULT, reason.encode())
        self.core.fault(reason)

    def recentred(self) -> None:
        """`TeleopCore.recentred`."""
        self._log(Kind.RECENTRED)
        self.core.recentred()

    def align(self, quaternion: np.ndarray) -> None:
        """`TeleopCore.align`."""
        self._log(Kind.ALIGN, np.asarray(quaternion, dtype="<f8").tobytes())
        self.core.align(quaternion)

    def set_scaling(self, scaling: Scaling) -> None:
        """`TeleopCore.set_scaling`."""
        self._log(Kind.SCALING, struct.pack("<dd", scaling.translation, scaling.rotation))
        self.core.set_scaling(scaling)

    def frame(self, frame: PoseFrame, raw: bytes, now_s: float) -> None:
        """`TeleopCore.frame` of a frame and the 96 bytes that it came in."""
        self._log(Kind.FRAME, _TIME.pack(now_s) + raw)
        self.core.frame(sample_of(frame), now_s)

    def skip(self, raw: bytes, now_s: float) -> None:
        """Log a frame that the core does not get, so that the log holds every frame."""
        self._log(Kind.SKIPPED, _TIME.pack(now_s) + raw)

    def tick(self, now_s: float, measured: Pose | None, slow: float = 1.0) -> Target:
        """`TeleopCore.tick`."""
        target = self.core.tick(now_s, measured, slow=slow)
        if self._file is not None:
            pose = np.full(12, np.nan) if measured is None else np.append(measured.position, measured.rotation)
            self._log(Kind.TICK, _TICK.pack(now_s, slow, *pose, checksum(target)))
        return target

    def close(self) -> None:
        """End the log."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._give_up(error)
            self._file = None


def read_records(path: Path) -> Iterator[tuple[Kind, bytes]]:
    """The records of a log; one that a crash cut off ends it.

    Raises:
        RobosteerError: for another file.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise RobosteerError(f"{path}: found another file, expected a pose log of this version")
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                kind, size = _HEAD.unpack(head)
                payload = file.read(size)
                if len(payload) < size:
                    return
                if kind not in list(Kind):
                    raise RobosteerError(f"{path}: found a record of kind {kind}, expected 0 ... {max(Kind)}")
                yield Kind(kind), payload
    except OSError as error:
        raise RobosteerError(f"{path}: found {error.strerror}, expected a pose log") from None


@dataclasses.dataclass(frozen=True)
class Replay:
    """What a replay found.

    Attributes:
        ticks: compared.
        frames: of the hand that the core took.
        skipped: frames that arrived together with a newer one.
        engaged_s: time with the clutch closed, s.
        first_difference: number of the first tick whose target differs; None when all are equal bit for bit.
    """

    ticks: int
    frames: int
    skipped: int
    engaged_s: float
    first_difference: int | None


def replay(path: Path) -> Replay:
    """Run a log through a fresh core and compare every target.

    Raises:
        RobosteerError: for a file that is no whole pose log.
    """
    records = read_records(path)
    kind, payload = next(records, (None, b""))
    if kind is not Kind.CONFIG:
        raise RobosteerError(f"{path}: found no configuration, expected it as the first record")
    core = TeleopCore(config_from_dict(json.loads(payload)))
    ticks = frames = skipped = 0
    engaged_s, last_s, difference = 0.0, None, None
    for kind, payload in records:
        if kind is Kind.TICK:
            now_s, slow, *pose, expected = _TICK.unpack(payload)
            measured = None if np.isnan(pose[0]) else Pose(np.array(pose[:3]), np.array(pose[3:]).reshape(3, 3))
            target = core.tick(now_s, measured, slow=slow)
            if checksum(target) != expected and difference is None:
                difference = ticks
            engaged_s += (now_s - last_s) if target.engaged and last_s is not None else 0.0
            ticks, last_s = ticks + 1, now_s
        else:
            frames += kind is Kind.FRAME
            skipped += kind is Kind.SKIPPED
            _repeat(core, kind, payload, path)
    return Replay(ticks, frames, skipped, engaged_s, difference)


def _repeat(core: TeleopCore, kind: Kind, payload: bytes, path: Path) -> None:
    """Make one call of the log; what was refused then is refused again."""
    try:
        if kind is Kind.FRAME:
            (now_s,) = _TIME.unpack_from(payload)
            core.frame(sample_of(PoseFrame.decode(payload[_TIME.size : _TIME.size + FRAME_SIZE])), now_s)
        elif kind is Kind.ENABLE:
            core.enable(bool(payload[0]))
        elif kind is Kind.CONNECT:
            core.connect()
        elif kind is Kind.FAULT:
            core.fault(payload.decode())
        elif kind is Kind.RECENTRED:
            core.recentred()
    except (ProtocolError, struct.error) as error:
        raise RobosteerError(f"{path}: found a damaged record ({error}), expected a whole log") from None
    try:
        if kind is Kind.ALIGN:
            core.align(np.frombuffer(payload, dtype="<f8"))
        elif kind is Kind.SCALING:
            core.set_scaling(Scaling(*struct.unpack("<dd", payload)))
    except RobosteerError:
        return  # refused in the session, too
