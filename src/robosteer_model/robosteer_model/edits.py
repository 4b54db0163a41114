"""Edits: change FFN coefficients and attention heads inside the layers, as plain arrays.

An edit is a pytree of arrays with a leading layer axis (L layers, F FFN width, N heads, H head dim), scanned together
with the parameters. Changing any array never recompiles; only `scope`, and which edits there are, is static. Strength
λ = 0 leaves every bit as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.config import GemmaConfig, ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.taps import Layout

ALL_STEPS = (0, np.iinfo(np.int32).max)
_STATIC = {"static": True}


def _float(value: Any = 1.0) -> np.ndarray:
    return np.asarray(value, np.float32)


def _steps(first: int = ALL_STEPS[0], stop: int = ALL_STEPS[1]) -> np.ndarray:
    return np.asarray((first, stop), np.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FfnEdit:
    """Override or blend FFN coefficients a = gelu(gate) * up: a' = a + λ m (α + β a - a).

    m = 1, β = 0 sets a to α (so α = 0 is an ablation, not "off"); α = 0 scales a by β.

    Attributes:
        mask: m, (L, F), 0..1.
        alpha: α, (L, F), activation units.
        beta: β, (L, F).
        strength: λ, scalar.
        steps: int32 (first, stop): denoising (or decoding) steps of a suffix edit, stop excluded. Outside of sampling
            an edit is always active.
        scope: tokens by meaning, as in `Tap.at`.
    """

    mask: Any
    alpha: Any
    beta: Any
    strength: Any = dataclasses.field(default_factory=_float)
    steps: Any = dataclasses.field(default_factory=_steps)
    scope: str = dataclasses.field(default="all", metadata=_STATIC)

    site = "ffn"

    def layers(self) -> dict[str, Any]:
        """What is scanned."""
        return {"mask": self.mask, "alpha": self.alpha, "beta": self.beta}

    def shapes(self, expert: GemmaConfig) -> dict[str, tuple[int, ...]]:
        """The shapes that this expert needs."""
        return dict.fromkeys(self.layers(), (expert.depth, expert.mlp_dim))

    def target(self, layer: Mapping[str, jax.Array], value: jax.Array, _key: jax.Array | None) -> jax.Array:
        """What a full-strength edit puts in place of `value` (B, T, F)."""
        return layer["alpha"] + layer["beta"] * value


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadEdit:
    """Scale, shift, replace or perturb attention heads: z' = z + λ m (s z + o + σ ε - z), ε standard normal.

    s = 0, o = 0 silences a head; s = 0, o = mean replaces it by its mean; s = 1, σ > 0 adds noise.

    Attributes:
        mask: m, (L, N), 0..1.
        scale: s, (L, N).
        offset: o, (L, N, H), activation units.
        noise: σ, (L, N), activation units; None draws nothing.
        seed: of ε, uint32 scalar; every layer, token and step gets its own draw.
        strength: λ, scalar.
        steps: as in `FfnEdit`.
        scope: as in `FfnEdit`.
    """

    mask: Any
    scale: Any
    offset: Any
    noise: Any = None
    seed: Any = dataclasses.field(default_factory=lambda: np.uint32(0))
    strength: Any = dataclasses.field(default_factory=_float)
    steps: Any = dataclasses.field(default_factory=_steps)
    scope: str = dataclasses.field(default="all", metadata=_STATIC)

    site = "heads"

    def layers(self) -> dict[str, Any]:
        """What is scanned; per-head factors get a last axis to act on H."""
        scanned = {"mask": self.mask[..., None], "scale": self.scale[..., None], "offset": self.offset}
        return scanned if self.noise is None else scanned | {"noise": self.noise[..., None]}

    def shapes(self, expert: GemmaConfig) -> dict[str, tuple[int, ...]]:
        """The shapes that this expert needs."""
        head = (expert.depth, expert.num_heads)
        return {name: (*head, expert.head_dim if name == "offset" else 1) for name in self.layers()}

    def target(self, layer: Mapping[str, jax.Array], value: jax.Array, key: jax.Array | None) -> jax.Array:
        """What a full-strength edit puts in place of `value` (B, T, N, H)."""
        out = layer["scale"] * value + layer["offset"]
        return out if key is None else out + layer["noise"] * jax.random.normal(key, value.shape)


Edit = FfnEdit | HeadEdit


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Edits:
    """Edits of both streams, applied in order.

    A prefix edit acts when the prefix is read, so it lives in the KV cache during all of sampling.

    Attributes:
        prefix: on PaliGemma.
        suffix: on the action expert (pi0-FAST: on the generated tokens).
    """

    prefix: tuple[Edit, ...] = ()
    suffix: tuple[Edit, ...] = ()


@dataclasses.dataclass(frozen=True)
class Writer:
    """An edit resolved for one pass.

    Attributes:
        edit: the arrays.
        expert: whose activations.
        tokens: bool (B, T) of the expert's own tokens, None for all.
        strength: λ at this step.
        step: denoising step, for the noise.
    """

    edit: Edit
    expert: int
    tokens: jax.Array | None
    strength: jax.Array
    step: jax.Array | None

    def scanned(self) -> dict[str, Any]:
        """Per-layer slices: the edit's arrays and the layer's index."""
        depth = self.edit.mask.shape[0]
        return {name: jnp.asarray(x) for name, x in self.edit.layers().items()} | {"index": jnp.arange(depth)}

    def apply(self, site: str, expert: int, layer: Mapping[str, jax.Array], value: jax.Array) -> jax.Array:
        """The edited activation; untouched entries keep their bits."""
        if (site, expert) != (self.edit.site, self.expert):
            return value
        weight = self.strength * layer["mask"]
        if self.tokens is not None:
            weight = weight * self.tokens.reshape(self.tokens.shape + (1,) * (value.ndim - 2))
        wide = value.astype(jnp.float32)
        # (1 - w) a + w t is a + w (t - a), and exact at both ends.
        blended = (1 - weight) * wide + weight * self.edit.target(layer, wide, self._key(layer["index"]))
        return jnp.where(weight == 0, value, blended.astype(value.dtype))

    def _key(self, layer: jax.Array) -> jax.Array | None:
        if not isinstance(self.edit, HeadEdit) or self.edit.noise is None:
            return None
        key = jax.random.fold_in(jax.random.key(self.edit.seed), layer)
        return key if self.step is None else jax.random.fold_in(key, self.step)


def resolve_edits(
    edits: Edits | None,
    config: ModelConfig,
    layouts: Mapping[str, tuple[int, Layout]],
    shapes: Mapping[str, tuple[int, ...]],
    step: jax.Array | None = None,
) -> tuple[Writer, ...]:
    """Writers for the streams that take part in a pass.

    Args:
        edits: both streams, or None.
        config: the model, for shapes.
        layouts: stream -> (expert index, layout) of this pass.
        shapes: stream -> (B, T) of its expert's tokens in this pass.
        step: denoising step; None leaves every edit active.
    """
    writers: list[Writer] = []
    for stream, (expert, layout) in layouts.items():
        for edit in _of(edits, stream):
            _check_shapes(edit, config, stream)
            whole = edit.scope == "all" and layout.own is None
            batch, length = shapes[stream]
            tokens = None if whole else layout.mask(edit.scope, batch, length)
            writers.append(Writer(edit, expert, tokens, _strength(edit, step), step))
    return tuple(writers)


def _of(edits: Edits | None, stream: str) -> tuple[Edit, ...]:
    if edits is None:
        return ()
    return edits.prefix if stream == "prefix" else edits.suffix


def _strength(edit: Edit, step: jax.Array | None) -> jax.Array:
    strength = jnp.asarray(edit.strength, jnp.float32)
    if step is None:
        return strength
    first, stop = edit.steps[0], edit.steps[1]
    return jnp.where((step >= first) & (step < stop), strength, 0.0)


def _check_shapes(edit: Edit, config: ModelConfig, stream: str) -> None:
    expert = stream_expert(config, stream)
    found = {name: tuple(x.shape) for name, x in edit.layers().items()}
    for name, expected in edit.shapes(expert).items():
        if found[name] != expected:
            raise ModelError(f"{stream} {edit.site} edit, {name}: found shape {found[name]}, expected {expected}")


def stream_expert(config: ModelConfig, stream: str) -> GemmaConfig:
    """The expert that reads a stream (pi0-FAST has one for both)."""
    if stream == "suffix" and config.action_expert is not None:
        return config.action_expert
    return config.paligemma


def ffn_edit(
    config: ModelConfig,
    stream: str,
    neurons: Mapping[int, Sequence[int]],
    *,
    alpha: float = 0.0,
    beta: float = 0.0,
    strength: float = 1.0,
    scope: str = "all",
    steps: tuple[int, int] = ALL_STEPS,
) -> FfnEdit:
    """Edit the named value vectors, e.g. `{3: [17, 40]}` for two of layer 3."""
    expert = stream_expert(config, stream)
    mask = np.zeros((expert.depth, expert.mlp_dim), np.float32)
    for layer, indices in neurons.items():
        for index in indices:
            if not (0 <= layer < expert.depth and 0 <= index < expert.mlp_dim):
                limit = f"layers below {expert.depth} and indices below {expert.mlp_dim}"
                raise ModelError(f"{stream} FFN edit: found value vector ({layer}, {index}), expected {limit}")
            mask[layer, index] = 1.0
    return FfnEdit(mask, mask * alpha, mask * beta, _float(strength), _steps(*steps), scope)


def head_edit(
    config: ModelConfig,
    stream: str,
    heads: Sequence[tuple[int, int]],
    *,
    scale: float = 0.0,
    mean: Any = None,
    noise: float | None = None,
    seed: int = 0,
    strength: float = 1.0,
    scope: str = "all",
    steps: tuple[int, int] = ALL_STEPS,
) -> HeadEdit:
    """Edit the named (layer, head) pairs: scale them, and add `mean` (L, N, H) and noise of the given deviation."""
    expert = stream_expert(config, stream)
    mask = np.zeros((expert.depth, expert.num_heads), np.float32)
    for layer, head in heads:
        if not (0 <= layer < expert.depth and 0 <= head < expert.num_heads):
            limit = f"({expert.depth}, {expert.num_heads})"
            raise ModelError(f"{stream} head edit: found head ({layer}, {head}), expected pairs below {limit}")
        mask[layer, head] = 1.0
    offset = np.zeros((*mask.shape, expert.head_dim), np.float32) if mean is None else np.asarray(mean, np.float32)
    deviation = None if noise is None else mask * np.float32(noise)
    seed_array = np.uint32(seed)
    return HeadEdit(
        mask, mask * np.float32(scale), offset, deviation, seed_array, _float(strength), _steps(*steps), scope
    )


def without_effect(edits: Edits, config: ModelConfig) -> list[str]:
    """What of these edits cannot change the actions, in words: prefix edits in a flow model's last layer.

    The suffix reads only keys and values of the prefix, and nothing after the last layer's keys reaches it.
    """
    if config.model_type == "pi0_fast":
        return []
    last = config.paligemma.depth - 1
    return [
        f"prefix {edit.site} edit: {int(np.count_nonzero(np.asarray(edit.mask)[last]))} entries are in layer {last}, "
        "whose outputs never reach the actions"
        for edit in edits.prefix
        if np.any(np.asarray(edit.mask)[last])
    ]
