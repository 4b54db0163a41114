"""Exchange with LeRobot's formats; `conformance/` compares with the real package.

Regressions pinned: a video with fewer frames than rows, found out in the middle of a training; frames of one episode
served for another where both share a file; a gripper or joints in another unit taken for ours; names in a foreign
info.json that lead out of the dataset; half an export left behind; an export that tells this machine's directories.
"""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import load_rig
from robosteer_training.commands import dataset as command
from robosteer_training.convert import convert_bags
from robosteer_training.lerobot import files_v30, importing
from robosteer_training.lerobot.export import export_lerobot
from robosteer_training.lerobot.importing import Mapping, import_lerobot
from robosteer_training.lerobot.reader import LeRobotReader
from robosteer_training.lerobot.verify import verify
from robosteer_training.lerobot.video import VideoWriter, read_frames

from .synthetic_bag import Script, bench_rig, write_episode

RIG = bench_rig()
FORMS = [(version, images) for version in ("v2.1", "v3.0") for images in ("png", "video")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("lerobot")
    for i in range(3):
        write_episode(place / f"demos/{i}", RIG, Script(seconds=1.5 + 0.4 * i, stop_s=1.3, seed=7 * i))
    label = json.loads((place / "demos/2/episode.json").read_text())
    (place / "demos/2/episode.json").write_text(json.dumps({**label, "instruction": "pick up green cube"}))
    return convert_bags(place / "demos", place / "store")


@pytest.mark.parametrize(("version", "images"), FORMS)
def test_what_is_exported_is_imported(tmp_path, data, version, images):
    verified = export_lerobot(data, tmp_path / "out", version=version, images=images)
    assert (verified.episodes, verified.rows, verified.frames) == (3, len(data), 2 * len(data))
    place = str(data.path.parent).encode()
    assert not [path for path in (tmp_path / "out").rglob("*.*") if path.is_file() and place in path.read_bytes()]
    back = import_lerobot(tmp_path / "out", tmp_path / "store")
    assert back.rig == data.rig
    assert back.prompts == data.prompts
    for name in ("state", "actions", "joint_velocity", "stale", "episode_index"):
        assert np.array_equal(getattr(back, name), getattr(data, name)), name
    for camera, stack in data.images.items():
        difference = np.abs(np.asarray(back.images[camera]).astype(int) - np.asarray(stack))
        assert difference.max() == 0 if images == "png" else difference.mean() < 20
    assert back.episodes[0].replay == pytest.approx(data.episodes[0].replay, abs=1e-6)
    again = import_lerobot(tmp_path / "out", tmp_path / "store")
    assert again.digest() == back.digest()


def test_a_file_of_many_episodes_is_digested_once(tmp_path, data, monkeypatch):
    export_lerobot(data, tmp_path / "out", version="v3.0")
    real, read = importing.hashlib.file_digest, []
    monkeypatch.setattr(importing.hashlib, "file_digest", lambda file, kind: read.append(file.name) or real(file, kind))
    import_lerobot(tmp_path / "out", tmp_path / "store")
    assert sorted(read) == sorted(set(map(str, read)))
    assert len(read) == 3  # the table and two cameras, for three episodes


def test_droid_names_and_the_second_exterior_camera(tmp_path, data):
    columns = LeRobotReader(_exported(tmp_path, data)).features
    assert columns["exterior_image_1_left"] == {"dtype": "image", "shape": (16, 16, 3)}
    assert columns["joint_position"]["shape"] == (7,)
    assert columns["gripper_position"]["shape"] == (1,)
    assert columns["actions"]["shape"] == (8,)
    one_view = dataclasses.replace(data.rig, policy_cameras={"wrist_image_left": "wrist"})
    three = dataclasses.replace(data, rig=one_view)
    export_lerobot(three, tmp_path / "three")
    assert LeRobotReader(tmp_path / "three").image_keys == ("wrist_image_left", "exterior_image_2_left")


def _exported(place, data, version="v2.1", images="png"):
    export_lerobot(data, place / "out", version=version, images=images)
    return place / "out"


def test_v3_files_rotate_and_stay_findable(tmp_path, data, monkeypatch):
    monkeypatch.setattr(files_v30, "DATA_FILE_MIB", 0)
    monkeypatch.setattr(files_v30, "VIDEO_FILE_MIB", 0)
    monkeypatch.setattr(files_v30, "CHUNK_SIZE", 2)
    root = _exported(tmp_path, data, "v3.0", "video")
    names = sorted(str(path.relative_to(root)) for path in root.glob("data/*/*"))
    assert names == [f"data/chunk-{c:03d}/file-{f:03d}.parquet" for c, f in ((0, 0), (0, 1), (1, 0))]
    assert len(list(root.glob("videos/wrist_image_left/*/*.mp4"))) == 3
    assert verify(root).rows == len(data)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_missing_frame_is_found(tmp_path, data, version):
    root = _exported(tmp_path, data, version, "video")
    path = sorted(root.glob("videos/**/*.mp4"))[-1]
    frames = list(read_frames(path, fps=15))
    with VideoWriter(path, fps=15, height=16, width=16) as video:
        for frame in frames[:-1]:
            video.write(frame)
    with pytest.raises(RobosteerError, match="frames, expected"):
        verify(root)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RobosteerError, match="found a damaged video"):
        verify(root)
    path.unlink()
    with pytest.raises(RobosteerError, match="no such file, expected the video"):
        verify(root)


