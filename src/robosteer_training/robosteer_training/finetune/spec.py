"""The shape of an adapter: which leaves are trained for a recipe, a model and a set of heads. No weights needed."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.config import GemmaConfig, LoraConfig, ModelConfig
from robosteer_model.params import flatten, param_shapes
from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.recipes import Recipe

_LAYERS = "PaliGemma/llm/layers"


@dataclasses.dataclass(frozen=True)
class StreamPaths:
    """Where one expert's adapted leaves are.

    Attributes:
        suffix: openpi's, "" for PaliGemma and "_1" for the action expert; adapter leaves carry it too.
        gemma: the expert.
    """

    suffix: str
    gemma: GemmaConfig

    @property
    def q(self) -> str:
        """Query projection (L, N, D, H)."""
        return f"{_LAYERS}/attn/q_einsum{self.suffix}/w"

    @property
    def o(self) -> str:
        """Output projection (L, N, H, D)."""
        return f"{_LAYERS}/attn/attn_vec_einsum{self.suffix}/w"

    @property
    def gating(self) -> str:
        """FFN gate and up (L, 2, D, F)."""
        return f"{_LAYERS}/mlp{self.suffix}/gating_einsum"

    @property
    def linear(self) -> str:
        """FFN down (L, F, D)."""
        return f"{_LAYERS}/mlp{self.suffix}/linear"


@dataclasses.dataclass(frozen=True)
class AdapterSpec:
    """What is trained.

    Axes: S selected heads, Ls adapted FFN layers, D width, H head_dim, F mlp_dim, r rank.

    Attributes:
        config: the base model; it must not carry LoRA itself.
        recipe: the way of adapting.
        heads: selected (layer, head) pairs, sorted and distinct; ignored by recipes without heads.
        owners: for disjoint multi-task training, the task (its number) that each of `heads` belongs to; empty when
            every head learns from every frame. Must be given in the order of `heads`.
    """

    config: ModelConfig
    recipe: Recipe
    heads: tuple[tuple[int, int], ...] = ()
    owners: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        gemma = self.config.paligemma
        if any(g and (g.lora_attn or g.lora_ffn) for g in (gemma, self.config.action_expert)):
            raise RobosteerError("base model: found LoRA leaves, expected a merged checkpoint; merge it first")
        if "expert" in self.recipe.streams and self.config.action_expert is None:
            raise RobosteerError(
                f"--streams: found expert, expected paligemma; {self.config.model_type} has one stream"
            )
        if not self.recipe.uses_heads:
            object.__setattr__(self, "heads", ())
            object.__setattr__(self, "owners", ())
            return
        if not self.heads:
            raise RobosteerError(f"heads: found none, expected some for recipe {self.recipe.name!r}; give --heads FILE")
        bad = [h for h in self.heads if not (0 <= h[0] < gemma.depth and 0 <= h[1] < gemma.num_heads)]
        if bad:
            raise RobosteerError(f"heads: found {bad[0]}, expected layer < {gemma.depth} and head < {gemma.num_heads}")
        if self.owners:
            owner = dict(zip(self.heads, self.owners, strict=True))
            if len(owner) != len(self.heads):
                raise RobosteerError("heads: found a head that belongs to two tasks, expected disjoint sets")
            object.__setattr__(self, "owners", tuple(owner[h] for h in sorted(owner)))
        object.__setattr__(self, "heads", tuple(sorted({(int(l), int(h)) for l, h in self.heads})))

    @functools.cached_property
    def streams(self) -> tuple[StreamPaths, ...]:
        """The adapted experts."""
        experts = {"paligemma": ("", self.config.paligemma), "expert": ("_1", self.config.action_expert)}
        chosen = [experts[name] for name in self.recipe.streams]
        return tuple(StreamPaths(suffix, gemma) for suffix, gemma in chosen if gemma is not None)

    @functools.cached_property
    def base_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the base model by path."""
        shapes = flatten(param_shapes(self.config))
        if self.recipe.uses_heads and any(stream.q not in shapes for stream in self.streams):
            raise RobosteerError(
                "base model: found as many key heads as query heads (qkv_einsum), expected separate queries"
            )
        return shapes

    @property
    def head_index(self) -> tuple[np.ndarray, np.ndarray]:
        """(S,) layers and (S,) heads."""
        pairs = np.array(self.heads, np.int32).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    @property
    def ffn_layers(self) -> np.ndarray:
        """(Ls,) layers whose FFN is adapted."""
        if not self.recipe.ffn_rank:
            return np.zeros(0, np.int32)
        if self.recipe.ffn_layers == "all":
            return np.arange(self.config.paligemma.depth, dtype=np.int32)
        return np.unique(self.head_index[0])

    @functools.cached_property
    def dense_paths(self) -> tuple[str, ...]:
        """Paths of leaves that train whole."""
        return tuple(p for p in self.base_shapes if any(re.fullmatch(pattern, p) for pattern in self.recipe.dense))

    @functools.cached_property
    def stock_lora_config(self) -> ModelConfig:
        """The base config with openpi's stock LoRA."""
        if self.recipe.stock_ranks is None:
            raise ValueError(f"recipe {self.recipe.name} has no stock LoRA")
        first, second = (LoraConfig(rank, float(rank)) for rank in self.recipe.stock_ranks)
        expert = self.config.action_expert
        return dataclasses.replace(
            self.config,
            paligemma=dataclasses.replace(self.config.paligemma, lora_attn=first, lora_ffn=first),
            action_expert=expert and dataclasses.replace(expert, lora_attn=second, lora_ffn=second),
        )

    @functools.cached_property
    def leaves(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Every trainable leaf, float32, by its path in the adapter (names of the action expert's end in `_1`).

        `head_q/a` (S, D, r), `head_q/b` (S, r, H), `head_o/a` (S, H, r), `head_o/b` (S, r, D),
        `ffn_gating/a` (Ls, 2, D, r), `ffn_gating/b` (Ls, 2, r, F), `ffn_linear/a` (Ls, F, r), `ffn_linear/b`
        (Ls, r, D), `whole_q` (S, D, H), `whole_o` (S, H, D), and `lora/<path>`, `dense/<path>` with that path's shape.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for stream in self.streams:
            shapes |= self._stream_leaves(stream)
        if self.recipe.stock_ranks:
            adapted = flatten(param_shapes(self.stock_lora_config))
            shapes |= {f"lora/{path}": leaf.shape for path, leaf in adapted.items() if path not in self.base_shapes}
        shapes |= {f"dense/{path}": self.base_shapes[path].shape for path in self.dense_paths}
        return {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}

    def _stream_leaves(self, stream: StreamPaths) -> dict[str, tuple[int, ...]]:
        r, i = self.recipe, stream.suffix
        d, h, f = stream.gemma.width, stream.gemma.head_dim, stream.gemma.mlp_dim
        s, layers = len(self.heads), len(self.ffn_layers)
        shapes: dict[str, tuple[int, ...]] = {}
        if r.q_rank:
            shapes |= {f"head_q{i}/a": (s, d, r.q_rank), f"head_q{i}/b": (s, r.q_rank, h)}
        if r.o_rank:
            shapes |= {f"head_o{i}/a": (s, h, r.o_rank), f"head_o{i}/b": (s, r.o_rank, d)}
        if r.ffn_rank:
            shapes |= {f"ffn_gating{i}/a": (layers, 2, d, r.ffn_rank), f"ffn_gating{i}/b": (layers, 2, r.ffn_rank, f)}
            shapes |= {f"ffn_linear{i}/a": (layers, f, r.ffn_rank), f"ffn_linear{i}/b": (layers, r.ffn_rank, d)}
        if r.whole_heads:
            shapes |= {f"whole_q{i}": (s, d, h), f"whole_o{i}": (s, h, d)}
        return shapes

    @property
    def num_parameters(self) -> int:
        """Trainable parameters."""
        return sum(int(np.prod(leaf.shape)) for leaf in self.leaves.values())

    @property
    def vision_is_frozen(self) -> bool:
        """Whether no leaf of the image encoder trains, so that its tokens can be computed once."""
        return not any(path.startswith("PaliGemma/img/") for path in self.dense_paths)

    def to_json(self) -> dict[str, object]:
        """What identifies the adapter, for provenance and for resuming."""
        told: dict[str, object] = {
            "recipe": dataclasses.asdict(self.recipe),
            "heads": [list(h) for h in self.heads],
        }
        return told | ({"owners": list(self.owners)} if self.owners else {})


def spread_heads(config: ModelConfig, m: int) -> tuple[tuple[int, int], ...]:
    """Heads (m of them) spread over the layers, for counting before heads are known."""
    gemma = config.paligemma
    if not 0 < m <= gemma.depth * gemma.num_heads:
        raise RobosteerError(f"m: found {m}, expected 1 ... {gemma.depth * gemma.num_heads}")
    return tuple((i % gemma.depth, i // gemma.depth) for i in range(m))
