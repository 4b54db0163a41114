"""Shape and initialiser of every parameter, derived from the config alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.nn import initializers as init

from robosteer_model.config import GemmaConfig, LoraConfig, ModelConfig, SiglipConfig

# openpi's LoRA draws *both* factors at this scale, so that adding an adapter perturbs the base model.
LORA_STDDEV = 0.01


@dataclasses.dataclass(frozen=True)
class ParamSpec:
    """One leaf.

    Attributes:
        shape: with the leading layer axis where layers are scanned.
        initializer: (key, shape, dtype) -> array, aware of the layer axis.
    """

    shape: tuple[int, ...]
    initializer: Any


def param_specs(config: ModelConfig) -> dict[str, ParamSpec]:
    """Every leaf of the model by its `/`-joined path."""
    width = config.paligemma.width
    specs = {f"PaliGemma/img/{path}": spec for path, spec in _siglip(config.siglip, width).items()}
    specs["PaliGemma/llm/embedder/input_embedding"] = ParamSpec((config.vocab_size, width), _embedding_init(config))
    fast = config.model_type == "pi0_fast"
    for path, spec in _expert(config.paligemma, "", adaptive=False, fast=fast).items():
        specs[f"PaliGemma/llm/{path}"] = spec
    if config.action_expert is not None:
        expert = _expert(config.action_expert, "_1", adaptive=config.model_type == "pi05", fast=False)
        specs |= {f"PaliGemma/llm/{path}": spec for path, spec in expert.items()}
        specs |= _projections(config, config.action_expert.width)
    return specs


def _embedding_init(config: ModelConfig) -> Any:
    return init.zeros if config.model_type == "pi0_fast" else init.normal(0.01)


def _lecun(in_axis: int | tuple[int, ...], *batch_axis: int) -> Any:
    return init.lecun_normal(in_axis=in_axis, out_axis=-1, batch_axis=batch_axis)


def _linear(fan_in: int, fan_out: int) -> dict[str, ParamSpec]:
    return {"kernel": ParamSpec((fan_in, fan_out), init.lecun_normal()), "bias": ParamSpec((fan_out,), init.zeros)}


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
    if not adaptive:
        return {f"{prefix}/scale": ParamSpec((*layers, width), init.zeros)}
    return {
        f"{prefix}/Dense_0/kernel": ParamSpec((*layers, width, 3 * width), init.zeros),
        f"{prefix}/Dense_0/bias": ParamSpec((*layers, 3 * width), init.zeros),
    }


def _expert(gemma: GemmaConfig, suffix: str, *, adaptive: bool, fast: bool) -> dict[str, ParamSpec]:
    """Leaves of one Gemma expert below `llm/`; expert 1's modules carry the suffix `_1`."""
    layers, d, f = gemma.depth, gemma.width, gemma.mlp_dim
    n, k, h = gemma.num_heads, gemma.num_kv_heads, gemma.head_dim
    output_fan_in = -2 if fast else (-3, -2)
    output_batch = (0, 1) if fast else (0,)
    attn = {f"attn_vec_einsum{suffix}": ParamSpec((layers, n, h, d), _lecun(output_fan_in, *output_batch))}
    if n == k:
        attn[f"qkv_einsum{suffix}"] = ParamSpec((layers, 3, n, d, h), _lecun(-2, 0, 1, 2))
    else:
        attn[f"q_einsum{suffix}"] = ParamSpec((layers, n, d, h), _lecun(-2, 0, 1))
        attn[f"kv_einsum{suffix}"] = ParamSpec((layers, 2, k, d, h), _lecun(-2, 0, 1, 2))
    specs: dict[str, ParamSpec] = {}
    for name, spec in attn.items():
        specs[f"layers/attn/{name}/w"] = spec
        if gemma.lora_attn:
            for leaf, factor in _lora(spec.shape, gemma.lora_attn).items():
                specs[f"layers/attn/{name}/lora_{leaf}"] = factor
    ffn = {
        "gating_einsum": ParamSpec((layers, 2, d, f), _lecun(-2, 0, 1)),
        "linear": ParamSpec((layers, f, d), _lecun(-2, 0)),
    }
    for name, spec in ffn.items():
        specs[f"layers/mlp{suffix}/{name}"] = spec
        if gemma.lora_ffn:  # siblings of the weight here, children of the einsum above: openpi's tree
            for leaf, factor in _lora(spec.shape, gemma.lora_ffn).items():
                specs[f"layers/mlp{suffix}/{name}_lora_{leaf}"] = factor
    for name in ("pre_attention_norm", "pre_ffw_norm"):
        specs |= _norm(f"layers/{name}{suffix}", d, (layers,), adaptive=adaptive)
    return specs | _norm(f"final_norm{suffix}", d, (), adaptive=adaptive)


