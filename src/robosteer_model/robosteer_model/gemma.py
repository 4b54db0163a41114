"""The language model: one or two Gemma experts that share one attention, scanned over layers.

Expert 0 (PaliGemma) reads the prefix, expert 1 (action expert) the suffix; each has its own weights, and all tokens
attend jointly. Axis letters: B batch, T queries, S keys, N query heads, K key/value heads, G = N/K, H head dim,
D width, F FFN width, L layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from robosteer_model.config import GemmaConfig, ModelConfig
from robosteer_model.edits import Writer
from robosteer_model.layers import rms_norm, rotate
from robosteer_model.lora import adapted_einsum, adapted_matmul
from robosteer_model.remat import Remat, rematerialised
from robosteer_model.taps import Reader, select_layers

# A finite constant: a row without any visible key attends uniformly instead of becoming NaN.
MASKED_LOGIT = -2.3819763e38
# Key below `PaliGemma/llm` of what the last layer's keys and values need, when the rest of it is left out.
LAST_LAYER = "last"


class KvCache(NamedTuple):
    """Rotated keys and values of every layer, each (L, B, S, K, H)."""

    k: jax.Array
    v: jax.Array


class Pass(NamedTuple):
    """What one pass through the language model gives.

    Attributes:
        outputs: per expert (B, T_i, D_i) after the final norm, None where the expert was absent.
        cache: `KvCache` of this pass's own tokens, None unless asked for.
        taps: by key, leading axis L.
    """

    outputs: tuple[Any, ...]
    cache: Any
    taps: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class _Context:
    """What is the same in every layer."""

    experts: tuple[GemmaConfig, ...]
    present: tuple[int, ...]
    positions: jax.Array
    mask: jax.Array
    condition: jax.Array | None
    readers: tuple[Reader, ...]
    writers: tuple[Writer, ...]
    write_at: jax.Array | None
    keep_cache: bool
    float32_rope: bool
    dtype: Any


def forward(
    params: dict[str, Any],
    config: ModelConfig,
    tokens: Sequence[jax.Array | None],
    positions: jax.Array,
    mask: jax.Array,
    *,
    condition: jax.Array | None = None,
    cache: KvCache | None = None,
    write_at: jax.Array | None = None,
    keep_cache: bool = False,
    readers: Sequence[Reader] = (),
    writers: Sequence[Writer] = (),
    remat: Remat = "off",
) -> Pass:
    """Run the experts jointly.

    Args:
        params: the tree below `PaliGemma/llm`.
        config: the model.
        tokens: per expert (B, T_i, D_i), or None for an expert that takes no part.
        positions: int (B, T), over the present tokens in expert order.
        mask: bool (B, T, S), S counting the cached keys too.
        condition: (B, D_1) or (B, T_1, D_1), input of expert 1's adaptive norms.
        cache: keys and values of earlier tokens; they come first.
        write_at: None to put this pass's keys after the cache's; otherwise the slot of the cache that they fill.
        keep_cache: return this pass's own keys and values.
        readers: resolved taps; they see activations after edits.
        writers: resolved edits.
        remat: what the backward pass computes again.
    """
    dtype = jnp.dtype(config.dtype)
    experts = (config.paligemma,) if config.action_expert is None else (config.paligemma, config.action_expert)
    present = tuple(i for i, x in enumerate(tokens) if x is not None)
    context = _Context(
        experts,
        present,
        positions,
        mask,
        condition,
        tuple(readers),
        tuple(writers),
        write_at,
        keep_cache,
        float32_rope=config.model_type == "pi0_fast",
        dtype=dtype,
    )
    carried = {i: x.astype(dtype) for i, x in enumerate(tokens) if x is not None}
    scanned = {
        "params": _present_leaves(params["layers"], present),
        "cache": cache,
        "edits": [w.scanned() for w in writers],
    }

    def layer(carry: dict[int, jax.Array], slices: dict[str, Any]) -> tuple[dict[int, jax.Array], dict[str, Any]]:
        return _layer(context, carry, slices["params"], slices["cache"], _Hooks(context, slices["edits"]))

    carried, collected = jax.lax.scan(rematerialised(layer, remat), carried, scanned)
    outputs: list[jax.Array | None] = [None] * len(tokens)
    for i in present:
        outputs[i] = rms_norm(params[f"final_norm{_suffix(i)}"], carried[i], condition)[0]
    taps = select_layers([reader.tap for reader in readers], collected["taps"], config.paligemma.depth)
    return Pass(tuple(outputs), collected["cache"], taps)


def prefix_cache(
    params: dict[str, Any],
    config: ModelConfig,
    tokens: jax.Array,
    positions: jax.Array,
    mask: jax.Array,
    *,
    remat: Remat = "off",
) -> KvCache:
    """Keys and values of a prefix (B, T, D) in every layer, and nothing that only the discarded prefix output needs.

    A training loss reads the prefix through keys and values alone. Those of the last layer are computed before its
    queries, output projection and FFN act: `flow_training.without_dead_layer` leaves those out of `params`.

    Args:
        params: the tree below `PaliGemma/llm`.
        config: the model.
        tokens: (B, T, D).
        positions: int (B, T).
        mask: bool (B, T, T).
        remat: what the backward pass computes again.
    """
    dtype = jnp.dtype(config.dtype)
    context = _Context((config.paligemma,), (0,), positions, mask, None, (), (), None, True, False, dtype)
    scanned = _present_leaves(params["layers"], (0,))

    def layer(carry: dict[int, jax.Array], slices: dict[int, Any]) -> tuple[dict[int, jax.Array], KvCache]:
        carry, kept = _layer(context, carry, slices, None, _Hooks(context, ()))
        return carry, kept["cache"]

    carried, cache = jax.lax.scan(rematerialised(layer, remat), {0: tokens.astype(dtype)}, scanned)
    if LAST_LAYER not in params:
        return cache
    last = params[LAST_LAYER]
    normed, _ = rms_norm(last["pre_attention_norm"], carried[0])
    _, k, v = _project(config.paligemma, last, normed, with_queries=False)
    k = rotate(k, positions).astype(dtype)
    return KvCache(*(jnp.concatenate([x, y[None]]) for x, y in zip(cache, (k, v), strict=True)))


def _suffix(expert: int) -> str:
    return f"_{expert}" if expert else ""


def _present_leaves(layers: dict[str, Any], present: tuple[int, ...]) -> dict[int, dict[str, Any]]:
    """Each present expert's modules under their plain names, so that absent experts are not even sliced."""
    attention = ("q_einsum", "kv_einsum", "qkv_einsum", "attn_vec_einsum")
    experts = {}
    for i in present:
        modules = {name: layers["attn"][name + _suffix(i)] for name in attention if name + _suffix(i) in layers["attn"]}
        for name in ("mlp", "pre_attention_norm", "pre_ffw_norm"):
            modules[name] = layers[name + _suffix(i)]
        experts[i] = modules
    return experts


