"""How many floating-point operations a training step takes: matrix products only, counted from shapes.

A product of (m, k) and (k, n) counts 2 m k n. The backward pass of a frozen product is one product (the gradient of its
input), that of a trained one two. Below the lowest trained leaf nothing is differentiated.
"""

from __future__ import annotations

import dataclasses
import math

from robosteer_model.config import GemmaConfig, SiglipConfig
from robosteer_training.finetune.loss import Work
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What one row of a batch holds.

    Attributes:
        views: images that are computed.
        prompt: prompt tokens that are computed.
        encoded: the images' tokens come from the cache.
    """

    views: int
    prompt: int
    encoded: bool = False


def step_flops(spec: AdapterSpec, settings: TrainSettings, work: Work, shapes: Shapes) -> float:
    """Operations of one optimiser step, the whole batch."""
    return settings.batch_size * row_flops(spec, work, shapes, settings.flow_draws)


def row_flops(spec: AdapterSpec, work: Work, shapes: Shapes, draws: int = 1) -> float:
    """Operations of one row: forward, backward, and what is computed again."""
    config = spec.config
    if not work.prune:
        shapes = dataclasses.replace(shapes, views=len(config.cameras), prompt=config.max_token_len)
    prefix = shapes.views * config.siglip.num_tokens + shapes.prompt
    total = 0.0 if shapes.encoded else shapes.views * _vision(config.siglip, config.paligemma.width, spec, work)
    again = {"off": 0, "light": 0, "full": 1}[work.remat]
    depth = config.paligemma.depth
    layers = depth - 1 if work.skip_dead else depth
    own = _attention(config.paligemma, prefix, prefix)
    # The attention of frozen and trained layers alike: two products forward, four backward.
    per_layer = prefix * _layer(config.paligemma) * (2 + again) + own * (3 + again)
    total += layers * per_layer + prefix * _trained(spec, "") * (3 + again)
    if config.action_expert is not None:
        expert, suffix = config.action_expert, config.action_horizon + (config.model_type == "pi0")
        seen = _attention(expert, suffix, prefix + suffix)
        total += draws * depth * (suffix * _layer(expert) * (2 + again) + seen * (3 + again))
        total += draws * suffix * _trained(spec, "_1") * (3 + again)
    else:
        # The table of the output is the frozen embedding.
        total += 2 * 2 * shapes.prompt * config.paligemma.width * config.vocab_size
    return total


def _layer(gemma: GemmaConfig) -> float:
    """Forward operations of one layer's weights per token."""
    heads = gemma.width * gemma.head_dim * (2 * gemma.num_heads + 2 * gemma.num_kv_heads)
    return 2.0 * (heads + 3 * gemma.width * gemma.mlp_dim)


def _attention(gemma: GemmaConfig, queries: int, keys: int) -> float:
    """Forward operations of scores and mixing."""
    return 4.0 * queries * keys * gemma.num_heads * gemma.head_dim


def _trained(spec: AdapterSpec, suffix: str) -> float:
    """Forward operations per token of what is trained in one expert; whole leaves count one backward product."""
    total = 0.0
    for path, leaf in spec.leaves.items():
        name = path.split("/", 1)[1] if path.startswith(("dense/", "lora/")) else path
        second = any(part.endswith("_1") for part in name.split("/")[:-1]) or name.endswith("_1")
        inside = path.startswith(("head_", "ffn_", "whole_")) or "/llm/layers/" in path
        if not inside or second != (suffix == "_1") or len(leaf.shape) < 3:
            continue
        size = 2.0 * math.prod(leaf.shape)
        # A low-rank path is forward work too (3 products); of a whole leaf only the weight's gradient is new (1 of 3).
        total += size / 3 if path.startswith(("dense/", "whole_")) else size
    return total


def _vision(siglip: SiglipConfig, out: int, spec: AdapterSpec, work: Work) -> float:
    """Operations of one image through the encoder."""
    tokens = siglip.num_tokens
    weights = siglip.depth * (4 * siglip.width**2 + 2 * siglip.width * siglip.mlp_dim) + siglip.width * out
    weights += 3 * math.prod(siglip.patch_size) * siglip.width
    attention = 4.0 * tokens * tokens * siglip.width * siglip.depth
    if spec.vision_is_frozen:
        return 2.0 * tokens * weights + attention
    again = 0 if work.remat == "off" else 1
    return 2.0 * tokens * weights * (3 + again) + attention * (3 + again)
