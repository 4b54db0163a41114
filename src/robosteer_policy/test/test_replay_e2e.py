"""A run of the real policy on the simulated cell is bagged, and replayed bit for bit.

Regressions pinned: the frame was rebuilt from what had arrived by the time of the log, not from what the inference saw;
a run's bag ended before its last record; steering set during the run was not in the bag.
"""

import json

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import SetBool

from robosteer_model.checkpoint import save_checkpoint
from robosteer_model.digest import params_digest
from robosteer_policy.commands import replay as command
from robosteer_policy.replay import Recording

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
    steer = probe.node.create_publisher(String, "/policy/steer/set", 10)
    enabling = probe.node.create_client(SetBool, "/policy/enable")
    world.start_node(CELL, rig=rig, distractors=["none"])
    world.start_node(GUARD, rig=rig, source="policy", **PATIENT)
    relaxed = {"min_rate_fraction": 0.0, "frozen_s": 0.0}
    world.start_node(RECORDER, rig=rig, directory=str(out), extra_topics=TOPICS, instruction="swing", **relaxed)
    world.start_node(FOLLOWER)
    looks = []
    parameters = {"instruction": "pick up red cube", "num_steps": 2, "execute_steps": 2, "preset_dir": str(presets)}
    parameters |= {"attention_heads": "0.1 1.0", **PATIENT_POLICY}
    world.start_node(POLICY, rig=rig, checkpoint=checkpoint, **parameters)

    def recorder():
        return states.get("/robosteer/recorder/state", {})

    probe.until(lambda: recorder().get("ready"), "the recorder's readiness")
    probe.until(lambda: probe.status.get("policy/state", {}).get("state") == "ready", "the policy's readiness")
    probe.arm()
    probe.until(lambda: recorder().get("state") == "recording", "the recording")
    probe.until(lambda: probe.call(enabling, SetBool.Request(data=True)).success, "enabling")
    probe.until(lambda: probe.status["policy/state"]["chunks"] >= 3, "three chunks")
    # Asked for in the middle of the run: the chunks' bits must not depend on who looks.
    probe.node.create_subscription(Image, "/robosteer/policy/attention/wrist", looks.append, 10)
    probe.until(lambda: len(looks) >= 2, "attention on the wrist camera's picture")
    assert looks[0].encoding == "rgb8"
    assert len(set(looks[0].data)) > 1
    steer.publish(String(data=json.dumps({"preset": "push", "strength": 0.5, "ramp_s": 0.2})))
    probe.until(lambda: states.get("/policy/steer/state", {}).get("strengths"), "steering")
    steered = probe.status["policy/state"]["chunks"]
    probe.until(lambda: probe.status["policy/state"]["chunks"] >= steered + 4, "four steered chunks")
    probe.call(enabling, SetBool.Request(data=False))
    probe.until(lambda: recorder().get("kept") == 1, "the kept bag")
    probe.close()
