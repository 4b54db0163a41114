"""Cutting, splitting, merging and relabelling recordings.

Regressions pinned: an original that is changed; a message in two pieces or in none; the latched state from before a cut
lost; two demonstrations merged into one; half a bag left behind by an error.
"""

import json

import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.bag_command import main
from robosteer_teleop.bag_edit import cut_bag, merge_bags, relabel_bag, split_bag
from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.episode_record import episode_json, write_episode_json
from robosteer_teleop.survey import survey_file
from robosteer_teleop.topics import FLOAT64, STRING, Connection, definition

T0 = 1_700_000_000_000_000_000
MS = 1_000_000
ZERO = QosTime(0, 0)
LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    ZERO,
    ZERO,
    QosLiveliness.AUTOMATIC,
    ZERO,
    False,
)


def text(value):
    content = value.encode() + b"\0"
    return b"\0\1\0\0" + len(content).to_bytes(4, "little") + content


@pytest.fixture
def episode(tmp_path, messages):
    """100 numbers over a second, a latched text before them, a label."""
    path = tmp_path / "000007"
    connections = [
        Connection("/number", FLOAT64, definition(FLOAT64)),
        Connection("/status", STRING, definition(STRING), (LATCHED,)),
    ]
    writer = BagWriter(path, connections, custom_data={"episode": "7", "instruction": "pick up red cube", "rig": "x"})
    writer.write("/status", T0, text("ready"))
    for i in range(100):
        writer.write("/number", T0 + i * 10 * MS, messages.float64(i))
    writer.close()
    survey = survey_file(path / "000007.mcap")
    write_episode_json(path, episode_json(survey, "success", notes=["checked"]))
    return path


def content(path):
    with Reader(path) as bag:
        return [(log - T0, c.topic, bytes(data)) for c, log, data in bag.messages()]


def state(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_cut_keeps_the_piece_and_the_latched_state(tmp_path, episode):
    before, everything = state(episode), content(episode)
    survey = cut_bag(episode, tmp_path / "piece", 0.3, 0.5)
    found = content(tmp_path / "piece")
    assert found[0] == (300 * MS, "/status", text("ready"))
    assert found[1:] == [row for row in everything if 300 * MS <= row[0] <= 500 * MS]
    assert survey.count == 22
    assert state(episode) == before
    label = json.loads((tmp_path / "piece/episode.json").read_text())
    assert (label["instruction"], label["outcome"]) == ("pick up red cube", "success")
    assert label["quality"]["notes"] == ["checked", "cut from 0.3 s to 0.5 s of 000007"]


def test_every_message_is_in_exactly_one_piece(tmp_path, episode):
    parts = split_bag(episode, tmp_path / "parts", 0.25)
    assert [part.path.parent.name for part in parts] == ["000000", "000001", "000002", "000003"]
    numbers = [row for part in parts for row in content(part.path.parent) if row[1] == "/number"]
    assert numbers == [row for row in content(episode) if row[1] == "/number"]
    merged = merge_bags([part.path.parent for part in parts], tmp_path / "whole")
    assert [row for row in content(tmp_path / "whole") if row[1] == "/number"] == numbers
    assert merged.count == 100 + 4  # the latched text stands at the start of every piece


def test_relabelling_makes_a_copy(tmp_path, episode):
    before = state(episode)
    relabel_bag(episode, tmp_path / "new", instruction="pick up green cube", outcome="failure")
    assert state(episode) == before
    assert content(tmp_path / "new") == content(episode)
    label = json.loads((tmp_path / "new/episode.json").read_text())
    assert (label["instruction"], label["outcome"], label["episode"]) == ("pick up green cube", "failure", 7)
    assert survey_file(tmp_path / "new/new.mcap").custom_data["instruction"] == "pick up green cube"


def test_sqlite_bags_are_read(tmp_path, messages):
    with Writer(tmp_path / "old", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/number", FLOAT64, typestore=get_typestore(Stores.ROS2_KILTED))
        for i in range(10):
            writer.write(connection, T0 + i * MS, messages.float64(i))
    assert cut_bag(tmp_path / "old", tmp_path / "new", 0.0, float("inf")).count == 10
    assert content(tmp_path / "new") == content(tmp_path / "old")
    assert not (tmp_path / "new/episode.json").exists()


def test_what_makes_no_sense_is_refused_and_leaves_nothing(tmp_path, episode, make_bag, messages):
    make_bag(tmp_path / "later", [("/number", FLOAT64, T0 + 10**12, messages.float64(1))])
    make_bag(tmp_path / "other", [("/number", STRING, T0, text("x"))])
    make_bag(tmp_path / "torn", [("/number", FLOAT64, T0, messages.float64(1))])
    (tmp_path / "torn/torn.mcap").write_bytes((tmp_path / "torn/torn.mcap").read_bytes()[:-30])
    out = tmp_path / "out"
    for call, found in (
        (lambda: cut_bag(episode, out, 0.5, 0.2), "expected 0 <= start < end"),
        (lambda: cut_bag(episode, out, 5.0, 6.0), "no message in that piece"),
        (lambda: cut_bag(episode, episode, 0.0, 1.0), "existing directory"),
        (lambda: cut_bag(tmp_path / "torn", out, 0.0, 1.0), "robosteer bag recover"),
        (lambda: cut_bag(tmp_path / "nowhere", out, 0.0, 1.0), "check the path"),
        (lambda: split_bag(episode, out, 0.0), "expected 1 to 1000 pieces"),
        (lambda: merge_bags([episode], out), "at least two"),
        (lambda: merge_bags([episode, tmp_path / "later"], out), "more than a minute"),
        (lambda: merge_bags([episode, tmp_path / "other"], out), "as in the others"),
        (lambda: relabel_bag(episode, out, instruction=None, outcome=None), "nothing to change"),
    ):
        with pytest.raises(RobosteerError, match=found):
            call()
        assert not out.exists()


def test_the_command(tmp_path, episode, capsys):
    assert main(["cut", str(episode), "--out", str(tmp_path / "a"), "--end-s", "0.5"]) == 0
    assert main(["split", str(episode), "--out", str(tmp_path / "b"), "--every-s", "0.5"]) == 0
    assert main(["merge", str(tmp_path / "b/000000"), str(tmp_path / "b/000001"), "--out", str(tmp_path / "c")]) == 0
    assert main(["relabel", str(episode), "--out", str(tmp_path / "d"), "--outcome", "failure"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "102 messages" in lines[3]
