"""A dataset as the model sees it: everything per frame prepared once, so that a training step only gathers rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from robosteer_model.images import resize_with_pad_pil
from robosteer_model.norm_stats import normalize
from robosteer_model.observation import Observation
from robosteer_model.pruning import bucket
from robosteer_model.tokenizer_fast import ACTION_PREFIX, ActionTokens
from robosteer_model.transforms import Transforms
from robosteer_rig.errors import RobosteerError

if TYPE_CHECKING:
    from robosteer_model.checkpoint import Checkpoint
    from robosteer_training.dataset import Dataset

_BLOCK = 64
MAX_NORMALISED = 100.0  # Sound data stay below 10; a wrong unit or a constant dimension gives hundreds.


@dataclasses.dataclass(frozen=True)
class FastInputs:
    """What pi0-FAST needs besides.

    Attributes:
        causal: (F, L) int32, 1 on tokens that the model generates.
        predicted: (F, L) bool, tokens that the loss counts; none without an action tokenizer.
        first_token: id that every answer opens with (the first piece of "Action: ").
    """

    causal: np.ndarray
    predicted: np.ndarray
    first_token: int


@dataclasses.dataclass(frozen=True)
class Frames:
    """Model inputs by frame (F frames, L prompt tokens, A action_dim, T image tokens).

    Attributes:
        images: image slot -> uint8 (F, h, w, 3); may be memory-mapped.
        tokens: (F, L) int32.
        tokens_mask: (F, L) bool.
        state: (F, A) float32, normalised and padded.
        actions: (F, A) float32, normalised and padded.
        episode_index: (F,) non-decreasing.
        usable: (F,) bool, False where an input was older than the rig allows and for frames that were not selected;
            these are neither scored nor trained on, their actions still belong to the chunks of the frames before.
        action_dim: how many of A belong to the robot.
        horizon: steps of a chunk.
        image_tokens: image slot -> (V, F, T, W) frozen vision tokens in V augmented variants, or None when they are
            computed in every step.
        fast: of pi0-FAST, otherwise None.
        task_index: (F,) number of the frame's task among `tasks`; None when tasks are not known.
        tasks: distinct instructions in order of appearance.
    """

    images: Mapping[str, np.ndarray]
    tokens: np.ndarray
    tokens_mask: np.ndarray
    state: np.ndarray
    actions: np.ndarray
    episode_index: np.ndarray
    usable: np.ndarray
    action_dim: int
    horizon: int
    image_tokens: Mapping[str, np.ndarray] | None = None
    fast: FastInputs | None = None
    task_index: np.ndarray | None = None
    tasks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def robot_actions(self) -> np.ndarray:
        """(F, action_dim) normalised actions without padding."""
        return self.actions[:, : self.action_dim]

    def rows_of(self, episodes: np.ndarray) -> np.ndarray:
        """Indices of the usable frames of some episodes."""
        return np.flatnonzero(np.isin(self.episode_index, episodes) & self.usable)

    def gather(self, rows: np.ndarray, variants: np.ndarray | None = None) -> dict[str, Any]:
        """One batch of plain arrays; `actions` are chunks (B, H, A), the last action repeated at an episode's end.

        Args:
            rows: (B,) frames.
            variants: (B,) which variant of the vision tokens; None takes the first.
        """
        last = np.searchsorted(self.episode_index, self.episode_index[rows], side="right") - 1
        steps = np.minimum(rows[:, None] + np.arange(self.horizon), last[:, None])
        if self.image_tokens is None:
            images = {slot: array[rows] for slot, array in self.images.items()}
        else:
            which = np.zeros(len(rows), np.int64) if variants is None else variants
            images = {slot: array[which, rows] for slot, array in self.image_tokens.items()}
        batch = {
            "image": images,
            "state": self.state[rows],
            "tokenized_prompt": self.tokens[rows],
            "tokenized_prompt_mask": self.tokens_mask[rows],
            "actions": self.actions[steps],
        }
        if self.fast is None:
            return batch
        return batch | {"token_ar_mask": self.fast.causal[rows], "token_loss_mask": self.fast.predicted[rows]}


def observation_of(batch: Mapping[str, Any]) -> Observation:
    """The model's observation of a gathered batch with images."""
    return Observation.from_dict({name: value for name, value in batch.items() if name != "actions"})


def prepare_frames(dataset: Dataset, checkpoint: Checkpoint, action_tokens: ActionTokens | None = None) -> Frames:
    """The frames that a model trains on; see `model_frames`.

    Raises:
        RobosteerError: the dataset lacks an image that the model reads, or pi0-FAST its action tokenizer.
        ModelError: the checkpoint has no statistics or tokenizer.
    """
    if checkpoint.config.model_type == "pi0_fast" and action_tokens is None:
        raise RobosteerError(
            "model: found pi0_fast without an action tokenizer, expected one to train it; give --action-tokens"
        )
    return model_frames(dataset, checkpoint, action_tokens)


