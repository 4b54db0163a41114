"""Pins: a placement that counts as several because it was tried under several variations, a line cut short by a crash
that spoils the next one, films of the wrong trials, results that are overwritten by mistake, policies compared on
different scenes, and trials of one instruction whose task cards differ.
"""

import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robosteer_rig.environment import Scene, check_scenes, make_environment
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import load_rig
from robosteer_training.commands.evaluate import Arguments, result_text
from robosteer_training.commands.evaluate import main as evaluate_main
from robosteer_training.commands.evaluate_compare import main as compare_main
from robosteer_training.evaluation.comparison import compare
from robosteer_training.evaluation.evaluate import EvaluateSettings, evaluate, identity
from robosteer_training.evaluation.films import save_film
from robosteer_training.evaluation.journal import Journal
from robosteer_training.evaluation.motion import MotionMeter
from robosteer_training.evaluation.overview import overview
from robosteer_training.evaluation.result import Evaluation
from robosteer_training.evaluation.rollout import Manner, Trial, flow_noise, run_trial
from robosteer_training.evaluation.scenes import FIRST_SEED, GRID_CELLS, grid_cells, make_scenes, spread_cells
from robosteer_training.evaluation.workers import Job, Worker

PACKAGES = Path(__file__).parents[2]
RIG = PACKAGES / "robosteer_bringup" / "config" / "rigs" / "sim_panda.yaml"
NANO = PACKAGES / "robosteer_training" / "checkpoints" / "nano"
TASK = "pick up red cube"


class Drift:
    """A policy that only turns the base, faster than its actions may say."""

    def infer(self, raw_observation, noise=None):
        actions = np.zeros(noise.shape)
        actions[:, 0] = [0.25, 1.5, 0.25]
        return {"actions": actions}


@pytest.fixture(scope="module")
def cell():
    environment = make_environment("cell", load_rig(RIG))
    yield environment
    environment.close()


def made(successes, **changes):
    scenes = make_scenes([TASK], spread_cells(len(successes)), [0])
    trials = tuple(
        Trial(scene, bool(s), 4.0 + s, None if s else "dropped") for scene, s in zip(scenes, successes, strict=True)
    )
    return dataclasses.replace(
        Evaluation("policy", {"environment": "cell", "rig_digest": "r"}, {"digest": "d"}, trials, 1.5), **changes
    )


