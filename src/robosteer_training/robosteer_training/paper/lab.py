"""What experiments are made of: datasets, caches, selections, policies, success."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from robosteer_model.checkpoint import Checkpoint, load_checkpoint
from robosteer_model.digest import params_digest
from robosteer_rig.environment import task_digest
from robosteer_rig.rig import Rig, load_rig
from robosteer_training.commands.progress import progress
from robosteer_training.dataset import load_dataset
from robosteer_training.evaluation.evaluate import EvaluateSettings, evaluate, identity
from robosteer_training.evaluation.result import Evaluation
from robosteer_training.evaluation.rollout import Manner
from robosteer_training.evaluation.scenes import make_scenes, spread_cells
from robosteer_training.files import alone, json_digest
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.frames import model_frames
from robosteer_training.heads.cache import ActivationCache, CacheSettings, describe_episodes, fill_cache, load_cache
from robosteer_training.heads.select import KnnSettings
from robosteer_training.heads.selection import dead_heads
from robosteer_training.heads.source import Source
from robosteer_training.paper.numbers import HEADS, TASKS, TOTAL, UNSEEN
from robosteer_training.paper.selecting import choose
from robosteer_training.paper.store import Store
from robosteer_training.scripted_dataset import make_dataset
from robosteer_training.steer import SUMMARY_FILE, steer
from robosteer_training.steer_settings import SteerSettings

POSITIONS = ("suffix.first", "prefix.last")


@dataclasses.dataclass(frozen=True)
class LabSettings:
    """Sizes of all experiments.

    Attributes:
        base: checkpoint.
        rig: rig file of the environment.
        work: where everything is kept.
        tasks: instructions; the first one is the task of experiments on one task.
        every_task: do experiments on one task with every task.
        lines: patterns of the lines to measure; empty for all.
        unseen: instruction that is never taught.
        variations: changes of the conditions.
        demos: demonstrations per task.
        cells: grid cells per evaluation.
        seeds: of the evaluation.
        training: of every finetuning.
        trainings: of every policy that is trained, with seeds of their own.
        wide_peak_lr: learning rate of recipes that are not sparse; None for the one of `training`.
        execute_steps: actions of a chunk executed before the next inference.
        num_steps: denoising steps.
        time_limit_s: per trial; None takes the task's.
        exclude_dead_heads: leave out heads that receive no gradient.
        run_steps: updates of REINFORCE.
        run_frames: frames on which CMA and REINFORCE run the model.
        environment: name of the environment.
        jobs: worker processes.
    """

    base: Path
    rig: Path
    work: Path
    tasks: tuple[str, ...] = TASKS
    every_task: bool = False
    lines: tuple[str, ...] = ()
    unseen: str = UNSEEN
    variations: tuple[str, ...] = ("lighting", "form", "distractors")
    demos: int = 20
    cells: int = 40
    seeds: tuple[int, ...] = (0, 1, 2)
    training: TrainSettings = dataclasses.field(default_factory=TrainSettings)
    trainings: int = 1
    wide_peak_lr: float | None = None
    execute_steps: int = 8
    num_steps: int = 10
    time_limit_s: float | None = None
    exclude_dead_heads: bool = False
    run_steps: int = 600
    run_frames: int = 128
    environment: str = "cell"
    jobs: int = 2


class Lab(Store):
    """Makes what experiments need, each thing once.

    Attributes:
        settings: sizes.
        training_number: which of `settings.trainings` policies are asked for.
    """

    def __init__(self, settings: LabSettings, console: Console | None = None) -> None:
        super().__init__(settings.work, console or Console(stderr=True))
        self.settings = settings
        self.training_number = 0
        self._identities: dict[Path, tuple[dict[str, Any], dict[str, Any]]] = {}

    @cached_property
    def base(self) -> Checkpoint:
        """The checkpoint that is adapted."""
        return load_checkpoint(self.settings.base)

    @cached_property
    def base_digest(self) -> str:
        """Of its parameters."""
        return params_digest(self.base.params)

    @cached_property
    def rig(self) -> Rig:
        """The environment's."""
        return load_rig(self.settings.rig)

    def heads(self, paper_heads: int = HEADS) -> int:
        """The paper's number of heads of 144, in proportion to the model's."""
        gemma = self.base.config.paligemma
        return max(1, round(gemma.depth * gemma.num_heads * paper_heads / TOTAL))

    def candidates(self) -> int:
        """Heads that may be chosen."""
        dead = dead_heads(self.base.config) if self.settings.exclude_dead_heads else []
        return self.heads(TOTAL) - len(dead)

    def dataset(self, tasks: Sequence[str], demos: int) -> Path:
        """Scripted demonstrations."""
        s = self.settings

        def make(path: Path) -> None:
            store = self.work / "episodes"
            with progress("demonstrations") as report:
                make_dataset(
                    path, store, self.rig, tasks, demos, environment=s.environment, jobs=s.jobs, progress=report
                )

        return self.once("demonstrations", [list(tasks), demos, self.rig.digest(), s.environment], make)

    def cache(self, tasks: Sequence[str], demos: int) -> ActivationCache:
        """Head outputs at the paper's two token positions."""
        data = self.dataset(tasks, demos)

        def make(path: Path) -> None:
            dataset = load_dataset(data)
            with progress("activations") as report:
                fill_cache(
                    path,
                    self.base.params,
                    self.base.config,
                    model_frames(dataset, self.base),
                    CacheSettings(POSITIONS),
                    checkpoint_digest=self.base_digest,
                    dataset_digest=dataset.digest(),
                    episodes=describe_episodes(dataset),
                    progress=report,
                )

        return load_cache(self.once("activations", [self.base_digest, data.name], make))

    def source(self, tasks: Sequence[str], demos: int) -> Source:
        """The rows of a cache."""
        return Source.of(self.cache(tasks, demos))

    def knn(self, m: int | None = None, position: str = "suffix.first") -> KnnSettings:
        """How heads are chosen."""
        return KnnSettings(m=m, position=position, exclude_dead_heads=self.settings.exclude_dead_heads)

    def selection(
        self, method: str, tasks: Sequence[str], demos: int, m: int | None = None, only: str | None = None
    ) -> Path:
        """A selection file.

        Args:
            method: knn, cma, reinforce, random, worst or all.
            tasks: of the dataset.
            demos: per task.
            m: number of heads; None takes the paper's, in proportion.
            only: choose on this task's frames alone.
        """
        m = None if method == "all" else self.heads() if m is None else m
        source, data, s = self.source(tasks, demos), self.dataset(tasks, demos), self.settings

        def make(path: Path) -> None:
            rows = None if only is None else source.task_rows()[only]
            run = (data, s.base, s.run_frames, s.run_steps)
            with progress(method) as report:
                choose(source, self.knn(m), method, rows=rows, run=run, path=path, progress=report).save(path)

        key = [source.key, method, m, only, s.exclude_dead_heads, s.run_frames, s.run_steps]
        return self.once(f"selection ({method})", key, make, suffix=".heads.json")

    def policy(
        self,
        recipe: str,
        tasks: Sequence[str],
        demos: int,
        selections: Sequence[Path] = (),
        *,
        steps: int | None = None,
        disjoint: bool = False,
    ) -> Path:
        """A finetuned checkpoint."""
        data = self.dataset(tasks, demos)
        training = self._training(recipe, steps)
        key = [self.base_digest, data.name, recipe, [p.name for p in selections], training.to_json(), disjoint]

        def make(path: Path) -> None:
            if (path / SUMMARY_FILE).exists():
                return
            settings = SteerSettings(
                base=self.settings.base,
                out=path,
                dataset=data,
                recipe=recipe,
                select=False,
                selections=tuple(selections),
                disjoint=disjoint,
                training=training,
            )
            steer(settings, resume=True, console=self.console)

        return self.once("training", key, make) / "checkpoint"

    def _training(self, recipe: str, steps: int | None) -> TrainSettings:
        training, wide_peak_lr = self.settings.training, self.settings.wide_peak_lr
        if wide_peak_lr is not None and not recipe_by_name(recipe).sparse:
            training = dataclasses.replace(training, peak_lr=wide_peak_lr)
        steps = training.steps if steps is None else steps
        return dataclasses.replace(training, steps=steps, seed=training.seed + self.training_number)

    def success(self, policy: Path, task: str, variation: str = "") -> Evaluation:
        """Success on the grid."""
        s = self.settings
        scenes = make_scenes([task], spread_cells(s.cells), s.seeds, [variation])
        out = self.evaluation_file(policy, task, variation)
        with alone(out, self.waiting("evaluation")):
            found = evaluate(policy, self.rig, scenes, self._trials, out=out, resume=True)
        self.spend("evaluation", found.seconds * len(scenes) / len(found.trials))
        return found.only(scenes)

    def evaluation_file(self, policy: Path, task: str, variation: str = "") -> Path:
        """Where the trials of a policy are kept: by what it is, not by where it lies."""
        if policy not in self._identities:
            self._identities[policy] = identity(policy, self.rig, self._trials)
        # A changed card of the user's own makes its own results; a task of the environment's has none.
        card = task_digest(self.settings.environment, task)
        key = [*self._identities[policy], task, variation]
        name = json_digest(key if card is None else [*key, card])[:16]
        return self.work / "evaluation" / f"{name}.json"

    @property
    def _trials(self) -> EvaluateSettings:
        s = self.settings
        return EvaluateSettings(s.environment, Manner(s.execute_steps, s.time_limit_s), s.num_steps, s.jobs)
