"""The directory of episodes.

Pins: numbers are never used twice, whatever was discarded or torn; two recorders never share a directory; a crash
at any step of keeping leaves the episode either whole or recoverable; the journal survives its own torn line.
"""

import json

import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.episode_record import episode_json, label_episode, read_episode_json
from robosteer_teleop.store import EpisodeStore
from robosteer_teleop.survey import survey_file
from robosteer_teleop.topics import FLOAT64

T0 = 1_700_000_000_000_000_000


@pytest.fixture
def store(tmp_path):
    store = EpisodeStore(tmp_path / "demos")
    yield store
    store.close()


@pytest.fixture
def record(store, make_bag, messages):
    """Record a closed bag in partial/ and return (episode, episode.json content)."""

    def make():
        episode, path = store.begin()
        rows = [("/number", FLOAT64, T0 + i * 10**6, messages.float64(i)) for i in range(50)]
        make_bag(path, rows, {"episode": str(episode), "instruction": "pick", "rig_digest": "d", "rig": "r"})
        return episode, episode_json(survey_file(path / f"{path.name}.mcap"), "success")

    return make


def reopen(store):
    store.close()
    store.__init__(store.directory)
    return store


def test_keep_publishes_a_whole_directory(store, record):
    path = store.commit(*record())
    assert path == store.directory / "000000"
    assert sorted(p.name for p in path.iterdir()) == ["000000.mcap", "episode.json", "metadata.yaml"]
    content = read_episode_json(path)
    assert content["schema"] == "robosteer.episode/1"
    assert content["topics"]["/number"] == {"type": FLOAT64, "count": 50, "rate_hz": 1020.408, "max_gap_s": 0.001}
    assert list(store.partial.iterdir()) == []


def test_numbers_are_never_used_twice(store, record):
    store.commit(*record())
    store.trash(*record())
    assert store.next_episode == 2
    assert reopen(store).next_episode == 2
    for path in sorted(store.trash_directory.glob("*/*")):
        path.unlink()
    (store.trash_directory / "000001").rmdir()
    assert reopen(store).next_episode == 2  # the journal remembers
    (store.directory / "session.jsonl").unlink()
    assert reopen(store).next_episode == 1


def test_discard_and_undo(store, record):
    episode, content = record()
    path = store.trash(episode, {**content, "outcome": "discarded"})
    assert path == store.directory / "trash/000000"
    assert read_episode_json(path)["outcome"] == "discarded"
    assert store.episodes() == []
    store.restore(episode)
    store.commit(episode, content)
    assert [p.name for p in store.episodes()] == ["000000"]


def test_a_second_recorder_is_refused(store):
    with pytest.raises(RobosteerError, match="another recorder"):
        EpisodeStore(store.directory)


def test_unwritable_directory_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RobosteerError, match="expected a writable directory"):
        EpisodeStore(tmp_path / "file/demos")


def test_journal_survives_a_torn_line(store, record):
    store.commit(*record())
    with (store.directory / "session.jsonl").open("a") as file:
        file.write('{"event": "sta')
    store.log("start", 7)
    events = [(entry["event"], entry["episode"]) for entry in store.journal()]
    assert events == [("start", 0), ("keep", 0), ("start", 7)]
    assert reopen(store).next_episode == 8


def test_a_closed_but_unlabelled_recording_is_recovered_whole(store, record):
    record()
    (recovered,) = reopen(store).recover_partials()
    assert recovered.path == store.directory / "000000"
    content = read_episode_json(recovered.path)
    assert (content["outcome"], content["instruction"], content["topics"]["/number"]["count"]) == (
        "recovered",
        "pick",
        50,
    )
    assert store.recover_partials() == []


def test_crash_during_recovery_is_recovered(store, record):
    record()
    (store.partial / "000000/metadata.yaml").unlink()
    half_done = store.partial / "recovering/000000"
    half_done.mkdir(parents=True)
    (half_done / "000000.mcap").write_bytes(b"half")
    (recovered,) = reopen(store).recover_partials()
    assert recovered.path == store.directory / "000000"
    assert [p.name for p in store.trash_directory.iterdir()] == ["000000.damaged"]
    assert list(store.partial.iterdir()) == []
    assert survey_file(recovered.path / "000000.mcap").count == 50


def test_crash_between_rename_and_clean_up(store, record):
    episode, content = record()
    store.commit(episode, content)
    (store.partial / "000000").mkdir()
    (recovered,) = reopen(store).recover_partials()
    assert recovered.path == store.trash_directory / "000000.damaged"
    assert read_episode_json(store.directory / "000000") == content


def test_recordings_without_messages_leave_no_episode(store):
    for content in (None, b"", b"\x89MCAP0\r\n"):
        _, path = store.begin()
        path.mkdir()
        if content is not None:
            (path / f"{path.name}.mcap").write_bytes(content)
    texts = [r.text for r in reopen(store).recover_partials()]
    assert len(texts) == 3
    assert store.episodes() == []
    assert store.next_episode == 3


def test_label_afterwards(store, record):
    path = store.commit(*record())
    label_episode(path, "failure")
    content = read_episode_json(path)
    assert content["outcome"] == "failure"
    assert content["quality"]["notes"] == ["relabelled from success to failure"]


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"schema": "robosteer.episode/9"})])
def test_a_wrong_episode_json_is_a_user_error(tmp_path, text):
    (tmp_path / "episode.json").write_text(text)
    with pytest.raises(RobosteerError, match="expected"):
        read_episode_json(tmp_path)
