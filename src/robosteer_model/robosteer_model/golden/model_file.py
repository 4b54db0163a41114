"""Read model configs, parameters and inputs out of golden `.npz` files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from robosteer_model.config import GemmaConfig, LoraConfig, ModelConfig, SiglipConfig
from robosteer_model.errors import ModelError
from robosteer_model.golden.report import ABSOLUTE_FLOOR, FLOAT32_TOLERANCE, bfloat16_tolerance
from robosteer_model.observation import Observation
from robosteer_model.params import Tree, unflatten

Arrays = dict[str, np.ndarray]
DTYPES: dict[str, Literal["float32", "bfloat16"]] = {"f32": "float32", "bf16": "bfloat16"}


def load_arrays(path: Path) -> Arrays:
    """Every array of an `.npz`."""
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def below(arrays: Arrays, prefix: str) -> Arrays:
    """Arrays whose names start with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _lora(sizes: dict[str, Any] | None) -> LoraConfig | None:
    return LoraConfig(**sizes) if sizes else None


def _gemma(content: dict[str, Any], name: str) -> GemmaConfig | None:
    if name not in content:
        return None
    lora = content.get(f"{name}_lora") or {}
    return GemmaConfig(**content[name], lora_attn=_lora(lora.get("attn")), lora_ffn=_lora(lora.get("ffn")))


def model_config(arrays: Arrays, dtype: str = "f32", cameras: tuple[str, ...] | None = None) -> ModelConfig:
    """The config that `config_json` describes.

    Args:
        arrays: a golden file.
        dtype: compute dtype, `f32` or `bf16`.
        cameras: image slots; None for those of `input/images/`, else the model's stock ones.

    Raises:
        ModelError: when the description is not a model's.
    """
    content = json.loads(str(arrays["config_json"]))
    sizes: dict[str, Any] = {name: value for name, value in content["siglip"].items() if name != "head_out"}
    patch, resolution = tuple(sizes.pop("patch_size")), tuple(sizes.pop("image_resolution"))
    siglip = SiglipConfig(**sizes, patch_size=patch, image_resolution=resolution)
    paligemma = _gemma(content, "paligemma")
    if paligemma is None:
        raise ModelError(f"config_json: found {sorted(content)}, expected the sizes of paligemma")
    found = cameras or tuple(sorted(below(arrays, "input/images/")))
    return ModelConfig(
        model_type=content["model"],
        paligemma=paligemma,
        action_expert=_gemma(content, "action_expert"),
        siglip=siglip,
        vocab_size=content["vocab_size"],
        action_dim=content["action_dim"],
        action_horizon=content["action_horizon"],
        max_token_len=content["max_token_len"],
        dtype=DTYPES[dtype],
        discrete_state_input=content["model"] != "pi0",
        **({"cameras": found} if found else {}),
    )


def model_params(arrays: Arrays) -> Tree:
    """The float32 parameters."""
    return unflatten({path: jnp.asarray(value) for path, value in below(arrays, "param/").items()})


def model_observation(arrays: Arrays) -> Observation:
    """The inputs as a batch of observations."""
    inputs = below(arrays, "input/")
    return Observation.from_dict(
        {
            "image": below(inputs, "images/"),
            "image_mask": below(inputs, "image_masks/"),
            **{name: value for name, value in inputs.items() if name.startswith(("state", "token"))},
        }
    )


def tolerance_of(name: str, arrays: Arrays) -> float:
    """Relative tolerance of an `out/` or `grad/` array, by its compute dtype."""
    if not name.startswith("out/bf16/"):
        return FLOAT32_TOLERANCE
    return bfloat16_tolerance(arrays[name], arrays.get(name.replace("/bf16/", "/f32/", 1)))


def gradient_floor(name: str, arrays: Arrays) -> float:
    """Absolute floor: 1e-6, times the largest gradient when that exceeds 1 (rounding noise grows with it)."""
    if not name.startswith("grad/"):
        return ABSOLUTE_FLOOR
    return ABSOLUTE_FLOOR * max(1.0, *(float(np.max(np.abs(value))) for value in below(arrays, "grad/").values()))