def _lora(shape: tuple[int, ...], lora: LoraConfig) -> dict[str, ParamSpec]:
    normal = init.normal(LORA_STDDEV)
    return {
        "a": ParamSpec((*shape[:-1], lora.rank), normal),
        "b": ParamSpec((*shape[:-2], lora.rank, shape[-1]), normal),
    }


def _siglip(siglip: SiglipConfig, out: int) -> dict[str, ParamSpec]:
    """Leaves of the image encoder below `img/`; W width, F MLP, N heads, H = W / N."""
    layers, w, f, n = siglip.depth, siglip.width, siglip.mlp_dim, siglip.num_heads
    h = w // n
    block = "Transformer/encoderblock"
    mha = f"{block}/MultiHeadDotProductAttention_0"
    xavier = _Layered(init.xavier_uniform())
    small = init.normal(1e-6)
    specs = {
        "embedding/kernel": ParamSpec((*siglip.patch_size, 3, w), init.lecun_normal(in_axis=(0, 1, 2))),
        "embedding/bias": ParamSpec((w,), init.zeros),
        "pos_embedding": ParamSpec((1, siglip.num_tokens, w), init.normal(w**-0.5)),
        f"{block}/MlpBlock_0/Dense_0/kernel": ParamSpec((layers, w, f), xavier),
        f"{block}/MlpBlock_0/Dense_0/bias": ParamSpec((layers, f), small),
        f"{block}/MlpBlock_0/Dense_1/kernel": ParamSpec((layers, f, w), xavier),
        f"{block}/MlpBlock_0/Dense_1/bias": ParamSpec((layers, w), small),
        f"{mha}/out/kernel": ParamSpec((layers, n, h, w), _Layered(init.xavier_uniform(), (n * h, w))),
        f"{mha}/out/bias": ParamSpec((layers, w), init.zeros),
        "head/kernel": ParamSpec((w, out), init.zeros),
        "head/bias": ParamSpec((out,), init.zeros),
    }
    for name in ("query", "key", "value"):
        specs[f"{mha}/{name}/kernel"] = ParamSpec((layers, w, n, h), _Layered(init.xavier_uniform(), (w, n * h)))
        specs[f"{mha}/{name}/bias"] = ParamSpec((layers, n, h), init.zeros)
    for name, lead in ((f"{block}/LayerNorm_0", (layers,)), (f"{block}/LayerNorm_1", (layers,))):
        specs[f"{name}/scale"] = ParamSpec((*lead, w), init.ones)
        specs[f"{name}/bias"] = ParamSpec((*lead, w), init.zeros)
    specs["Transformer/encoder_norm/scale"] = ParamSpec((w,), init.ones)
    specs["Transformer/encoder_norm/bias"] = ParamSpec((w,), init.zeros)
    return specs


@dataclasses.dataclass(frozen=True)
class _Layered:
    """An initialiser applied per layer on a matrix view, as flax's dense layers do.

    Attributes:
        initializer: for a (fan_in, fan_out) matrix.
        matrix: the shape in which fans are counted; None for the layer's own.
    """

    initializer: Any
    matrix: tuple[int, int] | None = None

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        matrix = self.matrix or shape[1:]
        keys = jax.random.split(key, shape[0])
        return jax.vmap(lambda k: self.initializer(k, matrix, dtype))(keys).reshape(shape)
