"""What is trained, as data: one `Recipe` per way of adapting the model.

The Robotic Steering paper describes its recipe twice and differently. Its parameter counts (Table 1, which are MiB of
float32 and not millions) are met exactly by `steering` below and by no natural reading of its text; `paper-text` is
that text.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from robosteer_rig.errors import RobosteerError

Stream = Literal["paligemma", "expert"]

PROJECTIONS = (
    r"(state_proj|action_in_proj|action_out_proj|time_mlp_in|time_mlp_out|action_time_mlp_in|action_time_mlp_out)/.*"
)
SIGLIP = r"PaliGemma/img/.*"
EMBEDDING = r"PaliGemma/llm/embedder/.*"
PALIGEMMA_FFN = r"PaliGemma/llm/layers/mlp/.*"
PALIGEMMA_NORMS = r"PaliGemma/llm/(final_norm|layers/(pre_attention_norm|pre_ffw_norm))/.*"
EVERYTHING = r".*"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way of adapting a model.

    Attributes:
        name: what `--recipe` takes.
        summary: one line for people.
        q_rank: rank of the LoRA on the query slice of each selected head; 0 = frozen.
        o_rank: the same for the output-projection slice.
        ffn_rank: rank of the LoRA on the FFN; 0 = frozen.
        ffn_layers: "all" layers, or only the "selected" ones, which hold a selected head.
        streams: the experts whose heads and FFNs the fields above mean.
        scale: alpha / rank of the attention LoRA. As in openpi, the FFN's is one.
        whole_heads: train the Q and O slices of each selected head as they are, without low-rank factors.
        stock_ranks: ranks (PaliGemma, expert) of openpi's own LoRA leaves on every einsum and FFN; None = no such LoRA.
        dense: regular expressions (full match on the `/`-joined path) of leaves that train whole.
        a_stddev: standard deviation of the first LoRA factor at the start.
        b_stddev: standard deviation of the second; 0 makes step 0 equal the base model exactly.
    """

    name: str
    summary: str
    q_rank: int = 0
    o_rank: int = 0
    ffn_rank: int = 0
    ffn_layers: Literal["all", "selected"] = "all"
    streams: tuple[Stream, ...] = ("paligemma",)
    scale: float = 1.0
    whole_heads: bool = False
    stock_ranks: tuple[int, int] | None = None
    dense: tuple[str, ...] = ()
    a_stddev: float = 0.01
    b_stddev: float = 0.0

    @property
    def uses_heads(self) -> bool:
        """Whether a head selection changes what is trained."""
        return bool(self.q_rank or self.o_rank or self.whole_heads or (self.ffn_rank and self.ffn_layers == "selected"))

    @property
    def sparse(self) -> bool:
        """Whether low-rank factors of selected heads or of FFNs are what is trained."""
        return bool(self.q_rank or self.ffn_rank)


_ALL = (
    Recipe(
        "steering",
        "the paper's counts: Q and O of the selected heads and every FFN (LoRA r=16), projections whole",
        q_rank=16,
        o_rank=16,
        ffn_rank=16,
        dense=(PROJECTIONS,),
    ),
    Recipe(
        "paper-text",
        "the paper's words: queries of the selected heads and the FFNs of their layers (LoRA r=8)",
        q_rank=8,
        ffn_rank=8,
        ffn_layers="selected",
    ),
    Recipe("q-only", "queries of the selected heads (LoRA r=16)", q_rank=16),
    Recipe("q+mlp", "queries of the selected heads and every FFN (LoRA r=16)", q_rank=16, ffn_rank=16),
    Recipe(
        "no-heads",
        "the control: what `steering` trains beside its heads (every FFN with LoRA r=16, projections whole)",
        ffn_rank=16,
        dense=(PROJECTIONS,),
    ),
    Recipe(
        "lora",
        "openpi's stock LoRA: all einsums and FFNs of both experts (r=16 and 32), SigLIP and projections whole",
        stock_ranks=(16, 32),
        dense=(SIGLIP, PROJECTIONS),
        b_stddev=0.01,
    ),
    Recipe(
        "lora-frozen-vision",
        "openpi's stock LoRA with SigLIP frozen: the fair baseline for speed and parameters",
        stock_ranks=(16, 32),
        dense=(PROJECTIONS,),
        b_stddev=0.01,
    ),
    Recipe(
        "steering-full",
        "selected heads' Q and O, embedding, every FFN, norms and projections, all whole (the paper's Table 5)",
        whole_heads=True,
        dense=(EMBEDDING, PALIGEMMA_FFN, PALIGEMMA_NORMS, PROJECTIONS),
    ),
    Recipe("full", "every parameter", dense=(EVERYTHING,)),
)
RECIPES = {recipe.name: recipe for recipe in _ALL}


def recipe_by_name(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        RobosteerError: unknown name; the message lists the known ones.
    """
    if name not in RECIPES:
        raise RobosteerError(f"recipe: found {name!r}, expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def customised(
    recipe: Recipe, *, rank: int | None = None, alpha: float | None = None, streams: tuple[Stream, ...] | None = None
) -> Recipe:
    """A recipe with other numbers.

    Args:
        recipe: where to start.
        rank: of all its low-rank factors.
        alpha: numerator of the attention LoRA's scale; None scales by one.
        streams: experts whose heads and FFNs are adapted.

    Raises:
        RobosteerError: for a recipe that has no such number, or a number that makes no sense.
    """
    low_rank = recipe.q_rank or recipe.o_rank or recipe.ffn_rank
    for name, value in (("rank", rank), ("alpha", alpha), ("streams", streams)):
        fits = low_rank or (name == "streams" and recipe.whole_heads)
        if value is not None and not fits:
            raise RobosteerError(
                f"--{name}: found {value} for recipe {recipe.name!r}, expected one with low-rank factors of heads "
                f"or FFNs ({', '.join(r.name for r in _ALL if r.sparse)}); leave --{name} out"
            )
    if rank is not None:
        if rank < 1:
            raise RobosteerError(f"--rank: found {rank}, expected at least 1")
        ranks = {name: rank for name in ("q_rank", "o_rank", "ffn_rank") if getattr(recipe, name)}
        recipe = dataclasses.replace(recipe, **ranks)
    if alpha is not None:
        if not alpha > 0:
            raise RobosteerError(f"--alpha: found {alpha}, expected a positive number")
        recipe = dataclasses.replace(recipe, scale=alpha / (recipe.q_rank or recipe.o_rank or recipe.ffn_rank))
    if streams is not None:
        if not streams or len(set(streams)) != len(streams):
            raise RobosteerError(f"--streams: found {list(streams)}, expected paligemma, expert or both")
        recipe = dataclasses.replace(recipe, streams=tuple(streams))
    return recipe
