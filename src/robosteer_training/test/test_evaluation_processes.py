"""Pins: an outcome that depends on the number of workers or on where they run, a resumed evaluation that tries scenes
twice, Ctrl-C or SIGTERM that loses trials or leaves a worker behind, and a worker whose refusal ends as a traceback.
"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import load_rig
from robosteer_training.evaluation.evaluate import EvaluateSettings, evaluate
from robosteer_training.evaluation.result import trial_to_json
from robosteer_training.evaluation.rollout import Manner
from robosteer_training.evaluation.scenes import make_scenes, spread_cells
from robosteer_training.evaluation.workers import Job, run_in_processes

PACKAGES = Path(__file__).parents[2]
RIG = PACKAGES / "robosteer_bringup" / "config" / "rigs" / "sim_panda.yaml"
NANO = PACKAGES / "robosteer_training" / "checkpoints" / "nano"
TASK = "pick up red cube"


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_a_worker_refuses_at_its_start_is_told_as_it_is(tmp_path):
    policy = shutil.copytree(NANO, tmp_path / "policy")
    (policy / "assets" / "cell" / "norm_stats.json").unlink()
    job = Job(str(policy), RIG.read_text(), "cell", Manner(3, 0.4))
    with pytest.raises(RobosteerError, match="norm_stats: found none, expected state and actions"):
        list(run_in_processes(job, [Scene(TASK, 3, 0)], jobs=1))


def stopped_by(number, out, *words):
    """Exit code and last words of an evaluation of six cells whose processes all get a signal after the first trial."""
    command = [sys.executable, "-m", "robosteer_bringup.cli", "evaluate", "--policy", str(NANO), "--out", str(out)]
    command += ["--cells", "6", "--execute-steps", "3", "--num-steps", "2", "--time-limit-s", "0.6", "--jobs", "2"]
    journal = out.with_name(f"{out.name}.trials.jsonl")
    process = subprocess.Popen(
        [*command, *words],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not (journal.exists() and journal.read_text().count("\n") > 1):
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=120)
    while group_lives(process.pid):  # else the test's timeout says that a worker is left
        time.sleep(0.02)
    if process.returncode != 0:  # else it was too fast for us, and finished
        assert process.returncode == 128 + number, told
        assert "go on with --resume" in told
        assert "Traceback" not in told
        assert not out.exists()
    return [json.loads(line)["trial"] for line in journal.read_text().splitlines()[1:]] if journal.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sigterm_to_all_processes_keeps_the_trials(tmp_path):
    """As when a cluster takes a machine away: no worker's end is taken for a fault."""
    assert stopped_by(signal.SIGTERM, tmp_path / "r.json") or (tmp_path / "r.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_interrupted_and_resumed_gives_the_same_trials_for_any_number_of_workers(tmp_path):
    out, films = tmp_path / "r.json", tmp_path / "films"
    journal = out.with_name("r.json.trials.jsonl")
    kept = stopped_by(signal.SIGINT, out, "--films", str(films))
    assert kept or out.exists()

    settings = EvaluateSettings(manner=Manner(3, 0.6), num_steps=2, jobs=1, films=films)
    scenes = make_scenes([TASK], spread_cells(6), [0])
    resumed = evaluate(NANO, load_rig(RIG), scenes, settings, out=out, resume=True)
    told = [trial_to_json(t) for t in resumed.trials]
    assert [t for t in told if t in kept] == sorted(kept, key=lambda t: t["scene"]["grid_cell"])
    anew = evaluate(NANO, load_rig(RIG), scenes, dataclasses.replace(settings, jobs=2))
    assert anew.trials == resumed.trials
    assert len({t.motion for t in anew.trials}) > 1
    assert {Path(t.film) for t in anew.trials if not t.success} == set(films.glob("*.gif"))
    assert not journal.exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_ray_cluster_gives_the_same_trials(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    scenes = make_scenes([TASK], [3, 20, 33], [0])
    settings = EvaluateSettings(manner=Manner(3, 0.4), num_steps=2, jobs=2)
    here = evaluate(NANO, load_rig(RIG), scenes, settings)
    there = evaluate(NANO, load_rig(RIG), scenes, dataclasses.replace(settings, executor="ray"))
    assert there.trials == here.trials
    with pytest.raises(RobosteerError, match="task: found 'fly'"):
        evaluate(NANO, load_rig(RIG), [Scene("fly", 0, 0)], dataclasses.replace(settings, executor="ray"))


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = EvaluateSettings(executor="ray", manner=Manner(3, 0.4))
    with pytest.raises(RobosteerError, match="--extra ray"):
        evaluate(NANO, load_rig(RIG), make_scenes([TASK], [3], [0]), settings)