def model_frames(dataset: Dataset, checkpoint: Checkpoint, action_tokens: ActionTokens | None = None) -> Frames:
    """Normalise with the checkpoint's own statistics, tokenize, resize; for any model of the family.

    Args:
        dataset: the data.
        checkpoint: of pi0, pi0.5 or pi0-FAST.
        action_tokens: pi0-FAST's action tokenizer; without it prompts hold no answer, which reading the prefix does
            not need and a loss does.

    Raises:
        RobosteerError: the dataset lacks an image that the model reads.
        ModelError: the checkpoint has no statistics or tokenizer.
    """
    transforms = Transforms.of(checkpoint, action_tokens=action_tokens)
    config = checkpoint.config
    numbers = _vectors(dataset, transforms, answers=action_tokens is not None)
    tasks = tuple(dict.fromkeys(dataset.prompts))
    fast = None
    if config.model_type == "pi0_fast":
        first = transforms.fast_tokenizer.model.encode(ACTION_PREFIX)[0]
        fast = FastInputs(numbers["token_ar_mask"], numbers["token_loss_mask"], int(first))
    return Frames(
        images=_slot_images(dataset, transforms, config.siglip.image_resolution),
        tokens=numbers["tokenized_prompt"],
        tokens_mask=numbers["tokenized_prompt_mask"],
        state=numbers["state"],
        actions=numbers["actions"],
        episode_index=np.asarray(dataset.episode_index),
        usable=dataset.usable,
        action_dim=dataset.actions.shape[1],
        horizon=config.action_horizon,
        fast=fast,
        task_index=np.array([tasks.index(prompt) for prompt in dataset.prompts])[dataset.episode_index],
        tasks=tasks,
    )


def _require_sane(name: str, normalised: np.ndarray) -> None:
    """Stop before a loss explodes: one constant dimension in the statistics turns noise into thousands."""
    largest = np.abs(normalised).max(axis=0)
    worst = int(np.argmax(largest))
    if not largest[worst] <= MAX_NORMALISED:
        raise RobosteerError(
            f"{name}: found a normalised value of {largest[worst]:.4g} in dimension {worst}, expected at most "
            f"{MAX_NORMALISED:g}; the checkpoint's statistics do not fit this data: compare units, joint order and rig"
        )


def _vectors(dataset: Dataset, transforms: Transforms, *, answers: bool) -> dict[str, np.ndarray]:
    """Tokens, masks, states and actions of all frames, by the transforms that serve the live policy.

    Prompts are as long as the longest one needs, rounded up.
    """
    prompts, horizon = dataset.prompts, transforms.config.action_horizon
    fast = transforms.config.model_type == "pi0_fast"
    rows = []
    for i, episode in enumerate(dataset.episode_index):
        # A flow model's actions are gathered into chunks later; FAST writes the chunk into the prompt.
        steps = np.minimum(i + np.arange(horizon if fast else 1), dataset.rows(int(episode)).stop - 1)
        actions = dataset.actions[steps]
        row = transforms.vectors(prompts[episode], dataset.state[i], actions if answers or not fast else None)
        rows.append(row if "actions" in row else row | {"actions": _normalised(actions, transforms)})
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    used = np.flatnonzero(stacked["tokenized_prompt_mask"].any(axis=0))
    length = bucket(int(used[-1]) + 1, transforms.config.max_token_len)
    for name in ("tokenized_prompt", "tokenized_prompt_mask", "token_ar_mask", "token_loss_mask"):
        if name in stacked:
            stacked[name] = stacked[name][:, :length]
    return stacked | {"actions": stacked["actions"][:, 0].astype(np.float32)}


def _normalised(actions: np.ndarray, transforms: Transforms) -> np.ndarray:
    return normalize(actions, transforms.norm_stats["actions"], quantile=transforms.quantile)


def _slot_images(dataset: Dataset, transforms: Transforms, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Image slot of the model -> images at the model's resolution, the dataset's own arrays where they fit."""
    images = {}
    for slot, field in transforms.layout.slot_fields(transforms.config).items():
        if field is None:
            if transforms.config.model_type == "pi0_fast":  # reads absent cameras as black images, as openpi
                images[slot] = np.broadcast_to(np.zeros((), np.uint8), (len(dataset), *size, 3))
            continue
        key = field.removeprefix("observation/")
        camera = dataset.rig.policy_cameras.get(key)
        if camera is None or camera not in dataset.images:
            raise RobosteerError(
                f"dataset: found cameras {sorted(dataset.images)}, expected one for {key!r}; "
                "set policy_cameras in the rig file"
            )
        array = dataset.images[camera]
        if array.shape[1:3] != size:
            blocks = [array[i : i + _BLOCK] for i in range(0, len(array), _BLOCK)]
            array = np.concatenate([resize_with_pad_pil(block, *size) for block in blocks])
        images[slot] = array
    return images


def split_episodes(episode_index: np.ndarray, holdout: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Episodes to train on and episodes held out.

    With fewer than three episodes none is held out; otherwise at least one is, if `holdout` is positive.
    """
    episodes = np.unique(episode_index)
    count = max(1, round(holdout * len(episodes))) if holdout > 0 and len(episodes) >= 3 else 0
    held_out = np.sort(np.random.default_rng([seed, 1]).permutation(episodes)[:count])
    return np.setdiff1d(episodes, held_out), held_out
