"""The dataset on disk.

Regressions pinned: an episode that was cut off while it was written is taken for whole; indexing over the border of two
episodes mixes them; a crafted index escapes the store; damaged files give a traceback.
"""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_training.dataset import EPISODE_SCHEMA, EpisodeMeta, load_dataset
from robosteer_training.episode_writer import EpisodeWriter, new_directory
from robosteer_training.image_files import ImageStack, NpyAppender, keep_slice, open_images

from .synthetic_bag import bench_rig

RIG = bench_rig()
PARTS = [np.random.default_rng(i).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8) for i, n in enumerate((3, 1, 5))]


def frame(k: int) -> Frame:
    images = {name: np.full((16, 16, 3), k, np.uint8) for name in RIG.cameras}
    return Frame(k * 10, images, np.full(7, k), np.full(7, -k), 0.5, {"wrist": k}, ("wrist",) if k == 2 else ())


def write_store(path, counts=(4, 3)):
    """A store written without any bag."""
    keys = [f"{i:032x}" for i in range(len(counts))]
    for key, count in zip(keys, counts, strict=True):
        with new_directory(path / "episodes" / key) as directory:
            writer = EpisodeWriter(directory, RIG, tuple(RIG.cameras))
            for k in range(count + 2):
                writer.append(frame(k))
            meta = EpisodeMeta(EPISODE_SCHEMA, key, "bag", f"task {key[-1]}", "success", count, (1, 1), 1, {}, {}, "0")
            actions = np.arange((count + 2) * 8, dtype=np.float32).reshape(-1, 8)
            writer.finish(actions, slice(1, count + 1), meta)
    index = {"schema": "robosteer.dataset/1", "rig": RIG.to_yaml(), "rig_digest": RIG.digest(), "rate_hz": 15.0}
    (path / "dataset.json").write_text(json.dumps({**index, "cameras": list(RIG.cameras), "episodes": keys}))
    return path


def test_what_was_written_is_read(tmp_path):
    data = load_dataset(write_store(tmp_path))
    assert len(data) == 7
    assert data.episode_index.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert data.state[:, 0].tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert data.state[0].tolist() == [1.0] * 7 + [0.5]
    assert data.joint_velocity[0].tolist() == [-1.0] * 7
    assert data.actions[4].tolist() == list(range(8, 16))
    assert data.stamp_ns.tolist() == [10, 20, 30, 40, 10, 20, 30]
    assert data.stale.tolist() == [False, True, False, False, False, True, False]
    assert data.prompts == ("task 0", "task 1")
    assert data.rows(1) == slice(4, 7)
    assert data.images["left"].shape == (7, 16, 16, 3)
    assert data.images["left"][:, 0, 0, 0].tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert data.rig == RIG
    for array in (data.state, data.actions, data.joint_velocity):
        assert array.dtype == np.float32


index = st.integers(-9, 8)
indices = index | st.lists(index, max_size=6).map(np.array).filter(lambda a: a.dtype != float)
slices = st.builds(slice, st.none() | index, st.none() | index, st.none() | st.integers(1, 4) | st.integers(-4, -1))


@settings(max_examples=80, deadline=None)
@given(indices | slices | st.lists(st.booleans(), min_size=9, max_size=9).map(np.array))
def test_a_stack_of_episodes_indexes_like_one_array(i):
    stack, whole = ImageStack(PARTS), np.concatenate(PARTS)
    assert np.array_equal(stack[i], whole[i])
    if not isinstance(i, np.ndarray):
        assert np.array_equal(stack[i, ..., 0], whole[i, ..., 0])
    assert np.array_equal(np.asarray(stack), whole)


@pytest.mark.parametrize("i", [9, -10, [0, 9], np.zeros(8, bool)])
def test_a_stack_has_borders(i):
    with pytest.raises(IndexError):
        ImageStack(PARTS)[i]


def test_image_files_grow_in_place_and_can_be_cut(tmp_path):
    file = NpyAppender(tmp_path / "a.npy", (4, 4, 3))
    for image in PARTS[2]:
        file.append(image)
    with pytest.raises(ValueError, match="expected"):
        file.append(np.zeros((4, 5, 3), np.uint8))
    file.close()
    assert np.array_equal(np.load(tmp_path / "a.npy"), PARTS[2])
    keep_slice(tmp_path / "a.npy", slice(1, 3))
    assert np.array_equal(open_images(tmp_path / "a.npy", (2, 4, 4, 3)), PARTS[2][1:3])
    with pytest.raises(RobosteerError, match=r"found \(2, 4, 4, 3\) uint8, expected \(3, 4, 4, 3\)"):
        open_images(tmp_path / "a.npy", (3, 4, 4, 3))


def test_a_failed_episode_leaves_nothing(tmp_path):
    final = tmp_path / "episodes" / "key"
    with pytest.raises(OverflowError), new_directory(final) as directory:
        (directory / "half").write_bytes((2**64).to_bytes(8))
    assert list(final.parent.iterdir()) == []
    abandoned = final.with_name("key.4194305.partial")  # above the largest process id
    abandoned.mkdir()
    with new_directory(final) as directory:
        (directory / "whole").touch()
    assert [p.name for p in final.parent.iterdir()] == ["key"]
    with new_directory(final) as directory:  # another process was faster
        (directory / "second").touch()
    assert [p.name for p in final.iterdir()] == ["whole"]


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("dataset.json", lambda d: d[:-5]),
        ("dataset.json", lambda d: d.replace(b"dataset/1", b"dataset/7")),
        ("dataset.json", lambda d: d.replace(b'"rate_hz": 15.0', b'"rate_hz": "fast"')),
        ("dataset.json", lambda d: d.replace(b"0" * 32, b"../../" + b"0" * 26)),
        ("dataset.json", lambda d: d.replace(b'["wrist", "left"]', b'["nose"]')),
        ("dataset.json", lambda d: d.replace(b"output_size: 16", b"output_size: 18")),
        ("meta.json", lambda d: d[:-5]),
        ("meta.json", lambda d: d.replace(b'"frames": 4', b'"frames": 5')),
        ("meta.json", lambda d: d.replace(b'"frames"', b'"framez"')),
        ("frames.parquet", lambda d: d[:-5]),
        ("frames.parquet", lambda d: b""),
        ("images_left.npy", lambda d: d[:-5]),
        ("images_left.npy", lambda d: d[:40]),
        ("images_left.npy", lambda d: b""),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, file, damage):
    write_store(tmp_path)
    path = tmp_path / file if file == "dataset.json" else tmp_path / "episodes" / ("0" * 32) / file
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with pytest.raises(RobosteerError) as caught:
        load_dataset(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_store_is_one_line(tmp_path):
    with pytest.raises(RobosteerError, match="found no such file"):
        load_dataset(tmp_path / "absent")


def test_digest_follows_the_episodes(tmp_path):
    data = load_dataset(write_store(tmp_path))
    assert data.digest() == load_dataset(tmp_path).digest()
    assert dataclasses.replace(data, episodes=data.episodes[:1]).digest() != data.digest()
