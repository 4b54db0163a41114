"""Which parameters train: openpi's freeze filter, and the arithmetic of trainable parameters."""

from __future__ import annotations

import dataclasses
import math
import re

from robosteer_model.config import LoraConfig, ModelConfig
from robosteer_model.params import Tree, count, flatten, param_shapes, split

_LANGUAGE = re.compile(r".*llm.*")
_SECOND_EXPERT = re.compile(r".*llm.*_1.*")
_LORA = re.compile(r".*lora.*")


def is_frozen(path: str, config: ModelConfig) -> bool:
    """Openpi's `get_freeze_filter`: LoRA freezes the base weights of the adapted experts, and nothing else.

    The image encoder and the action projections always train. So does an action expert without LoRA beside an
    adapted PaliGemma.
    """
    first = config.paligemma.lora_attn or config.paligemma.lora_ffn
    second = config.action_expert and (config.action_expert.lora_attn or config.action_expert.lora_ffn)
    if _LORA.fullmatch(path) or not (first or second):
        return False
    if not first:
        return bool(_SECOND_EXPERT.fullmatch(path))
    if not second and config.action_expert is not None and _SECOND_EXPERT.fullmatch(path):
        return False
    return bool(_LANGUAGE.fullmatch(path))


def split_trainable(params: Tree, config: ModelConfig) -> tuple[Tree, Tree]:
    """(trainable, frozen) by openpi's filter; `params.merge` joins them again."""
    return split(params, lambda path: not is_frozen(path, config))


def count_trainable(config: ModelConfig) -> int:
    """Trainable parameters of openpi's stock recipe, from shapes alone."""
    return count(split_trainable(param_shapes(config), config)[0])


def count_sparse(config: ModelConfig, num_heads: int = 20, rank: int = 16) -> int:
    """Trainable parameters of sparse head steering, from shapes alone.

    Q and O adapters of the selected heads and FFN adapters of every layer, in PaliGemma; the projections of actions,
    state and time. Norms, the image encoder and the action expert stay frozen.

    Args:
        config: a flow model, with or without LoRA.
        num_heads: selected (layer, head) pairs.
        rank: of all adapters.
    """
    lora = LoraConfig(rank, float(rank))
    paligemma = dataclasses.replace(config.paligemma, lora_attn=lora, lora_ffn=lora)
    shapes = flatten(param_shapes(dataclasses.replace(config, paligemma=paligemma)))
    total = 0
    for path, leaf in shapes.items():
        size = math.prod(leaf.shape)
        if "/attn/q_einsum/lora" in path or "/attn/attn_vec_einsum/lora" in path:
            total += num_heads * size // (leaf.shape[0] * leaf.shape[1])
        elif ("/mlp/" in path and "lora" in path) or not path.startswith("PaliGemma/"):
            total += size
    return total
