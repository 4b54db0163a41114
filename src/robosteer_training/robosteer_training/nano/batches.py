"""From demonstrations to batches of model inputs, all prepared once, so that a training step only gathers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.norm_stats import NormStats, RunningStats
from robosteer_model.transforms import Transforms
from robosteer_training.nano.config import OBJECTS
from robosteer_training.nano.demonstrations import Demonstrations


@dataclasses.dataclass(frozen=True)
class TrainingArrays:
    """Everything a step gathers from, indexed by frame.

    Attributes:
        images: (N, 2, s, s, 3) uint8.
        tokens: (N, L) int32 prompt with state.
        tokens_mask: (N, L) bool.
        state: (N, A) float32 normalised.
        chunks: (N, H, A) float32 normalised action chunks; the last action is repeated at the end of an episode.
        objects: (N, K, 3) float32 m, NaN where absent.
        meant: (N, 2, 3) float32 m: what the instruction says to act upon, and where that is to be brought; NaN where
            it says no such place.
    """

    images: np.ndarray
    tokens: np.ndarray
    tokens_mask: np.ndarray
    state: np.ndarray
    chunks: np.ndarray
    objects: np.ndarray
    meant: np.ndarray

    def batches(self, batch_size: int, seed: int, first_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Endless random batches; step k's batch depends on (seed, k) alone, so training resumes exactly."""
        step = first_step
        while True:
            rows = np.random.default_rng([seed, step]).integers(0, len(self.tokens), batch_size)
            yield {field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)}
            step += 1


def compute_norm_stats(demonstrations: Demonstrations) -> dict[str, NormStats]:
    """Statistics of state and actions, as openpi computes them."""
    result = {}
    for name, values in (("state", demonstrations.state), ("actions", demonstrations.actions)):
        running = RunningStats()
        running.update(values)
        result[name] = running.result()
    return result


def action_chunks(actions: np.ndarray, episode: np.ndarray, horizon: int) -> np.ndarray:
    """The next `horizon` actions of every frame, clamped to the end of its episode.

    Args:
        actions: (N, A).
        episode: (N,) non-decreasing episode index.
        horizon: H.

    Returns:
        (N, H, A).
    """
    last = np.searchsorted(episode, episode, side="right") - 1
    rows = np.minimum(np.arange(len(actions))[:, None] + np.arange(horizon), last[:, None])
    return actions[rows]


def prepare(demonstrations: Demonstrations, config: ModelConfig, transforms: Transforms) -> TrainingArrays:
    """Normalise, tokenise and chunk every frame once."""
    chunks = action_chunks(demonstrations.actions, demonstrations.episode, config.action_horizon)
    inputs = zip(demonstrations.task, demonstrations.state, chunks, strict=True)
    rows = [transforms.vectors(demonstrations.tasks[task], state, chunk) for task, state, chunk in inputs]
    return TrainingArrays(
        images=demonstrations.images,
        tokens=np.stack([row["tokenized_prompt"] for row in rows]),
        tokens_mask=np.stack([row["tokenized_prompt_mask"] for row in rows]),
        state=np.stack([row["state"] for row in rows]),
        chunks=np.stack([row["actions"] for row in rows]),
        objects=demonstrations.objects,
        meant=_meant(demonstrations),
    )


def named_objects(task: str) -> tuple[int, int | None]:
    """Which of `OBJECTS` an instruction names: what it acts upon, and where to.

    Raises:
        ValueError: for an instruction that names none.
    """
    found = sorted((task.find(name), i) for i, name in enumerate(OBJECTS) if name in task)
    if not found:
        raise ValueError(f"{task!r} names none of {OBJECTS}")
    return found[0][1], found[1][1] if len(found) > 1 else None


def _meant(demonstrations: Demonstrations) -> np.ndarray:
    """(N, 2, 3) `TrainingArrays.meant`."""
    # One more object that is never there, for instructions without a goal.
    nowhere = np.full_like(demonstrations.objects[:, :1], np.nan)
    objects = np.concatenate([demonstrations.objects, nowhere], axis=1)
    named = [named_objects(task) for task in demonstrations.tasks]
    columns = np.array([[target, len(OBJECTS) if goal is None else goal] for target, goal in named])
    return np.take_along_axis(objects, columns[demonstrations.task][..., None], axis=1)
