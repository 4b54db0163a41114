"""Pins: a number of the paper that no line of ours stands beside, a table that is made anew every time, a long run that
shows nothing until its end, demonstrations on the placements of the evaluation, pages without what differs, p-values
of a dozen lines as if each were the only one, and trials that are lost with the place where a policy lay, or taken for
those of another policy that lies there now, made twice by two tables at once, or
made again by another release.
"""

import dataclasses
import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console

from robosteer_model.checkpoint import save_checkpoint
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import load_rig
from robosteer_training.commands.paper import Arguments, main
from robosteer_training.dataset import load_dataset
from robosteer_training.evaluation.result import Evaluation
from robosteer_training.evaluation.rollout import Trial
from robosteer_training.evaluation.scenes import make_scenes
from robosteer_training.finetune.recipes import RECIPES
from robosteer_training.nano.config import nano_config
from robosteer_training.paper import numbers, store, tables
from robosteer_training.paper.lab import Lab
from robosteer_training.paper.result import Cell, Result
from robosteer_training.paper.run import EXPERIMENTS, run
from robosteer_training.paper.success import Line, Table, differences, only, tried
from robosteer_training.report.success_figure import Rate, success_figure
from robosteer_training.scripted_dataset import demonstration_scene, make_dataset

RIG = Path(__file__).parents[2] / "robosteer_bringup" / "config" / "rigs" / "sim_panda.yaml"
TASKS = ("pick up green cube", "pick up red cube", "pick up blue cube")


@pytest.fixture(scope="module")
def arguments(base, tmp_path_factory):
    place = tmp_path_factory.mktemp("paper")
    save_checkpoint(place / "base", base)
    return Arguments(
        ("table7",), place / "base", RIG, place / "work", place / "out", TASKS, execute_steps=4, quick=True, jobs=1
    )


@pytest.fixture(scope="module")
def lab(arguments):
    return Lab(arguments.settings())


def test_every_number_of_the_paper_stands_in_a_line(arguments):
    whole = dataclasses.replace(arguments.settings(), tasks=numbers.TASKS)
    made = {name: told.table(Lab(whole)) for name, told in EXPERIMENTS.items() if told.table is not None}
    papers = {
        name: {(line.name, column): value for line in table.lines for column, value in line.paper.items()}
        for name, table in made.items()
    }
    assert len(papers["table1"]) == 15
    assert papers["table1"]["steering", "place green cube in red bowl"] == 80
    assert len(papers["table2"]) == 30
    assert papers["table2"]["LoRA, two tasks", "lighting"] == 15
    assert sorted(papers["table3"].values()) == sorted(numbers.TABLE3.values())
    assert len(papers["table5"]) == 6
    assert sorted(papers["fig3"].values()) == [62.5, 72.5]
    # 20 and 144 heads of the paper's model are 2 and 12 of this one.
    assert papers["fig5"]["2 heads", numbers.TASKS[0]] == 72.5
    assert papers["fig5"]["all 12 heads", numbers.TASKS[0]] == 45
    assert len(papers["fig5"]) == 4
    for table in made.values():
        assert table.reference in [line.name for line in table.lines]
        for line in table.lines:
            assert set(line.paper) <= set(table.columns)
    # Another task gets no number of the paper's.
    other = tables.figure3(Lab(arguments.settings()))
    assert not any(set(line.paper) & set(other.columns) for line in other.lines)


def test_experiments_on_one_task_take_all_of_them_on_demand(arguments):
    for every in (False, True):
        settings = dataclasses.replace(arguments.settings(), tasks=numbers.TASKS, every_task=every)
        for name in ("table3", "fig3", "fig5"):
            table = EXPERIMENTS[name].table(Lab(settings))
            assert tuple(table.columns) == (numbers.TASKS if every else numbers.TASKS[:1])
            assert {column for line in table.lines for column in line.paper} == {numbers.TASKS[0]}


def test_chosen_lines_keep_the_one_that_they_are_compared_with(arguments):
    table = tables.table3(Lab(arguments.settings()))
    assert only(table, ()) is table
    lines = [line.name for line in only(table, ("q*", "steering, worst")).lines]
    assert lines == ["steering, knn", "steering, worst", "q-only", "q+mlp"]
    with pytest.raises(RobosteerError, match=r"--lines: found 'Q\*', expected a pattern of some of \['zero-shot'"):
        only(table, ("steering*", "Q*"))


