"""The command `robosteer bag`.

Pins: `recover` never touches the original and never overwrites; `info` reads torn bags and whole directories; a wrong
path is one line.
"""

import json

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.bag_command import main
from robosteer_teleop.survey import survey_file
from robosteer_teleop.topics import FLOAT64

T0 = 1_700_000_000_000_000_000


@pytest.fixture
def demos(tmp_path, make_bag, messages):
    for episode in range(2):
        rows = [("/number", FLOAT64, T0 + i * 10**7, messages.float64(i)) for i in range(100)]
        make_bag(tmp_path / f"demos/00000{episode}", rows, {"instruction": "pick up red cube"})
    return tmp_path / "demos"


def test_info_of_an_episode(demos, capsys):
    assert main(["info", str(demos / "000000"), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["topics"] == {"/number": {"type": FLOAT64, "count": 100, "rate_hz": 101.01, "max_gap_s": 0.01}}
    assert (entry["state"], entry["instruction"]) == ("complete", "pick up red cube")
    assert main(["info", str(demos / "000000")]) == 0
    assert "/number" in capsys.readouterr().out


def test_info_of_a_directory(demos, capsys):
    assert main(["info", str(demos)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["000000", "000001"]


def test_recover_leaves_the_original(demos, capsys):
    original = demos / "000000/000000.mcap"
    content = original.read_bytes()[:-3000]
    original.write_bytes(content)
    assert main(["recover", str(demos / "000000")]) == 0
    assert original.read_bytes() == content
    survey = survey_file(demos / "000000.recovered/000000.recovered.mcap")
    assert survey.damage.complete
    assert survey.count > 50
    assert "not closed" in capsys.readouterr().out
    with pytest.raises(RobosteerError, match="expected a new one"):
        main(["recover", str(demos / "000000")])


def test_sqlite_bags_are_shown_and_not_recovered(tmp_path, messages, capsys):
    store = get_typestore(Stores.ROS2_KILTED)
    with Writer(tmp_path / "old", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/number", FLOAT64, typestore=store)
        for i in range(101):
            writer.write(connection, T0 + i * 10**7, messages.float64(i))
    assert main(["info", str(tmp_path / "old"), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["topics"] == {"/number": {"type": FLOAT64, "count": 101, "rate_hz": 101.0, "max_gap_s": 0.01}}
    assert main(["info", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split()[0] == "old"
    with pytest.raises(RobosteerError, match="found an SQLite bag, expected MCAP"):
        main(["recover", str(tmp_path / "old")])


def test_wrong_paths_are_user_errors(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RobosteerError, match="check the path"):
            main(["info", str(path)])
    (tmp_path / "text.mcap").write_text("not a bag")
    with pytest.raises(RobosteerError, match="expected an MCAP file"):
        main(["recover", str(tmp_path / "text.mcap")])
