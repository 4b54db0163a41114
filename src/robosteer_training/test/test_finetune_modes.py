"""Ways of training beyond the plain one: micro-batches, several draws, tasks, little memory, openpi's shapes.

Regressions pinned: accumulated gradients that are not the batch's; a switch for speed that changes the result; a task
that trains another one's heads; a refusal that comes after the crash; augmented tokens that are all the same.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from robosteer_model.config import pi05
from robosteer_model.params import flatten
from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.batches import Sampler
from robosteer_training.finetune.flops import Shapes, row_flops
from robosteer_training.finetune.frozen import frozen_leaves
from robosteer_training.finetune.loss import Work
from robosteer_training.finetune.multitask import disjoint_heads, joint_heads
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.sparkline import sparkline
from robosteer_training.finetune.spec import AdapterSpec, spread_heads
from robosteer_training.finetune.train import Watch, make_sampler, train
from robosteer_training.finetune.vision import draw_variants, encode_frames
from robosteer_training.heads.selection import HeadSelection

HEADS = ((0, 1), (1, 2))
# Two steps, so that the second one sees the result of the first; no held-out programs to compile.
SETTINGS = TrainSettings(steps=2, batch_size=4, peak_lr=5e-3, warmup_steps=0, holdout=0.0, flow_draws=2)


@pytest.fixture(scope="module")
def spec(config):
    return AdapterSpec(config, recipe_by_name("q-only"), HEADS)


def run(params, spec, frames, directory, **changes):
    plans = []
    settings = dataclasses.replace(SETTINGS, **changes)
    done = train(params, spec, frames, settings, directory, watch=Watch(plan=plans.append))
    return done, plans[0]


@pytest.fixture(scope="module")
def plain(params, spec, frames, tmp_path_factory):
    return run(params, spec, frames, tmp_path_factory.mktemp("plain"))


def check_same(done, plain):
    np.testing.assert_allclose(done.history.loss, plain.history.loss, rtol=1e-5)
    np.testing.assert_allclose(done.history.grad_norm, plain.history.grad_norm, rtol=1e-4)


def test_the_switches_for_memory_and_speed_change_rounding_only(params, spec, frames, plain, tmp_path):
    done, plan = run(params, spec, frames, tmp_path / "a", micro_batch=2, remat="full", prune=False, skip_dead=False)
    check_same(done, plain[0])
    assert plan.remat == "full"
    assert plan.flops > 1.5 * plain[1].flops  # a third view, padding, and everything twice


def test_the_plan_knows_what_is_there(spec, frames, params, plain):
    _, plan = plain
    assert plan.parts["trained weights"] == 4 * spec.num_parameters
    assert plan.parts["optimiser"] >= 8 * spec.num_parameters
    frozen = frozen_leaves(params, spec, SETTINGS)
    assert plan.parts["frozen weights"] == sum(leaf.nbytes for leaf in frozen.values())
    assert plan.parts["activations and gradients"] > 0
    assert plan.step_s > 0
    assert plan.eta_s == pytest.approx(2 * plan.step_s)
    assert "2 steps" in plan.lines()[1]


def test_what_does_not_fit_is_refused_with_advice(params, spec, frames, plain, tmp_path):
    """Both before and after compiling: the weights alone, and weights with activations."""
    with pytest.raises(RobosteerError, match=r"memory: found .* expected .*frozen weights.*--fsdp"):
        run(params, spec, frames, tmp_path, memory_limit_gib=1e-6)
    limit = (plain[1].needed - 1) / 2**30
    with pytest.raises(RobosteerError, match=r"activations and gradients .*--micro-batch 2 or --remat auto") as caught:
        run(params, spec, frames, tmp_path, memory_limit_gib=limit, remat="off")
    assert "\n" not in str(caught.value)


def test_a_step_of_one_task_leaves_the_other_task_s_heads_alone(params, config, frames, tmp_path):
    two = dataclasses.replace(frames, task_index=(frames.episode_index > 1).astype(int), tasks=("one", "two"))
    spec = AdapterSpec(config, recipe_by_name("q-only"), ((1, 2), (0, 1)), owners=(1, 0))
    assert spec.heads == ((0, 1), (1, 2))
    assert spec.owners == (0, 1)
    done, _ = run(params, spec, two, tmp_path, steps=1)
    moved = [np.asarray(leaf).any() for leaf in done.adapter["head_q/b"]]
    assert moved == [True, False]
    sampler = make_sampler(two, np.arange(5), SETTINGS, spec)
    tasks = [two.task_index[sampler(step)] for step in range(4)]
    assert [set(t.tolist()) for t in tasks] == [{0}, {1}, {0}, {1}]
    with pytest.raises(RobosteerError, match="task 2 of 2"):
        make_sampler(two, np.array([0, 1]), SETTINGS, spec)


def test_balanced_batches_hold_every_task_alike():
    rows = (np.arange(5), np.arange(100, 140), np.arange(200, 203))
    stream = np.concatenate([Sampler(rows, 4, 7)(step) for step in range(30)])
    assert [int(((stream >= low) & (stream < low + 99)).sum()) for low in (0, 100, 200)] == [40, 40, 40]
    of_second = stream[(stream >= 100) & (stream < 199)]
    assert sorted(of_second.tolist()) == list(range(100, 140))  # one epoch, nothing twice


def _selection(order, m):
    scores = np.empty((2, 3))
    for rank, head in enumerate(order):
        scores[head] = rank
    return HeadSelection("knn", scores, list(order[:m]))


def test_heads_of_several_tasks():
    order = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    one, two = _selection(order, 2), _selection([order[1], order[0], order[5], *order[2:5]], 2)
    assert joint_heads([one, two]) == [(0, 0), (0, 1)]
    heads, owners = disjoint_heads([one, two])
    assert dict(zip(heads, owners, strict=True)) == {(0, 0): 0, (0, 1): 1, (0, 2): 0, (1, 2): 1}
    assert disjoint_heads([one, two], excluded=[(1, 2)])[0] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    with pytest.raises(RobosteerError, match="found 8 heads for 2 tasks, expected at most 6"):
        disjoint_heads([_selection(order, 4), _selection(order, 4)])


def test_vision_tokens_of_augmented_variants(params, config, frames, tmp_path):
    settings = dataclasses.replace(SETTINGS, augment="light", augment_variants=2, steps=30)
    calls = []

    def encode(source):
        return encode_frames(
            params, config, frames, settings, tmp_path / "v", source=source, progress=lambda *a: calls.append(a)
        )["base_0_rgb"]

    tokens = encode("a")
    assert tokens.shape == (3, len(frames), 4, 32)
    plain = encode_frames(params, config, frames, SETTINGS, tmp_path / "plain")["base_0_rgb"]
    np.testing.assert_array_equal(tokens[0], plain[0])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(tokens[i] - tokens[j]).max() > 1e-3
    assert calls[-1] == (3 * 2 * 70, 3 * 2 * 70)
    done = len(calls)
    np.testing.assert_array_equal(encode("a"), tokens)
    assert len(calls) == done  # taken from the disk
    encode("other data")
    assert len(calls) == 2 * done
    drawn = np.concatenate([draw_variants(settings, step) for step in range(20)])
    assert set(drawn.tolist()) == {1, 2}  # number 0 is for measuring
    batch = dataclasses.replace(frames, image_tokens={"base_0_rgb": tokens}).gather(np.array([5, 6]), np.array([2, 1]))
    np.testing.assert_array_equal(batch["image"]["base_0_rgb"], tokens[[2, 1], [5, 6]])


def test_frozen_weights_take_the_compute_dtype_and_lose_what_is_dead(config, params, tmp_path, frames):
    spec = AdapterSpec(dataclasses.replace(config, dtype="bfloat16"), recipe_by_name("steering"), HEADS)
    leaves = frozen_leaves(params, spec, SETTINGS)
    assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype(jnp.bfloat16)}
    assert not set(spec.dense_paths) & set(leaves)
    assert leaves["PaliGemma/llm/layers/mlp/linear"].shape[0] == 2
    assert leaves["PaliGemma/llm/layers/mlp_1/linear"].shape[0] == 3
    kept = frozen_leaves(params, spec, dataclasses.replace(SETTINGS, bf16_frozen=False, skip_dead=False))
    assert all(np.shares_memory(leaf, np.asarray(flatten(params)[path])) for path, leaf in kept.items())
    tokens = encode_frames(params, spec.config, frames, SETTINGS, tmp_path / "bf16")["base_0_rgb"]
    assert tokens.dtype == jnp.bfloat16
    assert 0 < np.abs(tokens.astype(np.float32)).max() < 100


def test_operations_of_a_full_size_row():
    """The saving ladder of pi0.5: openpi's shapes, pruned, kept activations, cached vision, no dead layer (TFLOP)."""
    spec = AdapterSpec(pi05(action_horizon=15), recipe_by_name("steering"), spread_heads(pi05(), 20))
    rungs = [
        (Work(False, False, "full"), False, 12.62),
        (Work(True, False, "full"), False, 7.42),
        (Work(True, False, "off"), False, 5.09),
        (Work(True, False, "off"), True, 4.65),
        (Work(True, True, "off"), True, 4.40),
    ]
    for work, encoded, tera in rungs:
        assert row_flops(spec, work, Shapes(2, 60, encoded)) / 1e12 == pytest.approx(tera, rel=0.025)


def test_a_falling_curve_in_one_line():
    assert sparkline([8, 4, 2, 1]) == "█▆▃▁"
    assert sparkline([]) == ""
    assert sparkline([3, 3]) == "▁▁"
    assert len(sparkline(np.linspace(2, 1, 500))) == 20
    assert sparkline([1.0, float("nan"), 2.0]) == "▁█"
