"""A policy: a checkpoint that turns observations into action chunks, with openpi's random numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.checkpoint import Checkpoint, load_checkpoint
from robosteer_model.config import ModelConfig
from robosteer_model.edits import Edits
from robosteer_model.errors import ModelError
from robosteer_model.observation import Observation
from robosteer_model.pi0 import sample_actions
from robosteer_model.pi0_fast import sample_tokens
from robosteer_model.realtime import Guide
from robosteer_model.taps import Tap
from robosteer_model.transforms import Transforms

Precision = Literal["stock", "float32"]


class Policy:
    """Runs a checkpoint on observations.

    openpi's numbers: the key starts at key(seed) and is split once per call, also when noise is given.

    Prompt padding is not computed: prompts are cut to a quarter, half... of `max_token_len`, whichever fits. The length
    only ever grows, because a new one compiles again. Not for use from several threads at once.

    Args:
        checkpoint: the model, its statistics and its tokenizer.
        num_steps: evaluations of the velocity per chunk (pi0, pi0.5).
        seed: of the noise.
        precision: "stock" casts every parameter to the model's compute dtype as openpi's policy does (bfloat16 for the
            released models); "float32" keeps all parameters in float32.
        transforms: made from the checkpoint when not given; their `keep_absent` decides about absent cameras.
        full_prompt: compute all of `max_token_len`; with `keep_absent` these are openpi's shapes.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        num_steps: int = 10,
        seed: int = 0,
        precision: Precision = "stock",
        transforms: Transforms | None = None,
        full_prompt: bool = False,
    ) -> None:
        if num_steps < 1:
            raise ModelError(f"num_steps: found {num_steps}, expected at least 1")
        self.config = checkpoint.config
        self.transforms = transforms or Transforms.of(checkpoint)
        if self.config.model_type == "pi0_fast":
            _ = self.transforms.fast_tokenizer.action_tokens  # Without it no action could be read: say so now.
        self.metadata = policy_metadata(checkpoint)
        self._key = jax.random.key(seed)
        dtype = jnp.float32 if precision == "float32" else jnp.dtype(self.config.dtype)
        self._params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), dict(checkpoint.params))
        self._sample = _sampler(self.config, num_steps)
        # pi0-FAST aligns its prompt to the right itself.
        whole = full_prompt or self.config.model_type == "pi0_fast"
        self._prompt_length = self.config.max_token_len if whole else 0

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        config: ModelConfig | str | None = None,
        precision: Precision = "stock",
        num_steps: int = 10,
        seed: int = 0,
        tokenizer: str | os.PathLike[str] | None = None,
        full_prompt: bool = False,
        **options: Any,
    ) -> Policy:
        """A policy from a checkpoint directory; parameters are cast while they are read.

        Args:
            path: see `load_checkpoint`.
            config: see `load_checkpoint`.
            precision: see the constructor.
            num_steps: see the constructor.
            seed: see the constructor.
            tokenizer: a SentencePiece file instead of the checkpoint's own or PaliGemma's.
            full_prompt: see the constructor.
            **options: of `Transforms` (default_prompt, delta_mask, action_tokens, keep_absent, layout).
        """
        checkpoint = load_checkpoint(path, config=config, dtype="compute" if precision == "stock" else "float32")
        source = checkpoint.tokenizer if tokenizer is None else tokenizer
        options.setdefault("layout", checkpoint.data_layout)
        transforms = Transforms(checkpoint.config, checkpoint.norm_stats, source, **options)
        return cls(
            checkpoint,
            num_steps=num_steps,
            seed=seed,
            precision=precision,
            transforms=transforms,
            full_prompt=full_prompt,
        )

    def infer(
        self,
        raw_observation: Mapping[str, Any],
        noise: np.ndarray | None = None,
        *,
        taps: Sequence[Tap] = (),
        edits: Edits | None = None,
        guide: Guide | None = None,
    ) -> dict[str, Any]:
        """One action chunk.

        Args:
            raw_observation: openpi's flat keys of the checkpoint's data layout, and `prompt`.
            noise: (H, action_dim) or (1, H, action_dim) to start from; drawn when None. Not used by pi0-FAST.
            taps: activations to return; another selection compiles again.
            edits: changes to activations; other values do not compile again, other sites and scopes do.
            guide: the chunk being executed, which the new one continues (not pi0-FAST); other values do not compile
                again.

        Returns:
            `actions` (H, d) float64 in the robot's units, `model_actions` (H, action_dim) float32 as the model made
            them (not pi0-FAST; for the next call's guide), `policy_timing` {`infer_ms`}: milliseconds of the model
            alone until its result is on the host, and with taps `taps`, as the model's `sample_actions` names them.

        Raises:
            ModelError: for missing or misshapen inputs.
        """
        inputs = self.transforms.inputs(raw_observation)
        observation = self.transforms.observation(self._cut_prompt(inputs))
        self._key, key = jax.random.split(self._key)
        start = time.monotonic()
        if guide is not None and self.config.model_type == "pi0_fast":
            raise ModelError("guide: found one for pi0-FAST, expected a flow model")
        arguments = (self._params, observation, key, self._noise(noise), edits, guide)
        chunk, tapped = jax.device_get(self._sample(*arguments, taps=tuple(taps)))
        elapsed = time.monotonic() - start
        state = self.transforms.layout.read_state(raw_observation)
        result = {
            "actions": self.transforms.outputs(chunk[0], state),
            "policy_timing": {"infer_ms": elapsed * 1000},
        }
        if self.config.model_type != "pi0_fast":
            result["model_actions"] = np.asarray(chunk[0], np.float32)
        return result | {"taps": tapped} if taps else result

    def warm_up(self, prompt: str | None = None, noise: np.ndarray | None = None) -> None:
        """Compile by one inference on black images, so that the first real one is not late; the key is not used up.

        Args:
            prompt: the instruction to come: room is made for it with the longest state text. None takes the default.
            noise: as for `infer`; with and without it are two programs.
        """
        raw = self.transforms.blank_observation()
        raw["prompt"] = prompt if prompt is not None else raw["prompt"]
        if self.config.model_type != "pi0_fast":
            state = np.ones(self.transforms.norm_stats["state"].size)
            _, mask = self.transforms.prompt_tokenizer.tokenize(raw["prompt"], state)
            self._make_room(int(mask.sum()))
        key = self._key
        self.infer(raw, noise)
        self._key = key

    def _make_room(self, tokens: int) -> None:
        self._prompt_length = max(self._prompt_length, prompt_bucket(tokens, self.config.max_token_len))

    def _cut_prompt(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self._make_room(int(inputs["tokenized_prompt_mask"].sum()))
        prompt = {name: value[: self._prompt_length] for name, value in inputs.items() if name.startswith("token")}
        return inputs | prompt

    def reset(self) -> None:
        """Nothing to forget between episodes; part of openpi's policy interface."""

    def _noise(self, noise: np.ndarray | None) -> jax.Array | None:
        if noise is None:
            return None
        shape = (1, self.config.action_horizon, self.config.action_dim)
        array = np.asarray(noise, np.float32)
        if array.shape not in (shape, shape[1:]):
            raise ModelError(f"noise: found shape {np.shape(noise)}, expected {shape[1:]}")
        return jnp.asarray(array.reshape(shape))


def policy_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a server tells its clients: plain values only."""
    config = checkpoint.config
    return {
        "model_type": config.model_type,
        "action_horizon": config.action_horizon,
        "data_layout": checkpoint.data_layout,
        "action_convention": dict(checkpoint.action_convention),
    }


def prompt_bucket(tokens: int, max_token_len: int) -> int:
    """The smallest of four equally spaced lengths up to `max_token_len` that holds so many tokens."""
    step = -(-max_token_len // 4)
    return min(max_token_len, max(1, -(-tokens // step)) * step)


def _sampler(config: ModelConfig, num_steps: int) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
    """The compiled model: (params, observation, key, noise or None, edits, taps=) -> (chunk or tokens, taps)."""

    def flow(
        params: Any,
        observation: Observation,
        key: jax.Array,
        noise: jax.Array | None,
        edits: Edits | None,
        guide: Guide | None,
        taps: tuple[Tap, ...],
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        if noise is None:
            noise = jax.random.normal(key, (observation.batch_size, config.action_horizon, config.action_dim))
        return sample_actions(
            params, config, observation, noise, num_steps=num_steps, taps=taps, edits=edits, guide=guide
        )

    def decode(
        params: Any,
        observation: Observation,
        key: jax.Array,
        _noise: None,
        edits: Edits | None,
        _guide: None,
        taps: tuple[Tap, ...],
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        return sample_tokens(params, config, observation, key, taps=taps, edits=edits)

    return jax.jit(decode if config.model_type == "pi0_fast" else flow, static_argnames="taps")
