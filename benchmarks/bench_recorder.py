"""The recorder under load: three 720p JPEG streams at 60 Hz and joint states at 1 kHz, through real DDS.

Every message is numbered; drops are counted in the bag. Prints the recorder's processor time as a share of one core.
"""

from __future__ import annotations

import argparse
import array
import json
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import save
from rosbags.highlevel import AnyReader

RIG = Path(__file__).parents[1] / "src/robosteer_bringup/config/rigs/sim_panda.yaml"
JPEG_BYTES = 180_000  # of a 1280 x 720 picture at quality 90
CHANGES = {
    "state_rate_hz: 100.0": "state_rate_hz: 1000.0",
    "rate_hz: 15.0\n    width: 320\n    height: 180": "rate_hz: 60.0\n    width: 1280\n    height: 720",
}


def rig_text() -> str:
    """The simulated cell's rig with the rates and sizes of this benchmark."""
    text = RIG.read_text()
    for old, new in CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def publish(rig_path: str, what: str, stop: multiprocessing.synchronize.Event) -> None:
    """Publish numbered messages on schedule until told to stop."""
    import rclpy
    from sensor_msgs.msg import CompressedImage, JointState

    from robosteer_rig.rig import load_rig

    rclpy.init()
    node, rig = rclpy.create_node(f"bench_{what}"), load_rig(rig_path)
    data = array.array("B", os.urandom(JPEG_BYTES))
    publishers = [node.create_publisher(CompressedImage, camera.topic, 10) for camera in rig.cameras.values()]
    joints = node.create_publisher(JointState, rig.arm.state_topic, 10)
    gripper = node.create_publisher(JointState, rig.gripper.state_topic, 10)
    period, number, next_s = (1 / 60 if what == "images" else 1e-3), 0, time.monotonic()
    while not stop.is_set():
        stamp = node.get_clock().now().to_msg()
        if what == "images":
            for publisher in publishers:
                image = CompressedImage(format="jpeg", data=data)
                image.header.stamp, image.header.frame_id = stamp, str(number)
                publisher.publish(image)
        else:
            state = JointState(name=list(rig.arm.joints), position=[0.0] * 7, velocity=[0.0] * 7, effort=[0.0] * 7)
            state.header.stamp, state.header.frame_id = stamp, str(number)
            joints.publish(state)
            if number % 33 == 0:
                state.name, state.position = [rig.gripper.state_joint], [0.0]
                gripper.publish(state)
        number, next_s = number + 1, next_s + period
        time.sleep(max(0.0, next_s - time.monotonic()))
    node.destroy_node()
    rclpy.try_shutdown()


def processor_s(pid: int) -> float:
    """Processor time of a process so far, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def numbers(bag: Path) -> dict[str, list[int]]:
    """Topic -> the numbers in its messages' frame_id, from the raw bytes."""
    found: dict[str, list[int]] = {}
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            if connection.msgtype in ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/JointState"):
                (size,) = struct.unpack_from("<I", raw, 12)
                found.setdefault(connection.topic, []).append(int(bytes(raw[16 : 16 + size - 1])))
    return found


def record(directory: Path, seconds: float) -> dict[str, object]:
    """Record for a while and look at what came."""
    import rclpy
    from std_srvs.srv import Trigger

    rig = directory / "rig.yaml"
    rig.write_text(rig_text())
    stop = multiprocessing.get_context("spawn").Event()
    spawn = multiprocessing.get_context("spawn").Process
    publishers = [spawn(target=publish, args=(str(rig), what, stop)) for what in ("images", "joints")]
    parameters = {"rig": rig, "directory": directory / "demos", "instruction": "benchmark", "min_rate_fraction": 0.0}
    arguments = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
    code = "import sys; from robosteer_teleop.nodes.recorder import main; sys.exit(main())"
    recorder = subprocess.Popen([sys.executable, "-c", code, "--ros-args", *arguments])
    for process in publishers:
        process.start()
    rclpy.init()
    node = rclpy.create_node("bench_client")

    def ask(name: str) -> dict[str, object]:
        client = node.create_client(Trigger, f"/recorder/{name}")
        assert client.wait_for_service(60.0), name
        future = client.call_async(Trigger.Request())
        rclpy.spin_until_future_complete(node, future, timeout_sec=120.0)
        answer = future.result()
        assert answer is not None, name
        assert answer.success, f"{name}: {answer.message}"
        return json.loads(answer.message)

    time.sleep(3.0)  # the streams' rates are known then
    ask("start")
    before, began = processor_s(recorder.pid), time.monotonic()
    time.sleep(seconds)
    share = (processor_s(recorder.pid) - before) / (time.monotonic() - began)
    ask("stop")
    path = Path(str(ask("keep")["path"]))
    stop.set()
    for process in publishers:
        process.join()
    recorder.terminate()
    recorder.wait()
    node.destroy_node()
    rclpy.try_shutdown()
    return {"share_of_one_core": round(share, 3), "seconds": seconds, "topics": _count(path), **_size(path)}


def _count(path: Path) -> dict[str, dict[str, int]]:
    return {
        topic: {"messages": len(found), "dropped": found[-1] - found[0] + 1 - len(found)}
        for topic, found in numbers(path).items()
        if "gripper" not in topic  # it is published with every 33rd joint state
    }


def _size(path: Path) -> dict[str, float]:
    content = json.loads((path / "episode.json").read_text())
    return {
        "megabytes": round(content["bag"]["bytes"] / 1e6, 1),
        "duration_s": content["duration_s"],
        "longest_gap_of_joint_states_s": content["topics"]["/joint_states"]["max_gap_s"],
    }


def main() -> None:
    """Run and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the episode, s")
    seconds = parser.parse_args().seconds
    os.environ.setdefault("ROS_DOMAIN_ID", "87")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    directory = Path(tempfile.mkdtemp(prefix="bench_recorder_"))
    try:
        result = record(directory, seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    save("recorder", result)


if __name__ == "__main__":
    main()
