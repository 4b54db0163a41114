"""Convert one recording: messages in the order of the bag through the live aligner, frames out to the store."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_rig.actions import idle_frames
from robosteer_rig.align import Aligner, policy_cameras
from robosteer_rig.bags import BagReader
from robosteer_rig.errors import RobosteerError
from robosteer_rig.kinematics import tool_transform
from robosteer_rig.messages import header_stamp
from robosteer_rig.replay import replay_error
from robosteer_rig.rig import ARM_COMMAND, GRIPPER_COMMAND, JOINT_STATE, Rig
from robosteer_rig.units import NS_PER_S, grid_stamp
from robosteer_training.dataset import EPISODE_SCHEMA, EpisodeMeta
from robosteer_training.episode_actions import ActionSource, ActionUnit, Commands
from robosteer_training.episode_checks import (
    require_healthy,
    require_one_clock,
    require_plausible,
    require_same_rig,
)
from robosteer_training.episode_writer import EpisodeWriter
from robosteer_training.episodes import EpisodeInfo
from robosteer_training.marked_span import MarkedSpan, sensor_time

MIN_FRAMES = 2
_CANCEL_EVERY = 64  # messages


@dataclasses.dataclass(frozen=True)
class ConvertSettings:
    """Choices that change what a converted episode holds; they are part of its key in the store.

    Attributes:
        rate_hz: of the frames; None takes the rig's action rate.
        actions: where the joint velocities come from. commanded: interval means of the operator's commands; measured:
            displacement of the measured joints; target: way from the measured joints to the commanded position;
            controller: DROID's proportional law, re-run on the commanded positions.
        action_unit: rad_s: u = 1 is the rig's unit in rad/s whatever the rate; per_step: u = 1 is the same way per step
            whatever the rate, 0.2 rad in DROID's convention.
        cameras: names to store; None takes those of the policy.
        trim_idle: drop frames without a command before the first and after the last one with a command.
        instruction: replaces the recorded one.
        max_stale_fraction: an episode with a larger share of stale frames is refused.
    """

    rate_hz: float | None = None
    actions: ActionSource = "commanded"
    action_unit: ActionUnit = "rad_s"
    cameras: tuple[str, ...] | None = None
    trim_idle: bool = True
    instruction: str | None = None
    max_stale_fraction: float = 0.1


def effective_rig(rig: Rig, settings: ConvertSettings) -> Rig:
    """The rig with the rate and the meaning of u that the converted data have.

    It travels with the dataset and the checkpoint, so that a policy trained at 6 Hz is not executed at 15 Hz.
    """
    rate = settings.rate_hz or rig.action.rate_hz
    unit = rig.action.unit_rad_per_s
    if settings.action_unit == "per_step":
        unit *= rate / rig.action.rate_hz
    return dataclasses.replace(rig, action=dataclasses.replace(rig.action, rate_hz=rate, unit_rad_per_s=unit))


class Cancelled(Exception):
    """The user asked to stop."""


@dataclasses.dataclass
class _Recording:
    """What is gathered while a bag is read."""

    aligner: Aligner
    writer: EpisodeWriter
    commands: Commands
    end_ns: int = 0
    state_stamp_ns: int = 0
    span: MarkedSpan = dataclasses.field(default_factory=lambda: MarkedSpan(None, None))
    latency_ns: dict[str, int] = dataclasses.field(default_factory=dict)  # least log time - stamp of each stream

    def drain(self, *, final: bool = False) -> None:
        for frame in self.aligner.flush() if final else self.aligner.ready():
            self.writer.append(frame)


def convert_episode(
    info: EpisodeInfo,
    directory: Path,
    rig: Rig,
    settings: ConvertSettings,
    *,
    key: str,
    bag_sha256: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> EpisodeMeta:
    """Convert one episode into an empty directory.

    Args:
        info: the recording.
        directory: to write into.
        rig: the contract; its crops and sizes are used.
        settings: see there.
        key: name of the episode in the store.
        bag_sha256: digest of the recording.
        cancelled: asked now and then.

    Returns:
        The episode's record, as written.

    Raises:
        RobosteerError: one line that names the episode and what is wrong with it.
        Cancelled: when `cancelled` said so.
    """
    instruction = settings.instruction or info.instruction
    if instruction is None:
        raise RobosteerError(
            f"{info.path}: found no instruction, expected what was shown; write episode.json or pass --instruction"
        )
    require_same_rig(info, rig)
    cameras = policy_cameras(rig) if settings.cameras is None else settings.cameras
    aligner = Aligner(rig, cameras=cameras, rate_hz=settings.rate_hz)
    commands = Commands(rig.arm.joints, settings.actions)
    span = MarkedSpan(info.from_ns, info.until_ns)
    recording = _Recording(aligner, EpisodeWriter(directory, rig, cameras), commands, span=span)
    try:
        _read(info, rig, recording, cancelled)
        meaning = effective_rig(rig, settings)
        return _finish(info, meaning, settings, recording, instruction=instruction, key=key, bag_sha256=bag_sha256)
    finally:
        recording.writer.close()


def _read(info: EpisodeInfo, rig: Rig, recording: _Recording, cancelled: Callable[[], bool]) -> None:
    aligner = recording.aligner
    streams = {name: rig.topics()[name] for name in (*aligner.streams, ARM_COMMAND, GRIPPER_COMMAND)}
    by_topic = {topic: name for name, (topic, _) in streams.items()}
    with BagReader(info.bag_path) as bag:
        bag.require(streams)
        for count, (topic, log_ns, message) in enumerate(bag.messages(by_topic)):
            if count % _CANCEL_EVERY == 0 and cancelled():
                raise Cancelled
            stream = by_topic[topic]
            with _named(f"{info.path}: topic {topic}"):
                _take(stream, message, log_ns, rig, recording)
            with _named(str(info.path)):
                recording.drain()
    with _named(str(info.path)):
        recording.drain(final=True)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Say in an error what it is about."""
    try:
        yield
    except RobosteerError as error:
        raise RobosteerError(f"{what}: {error}") from None


