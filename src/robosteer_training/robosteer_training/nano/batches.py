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
        other_tokens: (N, L) int32 the prompt with the scene's other cube in the place of the named one.
        other_tokens_mask: (N, L) bool.
        other_target: (N, 3) float32 m, that other cube.
    """

    images: np.ndarray
    tokens: np.ndarray
    tokens_mask: np.ndarray
    state: np.ndarray
    chunks: np.ndarray
    cubes: np.ndarray
    target: np.ndarray
    other_tokens: np.ndarray
    other_tokens_mask: np.ndarray
    other_target: np.ndarray

    def batches(
        self, batch_size: int, seed: int, first_step: int, questions: int = 0
    ) -> Iterator[dict[str, np.ndarray]]:
        """Endless random batches; step k's batch depends on (seed, k) alone, so training resumes exactly.

        Args:
            batch_size: frames with the instruction that was carried out.
            seed: of the choice.
            first_step: k of the first batch.
            questions: further frames, after those, whose instruction names the other cube; their action chunks are not
                what that instruction asks for.
        """
        step = first_step
        while True:
            random = np.random.default_rng([seed, step])
            rows = random.integers(0, len(self.tokens), batch_size)
            asked = random.integers(0, len(self.tokens), questions)
            both = np.concatenate([rows, asked])
            batch = {name: getattr(self, name)[both] for name in ("images", "state", "chunks", "cubes")}
            for name in ("tokens", "tokens_mask", "target"):
                other = getattr(self, f"other_{name}")[asked]
                batch[name] = np.concatenate([getattr(self, name)[rows], other])
            yield batch
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
    named, other = named_colours(demonstrations), other_colours(demonstrations)
    frames = np.arange(len(named))

    def vectors(colours: np.ndarray) -> dict[str, np.ndarray]:
        """Each frame's model inputs, its instruction naming the cube of a colour."""
        rows = [
            transforms.vectors(demonstrations.tasks[task].replace(COLOURS[taught], COLOURS[colour]), state, chunk)
            for task, taught, colour, state, chunk in zip(
                demonstrations.task, named, colours, demonstrations.state, chunks, strict=True
            )
        ]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    taught, asked = vectors(named), vectors(other)
    return TrainingArrays(
        images=demonstrations.images,
        tokens=taught["tokenized_prompt"],
        tokens_mask=taught["tokenized_prompt_mask"],
        state=taught["state"],
        chunks=taught["actions"],
        cubes=demonstrations.cubes,
        target=demonstrations.cubes[frames, named],
        other_tokens=asked["tokenized_prompt"],
        other_tokens_mask=asked["tokenized_prompt_mask"],
        other_target=demonstrations.cubes[frames, other],
    )


def named_colours(demonstrations: Demonstrations) -> np.ndarray:
    """(N,) index into `COLOURS`: the cube that each frame's instruction names."""
    colours = [next(i for i, colour in enumerate(COLOURS) if colour in task) for task in demonstrations.tasks]
    return np.asarray(colours)[demonstrations.task]


def other_colours(demonstrations: Demonstrations) -> np.ndarray:
    """(N,) index into `COLOURS`: the cube that lies there besides the named one; the named one if it is alone."""
    present = ~np.isnan(demonstrations.cubes[..., 0])
    named = named_colours(demonstrations)
    present[np.arange(len(named)), named] = False
    return np.where(present.any(axis=1), present.argmax(axis=1), named)
