"""Taps: read what happens inside a layer, by name, reduced to the wanted tokens before it leaves the layer.

A tap costs what it returns; without taps the compiled program is the plain model. Names and what they hold
(B batch, T tokens of the stream, N heads, H head dim, S keys, D width, F FFN width):

    attn.q        (B, T, N, H)  queries before rotation
    attn.z        (B, T, N, H)  attention output per head, before the output projection
    attn.pattern  (B, N, T, S)  attention probabilities; keys are prefix then suffix
    ffn.pre       (B, T, F)     gate before its GELU
    ffn.post      (B, T, F)     coefficients of the value vectors: gelu(gate) * up
    ffn.out       (B, T, D)     FFN output before the residual add (and before adaRMS's gate)
    resid.pre / resid.mid / resid.post (B, T, D)  residual stream before, between and after the two branches
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model.errors import ModelError

STREAMS = ("prefix", "suffix")
SITES = (
    "attn.q",
    "attn.z",
    "attn.pattern",
    "ffn.pre",
    "ffn.post",
    "ffn.out",
    "resid.pre",
    "resid.mid",
    "resid.post",
)
TAP_NAMES = tuple(f"{stream}.{site}" for stream in STREAMS for site in SITES)
_DEFAULT_POSITION = {"prefix": "prefix.last", "suffix": "suffix.first"}


@dataclasses.dataclass(frozen=True)
class Tap:
    """A request for one activation.

    Attributes:
        name: `{prefix|suffix}.{site}`, see the module's table.
        layers: layers to return, in this order; None for all.
        at: tokens by meaning. Prefix: `prefix.last` (last *valid* token), `image[<camera>]`, `text`, `all`.
            Suffix: `suffix.first`, `suffix.last`, `state` (pi0), `action[<i>]`, `actions`, `all`. None takes
            `prefix.last` or `suffix.first`. A single token drops the token axis.
        mean: average over the chosen tokens inside the layer (valid ones only is the caller's choice of `at`).
        units: entries of the last axis to return, in this order (of an FFN tap: its value vectors); None for all.
        label: key of the result; None for `name`. Needed when one name is read at several positions.
    """

    name: str
    layers: tuple[int, ...] | None = None
    at: str | None = None
    mean: bool = False
    units: tuple[int, ...] | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.name not in TAP_NAMES:
            near = difflib.get_close_matches(self.name, TAP_NAMES, n=3, cutoff=0.3) or TAP_NAMES
            raise ModelError(f"tap: found {self.name!r}, expected one of the known names; nearest: {', '.join(near)}")

    @property
    def key(self) -> str:
        """Where the result is found."""
        return self.label or self.name

    @property
    def stream(self) -> str:
        """`prefix` or `suffix`."""
        return self.name.partition(".")[0]

    @property
    def site(self) -> str:
        """What is read, e.g. `attn.z`."""
        return self.name.partition(".")[2]

    @property
    def position(self) -> str:
        """`at`, or the stream's default."""
        return self.at or _DEFAULT_POSITION[self.stream]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Tokens of one stream: a static slice, or indices per batch row.

    Attributes:
        where: slice, or int array (B,) for a single token, (B, n) for several.
        single: one token; its axis is dropped.
    """

    where: slice | jax.Array
    single: bool = False

    def take(self, value: jax.Array, axis: int) -> jax.Array:
        """Select along a token axis; a single token loses the axis."""
        if isinstance(self.where, slice):
            start, stop, _ = self.where.indices(value.shape[axis])
            chosen = jax.lax.slice_in_dim(value, start, stop, axis=axis)
        else:
            index = self.where if self.where.ndim == 2 else self.where[:, None]
            index = index.reshape([index.shape[(0, axis).index(i)] if i in (0, axis) else 1 for i in range(value.ndim)])
            chosen = jnp.take_along_axis(value, index, axis=axis)
        return jnp.squeeze(chosen, axis) if self.single else chosen

    def mask(self, batch: int, length: int) -> jax.Array:
        """Bool (batch, length), True at the chosen tokens."""
        index = jnp.arange(length)[None]
        if isinstance(self.where, slice):
            start, stop, _ = self.where.indices(length)
            return jnp.broadcast_to((index >= start) & (index < stop), (batch, length))
        chosen = self.where if self.where.ndim == 2 else self.where[:, None]
        return jnp.any(index[:, None] == chosen[..., None], axis=1)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Names of the tokens of one stream, e.g. `{"text": Rows(slice(768, 816))}`.

    Attributes:
        stream: `prefix` or `suffix`.
        rows: by name.
        own: bool (B, T) when the pass also holds tokens of the other stream (pi0-FAST's training pass), else None.
    """

    stream: str
    rows: Mapping[str, Rows]
    own: jax.Array | None = None

    def mask(self, position: str, batch: int, length: int) -> jax.Array:
        """Bool (batch, length), True at the named tokens of this stream."""
        named = self.find(position).mask(batch, length)
        return named if self.own is None else named & self.own

    def find(self, position: str) -> Rows:
        """Tokens by meaning.

        Raises:
            ModelError: for a position that this stream of this model does not have; nearest names are listed.
        """
        if position in self.rows:
            return self.rows[position]
        match = re.fullmatch(r"action\[(-?\d+)\]", position)
        if match and "actions" in self.rows:
            actions, index = self.rows["actions"].where, int(match[1])
            if isinstance(actions, slice) and -(actions.stop - actions.start) <= index < actions.stop - actions.start:
                at = (actions.start if index >= 0 else actions.stop) + index
                return Rows(slice(at, at + 1), single=True)
        known = [*self.rows, *(["action[<i>]"] if "actions" in self.rows else [])]
        near = difflib.get_close_matches(position, known, n=3, cutoff=0.3) or known
        raise ModelError(
            f"position: found {position!r} in the {self.stream}, expected one that it has; nearest: {', '.join(near)}"
        )


@dataclasses.dataclass(frozen=True)
class Reader:
    """A tap resolved for one pass: which expert's activation, which tokens."""

    tap: Tap
    expert: int
    rows: Rows

    def read(self, site: str, expert: int, value: jax.Array) -> dict[str, jax.Array]:
        """`{key: reduced value}` when this is the wanted activation, otherwise nothing."""
        if (site, expert) != (self.tap.site, self.expert):
            return {}
        axis = 2 if site == "attn.pattern" else 1
        chosen = self.rows.take(value, axis)
        if self.tap.mean and not self.rows.single:
            chosen = chosen.mean(axis)
        return {self.tap.key: chosen if self.tap.units is None else _units(self.tap, chosen)}


def _units(tap: Tap, value: jax.Array) -> jax.Array:
    units, width = tap.units or (), value.shape[-1]
    if outside := [unit for unit in units if not 0 <= unit < width]:
        raise ModelError(f"tap {tap.name}: found unit {outside[0]}, expected 0..{width - 1}")
    return value[..., jnp.asarray(units, jnp.int32)]


def resolve(taps: Sequence[Tap], layouts: Mapping[str, tuple[int, Layout]]) -> tuple[Reader, ...]:
    """Readers for the taps whose stream takes part in a pass.

    Args:
        taps: all requested taps.
        layouts: stream -> (expert index, layout) of this pass.
    """
    keys = [tap.key for tap in taps]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ModelError(f"taps: found {repeated[0]!r} twice, expected distinct keys; give one of them a label")
    return tuple(
        Reader(tap, layouts[tap.stream][0], layouts[tap.stream][1].find(tap.position))
        for tap in taps
        if tap.stream in layouts
    )


def select_layers(taps: Sequence[Tap], collected: Mapping[str, Any], depth: int) -> dict[str, jax.Array]:
    """Keep each tap's layers; the leading axis of every result is the layer."""
    results = {}
    for tap in taps:
        if tap.key not in collected:
            continue
        if tap.layers is None:
            results[tap.key] = collected[tap.key]
            continue
        if outside := [layer for layer in tap.layers if not -depth <= layer < depth]:
            raise ModelError(f"tap {tap.name}: found layer {outside[0]}, expected 0..{depth - 1}")
        results[tap.key] = collected[tap.key][jnp.asarray(tap.layers)]
    return results
