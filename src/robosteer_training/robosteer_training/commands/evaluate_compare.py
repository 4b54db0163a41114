"""`robosteer evaluate compare`: policies on the same cells and seeds, paired."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compare results of `robosteer evaluate` trial by trial: difference with interval, exact McNemar test.

    Results of other scenes, task cards, rigs or time limits are refused.
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Result files; the first is the reference."""
    samples: int = 10_000
    """Bootstrap draws of grid cells."""
    seed: int = 0
    """Seed of the draws."""
    out: Path | None = None
    """File for the comparison (JSON)."""
    json: bool = False
    """Print the comparison as JSON."""


def main(argv: list[str]) -> int:
    """Entry point of `robosteer evaluate compare`."""
    arguments = tyro.cli(Arguments, args=argv, prog="robosteer evaluate compare")
    from robosteer_rig.errors import RobosteerError
    from robosteer_training.evaluation.comparison import compare, comparison_json, comparison_text
    from robosteer_training.evaluation.result import Evaluation
    from robosteer_training.files import write_json

    if len(set(arguments.results)) != len(arguments.results):
        raise RobosteerError("compare: found a result given twice, expected different files")
    differences = compare(
        {str(path): Evaluation.load(path) for path in arguments.results}, samples=arguments.samples, seed=arguments.seed
    )
    if arguments.out is not None:
        write_json(arguments.out, comparison_json(differences))
    if arguments.json:
        import json

        print(json.dumps(comparison_json(differences)))
    else:
        print(comparison_text(differences))
    return 0
