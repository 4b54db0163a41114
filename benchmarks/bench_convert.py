"""Claim: 20 demonstrations of 21 s with two 720p JPEG views at 60 Hz become a 15 Hz dataset in 40 s on two cores.

Compared in the same run with a plain loop that does no more than decode, crop and resize the frames that are kept.
Pictures are 1/f noise at about 150 kB each, as a camera's are; 7 GB of recordings are written first.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from measure import save
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robosteer_rig.rig import Rig, load_rig
from robosteer_training.dataset import load_dataset

RIGS = Path(__file__).parents[1] / "src/robosteer_bringup/config/rigs"
STORE = get_typestore(Stores.ROS2_KILTED)
EPOCH_NS = 1_700_000_000_000_000_000
PICTURES = 12


def pictures(seed: int) -> list[bytes]:
    """JPEGs of 1280x720 1/f noise."""
    random = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(720)[:, None], np.fft.rfftfreq(1280)[None]
    falloff = np.maximum(np.hypot(fx, fy), 1e-3)[:, :, None] ** -1.35
    out = []
    for _ in range(PICTURES):
        spectrum = np.fft.rfft2(random.standard_normal((720, 1280, 3)), axes=(0, 1)) * falloff
        noise = np.fft.irfft2(spectrum, s=(720, 1280), axes=(0, 1))
        pixels = np.clip((noise - noise.mean()) / noise.std() * 45 + 120, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=70)
        out.append(file.getvalue())
    return out


def message(kind: str, stamp_ns: int, *fields: object) -> bytes:
    """A stamped message, serialized."""
    types = STORE.types
    stamp = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
    return bytes(STORE.serialize_cdr(types[kind](types["std_msgs/msg/Header"](stamp, ""), *fields), kind))


def write_episode(path: Path, rig: Rig, seconds: float, views: dict[str, list[bytes]]) -> None:
    """One recording with every stream of the rig at its nominal rate."""
    joints, image, number = "sensor_msgs/msg/JointState", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/Float64"
    empty, rows = np.zeros(0), []
    middle = (np.array(rig.arm.position_min) + np.array(rig.arm.position_max)) / 2
    for i in range(int(seconds * rig.arm.state_rate_hz)):
        t, q = EPOCH_NS + int(i * 1e9 / rig.arm.state_rate_hz), middle + 0.2 * np.sin(0.002 * i)
        rows.append((t, rig.arm.state_topic, joints, message(joints, t, list(rig.arm.joints), q, q * 0, empty)))
    for i in range(int(seconds * 30)):
        t = EPOCH_NS + int(i * 1e9 / 30)
        rows.append(
            (
                t,
                rig.gripper.state_topic,
                joints,
                message(joints, t, ["robotiq_85_left_knuckle_joint"], np.zeros(1), empty, empty),
            )
        )
        rows.append((t, rig.action.gripper_topic, number, bytes(STORE.serialize_cdr(STORE.types[number](0.0), number))))
        rows.append(
            (
                t,
                rig.action.command_topic,
                joints,
                message(joints, t, list(rig.arm.joints), empty, np.full(7, 0.2), empty),
            )
        )
    for name, files in views.items():
        for i in range(int(seconds * 60)):
            t = EPOCH_NS + int(i * 1e9 / 60) + 3_000_000
            data = np.frombuffer(files[i % PICTURES], np.uint8)
            rows.append((t, rig.cameras[name].topic, image, message(image, t, "jpeg", data)))
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for t, topic, kind, data in sorted(rows, key=lambda row: row[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], t, data)


def record(demos: Path, rig: Rig, episodes: int, seconds: float) -> int:
    """Write the demonstrations; returns their size in bytes."""
    views = {name: pictures(seed) for seed, name in enumerate(sorted(set(rig.policy_cameras.values())))}
    first = demos / "000000"
    write_episode(first, rig, seconds, views)
    for i in range(1, episodes):
        shutil.copytree(first, demos / f"{i:06d}")
    for i in range(episodes):
        label = {"schema": "robosteer.episode/1", "instruction": f"task {i}", "outcome": "success"}
        (demos / f"{i:06d}/episode.json").write_text(json.dumps({**label, "rig": {"yaml": rig.to_yaml()}}))
    return sum(file.stat().st_size for file in demos.rglob("*.mcap"))


def plain_loop(files: list[bytes], count: int) -> float:
    """Decode, crop and resize `count` pictures in the most obvious way; CPU seconds."""
    start = time.process_time()
    for i in range(count):
        image = Image.open(io.BytesIO(files[i % PICTURES])).convert("RGB").crop((280, 0, 1000, 720))
        np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
    return time.process_time() - start


def children_cpu_s() -> float:
    """CPU seconds of the processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class MemoryWatch(threading.Thread):
    """Samples the resident memory of some process and its children together.

    Attributes:
        peak_mib: the largest sum seen.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0
        self.done = threading.Event()
        self._pid = pid

    def run(self) -> None:
        """Sample until told to stop."""
        while not self.done.wait(0.05):
            self.peak_mib = max(self.peak_mib, sum(map(_resident_mib, _family(self._pid))))


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # It has ended in the meantime.
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=21.0)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    rig = load_rig(RIGS / "fr3_robotiq_zed.yaml")
    with tempfile.TemporaryDirectory() as place:
        demos, out = Path(place) / "demos", Path(place) / "out"
        size = record(demos, rig, arguments.episodes, arguments.seconds)
        command = [sys.executable, "-m", "robosteer_bringup.cli", "convert", "--bag", str(demos), "--out", str(out)]
        cpu, start = children_cpu_s(), time.perf_counter()
        process = subprocess.Popen([*command, "--jobs", str(arguments.jobs)])
        watch = MemoryWatch(process.pid)
        watch.start()
        assert process.wait() == 0
        wall_s, cpu_s = time.perf_counter() - start, children_cpu_s() - cpu
        watch.done.set()
        dataset = load_dataset(out)
        kept = len(dataset) * len(dataset.images)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        share = kept // arguments.jobs
        start = time.perf_counter()
        loop_cpu_s = sum(pool.map(plain_loop, [pictures(0)] * arguments.jobs, [share] * arguments.jobs))
        loop_s = time.perf_counter() - start
    save(
        "convert",
        {
            "episodes": arguments.episodes,
            "seconds_each": arguments.seconds,
            "recordings_gb": size / 1e9,
            "views_kept": kept,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "times_real_time": arguments.episodes * arguments.seconds / wall_s,
            "peak_mib_of_all_processes": watch.peak_mib,
            "plain_decode_loop_wall_s": loop_s,
            "plain_decode_loop_cpu_s": loop_cpu_s,
            "cpu_ratio_to_plain_loop": cpu_s / loop_cpu_s,
        },
    )


if __name__ == "__main__":
    main()
