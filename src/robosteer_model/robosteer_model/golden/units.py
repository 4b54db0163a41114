"""Checks small functions: masks, alignment, embeddings, norms, adapters, schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from robosteer_model.config import LoraConfig
from robosteer_model.gemma import feed_forward
from robosteer_model.golden.model_file import Arrays, below, load_arrays
from robosteer_model.golden.report import BFLOAT16_TOLERANCE, Comparison, compare, compare_exact, miss
from robosteer_model.layers import attention_mask, posemb_sincos, rms_norm, rotate
from robosteer_model.lora import adapted_einsum
from robosteer_model.optimizer import CosineSchedule, RsqrtSchedule
from robosteer_model.pi0_fast import align_right

EQUATIONS = {"q": "BTD,NDH->BTNH", "kv": "BSD,2KDH->2BSKH", "attn_vec": "BTNH,NHD->BTD", "qkv": "BSD,3KDH->3BSKH"}
SCHEDULES = {
    "paper": CosineSchedule(200, 2.5e-5, 5000, 2.5e-6),
    "default": CosineSchedule(),
    "rsqrt": RsqrtSchedule(),
    "tiny": CosineSchedule(2, 1e-2, 10, 1e-3),
}
_GROUPS = ("attn_mask", "align", "posemb_sincos", "rope", "rmsnorm", "lora_einsum_", "lora_ffn", "schedule")


def claims(keys: frozenset[str]) -> frozenset[str]:
    """Keys of the groups that this module computes."""
    return frozenset(key for key in keys if key.split("/")[0].startswith(_GROUPS))


def check(path: Path) -> Iterator[Comparison]:
    """Compare every group that the file has."""
    arrays = load_arrays(path)
    for group in sorted({name.split("/")[0] for name in claims(frozenset(arrays))}):
        content = below(arrays, f"{group}/")
        compute = next((f for prefix, f in _COMPUTE.items() if group.startswith(prefix)), None)
        if compute is None:
            yield miss(group, "no function computes this group")
            continue
        found, inputs = compute(group, content)
        for name, value in content.items():
            if name in inputs:
                continue
            full = f"{group}/{name}"
            if name not in found:
                yield miss(full, "our code computes nothing of this name")
            elif value.dtype.kind != "f":
                yield compare_exact(full, found[name], value)
            elif "bf16" in name:
                yield compare(full, found[name].astype(jnp.float32), value, BFLOAT16_TOLERANCE)
            else:
                yield compare(full, found[name], value)


Values = tuple[dict[str, Any], set[str]]


def _attn_mask(_: str, x: Arrays) -> Values:
    inputs = {"input_mask", "mask_ar", "mask_ar_batched"}
    valid = jnp.asarray(x["input_mask"])
    return {
        "out": attention_mask(valid, jnp.asarray(x["mask_ar"])),
        "out_batched": attention_mask(valid, jnp.asarray(x["mask_ar_batched"])),
    }, inputs


def _align(_: str, x: Arrays) -> Values:
    found = align_right(*(jnp.asarray(x[name]) for name in ("x", "input_mask", "attn_mask")))
    return dict(zip(("out_x", "out_input_mask", "out_attn_mask"), found, strict=True)), {"x", "input_mask", "attn_mask"}


def _posemb(_: str, x: Arrays) -> Values:
    time = jnp.asarray(x["time"])
    return {name: posemb_sincos(time, int(name.removeprefix("out_"))) for name in x if name != "time"}, {"time"}


def _rope(_: str, arrays: Arrays) -> Values:
    x, positions = jnp.asarray(arrays["x"]), jnp.asarray(arrays["positions"])
    narrow = rotate(x.astype(jnp.bfloat16), positions)
    return {
        "out_f32": rotate(x, positions),
        "out_bf16": narrow.astype(jnp.bfloat16),
        "out_fast_from_bf16_f32": narrow,
    }, {"x", "positions"}


def _rmsnorm(_group: str, arrays: Arrays) -> Values:
    x, condition = jnp.asarray(arrays["x"]), jnp.asarray(arrays["cond"])
    plain = {"scale": jnp.asarray(arrays["scale"])}
    adaptive = {"Dense_0": {leaf: jnp.asarray(arrays[f"dense_{leaf}"]) for leaf in ("kernel", "bias")}}
    found: dict[str, Any] = {}
    for short, dtype in (("f32", jnp.float32), ("bf16", jnp.bfloat16)):
        found[f"out_{short}"], _ = rms_norm(plain, x.astype(dtype))
        found[f"adaptive_out_{short}"], found[f"adaptive_gate_{short}"] = rms_norm(adaptive, x.astype(dtype), condition)
    return found, {"x", "cond", "scale", "dense_kernel", "dense_bias"}


def _rank_alpha(arrays: Arrays) -> LoraConfig:
    rank, alpha = arrays["rank_alpha"].tolist()
    return LoraConfig(int(rank), alpha)


def _lora_einsum(group: str, arrays: Arrays) -> Values:
    equation, x = EQUATIONS[group.removeprefix("lora_einsum_")], jnp.asarray(arrays["x"])
    leaf = {name: jnp.asarray(arrays[name]) for name in ("w", "lora_a", "lora_b")}
    return {
        "out": adapted_einsum(equation, x, leaf, _rank_alpha(arrays)),
        "out_without_lora": adapted_einsum(equation, x, {"w": leaf["w"]}, None),
    }, {"x", "rank_alpha", *leaf}


def _lora_ffn(_: str, arrays: Arrays) -> Values:
    leaves = {name: jnp.asarray(value) for name, value in arrays.items() if name.startswith(("gating", "linear"))}
    plain = {name: value for name, value in leaves.items() if "lora" not in name}
    x = jnp.asarray(arrays["x"])
    return {"out": feed_forward(leaves, x), "out_without_lora": feed_forward(plain, x)}, {"x", "rank_alpha", *leaves}


def _schedule(_: str, arrays: Arrays) -> Values:
    found = {}
    for name in {key.split("/")[0] for key in arrays} & SCHEDULES.keys():
        rate = SCHEDULES[name].create()
        found[f"{name}/lr"] = [float(rate(step)) for step in arrays[f"{name}/steps"]]
    return found, {key for key in arrays if key.endswith("/steps")}


_COMPUTE: dict[str, Callable[[str, Arrays], Values]] = {
    "attn_mask": _attn_mask,
    "align": _align,
    "posemb_sincos": _posemb,
    "rope": _rope,
    "rmsnorm": _rmsnorm,
    "lora_einsum_": _lora_einsum,
    "lora_ffn": _lora_ffn,
    "schedule": _schedule,
}
