"""The shape of an adapter: which leaves are trained for a recipe, a model and a set of heads. No weights needed."""

from __future__ import annotations

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.config import LoraConfig, ModelConfig
from robosteer_model.params import flatten, param_shapes
from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.recipes import Recipe

ATTN = "PaliGemma/llm/layers/attn"
MLP = "PaliGemma/llm/layers/mlp"
Q_PATH = f"{ATTN}/q_einsum/w"
O_PATH = f"{ATTN}/attn_vec_einsum/w"
GATING_PATH = f"{MLP}/gating_einsum"
LINEAR_PATH = f"{MLP}/linear"
# openpi's gemma_2b_lora and gemma_300m_lora.
STOCK_LORA = (LoraConfig(16, 16.0), LoraConfig(32, 32.0))


@dataclasses.dataclass(frozen=True)
class AdapterSpec:
    """What is trained.

    Axes: S selected heads, Ls adapted FFN layers, D width, H head_dim, F mlp_dim, r rank.

    Attributes:
        config: the base model; it must not carry LoRA itself.
        recipe: the way of adapting.
        heads: selected (layer, head) pairs, sorted and distinct; ignored by recipes without heads.
    """

    config: ModelConfig
    recipe: Recipe
    heads: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        gemma = self.config.paligemma
        if any(g and (g.lora_attn or g.lora_ffn) for g in (gemma, self.config.action_expert)):
            raise RobosteerError("base model: found LoRA leaves, expected a merged checkpoint; merge it first")
        if not self.recipe.uses_heads:
            object.__setattr__(self, "heads", ())
            return
        if not self.heads:
            raise RobosteerError(f"heads: found none, expected some for recipe {self.recipe.name!r}; give --heads FILE")
        bad = [h for h in self.heads if not (0 <= h[0] < gemma.depth and 0 <= h[1] < gemma.num_heads)]
        if bad:
            raise RobosteerError(f"heads: found {bad[0]}, expected layer < {gemma.depth} and head < {gemma.num_heads}")
        object.__setattr__(self, "heads", tuple(sorted({(int(l), int(h)) for l, h in self.heads})))

    @functools.cached_property
    def base_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the base model by path."""
        shapes = flatten(param_shapes(self.config))
        if (self.recipe.q_rank or self.recipe.o_rank) and Q_PATH not in shapes:
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
        first, second = STOCK_LORA
        expert = self.config.action_expert
        return dataclasses.replace(
            self.config,
            paligemma=dataclasses.replace(self.config.paligemma, lora_attn=first, lora_ffn=first),
            action_expert=expert and dataclasses.replace(expert, lora_attn=second, lora_ffn=second),
        )

    @functools.cached_property
    def leaves(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Every trainable leaf, float32, by its path in the adapter.

        `head_q/a` (S, D, r), `head_q/b` (S, r, H), `head_o/a` (S, H, r), `head_o/b` (S, r, D),
        `ffn/gating_a` (Ls, 2, D, r), `ffn/gating_b` (Ls, 2, r, F), `ffn/linear_a` (Ls, F, r), `ffn/linear_b`
        (Ls, r, D),
        `lora/<path>` and `dense/<path>` with the shape of that path.
        """
        gemma, r = self.config.paligemma, self.recipe
        d, h, f = gemma.width, gemma.head_dim, gemma.mlp_dim
        s, layers = len(self.heads), len(self.ffn_layers)
        base = self.base_shapes
        shapes: dict[str, tuple[int, ...]] = {}
        if r.q_rank:
            shapes |= {"head_q/a": (s, d, r.q_rank), "head_q/b": (s, r.q_rank, h)}
        if r.o_rank:
            shapes |= {"head_o/a": (s, h, r.o_rank), "head_o/b": (s, r.o_rank, d)}
        if r.ffn_rank:
            shapes |= {"ffn/gating_a": (layers, 2, d, r.ffn_rank), "ffn/gating_b": (layers, 2, r.ffn_rank, f)}
            shapes |= {"ffn/linear_a": (layers, f, r.ffn_rank), "ffn/linear_b": (layers, r.ffn_rank, d)}
        if r.stock_lora:
            adapted = flatten(param_shapes(self.stock_lora_config))
            shapes |= {f"lora/{path}": leaf.shape for path, leaf in adapted.items() if path not in base}
        shapes |= {f"dense/{path}": base[path].shape for path in self.dense_paths}
        return {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}

    @property
    def num_parameters(self) -> int:
        """Trainable parameters."""
        return sum(int(np.prod(leaf.shape)) for leaf in self.leaves.values())

    def to_json(self) -> dict[str, object]:
        """What identifies the adapter, for provenance and for resuming."""
        return {"recipe": dataclasses.asdict(self.recipe), "heads": [list(h) for h in self.heads]}


def spread_heads(config: ModelConfig, m: int) -> tuple[tuple[int, int], ...]:
    """Heads (m of them) spread over the layers, for counting before heads are known."""
    gemma = config.paligemma
    if not 0 < m <= gemma.depth * gemma.num_heads:
        raise RobosteerError(f"m: found {m}, expected 1 ... {gemma.depth * gemma.num_heads}")
    return tuple((i % gemma.depth, i // gemma.depth) for i in range(m))
