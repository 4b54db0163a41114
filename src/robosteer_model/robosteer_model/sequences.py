"""Sequences of tokens: images and prompt (prefix), state and noisy actions (suffix), with their masks.

Axis letters: B batch, H action_horizon, A action_dim, T prefix length, U suffix length, W0/W1 widths of PaliGemma and
of the action expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from robosteer_model.config import ModelConfig
from robosteer_model.layers import attention_mask, embed_tokens, last_valid_index, linear, posemb_sincos, positions_of
from robosteer_model.observation import Observation, present_cameras
from robosteer_model.remat import Remat
from robosteer_model.siglip import encode_images
from robosteer_model.taps import Layout, Rows

Params = dict[str, Any]


class Prefix(NamedTuple):
    """Embedded images and prompt.

    Attributes:
        tokens: (B, T, W0): image tokens in camera order, then prompt embeddings.
        valid: bool (B, T).
        layout: names of the tokens.
    """

    tokens: jax.Array
    valid: jax.Array
    layout: Layout


class Suffix(NamedTuple):
    """Embedded state (pi0), noisy actions and time.

    Attributes:
        tokens: (B, U, W1), before the cast to the compute dtype.
        autoregressive: bool (U,), True where a token opens a block that earlier ones do not see.
        condition: (B, W1) for pi0.5's adaptive norms, None for pi0.
        layout: names of the tokens.
    """

    tokens: jax.Array
    autoregressive: jax.Array
    condition: jax.Array | None
    layout: Layout


def embed_prefix(params: Params, config: ModelConfig, observation: Observation, *, remat: Remat = "off") -> Prefix:
    """Encode the present cameras and the prompt.

    Args:
        params: openpi's tree.
        config: the model.
        observation: batch of inputs; images that are encoded already (B, tokens, W0) are taken as they are.
        remat: what the image encoder's backward pass computes again.
    """
    cameras = present_cameras(config, observation)
    dtype = jnp.dtype(config.dtype)
    batch, per_image = observation.batch_size, config.siglip.num_tokens
    raw = [name for name in cameras if observation.images[name].ndim == 4]
    encoded = {name: observation.images[name].astype(dtype) for name in cameras if name not in raw}
    if raw:
        images = jnp.concatenate([observation.images[name] for name in raw])
        together = encode_images(params["PaliGemma"]["img"], config.siglip, images, dtype, remat=remat)
        encoded |= {name: together[i * batch : (i + 1) * batch] for i, name in enumerate(raw)}
    tokens = [encoded[name] for name in cameras]
    valid = [jnp.broadcast_to(observation.image_masks[name][:, None], (batch, per_image)) for name in cameras]
    table = params["PaliGemma"]["llm"]["embedder"]["input_embedding"]
    tokens.append(embed_tokens(table, observation.tokenized_prompt, dtype))
    valid.append(observation.tokenized_prompt_mask)
    all_valid = jnp.concatenate(valid, axis=1)
    return Prefix(jnp.concatenate(tokens, axis=1), all_valid, prefix_layout(cameras, per_image, all_valid))


def prefix_layout(cameras: Sequence[str], per_image: int, valid: jax.Array) -> Layout:
    """Names of the prefix tokens: `image[<camera>]`, `text`, `prefix.last`, `all`."""
    rows = {f"image[{name}]": Rows(slice(i * per_image, (i + 1) * per_image)) for i, name in enumerate(cameras)}
    rows["text"] = Rows(slice(len(cameras) * per_image, valid.shape[1]))
    rows["prefix.last"] = Rows(last_valid_index(valid), single=True)
    rows["all"] = Rows(slice(None))
    return Layout("prefix", rows)


def embed_suffix(params: Params, config: ModelConfig, state: jax.Array, x_t: jax.Array, time: jax.Array) -> Suffix:
    """Embed state (B, A), noisy actions x_t (B, H, A) and time (B,), or (B, H) with one for every action."""
    width = params["action_in_proj"]["kernel"].shape[1]
    actions = linear(params["action_in_proj"], x_t)
    time_embedding = posemb_sincos(time.reshape(-1), width).reshape(*time.shape, width).astype(time.dtype)
    if config.model_type == "pi05":
        condition = jax.nn.swish(linear(params["time_mlp_in"], time_embedding))
        condition = jax.nn.swish(linear(params["time_mlp_out"], condition))
        return Suffix(actions, _opens_block(actions.shape[1], {0}), condition, _suffix_layout(config, 0))
    spread = time_embedding[:, None] if time.ndim == 1 else time_embedding
    over_horizon = jnp.broadcast_to(spread, (*actions.shape[:2], width))
    mixed = jax.nn.swish(linear(params["action_time_mlp_in"], jnp.concatenate([actions, over_horizon], axis=-1)))
    mixed = linear(params["action_time_mlp_out"], mixed)
    tokens = jnp.concatenate([linear(params["state_proj"], state)[:, None], mixed], axis=1)
    return Suffix(tokens, _opens_block(tokens.shape[1], {0, 1}), None, _suffix_layout(config, 1))


def _opens_block(length: int, first: set[int]) -> jax.Array:
    return jnp.asarray([i in first for i in range(length)])


def _suffix_layout(config: ModelConfig, state_tokens: int) -> Layout:
    length = state_tokens + config.action_horizon
    rows = {"suffix.first": Rows(slice(0, 1), single=True), "suffix.last": Rows(slice(length - 1, length), single=True)}
    if state_tokens:
        rows["state"] = rows["suffix.first"]
    rows["actions"] = Rows(slice(state_tokens, length))
    rows["all"] = Rows(slice(None))
    return Layout("suffix", rows)


def joint_masks(prefix: Prefix, suffix: Suffix) -> tuple[jax.Array, jax.Array]:
    """Validity (B, T + U) and block starts (T + U,) of the whole sequence; the prefix is one block."""
    batch, length = prefix.valid.shape
    valid = jnp.concatenate([prefix.valid, jnp.ones((batch, suffix.tokens.shape[1]), bool)], axis=1)
    return valid, jnp.concatenate([jnp.zeros(length, bool), suffix.autoregressive])


def cached_masks(prefix_valid: jax.Array, suffix: Suffix) -> tuple[jax.Array, jax.Array]:
    """Attention mask (B, U, T + U) and positions (B, U) of a suffix behind a cached prefix."""
    batch, length = prefix_valid.shape
    suffix_valid = jnp.ones((batch, suffix.tokens.shape[1]), bool)
    own = attention_mask(suffix_valid, suffix.autoregressive)
    to_prefix = jnp.broadcast_to(prefix_valid[:, None, :], (batch, own.shape[1], length))
    positions = jnp.sum(prefix_valid, axis=1)[:, None] + positions_of(suffix_valid)
    return jnp.concatenate([to_prefix, own], axis=-1), positions