class _Hooks:
    """Edits and taps of one layer."""

    def __init__(self, context: _Context, edits: Sequence[dict[str, jax.Array]]) -> None:
        self._context = context
        self._edits = edits
        self.taps: dict[str, jax.Array] = {}

    def record(self, site: str, expert: int, value: jax.Array) -> None:
        """Let the taps read."""
        for reader in self._context.readers:
            self.taps.update(reader.read(site, expert, value))

    def edit(self, site: str, expert: int, value: jax.Array) -> jax.Array:
        """Let the edits write."""
        for writer, layer in zip(self._context.writers, self._edits, strict=True):
            value = writer.apply(site, expert, layer, value)
        return value


def _layer(
    context: _Context,
    carry: dict[int, jax.Array],
    params: dict[int, dict[str, Any]],
    cache: KvCache | None,
    hooks: _Hooks,
) -> tuple[dict[int, jax.Array], dict[str, Any]]:
    """One block: joint attention, then each expert's own FFN."""
    normed, gates = {}, {}
    for i, x in carry.items():
        hooks.record("resid.pre", i, x)
        normed[i], gates[i] = rms_norm(params[i]["pre_attention_norm"], x, context.condition)
    branches, kept = _attention(context, normed, params, cache, hooks)
    out = {}
    for i, x in carry.items():
        x = checkpoint_name(_residual(x, branches[i], gates[i]), "residual")
        hooks.record("resid.mid", i, x)
        y, gate = rms_norm(params[i]["pre_ffw_norm"], x, context.condition)
        y = feed_forward(params[i]["mlp"], y, i, hooks)
        hooks.record("ffn.out", i, y)
        out[i] = _residual(x, y, gate)
        hooks.record("resid.post", i, out[i])
    return out, {"cache": kept if context.keep_cache else None, "taps": hooks.taps}


def _residual(x: jax.Array, branch: jax.Array, gate: jax.Array | None) -> jax.Array:
    return x + branch if gate is None else x + branch * gate


def feed_forward(params: dict[str, jax.Array], x: jax.Array, expert: int = 0, hooks: _Hooks | None = None) -> jax.Array:
    """(B, T, D) -> (B, T, D) through gelu(gate) * up, with LoRA when its leaves are there."""
    a, b = params.get("gating_einsum_lora_a"), params.get("gating_einsum_lora_b")
    # Batch and time are one axis here: over two, XLA's gradients on a CPU take 2.7 times as long.
    flat = x.reshape(-1, x.shape[-1])
    gate, up = (
        adapted_matmul(flat, params["gating_einsum"][j], None if a is None else a[j], None if b is None else b[j])
        for j in (0, 1)
    )
    gate, up = checkpoint_name(gate, "gate"), checkpoint_name(up, "up")
    activation = jax.nn.gelu(gate, approximate=True) * up
    if hooks is not None:
        rows = (*x.shape[:-1], gate.shape[-1])
        hooks.record("ffn.pre", expert, gate.reshape(rows))
        activation = hooks.edit("ffn", expert, activation.reshape(rows))
        hooks.record("ffn.post", expert, activation)
        activation = activation.reshape(gate.shape)
    out = adapted_matmul(activation, params["linear"], params.get("linear_lora_a"), params.get("linear_lora_b"))
    return out.reshape(x.shape)


