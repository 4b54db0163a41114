"""Shape and initial distribution of every parameter, derived from the config alone."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from robosteer_model.config import GemmaConfig, LoraConfig, ModelConfig, SiglipConfig

# openpi's LoRA draws *both* factors at this scale, so that adding an adapter perturbs the base model.
LORA_STDDEV = 0.01
# Standard deviation of a standard normal cut at two deviations.
_CUT_STDDEV = 0.87962566103423978


@dataclasses.dataclass(frozen=True)
class ParamSpec:
    """One leaf.

    Attributes:
        shape: with the leading layer axis where layers are scanned.
        kind: `constant`, `normal`, `cut_normal` (cut at two deviations) or `uniform`.
        scale: the constant, the standard deviation after the cut, or the largest magnitude.
    """

    shape: tuple[int, ...]
    kind: Literal["constant", "normal", "cut_normal", "uniform"]
    scale: float

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A float32 array from the distribution."""
        if self.kind == "constant":
            return np.full(self.shape, self.scale, np.float32)
        if self.kind == "uniform":
            return (2 * rng.random(self.shape, np.float32) - 1) * np.float32(self.scale)
        values = rng.standard_normal(self.shape, np.float32)
        if self.kind == "normal":
            return values * np.float32(self.scale)
        while (outside := np.abs(values) > 2).any():
            values[outside] = rng.standard_normal(int(outside.sum()), np.float32)
        return values * np.float32(self.scale / _CUT_STDDEV)


def _constant(value: float, *shape: int) -> ParamSpec:
    return ParamSpec(shape, "constant", value)


def _normal(stddev: float, *shape: int) -> ParamSpec:
    return ParamSpec(shape, "normal", stddev)


def _lecun(fan_in: int, *shape: int) -> ParamSpec:
    """LeCun normal: variance 1 / fan_in, cut at two deviations."""
    return ParamSpec(shape, "cut_normal", fan_in**-0.5)


def _xavier(fan_in: int, fan_out: int, *shape: int) -> ParamSpec:
    """Xavier uniform of a (fan_in, fan_out) matrix, whatever its shape as stored."""
    return ParamSpec(shape, "uniform", (6 / (fan_in + fan_out)) ** 0.5)


def param_specs(config: ModelConfig) -> dict[str, ParamSpec]:
    """Every leaf of the model by its `/`-joined path."""
    width = config.paligemma.width
    specs = {f"PaliGemma/img/{path}": spec for path, spec in _siglip(config.siglip, width).items()}
    # pi0-FAST's embedding starts at zero.
    embedding = 0.0 if config.model_type == "pi0_fast" else 0.01
    specs["PaliGemma/llm/embedder/input_embedding"] = _normal(embedding, config.vocab_size, width)
    fast = config.model_type == "pi0_fast"
    for path, spec in _expert(config.paligemma, "", adaptive=False, fast=fast).items():
        specs[f"PaliGemma/llm/{path}"] = spec
    if config.action_expert is not None:
        expert = _expert(config.action_expert, "_1", adaptive=config.model_type == "pi05", fast=False)
        specs |= {f"PaliGemma/llm/{path}": spec for path, spec in expert.items()}
        specs |= _projections(config, config.action_expert.width)
    return specs


def _linear(fan_in: int, fan_out: int) -> dict[str, ParamSpec]:
    return {"kernel": _lecun(fan_in, fan_in, fan_out), "bias": _constant(0, fan_out)}


def _projections(config: ModelConfig, width: int) -> dict[str, ParamSpec]:
    """The linear maps between state, actions, time and the action expert (width W1)."""
    sizes = {"action_in_proj": (config.action_dim, width), "action_out_proj": (width, config.action_dim)}
    if config.model_type == "pi05":
        sizes |= {"time_mlp_in": (width, width), "time_mlp_out": (width, width)}
    else:
        sizes |= {"state_proj": (config.action_dim, width)}
        sizes |= {"action_time_mlp_in": (2 * width, width), "action_time_mlp_out": (width, width)}
    return {f"{name}/{leaf}": spec for name, size in sizes.items() for leaf, spec in _linear(*size).items()}


def _norm(prefix: str, width: int, layers: tuple[int, ...], *, adaptive: bool) -> dict[str, ParamSpec]:
    """Zeros: the plain norm multiplies by 1 + scale; the adaptive one starts with closed gates."""
    if not adaptive:
        return {f"{prefix}/scale": _constant(0, *layers, width)}
    return {
        f"{prefix}/Dense_0/kernel": _constant(0, *layers, width, 3 * width),
        f"{prefix}/Dense_0/bias": _constant(0, *layers, 3 * width),
    }


