"""`robosteer finetune` as it is typed: several processes, Ctrl-C, several tasks, what the user can get wrong.

Regressions pinned: a flag of the command line that never reaches the training; two processes that train something
else than one; Ctrl-C or SIGTERM that loses a step, Ctrl-C that is a failure, one process that stops without the others;
a resumed run that differs in a bit; heads that learn from another task because of the order of two files; a traceback
for what the user can mend; a full disk that takes the training with it.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from robosteer_bringup.cli import main as robosteer
from robosteer_model.checkpoint import load_checkpoint, save_checkpoint
from robosteer_model.params import flatten
from robosteer_training.heads.selection import HeadSelection

from .conftest import TASKS, read_json

QUERIES = "PaliGemma/llm/layers/attn/q_einsum/w"


@pytest.fixture(scope="module")
def place(two_tasks, base, tmp_path_factory):
    """A base and, per task of the data, a selection of heads."""
    root = tmp_path_factory.mktemp("cli")
    save_checkpoint(root / "base", base)
    told = ["--dataset", two_tasks.path, "--base", root / "base"]
    assert run("heads", "cache", *told, "--out", root / "cache") == 0
    chosen = ["--cache", root / "cache", "--out", root / "heads.json", "--k", 3, "--m", 2, "--exclude-dead-heads"]
    assert run("heads", "select", *chosen, "--per-task", "--disjoint") == 0
    return root


def run(*arguments):
    return robosteer([str(a) for a in arguments])


def options(place, two_tasks, out, **changes):
    """Words of `robosteer finetune` for a short run."""
    values = {
        "dataset": two_tasks.path,
        "base": place / "base",
        "out": out,
        "heads": files(place)[0],
        "recipe": "q-only",
        "steps": 4,
        "batch_size": 4,
        "peak_lr": 5e-3,
        "holdout": 0.3,
        "action_frames": 0,
        "eval_every": 0,
    }
    return [w for name, value in (values | changes).items() for w in (f"--{name.replace('_', '-')}", str(value))]


def files(place):
    """The selections, in the order of the data's tasks."""
    return [place / f"heads.{task.replace(' ', '-')}.json" for task in TASKS]


def start(*arguments, **environment):
    command = [sys.executable, "-m", "robosteer_bringup.cli", *map(str, arguments)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | environment
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_both(*words, **environment):
    """Two processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["finetune", *words, "--coordinator", address, "--processes", 2]
    return [start(*words, "--process-id", i, **environment) for i in range(2)]


def wait_for_step_3(process):
    """Nobody reads on after the third step: the pipe fills, and the run cannot be over before a signal is there."""
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
    while not process.stderr.buffer.raw.readline().startswith(b"  step 3:"):
        assert process.poll() is None


def history(out):
    with np.load(out / "train" / "state.npz", allow_pickle=False) as file:
        return json.loads(bytes(file["meta"]))["history"]


def moved_heads(base, checkpoint):
    """Heads whose queries differ between two checkpoints."""
    one, two = (np.asarray(flatten(load_checkpoint(path).params)[QUERIES]) for path in (base, checkpoint))
    return {(int(layer), int(head)) for layer, head in np.argwhere((one != two).any(axis=(2, 3)))}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_on_the_command_line_train_as_one(place, two_tasks, tmp_path):
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    alone = start("finetune", *options(place, two_tasks, tmp_path / "one", action_frames=4), "--json", **flags)
    errors = alone.communicate(timeout=600)[1]
    assert alone.returncode == 0, errors

    def both():
        words = options(place, two_tasks, tmp_path / "two", action_frames=4)
        running = start_both(*words, "--json", **flags)
        said = [process.communicate(timeout=600) for process in running]
        return [process.returncode for process in running], said

    codes, said = both()
    assert codes == [0, 0], said
    told = json.loads(said[0][0])
    assert told["plan"]["devices"] == 2
    assert said[1][0] == ""
    want, found = history(tmp_path / "one"), history(tmp_path / "two")
    for name in ("loss", "grad_norm", "heldout", "action_error"):
        assert len(want[name])
        np.testing.assert_allclose(found[name], want[name], rtol=1e-4)
    one, two = (flatten(load_checkpoint(tmp_path / n / "checkpoint").params)[QUERIES] for n in ("one", "two"))
    np.testing.assert_allclose(two, one, atol=1e-4)

    # Now there are results: process 0 refuses, and the other one does not wait for it for ever.
    codes, said = both()
    assert codes == [1, 1], said
    assert "expected a free name" in said[0][1]
    assert "found number 0 giving up" in said[1][1]
    assert not any("Traceback" in errors for _, errors in said)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_saves_and_resume_continues_bit_for_bit(place, two_tasks, tmp_path):
    def words(name):
        # A held-out measurement, and so a line, after every step.
        changes = {"steps": 60, "eval_every": 1, "recipe": "steering", "batch_size": 56}
        return ["finetune", *options(place, two_tasks, tmp_path / name, **changes)]

    assert run(*words("undisturbed")) == 0
    stopped = start(*words("stopped"))
    wait_for_step_3(stopped)
    stopped.send_signal(signal.SIGINT)
    out, errors = stopped.communicate(timeout=300)
    assert stopped.returncode == 0, errors
    assert out == ""
    assert "of 60; everything is saved, go on with --resume" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "stopped").exists()
    reached = history(tmp_path / "stopped.partial")["loss"]
    assert 3 <= len(reached) < 60

    assert run(*words("stopped"), "--resume") == 0
    one, two = (history(tmp_path / name) for name in ("undisturbed", "stopped"))
    assert one["loss"][: len(reached)] == reached
    for name in ("loss", "grad_norm", "heldout"):
        assert one[name] == two[name]
    digests = [read_json(tmp_path / name / "steer.json")["checkpoint"]["digest"] for name in ("undisturbed", "stopped")]
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigterm_saves_like_ctrl_c_and_one_process_stops_all(place, two_tasks, tmp_path):
    """As when a cluster takes a machine away. `timeout` sends it twice."""
    often, flags = {"steps": 200, "eval_every": 1}, {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    alone = start("finetune", *options(place, two_tasks, tmp_path / "alone", **often), **flags)
    wait_for_step_3(alone)
    alone.send_signal(signal.SIGTERM)
    alone.send_signal(signal.SIGTERM)
    check_stopped(alone, tmp_path / "alone")

    first, second = start_both(*options(place, two_tasks, tmp_path / "both", **often), **flags)
    wait_for_step_3(first)
    second.send_signal(signal.SIGTERM)
    reached = check_stopped(first, tmp_path / "both")
    assert check_stopped(second, tmp_path / "both") == reached


def check_stopped(process, out):
    """That SIGTERM ended a run of 200 steps in order; its last step."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    told = re.search(
        r"^finetune: stopped at step (\d+) of 200; everything is saved, go on with --resume$", errors, re.M
    )
    assert told, errors
    assert "Traceback" not in errors
    assert len(history(out.with_name(f"{out.name}.partial"))["loss"]) == int(told[1])
    assert not out.exists()
    return int(told[1])


