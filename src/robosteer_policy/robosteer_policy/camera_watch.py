"""Inputs that come punctually and are wrong all the same: frozen pictures, exchanged cameras, clocks ahead."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

# A picture that repeats bit for bit so often and for so long, while the arm moves, is a frozen camera: real sensors are
# noisy, and even a simulated one sees the arm.
FROZEN_S = 0.06
FROZEN_REPEATS = 2
MOVING_RAD_PER_S = 0.2


def ahead_of_time(stream: str, stamp_ns: int, now_ns: int, limit_s: float) -> str:
    """Say that a stream is stamped by a clock that runs ahead, or return an empty string.

    Ages are differences of stamps and of this computer's clock: where the stamps are ahead, the newest message that is
    not of the future looks fresh and is old by as much.

    Args:
        stream: its name.
        stamp_ns: of a message.
        now_ns: when it arrived, on the clock that ages are measured with.
        limit_s: what rounding and synchronised clocks may come to.
    """
    ahead_s = (stamp_ns - now_ns) * 1e-9
    if ahead_s <= limit_s:
        return ""
    return f"{stream}: stamps are {ahead_s * 1e3:.0f} ms ahead of this computer's clock; synchronise the clocks"


@dataclasses.dataclass
class _Seen:
    """What one camera has shown."""

    frame_id: str
    digest: int
    since_ns: int
    repeats: int = 0


class CameraWatch:
    """Compares each picture with the one before and each `frame_id` with what it should be.

    Args:
        cameras: names, as drivers put them in front of their frames ("wrist" in "wrist_left_camera_frame_optical").
        frozen_s: see `FROZEN_S`.
    """

    def __init__(self, cameras: Sequence[str], frozen_s: float = FROZEN_S) -> None:
        self._cameras = tuple(cameras)
        self._frozen_ns = int(frozen_s * 1e9)
        self._seen: dict[str, _Seen] = {}
        self._moving_since_ns: int | None = None

    def moves(self, speed: float, stamp_ns: int) -> None:
        """Note the speed of the fastest joint, rad/s."""
        if speed < MOVING_RAD_PER_S:
            self._moving_since_ns = None
        elif self._moving_since_ns is None:
            self._moving_since_ns = stamp_ns
            for seen in self._seen.values():
                seen.repeats = 0

    def see(self, camera: str, frame_id: str, data: bytes | memoryview, stamp_ns: int) -> str:
        """Take a picture; returns what is wrong with it, or an empty string.

        Args:
            camera: name of the rig.
            frame_id: of the message.
            data: its bytes.
            stamp_ns: its stamp.
        """
        digest = zlib.crc32(data)
        seen = self._seen.get(camera)
        if seen is None:
            self._seen[camera] = _Seen(frame_id, digest, stamp_ns)
            return self._foreign(camera, frame_id)
        if seen.digest != digest:
            seen.digest, seen.since_ns, seen.repeats = digest, stamp_ns, 0
        else:
            seen.repeats += 1
        if seen.frame_id != frame_id:
            return f"camera {camera}: frame_id changed from {seen.frame_id!r} to {frame_id!r}; are cameras exchanged?"
        moving = self._moving_since_ns
        long = moving is not None and stamp_ns - max(seen.since_ns, moving) >= self._frozen_ns
        if long and seen.repeats >= FROZEN_REPEATS:
            frozen_ms = (stamp_ns - seen.since_ns) / 1e6
            return f"camera {camera}: the same picture for {frozen_ms:.0f} ms while the arm moves; is it frozen?"
        return self._foreign(camera, frame_id)

    def _foreign(self, camera: str, frame_id: str) -> str:
        named = next((other for other in self._cameras if frame_id.startswith(f"{other}_")), camera)
        if named != camera:
            return f"camera {camera}: found frame_id {frame_id!r}, expected one of {camera}; are cameras exchanged?"
        return ""
