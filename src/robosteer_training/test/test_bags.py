"""Reading recordings.

Regressions pinned: an interrupted or incomplete recording is taken for a short one; a missing topic is found out in the
middle of a conversion; a forged chunk size fills the memory; damaged bytes give a traceback instead of one line.
"""

import re
import shutil

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from robosteer_rig import bags
from robosteer_rig.bags import BagReader, bag_digest
from robosteer_rig.errors import RobosteerError
from robosteer_training.episodes import discover_episodes, read_episode

from .synthetic_bag import EPOCH_NS, Script, bench_rig, joint_state, messages, write_bag, write_episode

RIG = bench_rig()
SHORT = Script(seconds=0.4)


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_both_storages_give_the_same_messages(tmp_path, storage):
    items = messages(RIG, SHORT)
    path = write_bag(tmp_path / "bag", items, storage=storage, custom={"task": "x"})
    topics = [topic for topic, _ in RIG.topics().values()]
    with BagReader(path) as bag:
        bag.require(RIG.topics())
        assert bag.custom_data == {"task": "x"}
        found = list(bag.messages(topics))
    assert [(topic, log) for topic, log, _ in found] == [(topic, log) for log, topic, _, _ in items]
    for (_, _, message), (_, _, _, original) in zip(found, items, strict=True):
        if hasattr(original, "header"):
            assert message.header.stamp == original.header.stamp
        if hasattr(original, "data"):
            assert np.array_equal(message.data, original.data)


def test_what_is_missing_is_named(tmp_path):
    items = [i for i in messages(RIG, SHORT) if i[1] != "/wrist/compressed"]
    path = write_bag(tmp_path / "bag", items)
    with BagReader(path) as bag:
        with pytest.raises(RobosteerError) as caught:
            bag.require(RIG.topics())
        expected = f"{path}: topic /wrist/compressed (wrist): found no such topic, expected sensor_msgs/msg/Compressed"
        assert str(caught.value).startswith(expected)
        with pytest.raises(RobosteerError, match=r"found type .*/JointState, expected .*/Image"):
            bag.require({"x": ("/joint_states", "sensor_msgs/msg/Image")})


def test_a_topic_without_messages_is_named(tmp_path):
    path = write_bag(tmp_path / "bag", messages(RIG, SHORT))
    text = (path / "metadata.yaml").read_text()
    (path / "metadata.yaml").write_text(re.sub(r"message_count: 20", "message_count: 0", text))
    with BagReader(path) as bag, pytest.raises(RobosteerError, match="found 0 messages"):
        bag.require(RIG.topics())


def test_fewer_messages_than_promised_is_an_incomplete_recording(tmp_path):
    path = write_bag(tmp_path / "bag", messages(RIG, SHORT))
    text = (path / "metadata.yaml").read_text()
    (path / "metadata.yaml").write_text(text.replace("message_count: 40", "message_count: 41"))
    with BagReader(path) as bag, pytest.raises(RobosteerError, match="found 40 messages, expected 41"):
        list(bag.messages(["/joint_states"]))


def test_interrupted_empty_and_damaged_bags_are_one_line(tmp_path):
    whole = write_bag(tmp_path / "whole", messages(RIG, SHORT))
    storage = (whole / "whole.mcap").read_bytes()
    cases = {}
    for name, data in {"empty": b"", "head": storage[:3000], "tail": storage[:-20], "noise": b"\x93" * 500}.items():
        cases[name] = shutil.copytree(whole, tmp_path / name)
        (cases[name] / "whole.mcap").write_bytes(data)
    cases["unclosed"] = shutil.copytree(whole, tmp_path / "unclosed")
    (cases["unclosed"] / "metadata.yaml").unlink()
    cases["gone"] = shutil.copytree(whole, tmp_path / "gone")
    (cases["gone"] / "whole.mcap").unlink()
    cases["yaml"] = shutil.copytree(whole, tmp_path / "yaml")
    (cases["yaml"] / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    for path in cases.values():
        with pytest.raises(RobosteerError) as caught, BagReader(path) as bag:
            list(bag.messages(bag.topics))
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_a_message_of_another_shape_is_named(tmp_path):
    path = write_bag(tmp_path / "bag", [(EPOCH_NS, "/a", "sensor_msgs/msg/JointState", joint_state(EPOCH_NS, ["j"]))])
    text = (path / "metadata.yaml").read_text()
    storage = (path / "bag.mcap").read_bytes()
    assert storage.count(b"sensor_msgs/msg/JointState") == 3
    (path / "bag.mcap").write_bytes(storage.replace(b"sensor_msgs/msg/JointState", b"sensor_msgs/msg/CameraInfo"))
    (path / "metadata.yaml").write_text(text.replace("JointState", "CameraInfo"))
    with (
        BagReader(path) as bag,
        pytest.raises(RobosteerError, match=r"/a: found a message that is no .*CameraInfo"),
    ):
        list(bag.messages(["/a"]))


def test_oversized_chunks_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = write_bag(tmp_path / "bag", messages(RIG, SHORT))
    monkeypatch.setattr(bags, "MAX_CHUNK_BYTES", 1000)
    with pytest.raises(RobosteerError, match="found a chunk of"), BagReader(path):
        pytest.fail("the bag was opened")


def test_digest_depends_on_content_not_on_place(tmp_path):
    path = write_bag(tmp_path / "bag", messages(RIG, SHORT))
    copy = shutil.copytree(path, tmp_path / "elsewhere")
    (copy / "episode.json").write_text("{}")
    assert bag_digest(copy) == bag_digest(path)
    data = bytearray((copy / "bag.mcap").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "bag.mcap").write_bytes(data)
    assert bag_digest(copy) != bag_digest(path)


def test_episodes_are_found_but_not_unfinished_or_discarded_ones(tmp_path):
    for name in ("000001", "000000", "partial/000002", "trash/000003", "000004.partial", "day/000005"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metadata.yaml").touch()
    found = [str(path.relative_to(tmp_path)) for path in discover_episodes(tmp_path)]
    assert found == ["000000", "000001", "day/000005"]
    assert discover_episodes(tmp_path / "000001") == [tmp_path / "000001"]
    with pytest.raises(RobosteerError, match="found no such directory"):
        discover_episodes(tmp_path / "absent")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RobosteerError, match="found no episodes"):
        discover_episodes(tmp_path / "nothing")


def test_labels_are_read_and_damaged_ones_named(tmp_path):
    path = write_episode(tmp_path / "e", RIG, SHORT, outcome="failure")
    info = read_episode(path)
    assert (info.instruction, info.outcome, info.rig()) == ("pick up red cube", "failure", RIG)
    for text in ("{", "[]", '{"schema": "robosteer.episode/9"}', "[" * 100_000):
        (path / "episode.json").write_text(text)
        with pytest.raises(RobosteerError, match=r"episode\.json: found"):
            read_episode(path)
    (path / "episode.json").unlink()
    info = read_episode(path)
    assert (info.instruction, info.outcome, info.rig()) == (None, None, None)
