"""Damaged recordings: 2,088 mutated bags, always the same ones.

Regressions pinned: a traceback, an endless loop or a large allocation on foreign bytes; a damaged episode that takes
the whole ones of the same run with it; half an episode in the store.
"""

import dataclasses
import resource
import shutil

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from robosteer_training.convert import ConversionError, Summary, convert_bags

from .synthetic_bag import FLOAT, Script, bench_rig, messages, write_bag, write_episode

RIG = bench_rig()
SHORT = Script(seconds=0.3, start_s=0.05, stop_s=0.25)
BATCHES, BATCH = 10, 200
MEANT = 88  # bags whose content is wrong although their files are sound
ABSURD = (0, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Small undamaged episodes: one in SQLite, one in MCAP, and another one that stays as it is."""
    place = tmp_path_factory.mktemp("whole")
    write_episode(place / "other", RIG, dataclasses.replace(SHORT, seed=1))
    return [
        write_episode(place / storage.name.lower(), RIG, SHORT, storage=storage)
        for storage in (StoragePlugin.SQLITE3, StoragePlugin.MCAP)
    ]


def truncate(data, rng):
    return data[: rng.integers(0, len(data))]


def flip_bits(data, rng):
    out = np.frombuffer(data, np.uint8).copy()
    out[rng.integers(0, len(out), rng.integers(1, 9))] ^= np.uint8(1 << rng.integers(0, 8))
    return out.tobytes()


def set_length(data, rng):
    """Put an absurd number where a length may stand."""
    at = int(rng.integers(0, max(len(data) - 8, 1)))
    number = ABSURD[rng.integers(0, len(ABSURD))]
    return data[:at] + number.to_bytes(8, "little") + data[at + 8 :]


def erase(data, rng):
    at, size = rng.integers(0, len(data)), rng.integers(1, 2000)
    return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


def repeat(data, rng):
    at, size = rng.integers(0, len(data)), rng.integers(1, 2000)
    return data[: at + size] + data[at:]


MUTATIONS = (truncate, flip_bits, set_length, erase, repeat)
CHUNK_CRC = 9 + 24  # from the start of a chunk's record


def without_checksums(data):
    """An MCAP file whose chunks claim no checksum, so that what is behind them gets to see the damage."""
    out, at = bytearray(data), 8
    while at + 9 <= len(out):
        length = int.from_bytes(out[at + 1 : at + 9], "little")
        if out[at] == 0x06:
            out[at + CHUNK_CRC : at + CHUNK_CRC + 4] = bytes(4)
        at += 9 + length
    return bytes(out)


def mutate(source, target, rng):
    shutil.copytree(source, target)
    storage = [file for file in target.iterdir() if file.suffix in (".mcap", ".db3")]
    others = [target / "metadata.yaml", target / "episode.json"]
    file = storage[0] if rng.random() < 0.8 else others[rng.integers(0, 2)]
    data = file.read_bytes()
    if file.suffix == ".mcap" and rng.random() < 0.6:
        data = without_checksums(data)
    file.write_bytes(MUTATIONS[rng.integers(0, len(MUTATIONS))](data, rng))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_mutated_bags_give_one_line_each_and_spare_the_others(tmp_path, whole, batch):
    rng = np.random.default_rng([20, batch])
    demos = tmp_path / "demos"
    for i in range(BATCH):
        mutate(whole[i % len(whole)], demos / f"{i:06d}", rng)
    shutil.copytree(whole[0].parent / "other", demos / "undamaged")
    summary = Summary()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = convert_bags(demos, tmp_path / "out", RIG, skip_bad=True, summary=summary)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 300 * 1024
    assert any(episode.source.endswith("undamaged") for episode in data.episodes)
    assert len(summary.failures) + len(data.episodes) + summary.skipped == BATCH + 1
    assert len(summary.failures) > BATCH // 4
    check_lines(summary, demos)
    stored = [path.name for path in (tmp_path / "out" / "episodes").iterdir()]
    assert sorted(stored) == sorted(episode.key for episode in data.episodes)
    assert np.isfinite(data.actions).all()
    assert np.isfinite(data.state).all()


def check_lines(summary, demos):
    for line in summary.failures:
        assert line.startswith(str(demos))
        assert "\n" not in line
        assert len(line) < 700


JPEG_SIZE = b"\xff\xc0\x00\x11\x08"  # start of frame; height and width follow


def wrong_content(items, kind, rng):
    """Messages that a sound file may hold and no robot sends; `kind` is one of eleven."""
    topics = sorted({item[1] for item in items})
    chosen = topics[rng.integers(0, len(topics))]
    huge = int(rng.choice([100_000, 2**31 - 1, 2**32 - 1]))
    out = []
    for log, topic, name, message in items:
        if kind == 0 and topic == chosen:
            continue  # a topic without messages
        if kind in (1, 2) and name.endswith("JointState"):
            field = "position" if len(message.position) else "velocity"
            values = getattr(message, field) + (np.nan if kind == 1 else 1e300 * rng.choice([-1, 1]))
            message = dataclasses.replace(message, **{field: values})
        if kind in (3, 4) and topic == "/left/image":
            message = dataclasses.replace(message, **{"width" if kind == 3 else "step": huge, "height": huge})
        if kind in (5, 6) and topic == "/wrist/compressed":
            data = message.data.tobytes()
            at = data.index(JPEG_SIZE) + len(JPEG_SIZE)
            size = b"\xff\xff\xff\xff" if kind == 5 else rng.bytes(4)
            message = dataclasses.replace(message, data=np.frombuffer(data[:at] + size + data[at + 4 :], np.uint8))
        if kind == 7 and topic == "/wrist/compressed":
            message = dataclasses.replace(message, data=np.frombuffer(rng.bytes(len(message.data)), np.uint8))
        if kind == 8 and hasattr(message, "header"):
            seconds = int(rng.choice([-(2**31), 2**31 - 1, 0]))
            stamp = dataclasses.replace(message.header.stamp, sec=seconds)
            message = dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp))
        if kind == 9 and topic == chosen:
            name, message = "std_msgs/msg/Float64", FLOAT(float(rng.normal()))  # a foreign schema
        if kind == 10 and hasattr(message, "name"):
            message = dataclasses.replace(message, name=[f"{n}\u0000\n" for n in message.name][:3])
        out.append((log, topic, name, message))
    return out


@pytest.mark.timeout(120)
def test_sound_files_with_wrong_content(tmp_path, whole):
    rng, demos = np.random.default_rng(21), tmp_path / "demos"
    for i in range(MEANT):
        path = write_bag(demos / f"{i:06d}", wrong_content(messages(RIG, SHORT), i % 11, rng))
        shutil.copy(whole[0] / "episode.json", path / "episode.json")
    shutil.copytree(whole[0].parent / "other", demos / "undamaged")
    summary = Summary()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = convert_bags(demos, tmp_path / "out", RIG, skip_bad=True, summary=summary)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
    check_lines(summary, demos)
    failed = {int(line.split(":")[0].rsplit("/", 1)[1]) for line in summary.failures}
    # A stamp of zero is no stamp: the log time is taken, and that is no error.
    assert failed >= {i for i in range(MEANT) if i % 11 != 8}
    assert any(episode.source.endswith("undamaged") for episode in data.episodes)


def test_nothing_but_damaged_bags_is_one_error(tmp_path, whole):
    demos = tmp_path / "demos"
    for i in range(3):
        shutil.copytree(whole[1], demos / str(i))
        (demos / str(i) / "mcap.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(100 + i))
    with pytest.raises(ConversionError, match="found 3 damaged episodes"):
        convert_bags(demos, tmp_path / "out", RIG, skip_bad=True)
