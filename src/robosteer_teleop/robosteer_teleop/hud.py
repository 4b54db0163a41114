"""What the headset shows, and the cues that a change of the recorder's state causes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robosteer_rig.rig import Rig
from robosteer_teleop.control.core import Target, TeleopCore
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.episodes import State

_HINTS = {
    State.IDLE: "",
    State.READY: "A: record",
    State.COUNTDOWN: "A: cancel",
    State.RECORDING: "A: stop   hold B: discard",
    State.REVIEW: "A: keep   B: discard   stick: label",
    State.SAVING: "",
    State.CONFIRM: "B: delete the last episode   A: leave it",
}
WARN_SHARE, FAIL_SHARE = 0.9, 0.7
WARN_DISK_FACTOR = 10.0


def level_of(rate_hz: float, expected_hz: float) -> str:
    """`ok`, `warn` or `fail` for a measured rate."""
    if rate_hz < FAIL_SHARE * expected_hz:
        return "fail"
    return "warn" if rate_hz < WARN_SHARE * expected_hz else "ok"


def recorder_state(recorder: Mapping[str, Any]) -> State:
    """The recorder's state; idle while it has said nothing."""
    value = recorder.get("state")
    return State(value) if value in list(State) else State.IDLE


def compose(
    core: TeleopCore, target: Target, measured: Pose | None, recorder: Mapping[str, Any], rig: Rig, wanted: int
) -> dict[str, Any]:
    """The state message (docs/reference/teleop-protocol.md), without a notice.

    Args:
        core: the control core.
        target: its newest target.
        measured: the arm's pose.
        recorder: the recorder's newest state; empty while there is none.
        rig: names the cameras and their rates.
        wanted: episodes to record; 0 for no number.
    """
    state = recorder_state(recorder)
    shown: dict[str, Any] = {
        "phase": "review" if state is State.CONFIRM else state.value,
        "engaged": target.engaged,
        "need_press": core.waiting_for_release,
        "instruction": recorder.get("instruction", ""),
        "hint": _HINTS[state] if recorder else "no recorder",
        "kept": recorder.get("kept", 0),
        "discarded": recorder.get("discarded", 0),
        "elapsed_s": recorder.get("elapsed_s", 0.0),
        "countdown_s": max(0.0, recorder.get("countdown_s", 0.0)),
        "label": recorder.get("label", "success"),
        "cameras": _cameras(recorder.get("topics", {}), rig),
        "limiters": target.flags.names(),
        "scale": core.scaling.translation,
    }
    if wanted:
        shown["wanted"] = wanted
    if target.motion is not None and measured is not None:
        lead = float(np.linalg.norm(target.motion.pose.position - measured.position))
        shown["lead_mm"] = round(1e3 * lead, 1)
    if core.alignment is not None:
        shown["yaw_rad"] = core.alignment.yaw
    if (minutes := recorder.get("disk_minutes")) is not None:
        shown["disk_minutes"] = minutes
    return shown


def _cameras(topics: Mapping[str, Any], rig: Rig) -> dict[str, Any]:
    shown = {}
    for name, camera in rig.cameras.items():
        rate = float(topics.get(camera.topic, {}).get("rate_hz", 0.0))
        shown[name] = {"rate_hz": rate, "expected_hz": camera.rate_hz, "level": level_of(rate, camera.rate_hz)}
    return shown


class RecorderCues:
    """Haptic cues from changes of the recorder's state."""

    def __init__(self) -> None:
        """Start without a state; the first one is no change."""
        self._last: Mapping[str, Any] = {}

    def update(self, recorder: Mapping[str, Any]) -> list[str]:
        """Cues for the way from the last state to this one."""
        last, self._last = self._last, recorder
        if not last or not recorder:
            return []
        cues = []
        before, after = recorder_state(last), recorder_state(recorder)
        if before is not after:
            entered = {State.COUNTDOWN: "countdown", State.RECORDING: "record_start", State.REVIEW: "record_stop"}
            cues += [entered[after]] if after in entered else []
        cues += ["saved"] if recorder.get("kept", 0) > last.get("kept", 0) else []
        cues += ["discarded"] if recorder.get("discarded", 0) > last.get("discarded", 0) else []
        recording = after is State.RECORDING
        cues += ["stream_failed"] if recording and recorder.get("degraded") and not last.get("degraded") else []
        return cues
