"""openpi's own JAX model, timed beside ours where `openpi` can be imported (it needs an environment of its own)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.params import flatten, unflatten


def sampler(config: ModelConfig, params: dict[str, Any], *, num_steps: int) -> Callable[[Any, np.ndarray], np.ndarray]:
    """(observation in openpi's keys, noise) -> actions, compiled as openpi's policy does it.

    Args:
        config: a pi0 or pi0.5 of openpi's own sizes.
        params: openpi's tree.
        num_steps: of denoising.
    """
    from openpi.models.model import Observation
    from openpi.shared import nnx_utils

    model = _model_config(config).load(jax.tree.map(jnp.asarray, params))
    model.eval()
    sample = nnx_utils.module_jit(model.sample_actions, static_argnames="num_steps")
    key = jax.random.key(0)

    def act(inputs: Any, noise: np.ndarray) -> np.ndarray:
        observation = Observation.from_dict(jax.tree.map(jnp.asarray, inputs))
        return np.asarray(sample(key, observation, num_steps=num_steps, noise=jnp.asarray(noise)))

    return act


def lora_step(config: ModelConfig, params: dict[str, Any]) -> tuple[Callable[..., Any], Any, Any]:
    """One optimiser step of openpi's LoRA training, without its augmentation of images.

    Args:
        config: a pi0 or pi0.5 of openpi's own sizes, with LoRA.
        params: openpi's tree.

    Returns:
        A jitted (trained, moments, frozen, observation, actions) -> (trained, moments, loss); `trained` and `frozen`,
        in the precisions that openpi's training gives them; and the moments.
    """
    import flax.nnx as nnx
    from openpi.training.optimizer import AdamW, CosineDecaySchedule, create_optimizer

    stated = _model_config(config)
    kind = stated.get_freeze_filter()
    flat = {path: leaf.astype(np.float32) for path, leaf in flatten(params).items()}
    graph, trained, frozen = nnx.split(stated.load(unflatten(flat)), nnx.All(nnx.Param, nnx.Not(kind)), ...)
    frozen = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), frozen)
    trained = jax.tree.map(jnp.asarray, trained)
    optimiser = create_optimizer(AdamW(), CosineDecaySchedule())
    moments = optimiser.init(trained)

    def loss_of(trained: Any, frozen: Any, observation: Any, actions: Any) -> jax.Array:
        model = nnx.merge(graph, trained, frozen)
        model.train()
        return jnp.mean(model.compute_loss(jax.random.key(0), observation, actions, train=False))

    def step(trained: Any, moments: Any, frozen: Any, observation: Any, actions: Any) -> Any:
        import optax

        loss, gradients = jax.value_and_grad(loss_of)(trained, frozen, observation, actions)
        updates, moments = optimiser.update(gradients, moments, trained)
        return optax.apply_updates(trained, updates), moments, loss

    return jax.jit(step, donate_argnums=(0, 1)), (trained, frozen), moments


def observation(inputs: Any) -> Any:
    """Openpi's observation from its keys."""
    from openpi.models.model import Observation

    return Observation.from_dict(jax.tree.map(jnp.asarray, inputs))


def _model_config(config: ModelConfig) -> Any:
    from openpi.models.pi0_config import Pi0Config

    def variant(name: str, gemma: Any) -> Any:
        return f"{name}_lora" if gemma.lora_attn else name

    return Pi0Config(
        dtype=config.dtype,
        pi05=config.model_type == "pi05",
        action_dim=config.action_dim,
        action_horizon=config.action_horizon,
        max_token_len=config.max_token_len,
        paligemma_variant=variant("gemma_2b", config.paligemma),
        action_expert_variant=variant("gemma_300m", config.action_expert),
    )
