"""What is trained, as data: one `Recipe` per way of adapting the model.

The Robotic Steering paper describes its recipe twice and differently. Its parameter counts (Table 1, which are MiB of
float32 and not millions) are met exactly by `steering` below and by no natural reading of its text; `paper-text` is
that text.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from robosteer_rig.errors import RobosteerError

PROJECTIONS = (
    r"(state_proj|action_in_proj|action_out_proj|time_mlp_in|time_mlp_out|action_time_mlp_in|action_time_mlp_out)/.*"
)
SIGLIP = r"PaliGemma/img/.*"
EVERYTHING = r".*"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way of adapting a model.

    Attributes:
        name: what `--recipe` takes.
        summary: one line for people.
        q_rank: rank of the LoRA on the query slice of each selected head (PaliGemma stream); 0 = frozen.
        o_rank: the same for the output-projection slice.
        ffn_rank: rank of the LoRA on the PaliGemma stream's FFN; 0 = frozen.
        ffn_layers: "all" layers, or only the "selected" ones, which hold a selected head.
        stock_lora: openpi's own LoRA leaves on every einsum and FFN of both experts (ranks 16 and 32).
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
    stock_lora: bool = False
    dense: tuple[str, ...] = ()
    a_stddev: float = 0.01
    b_stddev: float = 0.0

    @property
    def uses_heads(self) -> bool:
        """Whether a head selection changes what is trained."""
        return bool(self.q_rank or self.o_rank or (self.ffn_rank and self.ffn_layers == "selected"))


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
        "lora",
        "openpi's stock LoRA: all einsums and FFNs of both experts (r=16 and 32), SigLIP and projections whole",
        stock_lora=True,
        dense=(SIGLIP, PROJECTIONS),
        b_stddev=0.01,
    ),
    Recipe(
        "lora-frozen-vision",
        "openpi's stock LoRA with SigLIP frozen: the fair baseline for speed and parameters",
        stock_lora=True,
        dense=(PROJECTIONS,),
        b_stddev=0.01,
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
