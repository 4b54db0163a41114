"""The adapter and its recipes.

Regressions pinned: counts that drift from the paper's (20,647,968 and 19,565,600) or openpi's; an output-projection
LoRA that leaks into heads that were not selected (openpi's sums over heads); a first step that is not the base model;
a merge that touches frozen slices; gradients in dead heads.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robosteer_model import config as configs
from robosteer_model import pi0
from robosteer_model.deltas import changed_outside
from robosteer_model.lora import merge_lora
from robosteer_model.params import flatten, unflatten
from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.adapter import attach, attached_config, deltas, init_adapter, merge
from robosteer_training.finetune.explain import explain
from robosteer_training.finetune.loss import Work, batch_loss, draw
from robosteer_training.finetune.recipes import RECIPES, recipe_by_name
from robosteer_training.finetune.spec import AdapterSpec, spread_heads
from robosteer_training.frames import observation_of
from robosteer_training.heads.selection import dead_heads

HEADS = ((0, 1), (0, 3), (1, 2))


JOINT = Work(skip_dead=False)
jitted_loss = jax.jit(partial(batch_loss, work=JOINT), static_argnums=1)
jitted_velocity = jax.jit(pi0.velocity, static_argnums=1)


def random_adapter(spec, params, seed=0):
    rng = np.random.default_rng(seed)
    start = init_adapter(spec, params, seed)
    return {p: x + jnp.asarray(0.1 * rng.normal(size=x.shape), jnp.float32) for p, x in start.items()}


@pytest.mark.parametrize(
    ("model", "recipe", "count"),
    [
        ("pi0", "steering", 20_647_968),
        ("pi05", "steering", 19_565_600),
        ("pi05", "steering-full", 2_361_799_712),
        ("pi0", "lora", 468_039_440),
        ("pi05", "lora", 466_957_072),
        ("pi0_fast", "lora", 442_672_880),
        ("pi0", "full", 3_238_048_528),
        ("pi05", "full", 3_353_433_872),
        ("pi0_fast", "full", 2_923_335_408),
    ],
)
def test_counts_at_full_size(model, recipe, count):
    told = explain(getattr(configs, model)(), recipe_by_name(recipe), m=20)
    assert told["trainable_parameters"] == count
    assert sum(row["trainable"] for row in told["table"]) == count
    assert told["trainable_mib"] == pytest.approx(count * 4 / 2**20, abs=5e-4)


def test_a_recipe_without_heads_is_explained_without_any():
    told = explain(configs.pi05(), recipe_by_name("full"), m=0)
    assert (told["heads"], told["heads_are"]) == (0, "not used")
    assert told["trainable_parameters"] == told["total_parameters"]


def test_the_base_model_is_step_zero_bit_for_bit(config, params, frames):
    spec = AdapterSpec(config, recipe_by_name("steering"), HEADS)
    adapter = init_adapter(spec, params, 0)
    merged = flatten(merge(params, adapter, spec))
    for path, leaf in flatten(params).items():
        assert np.asarray(leaf).tobytes() == np.asarray(merged[path]).tobytes(), path
    batch = frames.gather(np.arange(3))
    noise, time = draw(jax.random.key(1), batch["actions"].shape)
    with_adapter = jitted_loss(attach(params, adapter, spec), attached_config(spec), batch, noise, time)
    np.testing.assert_array_equal(with_adapter, jitted_loss(params, config, batch, noise, time))


@pytest.mark.parametrize("recipe", RECIPES)
def test_merged_weights_are_the_adapter_s(recipe, config, params):
    """Against the model package's own merge of the attached leaves, which knows nothing of heads."""
    spec = AdapterSpec(config, recipe_by_name(recipe), HEADS)
    adapter = random_adapter(spec, params)
    merged = merge(params, adapter, spec)
    assert changed_outside(params, merged, deltas(adapter, spec)) == []
    want, plain = merge_lora(attach(params, adapter, spec), attached_config(spec))
    assert plain == config
    assert jax.tree.structure(want) == jax.tree.structure(merged)
    for path, leaf in flatten(want).items():
        np.testing.assert_allclose(flatten(merged)[path], leaf, atol=1e-5, err_msg=path)
    assert any(not np.array_equal(flatten(merged)[p], x) for p, x in flatten(params).items())