def test_things_that_a_long_run_has_made_are_found_again(tmp_path, monkeypatch):
    """The names were made by an earlier release; another one would begin again what took hours."""
    lab = Lab(Arguments(("table1",), Path("base"), RIG, tmp_path).settings())
    monkeypatch.setattr(store, "_made", lambda record: {"seconds": 0.0, "whole": True})
    monkeypatch.setattr(lab, "source", lambda tasks, demos: SimpleNamespace(key="source"))
    rig, base = SimpleNamespace(digest=lambda: "rig"), SimpleNamespace(config=nano_config())
    vars(lab).update(rig=rig, base=base, base_digest="base")
    task, policy = "pick up red cube", Path("policy")
    lab._identities[policy] = ({"environment": "cell"}, {"digest": "policy"})
    selection = lab.selection("knn", [task], 20)
    assert [
        lab.dataset([task], 20).name,
        selection.name,
        lab.policy("steering", [task], 20, [selection]).parent.name,
        lab.policy("lora", [task], 20, steps=80).parent.name,
        lab.evaluation_file(policy, task).name,
        lab.evaluation_file(policy, task, "lighting").name,
    ] == [
        "c99f1568a0d5cea2",
        "802f97c97b3d3702.heads.json",
        "5c6d28e007b59b97",
        "0e969bb387b8a938",
        "18cef44ac9173445.json",
        "dc161029f689885e.json",
    ]


def test_wide_recipes_have_a_learning_rate_of_their_own(arguments, monkeypatch):
    lab, rates = Lab(arguments.settings()), {}
    monkeypatch.setattr(lab, "dataset", lambda tasks, demos: Path("demonstrations"))
    monkeypatch.setattr(lab, "once", lambda kind, key, make: Path(str(rates.setdefault(key[2], key[4]["peak_lr"]))))
    for recipe in RECIPES:
        lab.policy(recipe, ["lift"], 1)
    sparse = {"steering", "paper-text", "q-only", "q+mlp", "no-heads"}
    assert rates == {recipe: arguments.peak_lr if recipe in sparse else arguments.wide_peak_lr for recipe in RECIPES}


def test_chance_is_that_of_the_heads_that_may_be_chosen(arguments):
    for excluded, candidates in ((False, 12), (True, 8)):
        assert Lab(dataclasses.replace(arguments.settings(), exclude_dead_heads=excluded)).candidates() == candidates


def test_what_two_processes_want_one_of_them_makes(arguments):
    """Two tables at once on one work directory share datasets, caches and policies."""
    made, begun, go_on, told = [], threading.Event(), threading.Event(), io.StringIO()

    def make(path):
        made.append(path)
        begun.set()
        assert go_on.wait(60)
        path.write_text("whole")

    def want(console):
        # Each opens the lock anew, as another process does.
        return Lab(arguments.settings(), console).once("thing", ["key"], make)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(want, None)
        assert begun.wait(60)
        second = pool.submit(want, Console(file=told))
        while "waiting for another process" not in told.getvalue():
            assert not second.done()
            time.sleep(0.01)
        go_on.set()
        assert first.result().read_text() == second.result().read_text() == "whole"
    assert len(made) == 1


def test_names_are_the_commands(arguments):
    assert set(re.findall(r"table\d|fig\d", Path(main.__code__.co_filename).read_text())) == set(EXPERIMENTS)
    with pytest.raises(RobosteerError, match="one twice"):
        main(["table7", "table7", "--base", str(arguments.base), "--rig", str(RIG)])


@pytest.mark.parametrize(("name", "needed"), [("table2", 2), ("table6", 2), ("fig7", 2), ("fig8", 3)])
def test_experiments_that_need_more_tasks_say_so_before_any_work(arguments, name, needed, tmp_path):
    words = ["--base", arguments.base, "--rig", RIG, "--work", tmp_path / "work", "--out", tmp_path / "out", "--quick"]
    with pytest.raises(RobosteerError, match=f"--tasks: found {needed - 1}, expected at least {needed} for {name}"):
        main(["table7", name, *map(str, words), "--tasks", *TASKS[: needed - 1]])
    assert not list(tmp_path.iterdir())


