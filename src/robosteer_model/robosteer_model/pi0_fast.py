"""pi0-FAST: one Gemma that reads images and prompt, and writes action tokens one after the other.

Axis letters: B batch, S sequence length (image tokens, then text), T text tokens, V vocabulary, W width.
The streams of taps and edits are the prefix (tokens whose attention is bidirectional) and the suffix (the causal,
generated ones); both belong to the same expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from robosteer_model.config import ModelConfig
from robosteer_model.edits import Edits, resolve_edits
from robosteer_model.errors import ModelError
from robosteer_model.gemma import KvCache, forward
from robosteer_model.layers import attention_mask, embed_tokens, last_valid_index, positions_of
from robosteer_model.observation import Observation
from robosteer_model.remat import Remat
from robosteer_model.sequences import Prefix, embed_prefix
from robosteer_model.taps import Layout, Rows, Tap, resolve

Params = dict[str, Any]
EOS_TOKEN = 1


class TextPass(NamedTuple):
    """Result of the training pass, at the positions that predict text tokens.

    Attributes:
        logits: (B, T - 1, V).
        pre_logits: (B, T - 1, W), after the final norm.
        taps: by key.
    """

    logits: jax.Array
    pre_logits: jax.Array
    taps: dict[str, jax.Array]


class Decoding(NamedTuple):
    """Where generation stands.

    Attributes:
        logits: (B, V) that predict the next token.
        cache: keys and values, (L, B, S + steps, K, H); slots from S on are filled by generated tokens.
        length: int (B,), valid prefix tokens. They end at slot S - 1.
        prefill_size: S.
        taps: prefix taps by key.
    """

    logits: jax.Array
    cache: KvCache
    length: jax.Array
    prefill_size: int
    taps: dict[str, jax.Array]


def text_pass(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    *,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
    remat: Remat = "off",
) -> TextPass:
    """One pass over images and text without the last token, as in training; positions simply count."""
    sequence, autoregressive = _embed(params, config, observation, remat)
    length = sequence.tokens.shape[1] - 1
    layouts = _joint_layouts(sequence, autoregressive)
    mask = attention_mask(sequence.valid, autoregressive)[:, :length, :length]
    batch = observation.batch_size
    result = forward(
        params["PaliGemma"]["llm"],
        config,
        (sequence.tokens[:, :length],),
        jnp.broadcast_to(jnp.arange(length), (batch, length)),
        mask,
        readers=resolve(taps, layouts),
        writers=resolve_edits(edits, config, layouts, dict.fromkeys(layouts, (batch, length))),
        remat=remat,
    )
    pre_logits = result.outputs[0][:, length - observation.tokenized_prompt.shape[1] + 1 :]
    return TextPass(_logits(params, pre_logits), pre_logits, result.taps)


def compute_loss(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    *,
    edits: Edits | None = None,
    remat: Remat = "off",
) -> jax.Array:
    """Cross-entropy of the action tokens, mean over those with a loss mask: (B,).

    Raises:
        ModelError: when the observation has no loss mask.
    """
    if observation.token_loss_mask is None:
        raise ModelError("observation.token_loss_mask: found none, expected the mask of predicted tokens (pi0-FAST)")
    logits = text_pass(params, config, observation, edits=edits, remat=remat).logits
    log_probabilities = jax.nn.log_softmax(logits, axis=-1)
    targets = observation.tokenized_prompt[:, 1:, None]
    of_targets = jnp.take_along_axis(log_probabilities, targets, axis=-1)[..., 0]
    weights = observation.token_loss_mask[:, 1:]
    return -jnp.sum(of_targets * weights, axis=-1) / jnp.maximum(jnp.sum(weights, axis=-1), 1)


def prefill(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    max_decoding_steps: int,
    *,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
) -> Decoding:
    """Read images and prompt, right-aligned so that every row's last valid token is the last one."""
    sequence, autoregressive = _embed(params, config, observation)
    mask = attention_mask(sequence.valid, autoregressive)
    tokens, valid, mask = align_right(sequence.tokens, sequence.valid, mask)
    layouts = {"prefix": (0, _aligned_layout(sequence))}
    result = forward(
        params["PaliGemma"]["llm"],
        config,
        (tokens,),
        positions_of(valid),
        mask,
        keep_cache=True,
        readers=resolve(taps, layouts),
        writers=resolve_edits(edits, config, layouts, {"prefix": valid.shape}),
    )
    room = [(0, 0), (0, 0), (0, max_decoding_steps), (0, 0), (0, 0)]
    cache = KvCache(jnp.pad(result.cache.k, room), jnp.pad(result.cache.v, room))
    logits = _logits(params, result.outputs[0][:, -1])
    return Decoding(logits, cache, jnp.sum(valid, axis=1), valid.shape[1], result.taps)


