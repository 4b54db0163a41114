"""Damaged recordings: 300 mutated bags, always the same ones.

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

from .synthetic_bag import Script, bench_rig, write_episode

RIG = bench_rig()
SHORT = Script(seconds=0.5, start_s=0.1, stop_s=0.4)
BATCHES, BATCH = 10, 30
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


def mutate(source, target, rng):
    shutil.copytree(source, target)
    storage = [file for file in target.iterdir() if file.suffix in (".mcap", ".db3")]
    others = [target / "metadata.yaml", target / "episode.json"]
    file = storage[0] if rng.random() < 0.8 else others[rng.integers(0, 2)]
    file.write_bytes(MUTATIONS[rng.integers(0, len(MUTATIONS))](file.read_bytes(), rng))


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
    assert len(summary.failures) > BATCH // 3
    for line in summary.failures:
        assert line.startswith(str(demos))
        assert "\n" not in line
        assert len(line) < 700
    stored = [path.name for path in (tmp_path / "out" / "episodes").iterdir()]
    assert sorted(stored) == sorted(episode.key for episode in data.episodes)
    assert np.isfinite(data.actions).all()
    assert np.isfinite(data.state).all()


def test_nothing_but_damaged_bags_is_one_error(tmp_path, whole):
    demos = tmp_path / "demos"
    for i in range(3):
        shutil.copytree(whole[1], demos / str(i))
        (demos / str(i) / "mcap.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(100 + i))
    with pytest.raises(ConversionError, match="found 3 damaged episodes"):
        convert_bags(demos, tmp_path / "out", RIG, skip_bad=True)
