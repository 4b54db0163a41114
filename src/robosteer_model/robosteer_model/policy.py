"""A policy: a checkpoint that turns observations into action chunks, with openpi's random numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.checkpoint import Checkpoint, load_checkpoint
from robosteer_model.config import ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.observation import Observation
from robosteer_model.transforms import Transforms

Precision = Literal["stock", "float32"]


class Policy:
    """Runs a checkpoint on observations.

    openpi's numbers: the key starts at key(seed) and is split once per call, also when noise is given.

    Args:
        checkpoint: the model, its statistics and its tokenizer.
        num_steps: evaluations of the velocity per chunk (pi0, pi0.5).
        seed: of the noise.
        precision: "stock" casts every parameter to the model's compute dtype as openpi's policy does (bfloat16 for the
            released models); "float32" keeps all parameters in float32.
        transforms: made from the checkpoint when not given.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        num_steps: int = 10,
        seed: int = 0,
        precision: Precision = "stock",
        transforms: Transforms | None = None,
    ) -> None:
        if num_steps < 1:
            raise ModelError(f"num_steps: found {num_steps}, expected at least 1")
        self.config = checkpoint.config
        self.transforms = transforms or Transforms.of(checkpoint)
        self.metadata = policy_metadata(checkpoint)
        self._key = jax.random.key(seed)
        dtype = jnp.float32 if precision == "float32" else jnp.dtype(self.config.dtype)
        self._params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), dict(checkpoint.params))
        self._sample = _sampler(self.config, num_steps)

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
            **options: of `Transforms` (default_prompt, delta_mask, action_tokens, keep_absent, layout).
        """
        checkpoint = load_checkpoint(path, config=config, dtype="compute" if precision == "stock" else "float32")
        source = checkpoint.tokenizer if tokenizer is None else tokenizer
        options.setdefault("layout", checkpoint.data_layout)
        transforms = Transforms(checkpoint.config, checkpoint.norm_stats, source, **options)
        return cls(checkpoint, num_steps=num_steps, seed=seed, precision=precision, transforms=transforms)

    def infer(self, raw_observation: Mapping[str, Any], noise: np.ndarray | None = None) -> dict[str, Any]:
        """One action chunk.

        Args:
            raw_observation: openpi's flat keys of the checkpoint's data layout, and `prompt`.
            noise: (H, action_dim) or (1, H, action_dim) to start from; drawn when None. Not used by pi0-FAST.

        Returns:
            `actions` (H, d) float64 in the robot's units, and `policy_timing` {`infer_ms`}: milliseconds of the model
            alone, until its result is on the host.

        Raises:
            ModelError: for missing or misshapen inputs.
        """
        inputs = self.transforms.inputs(raw_observation)
        observation = self.transforms.observation(inputs)
        self._key, key = jax.random.split(self._key)
        start = time.monotonic()
        chunk = np.asarray(self._sample(self._params, observation, key, self._noise(noise)))[0]
        elapsed = time.monotonic() - start
        state = self.transforms.layout.read_state(raw_observation)
        return {
            "actions": self.transforms.outputs(chunk, state),
            "policy_timing": {"infer_ms": elapsed * 1000},
        }

    def warm_up(self) -> None:
        """Compile by one inference on a black image, so that the first real one is not late. The key is not used."""
        key = self._key
        self.infer(self.transforms.blank_observation())
        self._key = key

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


Sampler = Callable[[Any, Observation, jax.Array, jax.Array | None], jax.Array]


def _sampler(config: ModelConfig, num_steps: int) -> Sampler:
    if config.model_type == "pi0_fast":
        from robosteer_model import pi0_fast

        raise NotImplementedError(pi0_fast)
    from robosteer_model.pi0 import sample_actions

    def sample(params: Any, observation: Observation, key: jax.Array, noise: jax.Array | None) -> jax.Array:
        if noise is None:
            noise = jax.random.normal(key, (observation.batch_size, config.action_horizon, config.action_dim))
        return sample_actions(params, config, observation, noise, num_steps=num_steps)[0]

    return jax.jit(sample)
