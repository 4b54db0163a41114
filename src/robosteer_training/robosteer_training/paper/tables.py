"""The paper's experiments on success: Tables 1, 2, 3 and 5, Figures 3 and 5."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from robosteer_training.paper import numbers
from robosteer_training.paper.lab import Lab
from robosteer_training.paper.success import Line, Table


def table1(lab: Lab) -> Table:
    """Every task: zero-shot, LoRA, steering; besides, LoRA with the vision encoder frozen as steering has it."""
    tasks, demos = lab.settings.tasks, lab.settings.demos

    def steered(task: str) -> Path:
        return lab.policy("steering", [task], demos, [lab.selection("knn", [task], demos)])

    def paper(row: str) -> dict[str, float]:
        return dict(zip(numbers.TASKS, numbers.SUCCESS[row]["pi05"], strict=True))

    return Table(
        columns={task: (task, "") for task in tasks},
        lines=[
            Line("zero-shot", lambda _: lab.settings.base, paper("zero-shot")),
            Line("LoRA", lambda task: lab.policy("lora", [task], demos), paper("LoRA")),
            Line("LoRA, vision frozen", lambda task: lab.policy("lora-frozen-vision", [task], demos)),
            Line("steering", steered, paper("steering")),
        ],
        reference="LoRA",
    )


def table2(lab: Lab) -> Table:
    """Trained on one task or two: the task, another, an unseen one, and the first under changed conditions."""
    first, other = lab.settings.tasks[:2]
    demos, both = lab.settings.demos, [first, other]
    columns = {"seen": (first, ""), "other": (other, ""), "unseen": (lab.settings.unseen, "")}
    columns |= {name: (first, name) for name in lab.settings.variations}

    def steered_two(disjoint: bool) -> Path:
        names = both if disjoint else [None]
        selections = [lab.selection("knn", both, demos, only=name) for name in names]
        return lab.policy("steering", both, demos, selections, disjoint=disjoint)

    makers = {
        "LoRA": lambda _: lab.policy("lora", [first], demos),
        "steering": lambda _: lab.policy("steering", [first], demos, [lab.selection("knn", [first], demos)]),
        "LoRA, two tasks": lambda _: lab.policy("lora", both, demos),
        "steering, two tasks, disjoint heads": lambda _: steered_two(True),
        "steering, two tasks, joint heads": lambda _: steered_two(False),
    }
    papers: dict[str, dict[str, float]] = {
        row: {str(c): v for c, v in zip(numbers.TABLE2_COLUMNS, values, strict=True)}
        for row, values in numbers.TABLE2.items()
    }
    return Table(columns, [Line(name, make, papers[name]) for name, make in makers.items()], "LoRA")


def table3(lab: Lab) -> Table:
    """How heads are chosen, with controls, and which parts are trained: of the heads, and without any."""
    demos = lab.settings.demos

    def trained(recipe: str, method: str, task: str) -> Path:
        return lab.policy(recipe, [task], demos, [lab.selection(method, [task], demos)])

    lines = [Line("zero-shot", lambda _: lab.settings.base)]
    for method in ("knn", "random", "worst", "cma", "reinforce"):
        lines.append(_line(f"steering, {method}", partial(trained, "steering", method), numbers.TABLE3))
    lines += [_line(recipe, partial(trained, recipe, "knn"), numbers.TABLE3) for recipe in ("q-only", "q+mlp")]
    lines.append(Line("no heads", lambda task: lab.policy("no-heads", [task], demos)))
    return Table(_columns(lab), lines, "steering, knn")


def table5(lab: Lab) -> Table:
    """Everything trained, or the selected heads and all FFNs, embedding, norms and projections."""
    tasks, demos = lab.settings.tasks[:3], lab.settings.demos

    def steered(task: str) -> Path:
        return lab.policy("steering-full", [task], demos, [lab.selection("knn", [task], demos)])

    lines = [
        Line("full", lambda task: lab.policy("full", [task], demos), _three("full")),
        Line("steering-full", steered, _three("steering-full")),
    ]
    return Table({task: (task, "") for task in tasks}, lines, "full")


def figure3(lab: Lab) -> Table:
    """More demonstrations; more steps."""
    all_steps = lab.settings.training.steps
    lines = []
    for recipe in ("lora", "steering"):
        row = "LoRA" if recipe == "lora" else recipe
        paper = {_name(recipe, numbers.DEMOS): _table1_first(row)}
        for demos in numbers.DEMONSTRATIONS:
            lines.append(_line(_name(recipe, demos), partial(_adapted, lab, recipe, demos, all_steps), paper))
        for steps in sorted({max(1, all_steps * i // 5) for i in (1, 2, 3, 4)}):
            make = partial(_adapted, lab, recipe, lab.settings.demos, steps)
            lines.append(_line(f"{recipe}, {steps} of {all_steps} steps", make))
    return Table(_columns(lab), lines, _name("lora", numbers.DEMOS))


def figure5(lab: Lab) -> Table:
    """More heads, beside zero-shot and LoRA."""
    demos = lab.settings.demos
    lines = [
        _line("zero-shot", lambda _: lab.settings.base, {"zero-shot": _table1_first("zero-shot")}),
        _line("LoRA", lambda task: lab.policy("lora", [task], demos), {"LoRA": _table1_first("LoRA")}),
    ]
    counts = {lab.heads(paper_heads): paper_heads for paper_heads in numbers.HEAD_COUNTS}
    for m, paper_heads in counts.items():
        every = paper_heads == numbers.TOTAL
        name = f"all {lab.candidates()} heads" if every else f"{m} heads"
        make = partial(_with_heads, lab, demos, None if every else m)
        value = numbers.FIGURE5.get(paper_heads)
        lines.append(_line(name, make, {} if value is None else {name: value}))
    return Table(_columns(lab), lines, "LoRA")


def _columns(lab: Lab) -> dict[str, tuple[str, str]]:
    """The paper's one task, or every task."""
    tasks = lab.settings.tasks
    return {task: (task, "") for task in (tasks if lab.settings.every_task else tasks[:1])}


def _with_heads(lab: Lab, demos: int, m: int | None, task: str) -> Path:
    selection = lab.selection("all" if m is None else "knn", [task], demos, m)
    return lab.policy("steering", [task], demos, [selection])


def _adapted(lab: Lab, recipe: str, demos: int, steps: int, task: str) -> Path:
    selections: Sequence[Path] = [lab.selection("knn", [task], demos)] if recipe == "steering" else []
    return lab.policy(recipe, [task], demos, selections, steps=steps)


def _name(recipe: str, demos: int) -> str:
    return f"{recipe}, {demos} demonstrations"


def _table1_first(row: str) -> float:
    """π0.5's number in the first column of Table 1."""
    return numbers.SUCCESS[row]["pi05"][0]


def _three(row: str) -> dict[str, float]:
    return dict(zip(numbers.TASKS, numbers.TABLE5[row], strict=False))


def _line(name: str, policy: Callable[[str], Path], paper: Mapping[str, float] | None = None) -> Line:
    """A line of experiments on one task, the paper's first."""
    return Line(name, policy, {numbers.TASKS[0]: paper[name]} if paper and name in paper else {})
