"""A run of the real policy on the simulated cell is bagged, and replayed bit for bit.

Regressions pinned: the frame was rebuilt from what had arrived by the time of the log, not from what the inference saw;
a run's bag ended before its last record; steering set during the run was not in the bag; this test enabled the policy
before the bag had the pictures that it saw.
"""

import json
from collections import Counter

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool

from robosteer_model.checkpoint import save_checkpoint
from robosteer_model.digest import params_digest
from robosteer_policy.commands import replay as command
from robosteer_policy.replay import Recording
from robosteer_rig.rig import load_rig

from .graph import Probe, graph
from .test_inference import PRESETS
from .test_loop_e2e import CELL, GUARD, PATIENT, PATIENT_POLICY, POLICY, patient_rig
from .tiny import tiny_checkpoint

pytestmark = pytest.mark.slow
__all__ = ["patient_rig"]

RECORDER, FOLLOWER = "robosteer_teleop.nodes.recorder", "robosteer_policy.nodes.run_recorder"
PUSH = f"""
schema: robosteer.preset/1
name: push
site: ffn
stream: suffix
targets: {{0: [1, 2], 1: [3]}}
checkpoint: {params_digest(tiny_checkpoint().params)}
alpha: 30.0
"""
TOPICS = "/robosteer/policy/chunk_record:std_msgs/msg/String /policy/steer/state:std_msgs/msg/String!"


def test_a_recorded_run_is_reproduced_bit_for_bit(tmp_path, patient_rig, capsys):
    checkpoint = str(save_checkpoint(tmp_path / "tiny", tiny_checkpoint()))
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / "push.yaml").write_text(PUSH)
    (presets / "sees.yaml").write_text(PUSH.replace("push", "sees").replace("suffix", "prefix"))
    assert PRESETS["push"].pairs == ((0, 1), (0, 2), (1, 3))
    with graph(tmp_path) as world:
        run(world, patient_rig, checkpoint, presets, tmp_path / "runs")
    (bag,) = [path.parent for path in (tmp_path / "runs").rglob("metadata.yaml")]
    recording = Recording(bag)
    strengths = [record.fields["steering"].get("push", 0.0) for record in recording.records]
    assert strengths[0] == 0.0
    assert 0.0 < max(strengths) <= 0.5
    assert command.main([str(bag), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"chunks": len(recording.records), "different": []}
    changed = recording.records[-1].fields
    changed["velocity"] = np.nextafter(np.array(changed["velocity"]), np.inf).tolist()
    *_, last = recording.replay(recording.agent())
    assert 0 < last.difference < 1e-12, "one bit is noticed"


def run(world, rig, checkpoint, presets, out):
    """Arm, enable, steer, and end, with everything in a bag."""
    probe = Probe(world, plays_arm=False)
    states = {}
    for topic in ("/robosteer/recorder/state", "/policy/steer/state"):
        probe.node.create_subscription(String, topic, lambda m, t=topic: states.update({t: json.loads(m.data)}), 10)
    cameras = [camera.topic for camera in load_rig(rig).cameras.values()]
    pictures = Counter()
    for topic in cameras:
        probe.node.create_subscription(CompressedImage, topic, lambda _, t=topic: pictures.update([t]), 10)
    steer = probe.node.create_publisher(String, "/policy/steer/set", 10)
    enabling = probe.node.create_client(SetBool, "/policy/enable")
    world.start_node(CELL, rig=rig, distractors=["none"])
    world.start_node(GUARD, rig=rig, source="policy", **PATIENT)
    relaxed = {"min_rate_fraction": 0.0, "frozen_s": 0.0}
    world.start_node(RECORDER, rig=rig, directory=str(out), extra_topics=TOPICS, instruction="swing", **relaxed)
    world.start_node(FOLLOWER)
    looks = {}
    parameters = {"instruction": "pick up red cube", "num_steps": 2, "execute_steps": 2, "preset_dir": str(presets)}
    parameters |= {"attention_heads": "0.1 1.0", "cluster_overlay": "sees", **PATIENT_POLICY}
    world.start_node(POLICY, rig=rig, checkpoint=checkpoint, **parameters)

    def recorder():
        return states.get("/robosteer/recorder/state", {})

    probe.until(lambda: recorder().get("ready"), "the recorder's readiness")
    probe.until(lambda: probe.status.get("policy/state", {}).get("state") == "ready", "the policy's readiness")
    probe.arm()
    probe.until(lambda: recorder().get("state") == "recording", "the recording")
    # What the first inference sees must be in the bag.
    pictures.clear()
    probe.until(lambda: pictures and min(pictures.values()) >= 2 and len(pictures) == len(cameras), "new pictures")
    probe.until(lambda: probe.call(enabling, SetBool.Request(data=True)).success, "enabling")
    probe.until(lambda: probe.status["policy/state"]["chunks"] >= 3, "three chunks")
    # Asked for in the middle of the run: the chunks' bits must not depend on who looks.
    for kind in ("attention", "cluster"):
        topic = f"/robosteer/policy/{kind}/wrist"
        assert probe.node.count_publishers(topic) == 1
        probe.node.create_subscription(Image, topic, looks.setdefault(kind, []).append, 10)
        probe.until(lambda k=kind: len(looks[k]) >= 2, f"{kind} over the wrist camera's picture")
        assert looks[kind][0].encoding == "rgb8"
        assert len(set(looks[kind][0].data)) > 1
    steer.publish(String(data=json.dumps({"preset": "push", "strength": 0.5, "ramp_s": 0.2})))
    probe.until(lambda: states.get("/policy/steer/state", {}).get("strengths"), "steering")
    steered = probe.status["policy/state"]["chunks"]
    probe.until(lambda: probe.status["policy/state"]["chunks"] >= steered + 4, "four steered chunks")
    probe.call(enabling, SetBool.Request(data=False))
    probe.until(lambda: recorder().get("kept") == 1, "the kept bag")
    probe.close()
