"""A complete, very small model for tests: parameters, statistics, tokenizer, observations."""

from pathlib import Path
from typing import Any

import numpy as np

from robosteer_model.checkpoint import Checkpoint
from robosteer_model.config import GemmaConfig, LoraConfig, ModelConfig, SiglipConfig
from robosteer_model.norm_stats import NormStats
from robosteer_model.params import flatten, param_shapes, unflatten

GOLDEN = Path(__file__).parent / "golden"
TOKENIZER = GOLDEN / "shared_tokenizer.model"
SIGLIP = SiglipConfig(width=8, depth=1, mlp_dim=8, num_heads=2, patch_size=(14, 14), image_resolution=(28, 28))


def tiny_config(*, lora: bool = False, **overrides: Any) -> ModelConfig:
    adapter = LoraConfig(2, 6.0) if lora else None
    sizes: dict[str, Any] = {"num_heads": 2, "head_dim": 4, "lora_attn": adapter, "lora_ffn": adapter}
    values: dict[str, Any] = {
        "model_type": "pi05",
        "paligemma": GemmaConfig(8, 2, 16, **sizes),
        "action_expert": GemmaConfig(8, 2, 8, **sizes),
        "siglip": SIGLIP,
        "vocab_size": 512,
        "action_dim": 10,
        "action_horizon": 5,
        "max_token_len": 64,
        "dtype": "float32",
        "discrete_state_input": True,
    }
    return ModelConfig(**(values | overrides))


def random_params(config: ModelConfig, seed: int = 0) -> dict[str, Any]:
    """Random values in every leaf: fresh models have zeros in places that hide mistakes."""
    rng = np.random.default_rng(seed)
    flat = flatten(param_shapes(config))
    return unflatten({path: 0.3 * rng.standard_normal(leaf.shape).astype(np.float32) for path, leaf in flat.items()})


def tiny_stats(size: int = 8) -> NormStats:
    low = np.linspace(-2.0, -1.0, size)
    return NormStats(mean=low + 1, std=np.linspace(0.5, 2.0, size), q01=low, q99=low + 3)


def tiny_checkpoint(*, lora: bool = False, **overrides: Any) -> Checkpoint:
    config = tiny_config(lora=lora, **overrides)
    return Checkpoint(
        params=random_params(config),
        config=config,
        norm_stats={"state": tiny_stats(), "actions": tiny_stats()},
        tokenizer=TOKENIZER.read_bytes(),
        rig="name: test\n",
        action_convention={"unit_rad_per_s": 3.0},
        provenance={"recipe": "test"},
    )


def droid_observation(seed: int = 0, size: tuple[int, int] = (28, 28)) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "observation/exterior_image_1_left": rng.integers(0, 256, (*size, 3), np.uint8),
        "observation/wrist_image_left": rng.integers(0, 256, (*size, 3), np.uint8),
        "observation/joint_position": rng.uniform(-1, 1, 7).astype(np.float32),
        "observation/gripper_position": rng.uniform(0, 1, 1).astype(np.float32),
        "prompt": "pick up the red cube",
    }