def test_demonstrations_are_shared_reproducible_and_not_the_evaluation_s(tmp_path):
    rig, store, stamps = load_rig(RIG), tmp_path / "episodes", []
    for count in (1, 2):
        make_dataset(tmp_path / f"d{count}", store, rig, [TASKS[0]], count)
        stamps.append({path: path.stat().st_mtime_ns for path in store.glob("*/meta.json")})
    assert stamps[0].items() < stamps[1].items()
    one, two = (load_dataset(tmp_path / f"d{count}") for count in (1, 2))
    assert one.episodes == two.episodes[:1]
    assert np.abs(two.actions[:, :7]).max() <= 1
    assert set(two.prompts) == {TASKS[0]}
    scenes = [demonstration_scene(TASKS[0], number) for number in range(80)]
    assert {scene.grid_cell for scene in scenes[:40]} == set(range(40))
    assert not set(scenes) & set(make_scenes([TASKS[0]], range(40), range(50)))


def test_trials_belong_to_what_a_policy_is_not_to_where_it_lies(lab, base, arguments, tmp_path):
    policy = tmp_path / "policy"
    save_checkpoint(policy, base)

    def kept(path, task=TASKS[0], **changes):
        here = Lab(dataclasses.replace(lab.settings, **changes))  # as in another session
        return here.evaluation_file(path, task)

    first = kept(arguments.base)
    assert kept(policy) == first
    assert len({first, kept(policy, TASKS[1]), kept(policy, execute_steps=3), kept(policy, time_limit_s=1.0)}) == 4
    stats = base.norm_stats["actions"]
    wider = base.norm_stats | {"actions": dataclasses.replace(stats, q99=2 * stats.q99)}
    other = dataclasses.replace(base, params=jax.tree.map(lambda leaf: leaf * 1.5, dict(base.params)))
    for changed in (dataclasses.replace(base, norm_stats=wider), other):
        save_checkpoint(policy, changed, overwrite=True)
        assert kept(policy) != first


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_analyses_write_ours_beside_the_paper_s(arguments, capsys):
    names = ["table4", "table6", "table7", "fig4", "fig6", "fig7", "fig8"]
    out = arguments.out
    words = ["--base", arguments.base, "--rig", RIG, "--work", arguments.work, "--out", out, "--tasks", *TASKS]
    assert main([*names, *map(str, words), "--quick", "--jobs", "1"]) == 0
    assert "π0.5, steering: 74.64 MiB, printed 74.6." in capsys.readouterr().out
    for name in names:
        page, data = (out / f"{name}.md").read_text(), json.loads((out / f"{name}.json").read_text())
        assert data["whole"]
        assert "## What differs from the paper" in page
        assert all((out / file).exists() for file in re.findall(r"\]\((\w+\.svg)\)", page))
    assert "/ 0.47" in (out / "table4.md").read_text()
    assert "/ 86.75" in (out / "table6.md").read_text()
    assert "19,565,600" in (out / "table7.md").read_text()
    cells = {(c["row"], c["column"]): c for c in json.loads((out / "table4.json").read_text())["cells"]}
    low, high = cells["ours, shaped as π0.5", "suffix.first"]["interval"]
    assert 0 < low <= high
    work = arguments.work
    stamps = {path: path.stat().st_mtime_ns for path in work.rglob("*.made")}
    assert main(["fig7", *map(str, words), "--quick", "--jobs", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.made")} == stamps


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_table_of_success_is_filled_cell_by_cell_and_found_again(lab, tmp_path, monkeypatch):
    task = TASKS[0]
    zero, steered = (tables.table1(lab).lines[i] for i in (0, 3))
    table = Table({task: (task, "")}, [zero, dataclasses.replace(steered, paper={task: 72.5})], "zero-shot")
    monkeypatch.setitem(EXPERIMENTS, "table1", dataclasses.replace(EXPERIMENTS["table1"], table=lambda _: table))
    seen = []
    monkeypatch.setattr(Result, "save", lambda self, directory: seen.append(self.markdown()))
    first = run("table1", lab, tmp_path, "robosteer paper table1")
    assert seen[0].count("…") == 2  # the explanation, and the cell that is still to come
    assert "/ 72.5" in seen[-1]
    assert set(first.cells[1].seconds) == {"demonstrations", "activations", "selection (knn)", "training", "evaluation"}
    assert re.match(r"\d/2 = ", first.cells[1].text)
    assert sum(first.cells[1].failures.values()) == 2 - int(first.cells[1].text[0])
    assert "McNemar" in first.findings[0]
    assert "instead of 5,000" in seen[-1]
    assert "(table1.svg)" in seen[-1]
    again = run("table1", lab, tmp_path, "robosteer paper table1")
    assert again.cells == first.cells


def test_the_findings_of_a_table_are_adjusted_for_the_number_of_its_lines():
    scenes = make_scenes([TASKS[0]], range(12), [0])

    def trials_of(successes):
        trials = tuple(Trial(scene, i < successes, 1.0) for i, scene in enumerate(scenes))
        return {TASKS[0]: [Evaluation("policy", {}, {}, trials)]}

    lines = {"LoRA": trials_of(0), "steering": trials_of(8), "q-only": trials_of(9)}
    assert "adjusted" not in differences({name: lines[name] for name in ("LoRA", "steering")}, "LoRA")[0]
    better, best = differences(lines, "LoRA")
    assert better.endswith("p = 0.0078, 0.0078 adjusted for 2 comparisons")
    assert best.endswith("p = 0.0039, 0.0078 adjusted for 2 comparisons")


def test_several_trainings_are_told_one_by_one_and_widen_the_interval():
    scenes = make_scenes([TASKS[0]], range(12), [0, 1])

    def trials_of(*successes):
        trainings = [tuple(Trial(s, i < n, 1.0) for i, s in enumerate(scenes)) for n in successes]
        return {TASKS[0]: [Evaluation("policy", {}, {}, trials) for trials in trainings]}

    zero, alike, unlike = trials_of(0), trials_of(6, 6, 6), trials_of(0, 6, 12)
    same, other = differences({"zero-shot": zero, "alike": alike, "unlike": unlike}, "zero-shot")
    assert "alike against zero-shot over 1 columns and 3 trainings: +25.0 points" in same
    assert same.endswith("training by training +25.0, +25.0, +25.0")
    assert other.endswith("training by training +0.0, +25.0, +50.0")

    def width(text):
        low, high = re.search(r"interval (\S+) to (\S+)\)", text).groups()
        return float(high) - float(low)

    assert width(other) > width(same) > 0
    assert "McNemar" not in same + other


def test_the_first_training_is_that_of_a_table_with_one(arguments, monkeypatch):
    lab, seeds = Lab(dataclasses.replace(arguments, trainings=3).settings()), []
    monkeypatch.setattr(lab, "dataset", lambda tasks, demos: Path("demonstrations"))
    monkeypatch.setattr(lab, "once", lambda kind, key, make: seeds.append(key[4]) or Path(str(len(seeds))))
    monkeypatch.setattr(lab, "success", lambda policy, *condition: policy)
    line = Line("lora", lambda task: lab.policy("lora", [task], 1))
    assert len(tried(lab, line, "lift", ("lift", ""))) == 3
    first, *others = seeds
    assert first == arguments.settings().training.to_json() | {"peak_lr": arguments.wide_peak_lr}
    assert [other | {"seed": 0} for other in others] == [first, first]
    assert [other["seed"] for other in others] == [1, 2]


def test_the_figure_names_policies_and_draws_what_is_there():
    def drawn(*rates):
        picture = success_figure("t", {"lift": [Rate("zero-shot", 5.0, (1.0, 9.0)), *rates]})
        assert picture == success_figure("t", {"lift": [Rate("zero-shot", 5.0, (1.0, 9.0)), *rates]})
        return picture.decode()

    alone, still_to_come = drawn(), drawn(Rate("steering", None, paper=72.5))
    assert all(text in still_to_come for text in ("lift", "zero-shot", "steering", "the paper's"))
    assert "the paper's" not in alone
    assert drawn(Rate("steering", 50.0, (40.0, 60.0), 72.5)).count("<use") == still_to_come.count("<use") + 1


def test_the_page_tells_an_unfinished_table():
    failed = {"wrong_object": 4, "missed": 1}
    cells = [Cell("a", "x", 0.5, (0.1, 0.9), 0.7, failures=failed), Cell("b", "x", None, paper=(1, 2))]
    result = Result("t", "T", "%", "95 %", cells)
    assert "| a | 0.5 (0.1 to 0.9) / 0.7 |" in result.markdown()
    assert "| b | … / 1 to 2 |" in result.markdown()
    assert "Not finished" in result.markdown()
    assert "| a | wrong object 4, missed 1 |\n| b | – |" in result.markdown()