def test_merged_and_attached_models_act_alike(config, params, frames):
    spec = AdapterSpec(config, recipe_by_name("steering"), HEADS)
    adapter = random_adapter(spec, params)
    observation = observation_of(frames.gather(np.arange(3)))
    x_t = jnp.asarray(np.random.default_rng(2).normal(size=(3, config.action_horizon, config.action_dim)), jnp.float32)
    time = jnp.full(3, 0.7)
    want, _ = jitted_velocity(attach(params, adapter, spec), attached_config(spec), observation, x_t, time)
    got, _ = jitted_velocity(merge(params, adapter, spec), config, observation, x_t, time)
    np.testing.assert_allclose(got, want, atol=2e-4)
    plain, _ = jitted_velocity(params, config, observation, x_t, time)
    assert np.abs(got - plain).max() > 1e-3  # the adapter does something


def test_every_selected_head_has_its_own_factors(config, params):
    spec = AdapterSpec(config, recipe_by_name("steering"), HEADS)
    adapter = random_adapter(spec, params)
    before, merged = flatten(params), flatten(merge(params, adapter, spec))
    for name, path in (("head_q", "q_einsum"), ("head_o", "attn_vec_einsum")):
        path = f"PaliGemma/llm/layers/attn/{path}/w"
        delta = np.asarray(merged[path], np.float64) - np.asarray(before[path], np.float64)
        for layer, head in np.ndindex(3, 4):
            if (layer, head) in HEADS:
                i = HEADS.index((layer, head))
                want = np.asarray(adapter[f"{name}/a"][i], np.float64) @ np.asarray(adapter[f"{name}/b"][i], np.float64)
                np.testing.assert_allclose(delta[layer, head], want, atol=1e-6)
            else:
                assert not delta[layer, head].any()


def test_a_change_outside_the_trainable_set_is_seen(config, params):
    spec = AdapterSpec(config, recipe_by_name("steering"), HEADS)
    adapter = random_adapter(spec, params)
    merged = merge(params, adapter, spec)
    for path, index in (
        ("PaliGemma/llm/layers/attn/q_einsum/w", (0, 2, 0, 0)),
        ("PaliGemma/llm/layers/attn/kv_einsum/w", (0, 0, 0, 0, 0)),
        ("PaliGemma/img/head/bias", (0,)),
    ):
        flat = {p: np.array(x) for p, x in flatten(merged).items()}
        flat[path][index] += 1e-6
        assert changed_outside(params, unflatten(flat), deltas(adapter, spec)) == [path]


def test_dead_heads_are_exactly_those_without_gradient(config, params, frames):
    spec = AdapterSpec(config, recipe_by_name("steering"), spread_heads(config, 12))
    adapter = random_adapter(spec, params)
    batch = frames.gather(np.arange(4))
    noise, time = draw(jax.random.key(1), batch["actions"].shape)

    def loss(adapter):
        return batch_loss(attach(params, adapter, spec), attached_config(spec), batch, noise, time, work=JOINT).mean()

    grads = jax.jit(jax.grad(loss))(adapter)
    still = {h for i, h in enumerate(spec.heads) if not np.asarray(grads["head_q/b"][i]).any()}
    assert still == set(dead_heads(config))
    assert set(grads) == set(spec.leaves)


def test_paper_text_adapts_only_the_layers_of_selected_heads(config, params):
    spec = AdapterSpec(config, recipe_by_name("paper-text"), HEADS)
    assert spec.ffn_layers.tolist() == [0, 1]
    delta = flatten(merge(params, random_adapter(spec, params), spec))["PaliGemma/llm/layers/mlp/linear"]
    delta = np.asarray(delta) - np.asarray(flatten(params)["PaliGemma/llm/layers/mlp/linear"])
    assert delta[:2].any(axis=(1, 2)).all()
    assert not delta[2].any()


def test_bad_input_is_one_clear_line(config):
    with pytest.raises(RobosteerError, match="expected one of steering"):
        recipe_by_name("nonsense")
    with pytest.raises(RobosteerError, match="found none"):
        AdapterSpec(config, recipe_by_name("steering"))
    with pytest.raises(RobosteerError, match="layer < 3 and head < 4"):
        AdapterSpec(config, recipe_by_name("steering"), ((3, 0),))
    with pytest.raises(RobosteerError, match="merge it first"):
        AdapterSpec(configs.pi05(lora=True), recipe_by_name("steering"), ((3, 0),))