def _take(stream: str, message: Any, log_ns: int, rig: Rig, recording: _Recording) -> None:
    stamp = header_stamp(message)
    if stamp:
        latency = log_ns - stamp
        recording.latency_ns[stream] = min(latency, recording.latency_ns.get(stream, latency))
    if stream == JOINT_STATE and stamp:
        recording.state_stamp_ns = stamp
        recording.span.take_state(log_ns, stamp)
    stamp = stamp or sensor_time(log_ns, recording.state_stamp_ns)
    recording.end_ns = max(recording.end_ns, stamp)
    if stream == ARM_COMMAND:
        recording.commands.take_arm(stamp, message)
    elif stream == GRIPPER_COMMAND:
        recording.commands.take_gripper(stamp, message)
    else:
        recording.aligner.receive(stream, message, log_ns)


def _finish(
    info: EpisodeInfo,
    rig: Rig,
    settings: ConvertSettings,
    recording: _Recording,
    *,
    instruction: str,
    key: str,
    bag_sha256: str,
) -> EpisodeMeta:
    require_healthy(info.path, rig, recording.aligner.counts)
    require_one_clock(info.path, rig, recording.latency_ns)
    actions = _actions(info, rig, recording)
    columns = recording.writer.columns
    stale, ages = columns.stale[: len(actions)], columns.ages_ns
    marked = recording.span.contains(columns.stamp_ns[: len(actions)])
    if marked.sum() < MIN_FRAMES:
        raise RobosteerError(
            f"{info.path}: found {marked.sum()} frames between its markers, expected at least {MIN_FRAMES}; "
            "record longer"
        )
    stale_share = stale[marked].mean()
    if stale_share > settings.max_stale_fraction:
        raise RobosteerError(
            f"{info.path}: found {stale_share:.0%} of frames with stale inputs ({_oldest(ages)}), expected "
            f"at most {settings.max_stale_fraction:.0%}; check the rates of the streams or record again"
        )
    rows = _kept_rows(info, actions, marked, stale, settings)
    require_plausible(info.path, rig, columns.state[rows], columns.joint_velocity[rows], actions[rows])
    replay = replay_error(
        columns.state[rows, :7],
        actions[rows],
        unit_rad_per_s=rig.action.unit_rad_per_s,
        rate_hz=rig.action.rate_hz,
        tool=tool_transform(rig.frames),
    )
    meta = EpisodeMeta(
        schema=EPISODE_SCHEMA,
        key=key,
        source=str(info.path),
        instruction=instruction,
        outcome=info.outcome or "unknown",
        frames=rows.stop - rows.start,
        trimmed=(rows.start, len(actions) - rows.stop),
        stale_frames=int(stale[rows].sum()),
        stream_counts={name: dataclasses.asdict(c) for name, c in recording.aligner.counts.items()},
        max_age_s={name: int(age[rows].max()) / NS_PER_S for name, age in ages.items()},
        bag_sha256=bag_sha256,
        replay=dataclasses.asdict(replay),
    )
    recording.writer.finish(actions, rows, meta)
    return meta


def _actions(info: EpisodeInfo, rig: Rig, recording: _Recording) -> np.ndarray:
    """(n, 8) actions of all frames whose interval lies within the recording."""
    stamps = recording.writer.columns.stamp_ns
    start = int(stamps[0]) if len(stamps) else 0
    edges = np.array([grid_stamp(start, k, rig.action.rate_hz) for k in range(len(stamps) + 1)], dtype=np.int64)
    if not np.array_equal(stamps, edges[:-1]):
        # Memory is bounded: a stream that is seconds behind the others loses what its frames would have needed.
        raise RobosteerError(
            f"{info.path}: found streams that arrive seconds apart, expected one continuous episode; record again"
        )
    count = int(np.searchsorted(edges, recording.end_ns, side="right")) - 1
    if count < MIN_FRAMES:
        raise RobosteerError(
            f"{info.path}: found {max(count, 0)} frames, expected at least {MIN_FRAMES}; record longer"
        )
    with _named(str(info.path)):
        return recording.commands.actions(rig, edges[: count + 1], recording.writer.columns.state)


def _kept_rows(
    info: EpisodeInfo, actions: np.ndarray, marked: np.ndarray, stale: np.ndarray, settings: ConvertSettings
) -> slice:
    """The marked frames between the first and last command, without stale ones at the ends."""
    moving = marked & ~idle_frames(actions)
    if not moving.any():
        raise RobosteerError(f"{info.path}: found no motion command, expected a demonstration; record again")
    kept = np.flatnonzero((moving if settings.trim_idle else marked) & ~stale)
    if len(kept) < MIN_FRAMES:
        raise RobosteerError(f"{info.path}: found {len(kept)} usable frames, expected at least {MIN_FRAMES}")
    return slice(int(kept[0]), int(kept[-1]) + 1)


def _oldest(ages_ns: dict[str, np.ndarray]) -> str:
    worst = max(ages_ns, key=lambda name: int(ages_ns[name].max()))
    return f"{worst}: up to {int(ages_ns[worst].max()) / NS_PER_S:.2f} s old"
