"""Sizes and kinds of the pi0 family: every number that the networks need, with openpi's names.

Nothing in this package hard-codes a size; a model is fully described by one `ModelConfig`, which travels as JSON
beside a checkpoint.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from robosteer_model.errors import ModelError

ModelType = Literal["pi0", "pi05", "pi0_fast"]

PALIGEMMA_VOCAB_SIZE = 257_152
# openpi's image slots; the order defines the order of image tokens in the prefix.
PI0_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation of one kind of module.

    Attributes:
        rank: r, the inner dimension.
        alpha: numerator of the scale.
        rslora: scale by alpha/sqrt(rank) instead of alpha/rank.
    """

    rank: int
    alpha: float = 1.0
    rslora: bool = False

    @property
    def scale(self) -> float:
        """Factor on the low-rank path of attention einsums (openpi applies none to the FFN)."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


@dataclasses.dataclass(frozen=True)
class GemmaConfig:
    """One expert. All experts of a model share depth, heads, kv heads and head_dim.

    Attributes:
        width: residual width D.
        depth: number of layers L.
        mlp_dim: FFN hidden size F.
        num_heads: query heads N.
        num_kv_heads: key/value heads K, a divisor of N.
        head_dim: H.
        lora_attn: LoRA on q, kv and output projections, or None.
        lora_ffn: LoRA on the FFN, or None.
    """

    width: int
    depth: int
    mlp_dim: int
    num_heads: int = 8
    num_kv_heads: int = 1
    head_dim: int = 256
    lora_attn: LoraConfig | None = None
    lora_ffn: LoraConfig | None = None

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"num_kv_heads: found {self.num_kv_heads}, expected a divisor of num_heads={self.num_heads}"
            )


@dataclasses.dataclass(frozen=True)
class SiglipConfig:
    """The image encoder. Its output width is the width of expert 0.

    Attributes:
        width: residual width.
        depth: number of encoder blocks.
        mlp_dim: hidden size of each block's MLP.
        num_heads: attention heads.
        patch_size: (height, width) of a patch in pixels.
        image_resolution: (height, width) of the input in pixels.
    """

    width: int = 1152
    depth: int = 27
    mlp_dim: int = 4304
    num_heads: int = 16
    patch_size: tuple[int, int] = (14, 14)
    image_resolution: tuple[int, int] = (224, 224)

    @property
    def num_tokens(self) -> int:
        """Image tokens per camera."""
        return (self.image_resolution[0] // self.patch_size[0]) * (self.image_resolution[1] // self.patch_size[1])


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A whole model of the pi0 family.

    Attributes:
        model_type: "pi0", "pi05" or "pi0_fast".
        paligemma: expert 0.
        action_expert: expert 1; None for pi0-FAST.
        siglip: the image encoder.
        vocab_size: rows of the embedding table.
        action_dim: width of state and action vectors inside the model (DROID's 8 are zero-padded to it).
        action_horizon: steps of an action chunk.
        max_token_len: prompt tokens after padding.
        dtype: compute dtype, "bfloat16" or "float32".
        discrete_state_input: the state is written into the prompt (pi0.5 and FAST).
        cameras: image slots in token order.
    """

    model_type: ModelType
    paligemma: GemmaConfig
    action_expert: GemmaConfig | None
    siglip: SiglipConfig = SiglipConfig()
    vocab_size: int = PALIGEMMA_VOCAB_SIZE
    action_dim: int = 32
    action_horizon: int = 50
    max_token_len: int = 48
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    discrete_state_input: bool = False
    cameras: tuple[str, ...] = PI0_CAMERAS

    def __post_init__(self) -> None:
        if (self.action_expert is None) != (self.model_type == "pi0_fast"):
            raise ModelError(
                f"action_expert: found {self.action_expert}, expected one for pi0 and pi05 and none for pi0_fast"
            )
        if self.action_expert is not None:
            for field in ("depth", "num_heads", "num_kv_heads", "head_dim"):
                ours, theirs = getattr(self.action_expert, field), getattr(self.paligemma, field)
                if ours != theirs:
                    raise ModelError(f"action_expert.{field}: found {ours}, expected paligemma's {theirs}")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is its exact inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelConfig:
        """Rebuild a config; unknown or missing fields are a `ModelError` that names them."""
        return _build(cls, data, "config")


_NESTED: dict[str, type] = {
    "paligemma": GemmaConfig,
    "action_expert": GemmaConfig,
    "siglip": SiglipConfig,
    "lora_attn": LoraConfig,
    "lora_ffn": LoraConfig,
}
_LARGEST, _LARGEST_FLOAT = 2**31 - 1, 1e38