@given(st.integers(1, 5), st.integers(1, 8))
def test_a_coarser_grid_spreads_its_cells_over_all_of_it(rows, columns):
    cells = grid_cells(f"{rows}x{columns}")
    assert len(set(cells)) == rows * columns
    assert len({cell // 8 for cell in cells}) == rows
    assert len({cell % 8 for cell in cells}) == columns
    assert set(cells) <= set(range(GRID_CELLS))


def test_a_finished_result_is_not_overwritten_by_mistake(tmp_path):
    out = tmp_path / "green.json"
    out.write_text("hours of trials")
    with pytest.raises(RobosteerError, match="found a result at"):
        evaluate_main(["--policy", str(NANO), "--out", str(out)])
    assert out.read_text() == "hours of trials"


def test_a_task_that_the_environment_does_not_know_is_refused_before_anything_is_loaded(tmp_path, capsys):
    nothing = tmp_path / "no_checkpoint"
    for scenes in (make_scenes(["juggle"], [3], [0]), make_scenes(["pick up mug"], [3], [0], ["fog"])):
        with pytest.raises(RobosteerError, match=r"(task: found 'juggle'|variation: found 'fog'), expected one of"):
            evaluate(nothing, load_rig(RIG), scenes, out=tmp_path / "out.json")
    with pytest.raises(RobosteerError, match="environment: found 'kitchen', expected one of"):
        check_scenes("kitchen", [])
    with pytest.raises(RobosteerError, match=r"--out: found the directory .*, expected the name of a file"):
        evaluate_main(["--policy", str(nothing), "--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_no_scene_is_tried_that_a_recording_shows():
    recorded = range(10_000)  # a session counts its scenes' seeds from 0
    assert not {scene.seed for scene in make_scenes([TASK], range(GRID_CELLS), range(3))} & set(recorded)


def test_scenes_are_every_combination_and_reproducible():
    scenes = make_scenes([TASK, "pick up blue cube"], [3, 4], [0, 1], ["none", "dim"])
    assert len(set(scenes)) == 16
    assert scenes == make_scenes([TASK, "pick up blue cube"], [3, 4], [0, 1], ["none", "dim"])
    assert scenes[0] == Scene(TASK, 3, FIRST_SEED + 3, "")
    # The same placements under another variation.
    assert [(s.grid_cell, s.seed) for s in scenes if s.variation] == [
        (s.grid_cell, s.seed) for s in scenes if not s.variation
    ]
    for arguments in (([TASK], [40], [0]), ([TASK], [1], [0, 0]), ([], [1], [0]), ([TASK], [1], [-1])):
        with pytest.raises(RobosteerError, match="found"):
            make_scenes(*arguments)
    for grid in ("6x8", "5", "0x3", "5x8x1"):
        with pytest.raises(RobosteerError, match="--grid"):
            grid_cells(grid)
    with pytest.raises(RobosteerError, match="expected one of them"):
        Arguments(NANO, cells=3, grid="2x2").chosen_cells()
    assert Arguments(NANO).chosen_cells() == list(range(40))
    with pytest.raises(RobosteerError, match="--cells: found 0"):
        Arguments(NANO, cells=0).chosen_cells()


def test_a_trial_measures_motion_time_and_failure(cell, tmp_path):
    rig, frames = load_rig(RIG), []
    trial = run_trial(Drift(), cell, Scene(TASK, 19, 0), rig, (3, 8), Manner(3, 0.6), frames=frames)
    assert not trial.success
    assert trial.failure
    assert trial.duration_s == 0.6
    motion = trial.motion
    assert motion.steps == 9
    assert motion.clipped_steps == 3
    assert motion.overspeed_steps == 3  # 1.0 means 3 rad/s, the joint may do 2.175
    assert motion.peak_velocity == 3.0
    # Commands 0.75, 3, 0.75, 0.75, ... at 15 Hz: six changes of 2.25 rad/s among eight, on one joint of seven.
    steps = np.diff([0.75, 3, 0.75] * 3) * 15
    assert motion.rms_acceleration == pytest.approx(np.sqrt(np.square(steps).sum() / (8 * 7)))
    assert len(frames) == 10
    save_film(tmp_path / "film.gif", frames, rig)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 4
        assert film.height >= 128


def test_a_trial_draws_what_the_policy_sees_and_nothing_else(cell):
    """Drawing is most of a trial's time, and the policy looks once per executed chunk."""
    rig, seen = load_rig(RIG), []

    class Looking(Drift):
        def infer(self, raw_observation, noise=None):
            seen.append(raw_observation["observation/wrist_image_left"])
            return super().infer(raw_observation, noise)

    drawn, step = [], cell.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell, "step", lambda *a, look: drawn.append(look) or step(*a, look=look))
        unfilmed = run_trial(Looking(), cell, Scene(TASK, 19, 0), rig, (3, 8), Manner(3, 0.6))
    assert drawn == [False, False, True] * 3
    frames = []
    filmed = run_trial(Looking(), cell, Scene(TASK, 19, 0), rig, (3, 8), Manner(3, 0.6), frames=frames)
    assert unfilmed == filmed
    assert all(frame.images for frame in frames)
    np.testing.assert_array_equal(seen[:3], seen[3:])


def test_the_joints_ends_count(cell):
    rig = load_rig(RIG)
    frame = cell.reset(Scene(TASK, 0, 0))
    meter = MotionMeter(rig)
    for margin in (0.01, 0.2):
        position = np.array(frame.joint_position)
        position[3] = rig.arm.position_max[3] - margin
        meter.note(np.zeros(8), np.zeros(7), dataclasses.replace(frame, joint_position=position))
    assert meter.result().near_limit_steps == 1
    assert meter.result().rms_acceleration == 0


def test_noise_belongs_to_the_scene_not_to_the_policy():
    first, again = (flow_noise(Scene(TASK, 3, 7), 5, (10, 8)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, flow_noise(Scene(TASK, 3, 8), 5, (10, 8)))


def test_a_result_survives_its_file(tmp_path):
    result = made([1, 0, 1, 0, 0])
    result.save(tmp_path / "r.json")
    assert Evaluation.load(tmp_path / "r.json") == result
    told = json.loads((tmp_path / "r.json").read_text())
    assert (told["successes"], told["trials"], told["rate"]) == (2, 5, 0.4)
    assert told["failures"] == {"dropped": 3}
    assert told["time_to_success_s"]["median"] == 5.0
    assert "2/5 = 40 %" in result_text(result)
    ElementTree.fromstring(overview(result))  # noqa: S314 (our own)
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "empty.json").write_text(json.dumps(told | {"results": []}))
    for name, words in (
        ("bad.json", "found schema None"),
        ("empty.json", "found no trials"),
        ("none.json", "cannot read"),
    ):
        with pytest.raises(RobosteerError, match=words):
            Evaluation.load(tmp_path / name)


def test_a_journal_keeps_trials_and_refuses_those_of_something_else(tmp_path):
    out, trials = tmp_path / "r.json", made([1, 0]).trials
    Journal(out, {"digest": "other"}, resume=False)  # no trial finished: nothing that would be lost
    journal = Journal(out, {"digest": "d", "rig_digest": "r"}, resume=False)
    journal.add(trials[0], 2.0)
    with journal.path.open("a") as file:
        file.write('{"trial": {"sce')  # the machine lost its power here
    with pytest.raises(RobosteerError, match="give --resume"):
        Journal(out, {"digest": "d", "rig_digest": "r"}, resume=False)
    with pytest.raises(RobosteerError, match=r"--resume: digest: found d in .*expected e"):
        Journal(out, {"digest": "e", "rig_digest": "r"}, resume=True)
    again = Journal(out, {"digest": "d", "rig_digest": "r"}, resume=True)
    assert again.known == {trials[0].scene: trials[0]}
    again.add(trials[1], 1.0)
    third = Journal(out, {"digest": "d", "rig_digest": "r"}, resume=True)
    assert list(third.known.values()) == list(trials)
    assert third.seconds == 3.0
    third.close()
    made([1, 0]).save(out)
    assert len(Journal(out, {"digest": "d", "rig_digest": "r"}, resume=True).known) == 2


CARD = """
schema: robosteer.task/1
prompt: lift blue block
target: blue block
success: lifted
tolerances: {{height_m: {height}}}
"""


def test_trials_of_another_task_card_are_not_mixed_with_these(tmp_path, monkeypatch):
    """Cards of one instruction may ask for different things. What was kept before cards were told is the cell's own."""

    def give_card(height):
        (tmp_path / f"{height}.yaml").write_text(CARD.format(height=height))
        monkeypatch.setenv("ROBOSTEER_TASKS", str(tmp_path / f"{height}.yaml"))

    give_card(0.05)
    settings, rig, out = EvaluateSettings(manner=Manner(3, 0.1), num_steps=1), load_rig(RIG), tmp_path / "r.json"
    worker = Worker(Job(str(NANO), RIG.read_text(), "cell", settings.manner, settings.num_steps))
    own, shipped = worker.run(Scene("lift blue block", 3, 0)), worker.run(Scene(TASK, 3, 0))
    first = Evaluation("policy", *identity(NANO, rig, settings), (own, shipped))
    first.save(out)
    assert [len(trial.get("card", "")) for trial in json.loads(out.read_text())["results"]] == [64, 0]
    assert Evaluation.load(out) == first
    scenes = [own.scene, shipped.scene]
    assert evaluate(NANO, rig, scenes, settings, out=out, resume=True).trials == (own, shipped)
    assert evaluate(NANO, rig, scenes[1:], settings, out=out, resume=True).trials == (own, shipped)

    give_card(0.08)
    refused = "task card of 'lift blue block': found {} in .*r.json, expected [0-9a-f]{{12}}; give another --out"
    with pytest.raises(RobosteerError, match=refused.format(own.card[:12])):
        evaluate(NANO, rig, scenes, settings, out=out, resume=True)
    assert evaluate(NANO, rig, scenes[1:], settings, out=out, resume=True).trials == (own, shipped)
    before = dataclasses.replace(first, trials=(dataclasses.replace(own, card=None), shipped))
    before.save(out)
    with pytest.raises(RobosteerError, match=refused.format("none of the user's")):
        evaluate(NANO, rig, scenes, settings, out=out, resume=True)
    assert evaluate(NANO, rig, scenes[1:], settings, out=out, resume=True).trials == before.trials
    with pytest.raises(RobosteerError, match=f"compare: task card of 'lift blue block': found {own.card[:12]} in b"):
        compare({"a": before, "b": first})


def test_policies_are_compared_in_pairs(tmp_path, capsys):
    a, b = made([0] * 10), made([1] * 8 + [0] * 2)
    (difference,) = compare({"a": a, "b": b})
    assert (difference.gained, difference.lost, difference.difference) == (8, 0, 0.8)
    assert difference.p == pytest.approx(2 * 0.5**8)
    assert difference.interval_95[0] < 0.8 < difference.interval_95[1]
    for name, result in {"a": a, "b": b}.items():
        result.save(tmp_path / f"{name}.json")
    out = tmp_path / "c.json"
    assert compare_main([str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--out", str(out)]) == 0
    assert "+80.0 points" in capsys.readouterr().out
    assert json.loads(out.read_text())["differences"][0]["gained"] == 8
    with pytest.raises(RobosteerError, match="--samples: found 0, expected at least 1"):
        compare_main([str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--samples", "0"])
    three = compare({"a": a, "b": b, "c": b})
    assert three[0].p_holm == pytest.approx(2 * three[0].p)


def test_one_placement_under_two_variations_is_no_second_placement():
    def under(successes, variations):
        scenes = make_scenes([TASK], spread_cells(len(successes)), [0], variations)
        return made(successes, trials=tuple(Trial(s, bool(successes[i % 10]), 4.0) for i, s in enumerate(scenes)))

    a, b = [0] * 10, [1, 0] * 5
    (once,) = compare({"a": under(a, [""]), "b": under(b, [""])})
    (twice,) = compare({"a": under(a, ["", "dim"]), "b": under(b, ["", "dim"])})
    assert twice.trials == 2 * once.trials
    assert twice.interval_95 == once.interval_95


@pytest.mark.parametrize(
    ("field", "value"), [("task", "pick up blue cube"), ("grid_cell", 7), ("seed", 99), ("variation", "dim")]
)
def test_a_comparison_of_other_scenes_names_the_field(field, value):
    a = made([1, 0, 1])
    changed = dataclasses.replace(a.trials[1], scene=dataclasses.replace(a.trials[1].scene, **{field: value}))
    b = dataclasses.replace(a, trials=(a.trials[0], changed, a.trials[2]))
    with pytest.raises(RobosteerError, match=f"compare: {field} of trial 1: found {value!r}"):
        compare({"a": a, "b": b})
    with pytest.raises(RobosteerError, match="rig_digest: found other"):
        compare({"a": a, "b": dataclasses.replace(a, conditions={"environment": "cell", "rig_digest": "other"})})
    with pytest.raises(RobosteerError, match="found 2 trials"):
        compare({"a": a, "b": made([1, 0])})
