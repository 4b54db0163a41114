"""From a robot's observation to model inputs and from model outputs to actions, as openpi does it.

The order is openpi's: data fields -> normalise -> resize images -> tokenize -> pad. The state is tokenized normalised
and unpadded. The same object serves a live policy (`inputs`, `outputs`) and training (`batch`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.images import resize_with_pad_pil
from robosteer_model.layouts import DataLayout, data_layout
from robosteer_model.norm_stats import NormStats, normalize, unnormalize
from robosteer_model.tokenizer import PromptTokenizer, SentencePiece, load_sentencepiece
from robosteer_model.tokenizer_fast import ActionTokens, FastTokenizer

if TYPE_CHECKING:
    from robosteer_model.checkpoint import Checkpoint
    from robosteer_model.observation import Observation


def pad_to_dim(x: np.ndarray, dim: int) -> np.ndarray:
    """Zero-pad the last axis to `dim`.

    Raises:
        ModelError: when it is longer already.
    """
    if x.shape[-1] > dim:
        raise ModelError(f"pad: found a last axis of {x.shape[-1]}, expected at most action_dim={dim}")
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, dim - x.shape[-1])])


def delta_actions(actions: np.ndarray, state: np.ndarray, mask: Sequence[bool]) -> np.ndarray:
    """Absolute actions relative to the state, where the mask is True (openpi's joint-position configs).

    Args:
        actions: (..., H, d).
        state: (..., d), not normalised.
        mask: which of the first len(mask) dimensions are relative.
    """
    return _shift(actions, state, mask, -1)


def absolute_actions(actions: np.ndarray, state: np.ndarray, mask: Sequence[bool]) -> np.ndarray:
    """Inverse of `delta_actions`."""
    return _shift(actions, state, mask, 1)


def _shift(actions: np.ndarray, state: np.ndarray, mask: Sequence[bool], sign: int) -> np.ndarray:
    dims = len(mask)
    shifted = np.array(actions)
    shifted[..., :dims] += sign * np.expand_dims(np.where(np.asarray(mask), state[..., :dims], 0), axis=-2)
    return shifted


class Transforms:
    """Everything between a robot and a model.

    Args:
        config: the model.
        norm_stats: "state" and "actions" statistics.
        tokenizer: the SentencePiece model, or where it is (see `load_sentencepiece`).
        layout: which robot's observations are read, or its name.
        default_prompt: used when an observation has none.
        delta_mask: dimensions in which the model's actions are relative to the state; None for none (DROID velocities).
        action_tokens: the FAST component of pi0-FAST models.
        keep_absent: feed slots without a camera as black images with a False mask, as openpi does; otherwise they are
            left out and not computed, with the same result. (pi0-FAST always feeds them, unmasked.)
    """

    def __init__(
        self,
        config: ModelConfig,
        norm_stats: Mapping[str, NormStats] | None,
        tokenizer: SentencePiece | bytes | str | os.PathLike[str] | None = None,
        *,
        layout: DataLayout | str = "droid",
        default_prompt: str | None = None,
        delta_mask: Sequence[bool] | None = None,
        action_tokens: ActionTokens | None = None,
        keep_absent: bool = False,
    ) -> None:
        if norm_stats is None or not {"state", "actions"} <= set(norm_stats):
            found = "none" if norm_stats is None else sorted(norm_stats)
            raise ModelError(f"norm_stats: found {found}, expected state and actions; give a checkpoint with assets/")
        self.config = config
        self.norm_stats = norm_stats
        self.layout = data_layout(layout)
        self.default_prompt = default_prompt
        self.delta_mask = delta_mask
        self.quantile = config.model_type != "pi0"
        self._keep_absent = keep_absent or config.model_type == "pi0_fast"
        model = tokenizer if isinstance(tokenizer, SentencePiece) else load_sentencepiece(tokenizer)
        self._fast = config.model_type == "pi0_fast"
        if self._fast:
            self.fast_tokenizer = FastTokenizer.for_config(config, model, action_tokens)
        else:
            self.prompt_tokenizer = PromptTokenizer.for_config(config, model)

    @classmethod
    def of(cls, checkpoint: Checkpoint, **options: Any) -> Transforms:
        """The transforms of a checkpoint; options as in the constructor."""
        options.setdefault("layout", checkpoint.data_layout)
        return cls(checkpoint.config, checkpoint.norm_stats, checkpoint.tokenizer, **options)

    def inputs(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Model inputs of one observation.

        Args:
            raw: fields of the layout (openpi's flat keys), `prompt` (str or bytes) and in training `actions` (H, d).

        Returns:
            Unbatched arrays under openpi's keys: `image` {slot: uint8 (h, w, 3)}, `image_mask` {slot: bool},
            `state` (action_dim,), `tokenized_prompt`, `tokenized_prompt_mask`, for FAST `token_ar_mask` and
            `token_loss_mask`, and `actions` (H, action_dim) when given.

        Raises:
            ModelError: naming a missing or misshapen field.
        """
        state = self.layout.read_state(raw)
        images = self.layout.read_images(raw, self.config)
        data = self._images(images)
        actions = None if raw.get("actions") is None else np.asarray(raw["actions"])
        data |= self.vectors(self._prompt(raw), state, actions)
        return data

    def blank_observation(self) -> dict[str, Any]:
        """An observation of this layout with black images and the mean state."""
        height, width = self.config.siglip.image_resolution
        mean = self.norm_stats["state"].mean
        cuts = range(len(mean) - len(self.layout.state) + 1, len(mean))
        raw: dict[str, Any] = {name: np.zeros((height, width, 3), np.uint8) for name in self.layout.images}
        raw |= dict(zip(self.layout.state, np.split(mean, cuts), strict=True))
        return raw | {"prompt": self.default_prompt or ""}

    def observation(self, data: Mapping[str, Any]) -> Observation:
        """A batch of one from `inputs`."""
        from robosteer_model.observation import Observation

        def add_axis(value: Any) -> Any:
            return {k: add_axis(v) for k, v in value.items()} if isinstance(value, Mapping) else np.asarray(value)[None]

        return Observation.from_dict(add_axis({k: v for k, v in data.items() if k != "actions"}))

    def batch(
        self,
        images: Mapping[str, np.ndarray],
        state: np.ndarray,
        prompts: Sequence[str],
        actions: np.ndarray | None = None,
    ) -> tuple[Observation, np.ndarray | None]:
        """Model inputs of many frames, equal to stacking `inputs` of each.

        Args:
            images: field -> uint8 (B, h, w, 3); the leading "observation/" may be left out.
            state: (B, d) in the robot's units.
            prompts: B instructions.
            actions: (B, H, d) in the robot's units, or None.

        Returns:
            (observation, actions (B, H, action_dim) float32 or None).

        Raises:
            ModelError: for missing images or unequal batch sizes.
        """
        from robosteer_model.observation import Observation

        sizes = {len(state), len(prompts), *(len(v) for v in images.values())}
        sizes |= set() if actions is None else {len(actions)}
        if len(sizes) != 1:
            raise ModelError(f"batch: found sizes {sorted(sizes)}, expected one for images, state, prompts and actions")
        data = self._images(self._batch_images(images), batch=len(state))
        rows = [
            self.vectors(prompt, state[i], None if actions is None else actions[i]) for i, prompt in enumerate(prompts)
        ]
        data |= {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "actions"}
        chunk = None if actions is None else np.stack([row["actions"] for row in rows]).astype(np.float32)
        return Observation.from_dict(data), chunk

    def outputs(self, actions: Any, state: np.ndarray | None = None) -> np.ndarray:
        """Actions for the robot.

        Args:
            actions: (H, action_dim) as the model returns them; for FAST the generated token ids (steps,).
            state: (d,) in the robot's units; needed only for relative actions.

        Returns:
            (H, layout.action_dim) float64 in the robot's units.
        """
        chunk = np.asarray(actions)
        if self._fast:
            chunk = self.fast_tokenizer.extract_actions(chunk, self.config.action_horizon, self.config.action_dim)
        chunk = unnormalize(chunk.astype(np.float32), self.norm_stats["actions"], quantile=self.quantile)
        if self.delta_mask is not None:
            if state is None:
                raise ModelError("outputs: found no state, expected one because the actions are relative to it")
            chunk = absolute_actions(chunk, state, self.delta_mask)
        return np.asarray(chunk[..., : self.layout.action_dim], np.float64)

    def _prompt(self, raw: Mapping[str, Any]) -> str:
        prompt = raw.get("prompt", self.default_prompt)
        prompt = prompt.item() if isinstance(prompt, np.ndarray | np.generic) and np.size(prompt) == 1 else prompt
        if isinstance(prompt, bytes):
            prompt = prompt.decode("utf-8", "replace")
        if not isinstance(prompt, str):
            raise ModelError(f"prompt: found {type(prompt).__name__}, expected the instruction as text")
        return prompt

    def _batch_images(self, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        chosen: dict[str, np.ndarray | None] = {}
        for slot, name in self.layout.slot_fields(self.config).items():
            short = None if name is None else name.removeprefix("observation/")
            found = [key for key in (name, short) if key in images]
            if name is not None and not found:
                raise ModelError(f"batch: found images {sorted(images)}, expected also {short!r}")
            chosen[slot] = images[found[0]] if found and found[0] is not None else None
        return chosen

    def _images(self, images: Mapping[str, np.ndarray | None], batch: int | None = None) -> dict[str, Any]:
        height, width = self.config.siglip.image_resolution
        lead = () if batch is None else (batch,)
        data: dict[str, np.ndarray] = {}
        masks: dict[str, np.ndarray] = {}
        for slot, image in images.items():
            if image is None and not self._keep_absent:
                continue
            black = np.zeros((*lead, height, width, 3), np.uint8)
            data[slot] = black if image is None else resize_with_pad_pil(image, height, width)
            masks[slot] = np.full(lead, image is not None or self._fast)
        return {"image": data, "image_mask": masks}

    def vectors(self, prompt: str, state: np.ndarray, actions: np.ndarray | None) -> dict[str, np.ndarray]:
        """Everything of `inputs` but the images, for training that prepares a whole dataset once.

        Args:
            prompt: the instruction.
            state: (d,) in the robot's units.
            actions: (H, d) in the robot's units, or None.

        Returns:
            Unbatched `state`, `tokenized_prompt`, `tokenized_prompt_mask` and, when given, `actions` (H, action_dim).
        """
        if actions is not None and self.delta_mask is not None:
            actions = delta_actions(actions, state, self.delta_mask)
        state = normalize(state, self.norm_stats["state"], quantile=self.quantile)
        if actions is not None:
            actions = normalize(actions, self.norm_stats["actions"], quantile=self.quantile)
        return self._fast_vectors(prompt, state, actions) if self._fast else self._flow_vectors(prompt, state, actions)

    def _flow_vectors(self, prompt: str, state: np.ndarray, actions: np.ndarray | None) -> dict[str, np.ndarray]:
        tokens, mask = self.prompt_tokenizer.tokenize(prompt, state)
        data = {
            "state": pad_to_dim(state, self.config.action_dim).astype(np.float32),
            "tokenized_prompt": tokens,
            "tokenized_prompt_mask": mask,
        }
        if actions is not None:
            data["actions"] = pad_to_dim(actions, self.config.action_dim).astype(np.float32)
        return data

    def _fast_vectors(self, prompt: str, state: np.ndarray, actions: np.ndarray | None) -> dict[str, np.ndarray]:
        example = self.fast_tokenizer.tokenize(prompt, state, actions)
        data = {
            "state": state.astype(np.float32),
            "tokenized_prompt": example.tokens,
            "tokenized_prompt_mask": example.mask,
            "token_ar_mask": example.ar_mask,
            "token_loss_mask": example.loss_mask,
        }
        return data if actions is None else data | {"actions": actions.astype(np.float32)}