def _expert(gemma: GemmaConfig, suffix: str, *, adaptive: bool, fast: bool) -> dict[str, ParamSpec]:
    """Leaves of one Gemma expert below `llm/`; expert 1's modules carry the suffix `_1`."""
    layers, d, f = gemma.depth, gemma.width, gemma.mlp_dim
    n, k, h = gemma.num_heads, gemma.num_kv_heads, gemma.head_dim
    attn = {f"attn_vec_einsum{suffix}": _lecun(h if fast else n * h, layers, n, h, d)}
    if n == k:
        attn[f"qkv_einsum{suffix}"] = _lecun(d, layers, 3, n, d, h)
    else:
        attn[f"q_einsum{suffix}"] = _lecun(d, layers, n, d, h)
        attn[f"kv_einsum{suffix}"] = _lecun(d, layers, 2, k, d, h)
    specs: dict[str, ParamSpec] = {}
    for name, spec in attn.items():
        specs[f"layers/attn/{name}/w"] = spec
        for leaf, factor in _lora(spec.shape, gemma.lora_attn).items():
            specs[f"layers/attn/{name}/lora_{leaf}"] = factor
    for name, spec in {"gating_einsum": _lecun(d, layers, 2, d, f), "linear": _lecun(f, layers, f, d)}.items():
        specs[f"layers/mlp{suffix}/{name}"] = spec
        # Siblings of the weight here, children of the einsum above: openpi's tree.
        for leaf, factor in _lora(spec.shape, gemma.lora_ffn).items():
            specs[f"layers/mlp{suffix}/{name}_lora_{leaf}"] = factor
    for name in ("pre_attention_norm", "pre_ffw_norm"):
        specs |= _norm(f"layers/{name}{suffix}", d, (layers,), adaptive=adaptive)
    return specs | _norm(f"final_norm{suffix}", d, (), adaptive=adaptive)


def _lora(shape: tuple[int, ...], lora: LoraConfig | None) -> dict[str, ParamSpec]:
    if lora is None:
        return {}
    return {
        "a": _normal(LORA_STDDEV, *shape[:-1], lora.rank),
        "b": _normal(LORA_STDDEV, *shape[:-2], lora.rank, shape[-1]),
    }


def _siglip(siglip: SiglipConfig, out: int) -> dict[str, ParamSpec]:
    """Leaves of the image encoder below `img/`; W width, F MLP, N heads, H = W / N."""
    layers, w, f, n = siglip.depth, siglip.width, siglip.mlp_dim, siglip.num_heads
    h = w // n
    block = "Transformer/encoderblock"
    mha = f"{block}/MultiHeadDotProductAttention_0"
    patch = siglip.patch_size[0] * siglip.patch_size[1] * 3
    specs = {
        "embedding/kernel": _lecun(patch, *siglip.patch_size, 3, w),
        "embedding/bias": _constant(0, w),
        "pos_embedding": _normal(w**-0.5, 1, siglip.num_tokens, w),
        f"{block}/MlpBlock_0/Dense_0/kernel": _xavier(w, f, layers, w, f),
        f"{block}/MlpBlock_0/Dense_0/bias": _normal(1e-6, layers, f),
        f"{block}/MlpBlock_0/Dense_1/kernel": _xavier(f, w, layers, f, w),
        f"{block}/MlpBlock_0/Dense_1/bias": _normal(1e-6, layers, w),
        f"{mha}/out/kernel": _xavier(w, w, layers, n, h, w),
        f"{mha}/out/bias": _constant(0, layers, w),
        # A fresh model gets zero image tokens.
        "head/kernel": _constant(0, w, out),
        "head/bias": _constant(0, out),
    }
    for name in ("query", "key", "value"):
        specs[f"{mha}/{name}/kernel"] = _xavier(w, w, layers, w, n, h)
        specs[f"{mha}/{name}/bias"] = _constant(0, layers, n, h)
    for name in ("LayerNorm_0", "LayerNorm_1"):
        specs[f"{block}/{name}/scale"] = _constant(1, layers, w)
        specs[f"{block}/{name}/bias"] = _constant(0, layers, w)
    specs["Transformer/encoder_norm/scale"] = _constant(1, w)
    specs["Transformer/encoder_norm/bias"] = _constant(0, w)
    return specs
