"""Pins: an operator who can tell the policies apart by their order or their names, labels lost between sessions or
joined to another plan, a success after the time limit, a sheet that is not true to scale, and real results that cannot
be compared as simulated ones are.
"""

import itertools
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_rig.errors import RobosteerError
from robosteer_training.commands.evaluate_guide import main
from robosteer_training.evaluation.guided.labels import Labels, judge, label_trials
from robosteer_training.evaluation.guided.plan import PLAN_FILE, TrialPlan, make_plan, read_key, save_plan
from robosteer_training.evaluation.guided.report import evaluations
from robosteer_training.evaluation.guided.sheet import PAPERS_MM, sheet_pages
from robosteer_training.evaluation.result import Evaluation
from robosteer_training.evaluation.scenes import spread_cells

RIG = Path(__file__).parents[2] / "robosteer_bringup" / "config" / "rigs" / "sim_panda.yaml"
TASK = "pick up red cube"


def planned(policies=("lora", "steered"), cells=4, seed=0, rounds=1):
    return make_plan(TASK, policies, spread_cells(cells), range(rounds), seed=seed, time_limit_s=30.0, rig_digest="r")


@given(st.integers(1, 4), st.integers(1, 20), st.integers(0, 1000))
def test_every_policy_is_tried_on_every_placement_and_comes_first_equally_often(policies, cells, seed):
    plan, key = planned([f"policy {i}" for i in range(policies)], cells, seed)
    places = [list(group) for _, group in itertools.groupby(plan.trials, lambda t: t.place)]
    assert len(places) == cells
    for group in places:
        assert {t.code for t in group} == set(key)
        assert len({(t.scene, t.yaw_deg) for t in group}) == 1
    first = Counter(group[0].code for group in places)
    assert max(first.values()) - min(first[code] for code in key) <= 1
    assert planned([f"policy {i}" for i in range(policies)], cells, seed) == (plan, key)


def test_the_order_of_the_policies_does_not_tell_their_codes(tmp_path):
    assert {planned(seed=seed)[1]["P1"] for seed in range(8)} == {"lora", "steered"}
    for name in ("lora", "steered"):
        (tmp_path / name).mkdir()
    plan, key = planned([str(tmp_path / "lora"), str(tmp_path / "steered")])
    save_plan(tmp_path / "plan", plan, key)
    assert (tmp_path / "plan" / "P1").resolve() == Path(key["P1"]).resolve()
    assert "lora" not in (tmp_path / "plan" / PLAN_FILE).read_text()
    assert TrialPlan.load(tmp_path / "plan") == plan
    with pytest.raises(RobosteerError, match="found a plan"):
        save_plan(tmp_path / "plan", plan, key)


def test_labels_go_on_where_they_were_and_can_be_undone(tmp_path):
    plan, key = planned()
    clock, said = itertools.count(step=4), []

    def session(typed):
        labels = Labels(tmp_path, plan)
        label_trials(plan, labels, iter(typed), said.append, lambda: next(clock))
        return [(label.success, label.failure) for label in labels]

    assert session("s") == []  # no clock was started
    assert said[-2] == "press [space] first, when the policy starts"
    assert session(" s 3q") == [(True, None), (False, "dropped")]
    with Labels(tmp_path, plan).path.open("a") as file:
        file.write('{"trial": 2, "succ')  # the machine lost its power here
    assert session("uu s") == [(True, None)]
    assert session(" s 1 s 7 s s s") == [
        *((True, None), (True, None), (False, "never_approached"), (True, None)),
        *((False, "timed_out"), (True, None), (True, None), (True, None)),
    ]
    assert said[-1].startswith("all 8 trials are labelled")
    results = evaluations(plan, Labels(tmp_path, plan), key)
    assert sum(result.successes for result in results.values()) == 6
    assert [t.scene for t in results["lora"].trials] == [t.scene for t in results["steered"].trials]
    assert all(t.duration_s == 4 for result in results.values() for t in result.trials)
    with pytest.raises(RobosteerError, match="labels of another plan"):
        Labels(tmp_path, planned(seed=1)[0])
    path = Labels(tmp_path, plan).path
    header = path.read_text().splitlines()[0]
    for line in ('{"undo": 0}', '{"trial": 0}', '{"trial": 5, "success": true, "duration_s": 1}', "7"):
        path.write_text(f"{header}\n{line}\n")
        with pytest.raises(RobosteerError, match=r"labels\.jsonl: found a damaged label .* expected that of trial 0"):
            Labels(tmp_path, plan)


def test_a_success_after_the_time_limit_is_none():
    assert judge(0, "s", 29.9, 30).success
    late = judge(0, "s", 30.1, 30)
    assert (late.success, late.failure, late.duration_s) == (False, "timed_out", 30)


def test_the_key_stays_closed_until_the_end(tmp_path):
    plan, key = planned()
    labels = Labels(tmp_path, plan)
    label_trials(plan, labels, iter(" s s s"), lambda _: None, lambda: 0.0)
    with pytest.raises(RobosteerError, match="found 3 of 8 trials"):
        evaluations(plan, labels, key)
    assert [len(result.trials) for result in evaluations(plan, labels, key, early=True).values()] == [1, 1]


@pytest.mark.parametrize(("paper", "count"), [("a4", 4), ("a3", 4), ("a2", 1)])
def test_the_sheet_is_true_to_scale(paper, count):
    pages = sheet_pages(planned(cells=40)[0], paper)
    assert len(pages) == count
    covered = 0.0
    for page in pages:
        (axes,) = page.axes
        assert page.get_size_inches() * 25.4 == pytest.approx(PAPERS_MM[paper])
        (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (100, 100)])
        assert ((x1 - x0) / page.dpi * 25.4, (y1 - y0) / page.dpi * 25.4) == pytest.approx((100, 100))
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        covered += (right - left) * (top - bottom)
    assert covered == pytest.approx(500 * 280)


def test_from_plan_to_comparison_at_a_real_terminal(tmp_path, capsys):
    out = tmp_path / "plan"
    command = ["plan", "--out", out, "--policies", "lora", "steered", "--task", TASK, "--rig", RIG, "--cells", "2"]
    with pytest.raises(RobosteerError, match="found nothing at runs/nope"):
        main([str(word).replace("steered", "runs/nope") for word in command])
    assert main([str(word) for word in command]) == 0
    sheet = (out / "sheet.pdf").read_bytes()
    boxes = [[float(x) for x in box.split()] for box in re.findall(rb"/MediaBox \[ ([\d. ]+)\]", sheet)]
    assert boxes == [pytest.approx([0, 0, 297 / 25.4 * 72, 210 / 25.4 * 72], abs=0.01)] * 4

    ours, theirs = pty.openpty()
    code = "import sys; from robosteer_training.commands.evaluate_guide import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", "--plan", str(out)], stdin=theirs, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("trial 1 of 4"):
        pass
    os.write(ours, b" s s 2 s")  # no line break: single keys arrive
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "all 4 trials are labelled" in told

    capsys.readouterr()
    assert main(["report", "--plan", str(out)]) == 0
    assert "McNemar exact p" in capsys.readouterr().out
    results = {code: Evaluation.load(out / f"result_{code}.json") for code in read_key(out)}
    assert sum(result.successes for result in results.values()) == 3
    assert {result.checkpoint for result in results.values()} == {"lora", "steered"}