def _attention(
    context: _Context,
    normed: dict[int, jax.Array],
    params: dict[int, dict[str, Any]],
    cache: KvCache | None,
    hooks: _Hooks,
) -> tuple[dict[int, jax.Array], KvCache]:
    """Joint attention; returns each expert's branch (B, T_i, D_i) and this pass's keys and values."""
    projected = [_project(context.experts[i], params[i], normed[i]) for i in context.present]
    projected = checkpoint_name(projected, "qkv")
    for i, (q, _, _) in zip(context.present, projected, strict=True):
        hooks.record("attn.q", i, q)
    q, own = _rotated(context, *(jnp.concatenate(parts, axis=1) for parts in zip(*projected, strict=True)))
    k, v = _with_cache(own, cache, context.write_at)
    probabilities, z = _mix(q, k, v, context.mask)
    z = checkpoint_name(z, "z")
    branches, start = {}, 0
    for i in context.present:
        rows = slice(start, start + normed[i].shape[1])
        start = rows.stop
        hooks.record("attn.pattern", i, probabilities[:, :, rows])
        mine = hooks.edit("heads", i, z[:, rows])
        hooks.record("attn.z", i, mine)
        lora = context.experts[i].lora_attn
        branches[i] = adapted_einsum("BTNH,NHD->BTD", mine, params[i]["attn_vec_einsum"], lora)
    return branches, own


def _rotated(context: _Context, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, KvCache]:
    """Rotated and scaled queries, and what would be cached. pi0-FAST keeps its queries in float32."""
    q = rotate(q, context.positions)
    if not context.float32_rope:
        q = q.astype(context.dtype)
    k = rotate(k, context.positions).astype(context.dtype)
    return q * context.experts[0].head_dim ** -0.5, KvCache(k, v)


def _with_cache(own: KvCache, cache: KvCache | None, write_at: jax.Array | None) -> KvCache:
    """All keys and values that this pass sees."""
    if cache is None:
        return own
    if write_at is None:
        return KvCache(jnp.concatenate([cache.k, own.k], axis=1), jnp.concatenate([cache.v, own.v], axis=1))
    return KvCache(
        jax.lax.dynamic_update_slice_in_dim(cache.k, own.k, write_at, axis=1),
        jax.lax.dynamic_update_slice_in_dim(cache.v, own.v, write_at, axis=1),
    )


def _project(
    expert: GemmaConfig, params: dict[str, Any], x: jax.Array, *, with_queries: bool = True
) -> tuple[Any, jax.Array, jax.Array]:
    """Queries (B, T, N, H), keys and values (B, T, K, H) of one expert, before rotation."""
    if "qkv_einsum" in params:
        q, k, v = adapted_einsum("BSD,3KDH->3BSKH", x, params["qkv_einsum"], expert.lora_attn)
        return q, k, v
    q = adapted_einsum("BTD,NDH->BTNH", x, params["q_einsum"], expert.lora_attn) if with_queries else None
    k, v = adapted_einsum("BSD,2KDH->2BSKH", x, params["kv_einsum"], expert.lora_attn)
    return q, k, v


def _mix(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Softmax attention with float32 logits: probabilities (B, N, T, S) and outputs (B, T, N, H) in v's dtype."""
    batch, length, heads, head_dim = q.shape
    kv_heads, keys = k.shape[2], k.shape[1]
    grouped = (batch, kv_heads, length, heads // kv_heads)
    # The queries that share keys are one axis, so that both products are plain matrix products per batch element.
    q = q.reshape(batch, length, kv_heads, -1, head_dim).swapaxes(1, 2).reshape(batch, kv_heads, -1, head_dim)
    logits = jnp.einsum("BKRH,BSKH->BKRS", q, k, preferred_element_type=jnp.float32).reshape(*grouped, keys)
    logits = jnp.where(mask[:, None, :, None], logits, MASKED_LOGIT)
    probabilities = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    z = jnp.einsum("BKRS,BSKH->BKRH", probabilities.reshape(batch, kv_heads, -1, keys), v)
    z = z.reshape(*grouped, head_dim).swapaxes(1, 2).reshape(batch, length, heads, head_dim)
    return probabilities.swapaxes(2, 3).reshape(batch, heads, length, keys), z