def _build(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ModelError(f"{where}: found {type(data).__name__}, expected an object")
    hints = get_type_hints(cls)
    if unknown := sorted(set(data) - set(hints)):
        raise ModelError(f"{where}: unknown fields {unknown}, expected some of {sorted(hints)}")
    values = {}
    for name, value in data.items():
        value = tuple(value) if isinstance(value, list) else value
        if name in _NESTED and value is not None:
            value = _build(_NESTED[name], value, f"{where}.{name}")
        elif not _fits(hints[name], value):
            expected = str(hints[name]).removeprefix("<class '").removesuffix("'>").replace("typing.", "")
            raise ModelError(f"{where}.{name}: found {str(value)[:40]!r}, expected {expected}")
        values[name] = value
    try:
        return cls(**values)
    except TypeError as error:
        raise ModelError(f"{where}: {error}") from error


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value from a file is of a field's type; sizes are positive, other numbers finite."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in arguments
    if get_origin(hint) is tuple:
        kinds = arguments[:1] * len(value) if Ellipsis in arguments and isinstance(value, tuple) else arguments
        if not isinstance(value, tuple) or not value or len(value) != len(kinds):
            return False
        return all(_fits(kind, one) for kind, one in zip(kinds, value, strict=True))
    if hint is int:
        return type(value) is int and 0 < value <= _LARGEST
    if hint is float:
        return type(value) in (int, float) and abs(value) <= _LARGEST_FLOAT  # no NaN either
    return value is None if type(None) in arguments else type(value) is hint


def gemma_2b(*, lora: bool = False) -> GemmaConfig:
    """Openpi's `gemma_2b` / `gemma_2b_lora`."""
    adapter = LoraConfig(16, 16.0) if lora else None
    return GemmaConfig(2048, 18, 16_384, lora_attn=adapter, lora_ffn=adapter)


def gemma_300m(*, lora: bool = False) -> GemmaConfig:
    """Openpi's `gemma_300m` / `gemma_300m_lora`."""
    adapter = LoraConfig(32, 32.0) if lora else None
    return GemmaConfig(1024, 18, 4096, lora_attn=adapter, lora_ffn=adapter)


def pi0(*, lora: bool = False, **overrides: Any) -> ModelConfig:
    """Openpi's `Pi0Config()`; `lora` takes the LoRA variant of both experts."""
    base = ModelConfig("pi0", gemma_2b(lora=lora), gemma_300m(lora=lora))
    return dataclasses.replace(base, **overrides)


def pi05(*, lora: bool = False, **overrides: Any) -> ModelConfig:
    """Openpi's `Pi0Config(pi05=True)`."""
    base = ModelConfig("pi05", gemma_2b(lora=lora), gemma_300m(lora=lora), max_token_len=200, discrete_state_input=True)
    return dataclasses.replace(base, **overrides)


def pi0_fast(*, lora: bool = False, **overrides: Any) -> ModelConfig:
    """Openpi's `Pi0FASTConfig()`."""
    base = ModelConfig(
        "pi0_fast",
        gemma_2b(lora=lora),
        None,
        action_horizon=32,
        max_token_len=250,
        discrete_state_input=True,
        cameras=FAST_CAMERAS,
    )
    return dataclasses.replace(base, **overrides)


# Stock openpi train/inference configs for DROID and LIBERO, by openpi's names.
STOCK_CONFIGS: dict[str, ModelConfig] = {
    "pi0_droid": pi0(action_horizon=10),
    "pi05_droid": pi05(action_horizon=15),
    "pi0_fast_droid": pi0_fast(action_dim=8, action_horizon=10),
    "pi05_droid_finetune": pi05(action_horizon=16),
    "pi05_full_droid_finetune": pi05(action_horizon=16),
    "pi0_fast_full_droid_finetune": pi0_fast(action_dim=8, action_horizon=16, max_token_len=180),
    "pi0_libero": pi0(),
    "pi0_libero_low_mem_finetune": pi0(lora=True),
    "pi0_fast_libero": pi0_fast(action_dim=7, action_horizon=10, max_token_len=180),
    "pi0_fast_libero_low_mem_finetune": pi0_fast(lora=True, action_dim=7, action_horizon=10, max_token_len=180),
    "pi05_libero": pi05(action_horizon=10, discrete_state_input=False),
}


def stock_config(name: str) -> ModelConfig:
    """Look a stock config up by openpi's name.

    Raises:
        ModelError: for an unknown name; the message lists the known ones.
    """
    if name not in STOCK_CONFIGS:
        raise ModelError(f"config: found {name!r}, expected one of {', '.join(STOCK_CONFIGS)}")
    return STOCK_CONFIGS[name]
