"""Conversions of many recordings: what is done again, what is left out, what an interruption leaves.

Regressions pinned: one damaged episode stops the others; an episode is converted twice, or not again after its label or
the settings changed; a copied recording that is in the dataset twice, so that its frames find themselves among "other"
episodes; Ctrl-C leaves half an episode behind; another number of processes gives another dataset.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_training.commands import convert as command
from robosteer_training.convert import ConversionError, Summary, convert_bags
from robosteer_training.convert_episode import ConvertSettings
from robosteer_training.dataset import load_dataset

from .synthetic_bag import (
    Script,
    bench_rig,
    messages,
    write_bag,
    write_episode,
)

RIG = bench_rig()


def test_nothing_is_converted_twice_and_everything_that_changed_again(tmp_path):
    path = write_episode(tmp_path / "demos" / "000000", RIG)

    def run(**options):
        summary = Summary()
        data = convert_bags(tmp_path / "demos", tmp_path / "out", summary=summary, **options)
        return summary.converted, summary.reused, data

    assert run()[:2] == (1, 0)
    assert run()[:2] == (0, 1)
    assert run(settings=ConvertSettings(rate_hz=10.0))[:2] == (1, 0)
    larger = dataclasses.replace(RIG.cameras["left"], output_size=20)
    bigger = dataclasses.replace(RIG, cameras={**RIG.cameras, "left": larger})
    converted, _, data = run(rig=bigger)
    assert converted == 1
    assert data.images["left"].shape[1:] == (20, 20, 3)
    label = json.loads((path / "episode.json").read_text())
    (path / "episode.json").write_text(json.dumps({**label, "instruction": "pick up green cube"}))
    converted, _, data = run()
    assert (converted, data.prompts) == (1, ("pick up green cube",))
    whole = tmp_path / "out" / "episodes" / data.episodes[0].key
    (whole / "images_left.npy").write_bytes(b"")
    assert run()[:2] == (1, 0)  # a damaged entry is replaced
    shutil.move(tmp_path / "demos", tmp_path / "moved")
    summary = Summary()
    convert_bags(tmp_path / "moved", tmp_path / "out", summary=summary)
    assert summary.reused == 1


def test_a_copied_recording_is_refused_every_time(tmp_path):
    shutil.copytree(write_episode(tmp_path / "demos" / "000000", RIG), tmp_path / "demos" / "000001")
    for _ in range(2):  # the second time the episode is in the store already
        with pytest.raises(ConversionError, match="000001: found a copy of another episode"):
            convert_bags(tmp_path / "demos", tmp_path / "out")
    data = convert_bags(tmp_path / "demos", tmp_path / "out", skip_bad=True)
    assert len(data.episodes) == 1


def test_damaged_episodes_are_named_and_the_others_converted(tmp_path):
    for i in range(3):
        write_episode(tmp_path / "demos" / f"{i:06d}", RIG, Script(seed=i))
    bad = tmp_path / "demos" / "000001" / "000001.mcap"
    bad.write_bytes(bad.read_bytes()[:-2000])
    (tmp_path / "demos" / "000003").mkdir()
    (tmp_path / "demos" / "000003" / "000003.mcap").touch()
    with pytest.raises(ConversionError) as caught:
        convert_bags(tmp_path / "demos", tmp_path / "out")
    assert "found 2 damaged episodes" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [Path(line.split(":")[0]).name for line in caught.value.failures] == ["000003", "000001"]
    assert not (tmp_path / "out" / "dataset.json").exists()
    summary = Summary()
    data = convert_bags(tmp_path / "demos", tmp_path / "out", skip_bad=True, summary=summary)
    assert (summary.reused, summary.converted, len(summary.failures)) == (2, 0, 2)
    assert [Path(e.source).name for e in data.episodes] == ["000000", "000002"]


def test_outcomes_choose_episodes(tmp_path):
    for i, outcome in enumerate(("success", "failure", "recovered")):
        write_episode(tmp_path / f"{i:06d}", RIG, Script(seed=i), outcome=outcome)
    summary = Summary()
    assert len(convert_bags(tmp_path, tmp_path / "out", summary=summary).episodes) == 1
    assert summary.skipped == 2
    both = convert_bags(tmp_path, tmp_path / "out", outcomes=("success", "failure"))
    assert [e.outcome for e in both.episodes] == ["success", "failure"]
    with pytest.raises(RobosteerError, match="found 3 episodes and none to convert"):
        convert_bags(tmp_path, tmp_path / "out", outcomes=("discarded",))


def test_processes_give_the_same_dataset(tmp_path):
    for i in range(3):
        write_episode(tmp_path / "demos" / f"{i:06d}", RIG, Script(seed=i))
    write_bag(tmp_path / "demos" / "000003", messages(RIG, Script()))
    one = convert_bags(tmp_path / "demos", tmp_path / "one", skip_bad=True)
    summary = Summary()
    two = convert_bags(tmp_path / "demos", tmp_path / "two", jobs=2, skip_bad=True, summary=summary)
    assert two.digest() == one.digest()
    assert np.array_equal(np.asarray(two.images["left"]), np.asarray(one.images["left"]))
    assert "found no instruction" in summary.failures[0]


def test_command_reports_and_raises(tmp_path, capsys):
    write_episode(tmp_path / "demos" / "000000", RIG)
    arguments = ["--bag", str(tmp_path / "demos"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert command.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["episodes"] == report["converted"] == 1
    assert report["frames"] == len(load_dataset(tmp_path / "out"))
    assert command.main(arguments) == 0
    assert "1 episodes" in capsys.readouterr().out
    write_bag(tmp_path / "demos" / "000001", messages(RIG, Script()))
    with pytest.raises(RobosteerError, match="found 1 damaged episodes"):
        command.main(arguments)
    assert "damaged: " in capsys.readouterr().err
    with pytest.raises(RobosteerError, match="--rate-hz: found -1"):
        command.main([*arguments, "--rate-hz", "-1"])


INTERRUPTED = """
import sys
from robosteer_training.convert import convert_bags
if __name__ == "__main__":
    try:
        convert_bags(sys.argv[1], sys.argv[2], jobs=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_interruption_leaves_only_whole_episodes(tmp_path):
    for i in range(3):
        write_episode(tmp_path / "demos" / f"{i:06d}", RIG, Script(seconds=4.0, stop_s=3.5, seed=i))
    (tmp_path / "run.py").write_text(INTERRUPTED)
    arguments = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "demos"), str(tmp_path / "out")]
    process = subprocess.Popen(arguments, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("episodes/*.partial")) and process.poll() is None:
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in (130, 0)
    left = [p.name for p in (tmp_path / "out").glob("episodes/*")]
    assert not [name for name in left if name.endswith(".partial")]
    assert (process.returncode == 0) == (tmp_path / "out" / "dataset.json").exists()
    summary = Summary()
    convert_bags(tmp_path / "demos", tmp_path / "out", summary=summary)
    assert (summary.reused, summary.converted) == (len(left), 3 - len(left))
