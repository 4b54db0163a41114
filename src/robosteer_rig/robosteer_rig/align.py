"""Bring streams of different rates onto one time grid: the same code for live topics and for bags.

A frame at t_k holds, for every stream, the latest message stamped at or before t_k together with its age. An input
that is too old is marked in `Frame.stale`; nothing is ever interpolated or invented.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_rig.messages import ImageSample, JointSample, header_stamp, image_sample, joint_sample
from robosteer_rig.rig import GRIPPER_STATE, JOINT_STATE, Rig
from robosteer_rig.streams import StreamBuffer, StreamCounts
from robosteer_rig.units import grid_stamp, seconds_to_ns

__all__ = ["Aligner", "StreamBuffer", "StreamCounts"]

PATIENCE_S = 1.0  # A stream that is silent for longer no longer holds the others up; its input is then stale.


class Aligner:
    """Aligns the observation streams of a rig. Safe to use from several threads.

    Two ways to take frames out: `frame_at(t)` at once, with what has arrived so far (live control); `ready()`, on the
    grid t_0 + k/rate, as soon as no later message can change a frame (conversion, parity checks). t_0 is the time at
    which every stream has had its first message.
    """

    def __init__(
        self,
        rig: Rig,
        *,
        cameras: Iterable[str] | None = None,
        rate_hz: float | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Make an aligner without data.

        Args:
            rig: streams, sizes and age limits.
            cameras: names of the cameras to use; None takes those of the policy.
            rate_hz: of the grid; None takes the rig's action rate.
            patience_s: how long `ready` waits for a silent stream.
        """
        self.rig = rig
        self.cameras = policy_cameras(rig) if cameras is None else tuple(cameras)
        self.rate_hz = rig.action.rate_hz if rate_hz is None else rate_hz
        self._patience_ns = seconds_to_ns(patience_s)
        self._lock = threading.Lock()
        self._images: dict[str, StreamBuffer[ImageSample]] = {}
        for name in self.cameras:
            if name not in rig.cameras:
                raise RobosteerError(f"camera: found {name!r}, expected one of {', '.join(rig.cameras)}")
            camera = rig.cameras[name]
            self._images[name] = StreamBuffer(rate_hz=camera.rate_hz, max_age_s=camera.max_age_s)
        self._joints = StreamBuffer[JointSample](rate_hz=rig.arm.state_rate_hz, max_age_s=rig.arm.max_age_s)
        self._gripper = StreamBuffer[float](rate_hz=rig.gripper.state_rate_hz, max_age_s=rig.gripper.max_age_s)
        self._buffers: dict[str, StreamBuffer[Any]] = {
            **self._images,
            JOINT_STATE: self._joints,
            GRIPPER_STATE: self._gripper,
        }
        self._views: dict[str, tuple[ImageSample, np.ndarray]] = {}  # The last decoded view of each camera.
        self._start_ns: int | None = None
        self._step = 0

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that a frame needs."""
        return tuple(self._buffers)

    @property
    def counts(self) -> dict[str, StreamCounts]:
        """What each stream has been through; live objects, read them when the streams are quiet."""
        return {name: buffer.counts for name, buffer in self._buffers.items()}

    def receive(self, stream: str, message: Any, received_ns: int) -> None:
        """Take a ROS message in.

        Args:
            stream: one of `streams`.
            message: of the type that the rig names, made by rclpy or by rosbags.
            received_ns: time of reception (or the bag's log time) on the clock of the stamps, used for messages
                without a stamp and to recognise clock jumps.

        Raises:
            RobosteerError: for an image of another codec, encoding or size than the rig's.
        """
        value: Any
        size = 0
        if stream in self._images:
            value = image_sample(message, self.rig.cameras[stream])
            size = len(value.data)
        elif stream == JOINT_STATE:
            value = joint_sample(message, self.rig.arm.joints)
        else:
            sample = joint_sample(message, (self.rig.gripper.state_joint,))
            value = None if sample is None else self.rig.gripper.normalise(float(sample.position[0]))
        stamp = header_stamp(message)
        with self._lock:
            counts = self._buffers[stream].counts
            if value is None:
                wanted = self.rig.arm.joints if stream == JOINT_STATE else (self.rig.gripper.state_joint,)
                foreign = not set(wanted) & set(message.name)
                counts.received += 1
                counts.foreign += foreign
                counts.invalid += not foreign
                return
            if stamp == 0:
                counts.unstamped += 1
                stamp = received_ns
            self._push(stream, stamp, value, received_ns, size)

    def push(self, stream: str, stamp_ns: int, value: Any, received_ns: int | None = None) -> None:
        """Take a sample in that is no ROS message.

        Args:
            stream: one of `streams`.
            stamp_ns: the sensor's stamp.
            value: `ImageSample` for cameras, `JointSample` for the joint state, 0 open ... 1 closed for the gripper.
            received_ns: as in `receive`.
        """
        with self._lock:
            self._push(stream, stamp_ns, value, received_ns, len(value.data) if isinstance(value, ImageSample) else 0)

    def frame_at(self, t_ns: int) -> Frame | None:
        """The frame at `t_ns` from what has arrived so far; None before every stream has a message at or before it.

        Raises:
            RobosteerError: when an image cannot be decoded or has the wrong size.
        """
        with self._lock:
            picked = {name: buffer.latest(t_ns) for name, buffer in self._buffers.items()}
        return self._assemble(t_ns, picked)

    def stale_at(self, t_ns: int) -> tuple[str, ...]:
        """Names of streams whose newest message at `t_ns` is missing or older than the rig allows; decodes nothing."""
        with self._lock:
            picked = {name: (buffer.latest(t_ns), buffer.max_age_ns) for name, buffer in self._buffers.items()}
        return tuple(name for name, (item, limit) in picked.items() if item is None or t_ns - item[0] > limit)

    def ready(self) -> list[Frame]:
        """The next frames of the grid that no later message can change any more, each given out once."""
        return self._emit(final=False)

    def flush(self) -> list[Frame]:
        """After the last message: the remaining frames up to that message; inputs that ended early are stale."""
        return self._emit(final=True)

    def _push(self, stream: str, stamp_ns: int, value: Any, received_ns: int | None, size: int) -> None:
        steady = self._buffers[stream].push(stamp_ns, value, received_ns=received_ns, size=size)
        if steady:
            return
        # The clock was set: what the other streams hold belongs to the old time.
        for name, buffer in self._buffers.items():
            if name != stream:
                buffer.clear()
        self._views.clear()
        self._start_ns, self._step = None, 0

    def _emit(self, *, final: bool) -> list[Frame]:
        chosen = []
        with self._lock:
            while (t_ns := self._next_stamp(final=final)) is not None:
                chosen.append((t_ns, {name: buffer.latest(t_ns) for name, buffer in self._buffers.items()}))
                for buffer in self._buffers.values():
                    buffer.forget_before(t_ns)
                self._step += 1
        frames = (self._assemble(t_ns, picked) for t_ns, picked in chosen)
        return [frame for frame in frames if frame is not None]

    def _next_stamp(self, *, final: bool) -> int | None:
        """Stamp of the next grid frame if it is decided."""
        newest = [b.newest_ns for b in self._buffers.values()]
        present = [n for n in newest if n is not None]
        if len(present) < len(newest):
            return None
        if self._start_ns is None:
            self._start_ns = max(b.oldest_ns for b in self._buffers.values() if b.oldest_ns is not None)
        t_ns = grid_stamp(self._start_ns, self._step, self.rate_hz)
        # A stream's choice for t is final once it has a message after t: at t itself an earlier-stamped one may follow.
        complete = min(present) > t_ns or max(present) > t_ns + self._patience_ns
        return t_ns if complete or (final and max(present) >= t_ns) else None

    def _assemble(self, t_ns: int, picked: dict[str, tuple[int, Any] | None]) -> Frame | None:
        chosen = {name: item for name, item in picked.items() if item is not None}
        if len(chosen) < len(picked):
            return None
        ages = {name: t_ns - stamp for name, (stamp, _) in chosen.items()}
        joints: JointSample = chosen[JOINT_STATE][1]
        return Frame(
            stamp_ns=t_ns,
            images={name: self._view(name, chosen[name][1]) for name in self.cameras},
            joint_position=joints.position,
            joint_velocity=joints.velocity,
            gripper_position=chosen[GRIPPER_STATE][1],
            ages_ns=ages,
            stale=tuple(name for name, age in ages.items() if age > self._buffers[name].max_age_ns),
        )

    def _view(self, name: str, sample: ImageSample) -> np.ndarray:
        cached = self._views.get(name)
        if cached is not None and cached[0] is sample:
            return cached[1]
        try:
            view = sample.view(self.rig.cameras[name])
        except RobosteerError as error:
            raise RobosteerError(f"topic {self.rig.cameras[name].topic}: {error}") from None
        view.setflags(write=False)
        self._views[name] = (sample, view)
        return view


def policy_cameras(rig: Rig) -> tuple[str, ...]:
    """Names of the cameras that the policy looks through, in the rig's order."""
    used = set(rig.policy_cameras.values())
    return tuple(name for name in rig.cameras if name in used)