def decode_step(
    params: Params,
    config: ModelConfig,
    decoding: Decoding,
    token: jax.Array,
    step: jax.Array | int,
    *,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
) -> tuple[Decoding, dict[str, jax.Array]]:
    """Feed the token (B,) generated at `step` (from 0); returns the new state and this token's taps."""
    table = params["PaliGemma"]["llm"]["embedder"]["input_embedding"]
    batch, step = token.shape[0], jnp.asarray(step)
    slots = jnp.arange(decoding.cache.k.shape[2])[None, None]
    slot = decoding.prefill_size + step
    first = (decoding.prefill_size - decoding.length)[:, None, None]
    one = Rows(slice(0, 1), single=True)
    layouts = {"suffix": (0, Layout("suffix", {"suffix.first": one, "suffix.last": one, "all": Rows(slice(None))}))}
    result = forward(
        params["PaliGemma"]["llm"],
        config,
        (embed_tokens(table, token[:, None], jnp.dtype(config.dtype)),),
        # openpi's generated tokens skip one position; trained models have seen it so at test time.
        (decoding.length + step + 1)[:, None],
        (slots >= first) & (slots < slot + 1),
        cache=decoding.cache,
        write_at=slot,
        keep_cache=True,
        readers=resolve(taps, layouts),
        writers=resolve_edits(edits, config, layouts, {"suffix": (batch, 1)}, step),
    )
    cache = KvCache(
        jax.lax.dynamic_update_slice_in_dim(decoding.cache.k, result.cache.k, slot, axis=2),
        jax.lax.dynamic_update_slice_in_dim(decoding.cache.v, result.cache.v, slot, axis=2),
    )
    return decoding._replace(logits=_logits(params, result.outputs[0][:, -1]), cache=cache), result.taps