def rewrite(root, change):
    """Replace the first episode's table."""
    path = sorted(root.glob("data/**/*.parquet"))[0]
    parquet.write_table(change(parquet.read_table(path)), path)


def test_rows_out_of_place_are_found(tmp_path, data):
    root = _exported(tmp_path, data)
    path = sorted(root.glob("data/**/*.parquet"))[0]
    whole = path.read_bytes()
    for change, found in (
        (lambda t: t.slice(0, t.num_rows - 1), "rows of episode 0"),
        (lambda t: t.take(pa.array([1, 0, *range(2, t.num_rows)])), "rows out of order"),
        (
            lambda t: t.set_column(t.schema.get_field_index("index"), "index", pa.array(range(5, 5 + t.num_rows))),
            "index",
        ),
        (lambda t: t.drop_columns(["actions"]), "damaged"),
    ):
        rewrite(root, change)
        with pytest.raises(RobosteerError, match=found):
            verify(root)
        path.write_bytes(whole)
    path.write_bytes(whole[:-50])
    with pytest.raises(RobosteerError, match="damaged file"):
        verify(root)


def edit_info(root, change):
    file = root / "meta/info.json"
    info = json.loads(file.read_text())
    change(info)
    file.write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda info: info.update(codebase_version="v1.6"), "found LeRobot v1.6"),
        (lambda info: info.update(fps=0), "frames per second"),
        (lambda info: info.pop("features"), "no usable .*features"),
        (lambda info: info["features"].update({"../../x": {"dtype": "video", "shape": [1]}}), "without /"),
        (lambda info: info.update(features=[]), "expected LeRobot's"),
    ],
)
def test_foreign_metadata_are_one_error(tmp_path, data, change, found):
    root = _exported(tmp_path, data)
    edit_info(root, change)
    with pytest.raises(RobosteerError, match=found):
        verify(root)


def test_damaged_metadata_files(tmp_path, data):
    for version in ("v2.1", "v3.0"):
        root = tmp_path / version
        export_lerobot(data, root, version=version, images="png")
        index = root / "meta/episodes.jsonl"
        index = index if index.exists() else next(root.glob("meta/episodes/*/*.parquet"))
        for content in (b"", b"{", b"PAR1\0\0"):
            index.write_bytes(content)
            with pytest.raises(RobosteerError):
                verify(root)
        index.unlink()
        with pytest.raises(RobosteerError):
            verify(root)


