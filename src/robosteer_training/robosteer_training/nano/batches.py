"""From demonstrations to batches of model inputs, all prepared once, so that a training step only gathers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.norm_stats import NormStats, RunningStats
from robosteer_model.transforms import Transforms
from robosteer_training.nano.config import COLOURS
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
        cubes: (N, 4, 3) float32 m, NaN where absent.
        target: (N, 3) float32 m, the cube that the instruction names.
    """

    images: np.ndarray
    tokens: np.ndarray
    tokens_mask: np.ndarray
    state: np.ndarray
    chunks: np.ndarray
    cubes: np.ndarray
    target: np.ndarray

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
    rows = [
        transforms.vectors(demonstrations.tasks[task], state, chunk)
        for task, state, chunk in zip(demonstrations.task, demonstrations.state, chunks, strict=True)
    ]
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return TrainingArrays(
        images=demonstrations.images,
        tokens=stacked["tokenized_prompt"],
        tokens_mask=stacked["tokenized_prompt_mask"],
        state=stacked["state"],
        chunks=stacked["actions"],
        cubes=demonstrations.cubes,
        target=target_positions(demonstrations),
    )


def target_positions(demonstrations: Demonstrations) -> np.ndarray:
    """(N, 3) m: where the cube is that each frame's instruction names."""
    colours = [next(i for i, colour in enumerate(COLOURS) if colour in task) for task in demonstrations.tasks]
    return demonstrations.cubes[np.arange(len(demonstrations.task)), np.asarray(colours)[demonstrations.task]]