def test_heads_of_each_task_learn_from_their_task_alone(place, two_tasks, tmp_path, capsys):
    """One step is one task's, and the files may come in any order."""
    first, second = (set(HeadSelection.load(path).heads) for path in files(place))
    assert not first & second
    given = ["--heads", *reversed(files(place)), "--disjoint", "--log", "tensorboard", "--json"]
    assert run("finetune", *options(place, two_tasks, tmp_path / "out", steps=1), *given) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"]["heads"] == 4
    assert moved_heads(place / "base", told["checkpoint"]["path"]) == first
    owners = load_checkpoint(told["checkpoint"]["path"]).provenance["owners"]
    assert owners == [0 if head in first else 1 for head in sorted(first | second)]
    assert 0 <= told["data_wait_share"] < 1
    assert list((tmp_path / "out" / "train" / "curves").iterdir())


def test_steering_on_two_tasks_at_once(place, two_tasks, tmp_path, capsys):
    """Heads chosen on both tasks together, batches with equal shares."""
    words = ["--dataset", two_tasks.path, "--base", place / "base", "--out", tmp_path / "out", "--k", 3, "--m", 3]
    words += ["--recipe", "q-only", "--steps", 2, "--batch-size", 4, "--peak-lr", 5e-3, "--balance-tasks"]
    assert run("steer", *words, "--action-frames", 0, "--exclude-dead-heads") == 0
    said = capsys.readouterr().out
    assert "waiting for data" in said
    assert all(task in said for task in TASKS)
    told = read_json(tmp_path / "out" / "steer.json")
    assert told["training"]["balance_tasks"] is True
    assert moved_heads(place / "base", told["checkpoint"]["path"]) == {tuple(h) for h in told["heads"]["chosen"]}


def test_what_does_not_belong_together_is_one_line_and_exit_code_1(place, two_tasks, base, tmp_path, capsys):
    def refused(expected, **changes):
        capsys.readouterr()
        assert run("finetune", *options(place, two_tasks, tmp_path / "out", **changes)) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("robosteer finetune: ")
        assert expected in lines[-1]
        assert not any("Traceback" in line for line in lines)
        assert not (tmp_path / "out").exists()

    def changed(name, **changes):
        return save_checkpoint(tmp_path / name, dataclasses.replace(base, **changes))

    bare = changed("bare")
    shutil.rmtree(bare / "assets")
    refused("expected assets/<id>/norm_stats.json", base=bare)
    stats = base.norm_stats["state"]
    few = dataclasses.replace(stats, mean=stats.mean[:6], std=stats.std[:6], q01=stats.q01[:6], q99=stats.q99[:6])
    refused("found 6 dimensions, expected at least 8", base=changed("few", norm_stats={"state": few, "actions": few}))
    tight = dataclasses.replace(stats, q01=stats.q01 * 1e-4, q99=stats.q99 * 1e-4)
    refused("made for another robot", base=changed("tight", norm_stats={"state": stats, "actions": tight}))
    unit = {"convention": "normalised_joint_velocity", "unit_rad_per_s": 1.0}
    refused("unit_rad_per_s: found 3.0, expected 1.0", base=changed("unit", action_convention=unit))
    slower = two_tasks.rig.to_yaml().replace("unit_rad_per_s: 3", "unit_rad_per_s: 1")
    refused("as in the base checkpoint; convert the data", base=changed("rig", rig=slower))
    told = read_json(files(place)[0])
    told["provenance"]["checkpoint_digest"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(told))
    refused("select the heads on this checkpoint", heads=tmp_path / "other.json")
    refused("expected one of steering", recipe="no-such")
    refused("found nothing at", dataset=tmp_path / "nowhere")


def test_a_full_disk_at_the_export_loses_no_training(place, two_tasks, tmp_path, capsys):
    words = ["finetune", *options(place, two_tasks, tmp_path / "out"), "--no-vision-cache"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        assert run(*words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert "free some space" in lines[-1]
    assert not (tmp_path / "out").exists()
    assert run(*words, "--resume", "--json") == 0
    assert "finetune" in json.loads(capsys.readouterr().out)["reused"]