def test_foreign_units_are_refused(tmp_path, data):
    root = _exported(tmp_path, data)
    path = sorted(root.glob("data/**/*.parquet"))[0]
    whole = path.read_bytes()

    def scaled(name, factor):
        def change(table):
            column = table[name].combine_chunks()
            values = np.asarray(column.flatten() if name != "gripper_position" else column) * factor
            array = pa.array(values.astype(np.float32))
            if name != "gripper_position":
                array = pa.FixedSizeListArray.from_arrays(array, column.type.list_size)
            return table.set_column(table.schema.get_field_index(name), table.schema.field(name), array)

        return change

    for name, factor, found in (
        ("gripper_position", 100, "gripper_position: found a gripper from"),
        ("joint_position", 57.3, "are these degrees"),
        ("actions", 2, "found a gripper from 0 to 2"),
        ("actions", np.nan, "not finite"),
    ):
        rewrite(root, scaled(name, factor))
        with pytest.raises(RobosteerError, match=found):
            import_lerobot(root, tmp_path / "store")
        path.write_bytes(whole)
    assert not list((tmp_path / "store").glob("episodes/*"))


def test_features_are_mapped_by_name(tmp_path, data):
    root = _exported(tmp_path, data)
    with pytest.raises(RobosteerError, match="say which one with --image wrist_image_left=NAME"):
        import_lerobot(root, tmp_path / "store", mapping=Mapping({"wrist_image_left": "wrist"}))
    with pytest.raises(RobosteerError, match=r"expected 'observation\.state'"):
        import_lerobot(root, tmp_path / "store", mapping=Mapping(joints="observation.state"))
    with pytest.raises(RobosteerError, match="found 'top', expected one of"):
        import_lerobot(root, tmp_path / "store", mapping=Mapping({"top": "wrist_image_left"}))
    swapped = Mapping({"wrist_image_left": "exterior_image_1_left", "exterior_image_1_left": "wrist_image_left"})
    back = import_lerobot(root, tmp_path / "store", mapping=swapped)
    assert np.array_equal(np.asarray(back.images["wrist"]), np.asarray(data.images["left"]))
    (root / "meta/robosteer.json").unlink()
    with pytest.raises(RobosteerError, match="pass --rig"):
        import_lerobot(root, tmp_path / "store")


def test_images_of_another_size_need_a_fitting_rig(tmp_path, data):
    root = _exported(tmp_path, data)
    larger = {name: dataclasses.replace(camera, output_size=20) for name, camera in RIG.cameras.items()}
    with pytest.raises(RobosteerError, match=r"cameras\.\w+: image size: found 16x16, expected 32x20.*or 20x20"):
        import_lerobot(root, tmp_path / "store", dataclasses.replace(RIG, cameras=larger))


def test_exports_that_cannot_be_leave_nothing(tmp_path, data):
    root = _exported(tmp_path, data)
    with pytest.raises(RobosteerError, match="found something at"):
        export_lerobot(data, root)
    with pytest.raises(RobosteerError, match="whole number"):
        export_lerobot(dataclasses.replace(data, rate_hz=7.5), tmp_path / "odd")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_command(tmp_path, data, capsys):
    store, out = str(data.path), str(tmp_path / "out")
    assert command.main(["export", store, "--out", out, "--version", "v3.0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == len(data)
    assert command.main(["verify", out]) == 0
    assert f"rows {len(data)}" in capsys.readouterr().out
    (tmp_path / "rig.yaml").write_text(RIG.to_yaml())
    assert load_rig(tmp_path / "rig.yaml") == RIG
    arguments = ["import", out, "--out", str(tmp_path / "store"), "--rig", str(tmp_path / "rig.yaml")]
    assert command.main([*arguments, "--image", "wrist_image_left=wrist_image_left"]) == 0
    with pytest.raises(RobosteerError, match="--image: found 'wrist'"):
        command.main([*arguments, "--image", "wrist"])
