"""Crashes.

Pins: SIGKILL at any moment costs at most one chunk (0.1 s) of the running episode and nothing of earlier ones; a file
cut at any byte is recovered to the last whole message before the cut, in order; a damaged chunk does not hide the
rest; a full disk is one clear line and ends nothing but the running episode.
"""

import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.episode_record import read_episode_json
from robosteer_teleop.mcap_stream import Damage, RawMessage, read_sound
from robosteer_teleop.recovery import recover_bag
from robosteer_teleop.store import EpisodeStore
from robosteer_teleop.survey import sha256, survey_file
from robosteer_teleop.topics import FLOAT64

CHILDREN = Path(__file__).parent / "children"
MAX_LOSS_NS = 104_000_000  # a chunk's age and the messages around it
T0 = 1_700_000_000_000_000_000


def run_child(script, *arguments):
    command = [sys.executable, str(CHILDREN / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def numbers_of(bag, topic):
    with AnyReader([bag]) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [struct.unpack_from("<d", raw, 4)[0] for _, _, raw in reader.messages(connections)]


@pytest.mark.slow
def test_sigkill_loses_one_chunk_and_no_earlier_episode(tmp_path):
    losses = []
    for killed in run_child("killed_writers.py", tmp_path, 50):
        directory = Path(killed["directory"])
        store = EpisodeStore(directory)
        (recovered,) = store.recover_partials()
        assert recovered.path == directory / "000001"
        assert store.next_episode == 2
        first, second = read_episode_json(directory / "000000"), read_episode_json(directory / "000001")
        assert (first["outcome"], second["outcome"]) == ("success", "recovered")
        assert second["instruction"] == "second"
        assert sha256(directory / "000000/000000.mcap") == first["bag"]["sha256"]
        assert numbers_of(directory / "000000", "/fast") == list(range(100))
        fast = numbers_of(directory / "000001", "/fast")
        assert fast == list(range(len(fast)))  # a prefix without holes
        images = numbers_of(directory / "000001", "/image")
        # The chunk may end between the last number and its image.
        assert images in (list(range(0, len(fast), 16)), list(range(0, len(fast) - 1, 16)))
        losses.append(killed["end_ns"] - second["end_ns"])
        store.close()
    assert max(losses) <= MAX_LOSS_NS, losses


@pytest.fixture
def bag(tmp_path, make_bag, messages):
    rows = []
    for i in range(2000):
        rows.append(("/number", FLOAT64, T0 + i * 10**6, messages.float64(i)))
        if i % 50 == 0:
            rows.append(("/image", FLOAT64, T0 + i * 10**6, messages.float64(i) + bytes(5000)))
    make_bag(tmp_path / "000000", rows, {"episode": "0"})
    return tmp_path / "000000/000000.mcap", [(log_ns, data) for _, _, log_ns, data in rows]


def message_ends(path):
    """Offset behind each message in the file, from the file's own index."""
    with path.open("rb") as file:
        chunks = make_reader(file).get_summary().chunk_indexes
        content, ends = path.read_bytes(), []
        for chunk in chunks:
            offset = chunk.chunk_start_offset + 9 + 40
            stop = offset + chunk.uncompressed_size
            while offset < stop:
                offset += 9 + struct.unpack_from("<Q", content, offset + 1)[0]
                ends.append(offset)
    return ends


def test_a_file_cut_anywhere_keeps_every_whole_message(tmp_path, bag):
    path, rows = bag
    content, ends = path.read_bytes(), message_ends(path)
    assert len(ends) == len(rows)
    chance = random.Random(3)  # noqa: S311
    cuts = [0, 3, 8, 9, len(content) - 1, *(chance.randrange(len(content)) for _ in range(200))]
    for i, cut in enumerate(cuts):
        torn = tmp_path / "torn.mcap"
        torn.write_bytes(content[:cut])
        if cut < 8:
            with pytest.raises(RobosteerError, match="expected an MCAP file"):
                survey_file(torn)
            continue
        damage = Damage()
        found = [(r.log_ns, r.data) for r in read_sound(torn, damage) if isinstance(r, RawMessage)]
        assert found == rows[: sum(end <= cut for end in ends)], cut
        assert not damage.complete or cut > ends[-1]
        if i % 20 == 5 and found:
            survey, _ = recover_bag(torn, tmp_path / f"new{i}")
            assert survey.count == len(found)
            number = [data for _, data in found if len(data) < 100]
            assert len(numbers_of(tmp_path / f"new{i}", "/number")) == len(number)
            assert torn.read_bytes() == content[:cut]  # the original is only read


def test_zeros_at_the_end_are_not_data(tmp_path, bag):
    path, rows = bag
    content = path.read_bytes()
    torn = tmp_path / "torn.mcap"  # what a file system may leave after a power cut
    torn.write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    damage = Damage()
    found = [(r.log_ns, r.data) for r in read_sound(torn, damage) if isinstance(r, RawMessage)]
    assert found == rows[: len(found)]
    assert len(found) > 0.4 * len(rows)
    assert not damage.complete


def test_a_flipped_byte_costs_its_chunk_only(tmp_path, bag):
    path, rows = bag
    content = bytearray(path.read_bytes())
    with path.open("rb") as file:
        chunks = make_reader(file).get_summary().chunk_indexes
    victim = chunks[len(chunks) // 2]
    content[victim.chunk_start_offset + 9 + 40 + 20] ^= 0xFF
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(content)
    survey, damage = recover_bag(damaged, tmp_path / "new")
    assert (damage.complete, damage.bad_chunks) == (True, 1)
    start, stop = victim.chunk_start_offset, victim.chunk_start_offset + victim.chunk_length
    lost = sum(start < end <= stop for end in message_ends(path))
    assert lost > 0
    assert survey.count == len(rows) - lost


def test_recovering_nothing_or_onto_something_is_refused(tmp_path, bag):
    path, _ = bag
    empty = tmp_path / "empty.mcap"
    empty.write_bytes(path.read_bytes()[:8])
    with pytest.raises(RobosteerError, match="found no readable message"):
        recover_bag(empty, tmp_path / "new")
    with pytest.raises(RobosteerError, match="expected a new one"):
        recover_bag(path, path.parent)


def test_full_disk(tmp_path, rig_file):
    result = run_child("full_disk.py", tmp_path, rig_file, 300_000)
    assert result["kept"]
    assert result["state"] == "ready"
    (line,) = result["lines"]
    assert line.startswith("episode 000001: found File too large")
    assert "\n" not in line
    assert "found state ready" in result["again"]
    store = EpisodeStore(tmp_path)
    (recovered,) = store.recover_partials()
    assert numbers_of(tmp_path / "000000", "/number") == list(range(100))
    numbers = numbers_of(recovered.path, "/number")
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 200
    store.close()
