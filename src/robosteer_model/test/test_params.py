"""Pins the parameter tree: sizes come from the config alone, and the published counts follow from shapes.

Regressions: a renamed or reshaped leaf would make every openpi checkpoint unreadable; a freeze filter that forgets
the image encoder or lets a norm train changes the counts; fresh adaRMS gates that are not zero change training.
"""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import tiny_config
from tiny_batch import fast_config, flow_config

from robosteer_model.config import GemmaConfig, ModelConfig, pi0, pi0_fast, pi05
from robosteer_model.errors import ModelError
from robosteer_model.freeze import count_sparse, count_trainable, is_frozen, split_trainable
from robosteer_model.params import count, flatten, init_params, merge, param_shapes, split, unflatten


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (pi05(lora=True), 466_957_072),
        (pi0(lora=True), 468_039_440),
        (pi0_fast(lora=True), 442_672_880),
        (pi05(), 3_353_433_872),
    ],
    ids=["pi05_lora", "pi0_lora", "pi0_fast_lora", "pi05"],
)
def test_stock_recipes_train_as_many_parameters_as_openpi(config, expected):
    assert count_trainable(config) == expected


def test_sparse_steering_trains_as_many_parameters_as_published():
    assert count_sparse(pi0()) == 20_647_968
    assert count_sparse(pi05()) == 19_565_600


def test_an_action_expert_without_lora_trains_fully_beside_an_adapted_paligemma():
    config = dataclasses.replace(pi05(lora=True), action_expert=pi05().action_expert)
    assert not is_frozen("PaliGemma/llm/layers/attn/q_einsum_1/w", config)
    assert is_frozen("PaliGemma/llm/layers/attn/q_einsum/w", config)
    assert not is_frozen("PaliGemma/img/head/kernel", config)


def test_only_the_second_expert_freezes_when_only_it_has_lora():
    config = dataclasses.replace(pi05(lora=True), paligemma=pi05().paligemma)
    assert is_frozen("PaliGemma/llm/final_norm_1/Dense_0/kernel", config)
    assert not is_frozen("PaliGemma/llm/embedder/input_embedding", config)
    assert not is_frozen("PaliGemma/llm/layers/mlp_1/linear_lora_a", config)


def test_equal_heads_and_kv_heads_share_one_projection():
    sizes = {"num_heads": 2, "num_kv_heads": 2, "head_dim": 4}
    config = tiny_config(paligemma=GemmaConfig(8, 2, 16, **sizes), action_expert=GemmaConfig(8, 2, 8, **sizes))
    flat = flatten(param_shapes(config))
    assert flat["PaliGemma/llm/layers/attn/qkv_einsum_1/w"].shape == (2, 3, 2, 8, 4)
    assert not any("/q_einsum" in path or "/kv_einsum" in path for path in flat)


def test_fresh_parameters_have_the_declared_shapes_and_openpis_zeros():
    config = flow_config(lora=True)
    fresh = init_params(config, jax.random.key(0))
    flat = flatten(fresh)
    assert {p: (x.shape, x.dtype) for p, x in flat.items()} == {
        p: (x.shape, x.dtype) for p, x in flatten(param_shapes(config)).items()
    }
    assert not np.any(flat["PaliGemma/img/head/kernel"])
    assert not np.any(flat["PaliGemma/llm/layers/pre_ffw_norm_1/Dense_0/kernel"])
    assert np.all(flat["PaliGemma/img/Transformer/encoder_norm/scale"] == 1)
    q, out = flat["PaliGemma/llm/layers/attn/q_einsum/w"], flat["PaliGemma/llm/layers/attn/q_einsum/lora_b"]
    assert not np.array_equal(q[0], q[1])  # layers are drawn independently
    assert 0.003 < np.std(out) < 0.03  # both LoRA factors start at openpi's 0.01, B is not zero


def test_initial_spread_counts_the_right_axes():
    gemma = GemmaConfig(64, 2, 256, num_heads=4, head_dim=16)
    wide = tiny_config(paligemma=gemma, action_expert=gemma)
    flat = flatten(init_params(wide, jax.random.key(0)))
    expected = {"attn/q_einsum/w": 64, "attn/kv_einsum/w": 64, "attn/attn_vec_einsum/w": 64, "mlp/linear": 256}
    for name, fan_in in expected.items():
        assert np.std(flat[f"PaliGemma/llm/layers/{name}"]) == pytest.approx(fan_in**-0.5, rel=0.1)


def test_flat_and_nested_views_are_inverses():
    tree = param_shapes(flow_config())
    assert unflatten(flatten(tree)) == tree
    chosen, rest = split(tree, lambda path: "mlp" in path)
    assert merge(chosen, rest) == tree
    assert count(chosen) + count(rest) == count(tree)
    with pytest.raises(ModelError, match="found in both"):
        merge(chosen, tree)
    with pytest.raises(ModelError, match="found a leaf"):
        unflatten({"a": 1, "a/b": 2})


def test_trainable_and_frozen_parts_cover_the_tree():
    config = fast_config(lora=True, paligemma=flow_config(lora=True).paligemma)
    shapes = param_shapes(config)
    trainable, frozen = split_trainable(shapes, config)
    assert merge(trainable, frozen) == shapes
    assert all("llm" in path and "lora" not in path for path in flatten(frozen))


def test_config_survives_json():
    config = flow_config(lora=True)
    assert ModelConfig.from_json(config.to_json()) == config
    with pytest.raises(ModelError, match="unknown fields"):
        ModelConfig.from_json(config.to_json() | {"depth": 3})