def sample_tokens(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    key: jax.Array | None = None,
    *,
    max_decoding_steps: int = 256,
    temperature: float = 0.0,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Generate token ids until every row emits the end token at the same step.

    Args:
        params: openpi's tree.
        config: the model.
        observation: prompts without action tokens.
        key: for temperature > 0.
        max_decoding_steps: most tokens per row.
        temperature: 0 takes the most likely token.
        taps: activations to return.
        edits: changes to activations; a suffix edit's steps count generated tokens.

    Returns:
        float32 (B, steps) of token ids, 0 after the end (openpi's type); and the taps by key: prefix taps lead with
        the layer, suffix taps with (step, layer).
    """
    decoding = prefill(params, config, observation, max_decoding_steps, taps=taps, edits=edits)
    prefix_taps = decoding.taps
    key = jax.random.key(0) if key is None else key
    suffix_taps = tuple(tap for tap in taps if tap.stream == "suffix")

    def advance(decoding: Decoding, token: jax.Array, step: jax.Array) -> tuple[Decoding, dict[str, jax.Array]]:
        fixed = decoding._replace(prefill_size=size, taps={})
        return decode_step(params, config, fixed, token, step, taps=suffix_taps, edits=edits)

    size, batch = decoding.prefill_size, observation.batch_size
    decoding = decoding._replace(prefill_size=0, taps={})
    ids = jnp.zeros(batch, jnp.int32)
    shapes = jax.eval_shape(advance, decoding, ids, jnp.int32(0))[1]
    collected = jax.tree.map(lambda x: jnp.zeros((max_decoding_steps, *x.shape), x.dtype), shapes)

    def unfinished(carry: Any) -> jax.Array:
        step, ended = carry[0], carry[1]
        return ~ended & (step < max_decoding_steps)

    def generate(carry: Any) -> Any:
        step, _, key, decoding, output, collected = carry
        key, step_key = jax.random.split(key)
        token = _next_token(decoding.logits, step_key, temperature)
        output = output.at[:, step].set(token.astype(output.dtype))
        decoding, found = advance(decoding, token, step)
        collected = jax.tree.map(lambda all_steps, one: all_steps.at[step].set(one), collected, found)
        return step + 1, jnp.all(token == EOS_TOKEN), key, decoding._replace(prefill_size=0), output, collected

    output = jnp.zeros((batch, max_decoding_steps))
    start = (jnp.int32(0), jnp.bool_(False), key, decoding, output, collected)
    _, _, _, _, output, collected = jax.lax.while_loop(unfinished, generate, start)
    return output, prefix_taps | collected


def align_right(tokens: jax.Array, valid: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Roll every row so that its last valid token comes last.

    Args:
        tokens: (B, S, W).
        valid: bool (B, S).
        mask: bool (B, S, S).
    """

    def roll(tokens: jax.Array, valid: jax.Array, mask: jax.Array, length: jax.Array) -> Any:
        mask = jnp.roll(jnp.roll(mask, -length, axis=0), -length, axis=1)
        return jnp.roll(tokens, -length, axis=0), jnp.roll(valid, -length), mask

    return jax.vmap(roll)(tokens, valid, mask, _lengths(valid))


def _lengths(valid: jax.Array) -> jax.Array:
    """Index after the last valid token, (B,); 1 for a row without any, as in openpi."""
    return jnp.max(valid * jnp.arange(valid.shape[1]), axis=1) + 1


def _embed(
    params: Params, config: ModelConfig, observation: Observation, remat: Remat = "off"
) -> tuple[Prefix, jax.Array]:
    """Images and text, and where attention is causal (B, S)."""
    if observation.token_ar_mask is None:
        raise ModelError("observation.token_ar_mask: found none, expected the mask of causal tokens (pi0-FAST)")
    sequence = embed_prefix(params, config, observation, remat=remat)
    images = sequence.valid.shape[1] - observation.token_ar_mask.shape[1]
    zeros = jnp.zeros((observation.batch_size, images), jnp.int32)
    return sequence, jnp.concatenate([zeros, observation.token_ar_mask.astype(jnp.int32)], axis=1)


def _joint_layouts(sequence: Prefix, autoregressive: jax.Array) -> dict[str, tuple[int, Layout]]:
    """Both streams inside one sequence; `all` reads every token but edits only the stream's own."""
    length = sequence.valid.shape[1] - 1
    causal, valid = autoregressive[:, :length] > 0, sequence.valid[:, :length]
    prefix_valid = valid & ~causal
    prefix = dict(sequence.layout.rows) | {"prefix.last": Rows(last_valid_index(prefix_valid), single=True)}
    suffix = {
        "suffix.first": Rows(jnp.argmax(causal & valid, axis=1), single=True),
        "suffix.last": Rows(last_valid_index(causal & valid), single=True),
        "all": Rows(slice(None)),
    }
    return {
        "prefix": (0, Layout("prefix", prefix, own=~causal)),
        "suffix": (0, Layout("suffix", suffix, own=causal)),
    }


def _aligned_layout(sequence: Prefix) -> Layout:
    """Names of the right-aligned tokens."""
    size = sequence.valid.shape[1]
    rows: dict[str, Rows] = {"all": Rows(slice(None)), "prefix.last": Rows(slice(size - 1, size), single=True)}
    for name, row in sequence.layout.rows.items():
        if name not in rows and isinstance(row.where, slice):
            where = jnp.arange(row.where.start, row.where.stop)[None] - _lengths(sequence.valid)[:, None]
            rows[name] = Rows(where % size)
    return Layout("prefix", rows)


def _logits(params: Params, x: jax.Array) -> jax.Array:
    """Tied output embedding, in the promotion of activation and table dtypes."""
    return jnp.dot(x, params["PaliGemma"]["llm"]["embedder"]["input_embedding"].T)


def _next_token(logits: jax.Array, key: jax.Array, temperature: float) -> jax.Array:
    if temperature > 0.0:
        return jax.random.categorical(key, logits[:, None] / temperature, axis=-1)[:, 0]
    return jnp.argmax(logits, axis=-1)
