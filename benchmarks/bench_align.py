"""Claim: aligning three cameras and 1 kHz joints live costs at most a tenth of a core, decoding aside."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from measure import save

from robosteer_rig.align import Aligner
from robosteer_rig.messages import ImageSample
from robosteer_rig.parts import Camera
from robosteer_rig.rig import GRIPPER_STATE, JOINT_STATE, load_rig

RIG = Path(__file__).parents[1] / "src/robosteer_bringup/config/rigs/fr3_robotiq_zed.yaml"
EPOCH_NS = 1_700_000_000_000_000_000
VIEW = np.zeros((224, 224, 3), np.uint8)


def header(stamp_ns: int) -> SimpleNamespace:
    """As in a ROS message."""
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9))


def no_decoding(sample: ImageSample, camera: Camera) -> np.ndarray:
    """What is left out of the measurement."""
    return VIEW.copy()


def messages(
    seconds: float, cameras: tuple[str, ...], joints: tuple[str, ...], knuckle: str
) -> list[tuple[int, str, Any]]:
    """Everything that a robot sends in some time, in order."""
    q, jpeg = [0.1] * 7, bytes(150_000)
    rows: list[tuple[int, str, Any]] = []
    for i in range(int(seconds * 1000)):
        t = EPOCH_NS + i * 10**6
        rows.append((t, JOINT_STATE, SimpleNamespace(header=header(t), name=list(joints), position=q, velocity=q)))
    for i in range(int(seconds * 30)):
        t = EPOCH_NS + i * 33 * 10**6
        rows.append((t, GRIPPER_STATE, SimpleNamespace(header=header(t), name=[knuckle], position=[0.2], velocity=[])))
    for i in range(int(seconds * 60)):
        t = EPOCH_NS + i * 16_666_667
        rows += [(t, name, SimpleNamespace(header=header(t), format="jpeg", data=jpeg)) for name in cameras]
    return sorted(rows, key=lambda row: row[0])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    rig = load_rig(RIG)
    cameras = tuple(rig.cameras)
    rows = messages(seconds, cameras, rig.arm.joints, rig.gripper.state_joint)
    ImageSample.view = no_decoding
    aligner, frames = Aligner(rig, cameras=cameras), 0
    next_ns, start = EPOCH_NS + 10**9, time.process_time()
    for t, stream, message in rows:
        aligner.receive(stream, message, t)
        if t >= next_ns:  # a policy that asks 15 times a second
            frames += aligner.frame_at(t) is not None
            next_ns += 66_666_667
    cpu_s = time.process_time() - start
    save(
        "align",
        {
            "seconds_of_data": seconds,
            "messages": len(rows),
            "frames": frames,
            "cpu_s": cpu_s,
            "share_of_a_core": cpu_s / seconds,
            "microseconds_per_message": 1e6 * cpu_s / len(rows),
        },
    )


if __name__ == "__main__":
    main()
