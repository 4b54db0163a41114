"""Selection through the model's edits, by classification, and the controls.

Regressions pinned: one compilation per head; a head that matters missed, one that cannot matter scored; the score of a
head that depends on which others share its pass; an interrupted run that ends elsewhere; pi0-FAST without an action
tokenizer answered with numbers; a gradient with the wrong sign; heads that REINFORCE wants to keep, ranked by their
numbers; sets that should not share a head and do.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robosteer_model import pi0
from robosteer_model.config import GemmaConfig
from robosteer_model.edits import Edits, head_edit
from robosteer_rig.errors import RobosteerError
from robosteer_training.frames import model_frames, observation_of
from robosteer_training.heads.classify import accuracy_and_margin, classify, labels_of, split_by_episode
from robosteer_training.heads.cma import CmaSettings, causal_effects, spread_rows
from robosteer_training.heads.edited_loss import EditedLoss, LossSettings, Stack, _draws
from robosteer_training.heads.partial import PartialResult
from robosteer_training.heads.reinforce import ReinforceSettings, learn_probabilities, policy_gradient
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.heads.tasks import make_disjoint, slug

from .conftest import CoarseTokens
from .tiny_model import tiny_config

USEFUL = (1, 2)
QUICK = CmaSettings(frames=8, block=4, chunk=5, noise_draws=2)


@pytest.fixture(scope="module")
def planted(params, config):
    """A model in whose action expert every head but one writes nothing."""
    key = "attn_vec_einsum_1"
    attention = dict(params["PaliGemma"]["llm"]["layers"]["attn"])
    weight = np.zeros(attention[key]["w"].shape, np.float32)
    weight[USEFUL] = 3 * attention[key]["w"][USEFUL]
    attention[key] = {"w": jnp.asarray(weight)}
    llm = params["PaliGemma"]["llm"]
    layers = dict(llm["layers"]) | {"attn": attention}
    return dict(params) | {"PaliGemma": dict(params["PaliGemma"]) | {"llm": dict(llm) | {"layers": layers}}}


@pytest.fixture(scope="module")
def own_actions(planted, config, frames):
    """Frames whose actions are what the planted model itself would do."""
    rows = np.arange(len(frames))
    noise, _ = _draws(config, LossSettings(), rows)

    @jax.jit
    def act(batch, noise):
        return pi0.sample_actions(planted, config, observation_of(batch), noise, num_steps=2)[0]

    chunks = act(frames.gather(rows), noise[0])
    alone = np.arange(len(frames))  # every frame an episode of its own: a chunk then repeats its action
    return dataclasses.replace(frames, actions=np.array(chunks[:, 0]), episode_index=alone)


def test_only_the_head_that_writes_has_a_causal_effect_and_nothing_recompiles(planted, config, frames):
    loss = EditedLoss(planted, config, frames, LossSettings(draws=2))
    found = causal_effects(loss, np.arange(len(frames)), QUICK)
    effect = found.effect.copy()
    assert abs(effect[USEFUL]) > 1e-3
    effect[USEFUL] = 0
    np.testing.assert_allclose(effect, 0, atol=1e-6)
    assert loss.traces == 1
    assert found.spread[USEFUL] > 0


def test_an_effect_equals_the_plain_models(params, config, frames):
    """Silence one head through the stack, and through `flow_loss` on a whole pass."""
    settings, rows, head = LossSettings(), np.arange(6), (2, 1)
    loss = EditedLoss(params, config, frames, settings)
    mask = np.zeros((2, 3, 4), np.float32)
    mask[1][head] = 1
    zeros = np.zeros((3, 4), np.float32)
    found = loss(rows, Stack(mask, np.zeros(2, np.uint32), zeros, np.zeros((3, 4, 8), np.float32), zeros))
    noise, time = _draws(config, settings, rows)
    batch = frames.gather(rows)
    for edits, value in ((None, found[0]), (Edits(suffix=(head_edit(config, "suffix", [head]),)), found[1])):
        x_t = time[0][:, None, None] * noise[0] + (1 - time[0][:, None, None]) * batch["actions"]
        v, _ = pi0.velocity(params, config, observation_of(batch), x_t, time[0], edits=edits)
        plain = np.square(np.asarray(v - (noise[0] - batch["actions"]))[..., : frames.action_dim]).mean()
        assert value == pytest.approx(plain, rel=1e-5)


def test_noise_in_the_prefixs_last_layer_changes_nothing(params, config, frames):
    found = causal_effects(EditedLoss(params, config, frames, LossSettings("prefix")), np.arange(8), QUICK)
    np.testing.assert_array_equal(found.effect[-1], 0)
    assert np.abs(found.effect[:-1]).min() > 0


def test_reinforce_learns_to_keep_the_useful_head_and_resumes_exactly(planted, config, own_actions, tmp_path):
    rows = np.arange(len(own_actions))
    settings = ReinforceSettings(steps=24, masks=16, batch=6, save_every=4)
    loss = EditedLoss(planted, config, own_actions, LossSettings(kind="actions", num_steps=2))
    found = learn_probabilities(loss, rows, settings)
    assert found.probability[USEFUL] == found.probability.max()
    assert found.probability[USEFUL] > 0.5
    assert loss.traces == 1

    def stop(done, _total):
        if done == 10:
            raise KeyboardInterrupt

    path = tmp_path / "heads.json"
    with pytest.raises(KeyboardInterrupt):
        learn_probabilities(loss, rows, settings, path=path, progress=stop)
    resumed = []
    again = learn_probabilities(loss, rows, settings, path=path, progress=lambda done, _: resumed.append(done))
    assert resumed[0] == 9
    np.testing.assert_array_equal(again.probability, found.probability)
    np.testing.assert_array_equal(again.losses, found.losses)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RobosteerError, match="expected at least the batch of 6"):
        learn_probabilities(loss, rows[:3], settings)


class Additive:
    """A loss to which every head that is left out adds its own weight, and each mask some noise."""

    def __init__(self, weights):
        gemma = GemmaConfig(8, weights.shape[0], 8, weights.shape[1], head_dim=4)
        self.config, self._weights = dataclasses.replace(tiny_config(), paligemma=gemma, action_expert=gemma), weights

    def moments(self, rows):
        return np.zeros((*self._weights.shape, 4), np.float32), np.zeros(self._weights.shape, np.float32)

    def __call__(self, rows, stack):
        noise = np.random.default_rng(rows.sum()).normal(0, 0.05, len(stack.mask))
        return (stack.mask * self._weights).sum((1, 2)) + noise


def test_of_many_heads_that_reinforce_keeps_the_useful_ones_lead():
    random = np.random.default_rng(0)
    weights = np.abs(random.normal(size=(18, 8))) * (random.random((18, 8)) < 0.5)
    found = learn_probabilities(Additive(weights), np.arange(128), ReinforceSettings())
    assert (found.probability == found.probability.max()).sum() > 40  # at the clamp
    assert len(np.unique(found.dropped)) == weights.size
    best, useful = (set(np.argsort(x, axis=None)[:20].tolist()) for x in (found.dropped, -weights))
    assert len(best & useful) >= 12  # by their numbers 6, by chance 3


def test_the_gradient_is_that_of_the_expected_loss():
    """All masks of two heads, weighted by their probability, against the derivative of E[standardised loss]."""
    probability = np.array([[0.3, 0.6]])
    kept = np.array([[[a, b]] for a in (0, 1) for b in (0, 1)], bool)
    weight = np.prod(np.where(kept, probability, 1 - probability), axis=(1, 2))
    counts = np.round(weight * 1000).astype(int)
    masks = np.repeat(kept, counts, axis=0)
    losses = np.where(masks[:, 0, 0], 1.0, 2.0)  # keeping head 0 helps, head 1 does not matter
    gradient = policy_gradient(masks, losses, probability)
    assert gradient[0, 0] == pytest.approx(-np.sqrt(0.3 * 0.7), abs=1e-2)
    assert gradient[0, 1] == pytest.approx(0, abs=1e-2)
    np.testing.assert_array_equal(policy_gradient(masks, np.ones(len(masks)), probability), 0)


def test_causal_ablation_resumes_where_it_stopped(params, config, frames, tmp_path):
    loss, rows = EditedLoss(params, config, frames, LossSettings()), np.arange(len(frames))
    whole = causal_effects(loss, rows, QUICK)

    def stop(done, _total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        causal_effects(loss, rows, QUICK, path=tmp_path / "h", progress=stop)
    resumed = []
    again = causal_effects(loss, rows, QUICK, path=tmp_path / "h", progress=lambda done, _: resumed.append(done))
    assert resumed[0] == 4
    np.testing.assert_array_equal(again.effect, whole.effect)
    with pytest.raises(RobosteerError, match="none that can be used"):
        spread_rows(rows[:0], 4)


def test_fast_needs_action_tokens_for_a_loss_and_then_has_one(fast_base, two_tasks):
    with pytest.raises(RobosteerError, match="--action-tokens"):
        EditedLoss(fast_base.params, fast_base.config, model_frames(two_tasks, fast_base), LossSettings())
    frames = model_frames(two_tasks, fast_base, CoarseTokens())
    loss = EditedLoss(fast_base.params, fast_base.config, frames, LossSettings())
    found = causal_effects(loss, np.arange(len(frames)), dataclasses.replace(QUICK, frames=4, noise_draws=1, chunk=13))
    assert (np.abs(found.effect) > 0).all()  # in pi0-FAST every layer reaches the answer
    assert loss.traces == 1


def test_classification_finds_the_planted_head():
    rng = np.random.default_rng(0)
    positive = np.arange(80) % 2 == 0
    z = rng.normal(size=(3, 80, 4, 6)).astype(np.float32)
    z[1, :, 2] += np.where(positive, 3.0, -3.0)[:, None]
    found = classify(z, np.arange(40), positive[:40], np.arange(40, 80), positive[40:])
    assert np.unravel_index(found.scores.argmax(), (3, 4)) == (1, 2)
    assert accuracy_and_margin(found.correct, [(1, 2)]) == (1.0, 1.0)
    one, _ = z[1, :40, 2].astype(np.float64), None
    plus, minus = one[positive[:40]].mean(0), one[~positive[:40]].mean(0)
    cos = lambda a, b: a @ b / np.linalg.norm(a, axis=-1) / np.linalg.norm(b)  # noqa: E731
    expected = (np.where(positive[:40], 1, -1) * (cos(one, plus) - cos(one, minus))).mean()
    assert found.scores[1, 2] == pytest.approx(expected)
    with pytest.raises(RobosteerError, match="one class only"):
        classify(z, np.arange(40), np.ones(40, bool), np.arange(40, 80), positive[40:])
    z[0, 3, 1, 0] = np.nan
    with pytest.raises(RobosteerError, match="non-finite value in layer 0"):
        classify(z, np.arange(40), positive[:40], np.arange(40, 80), positive[40:])


def test_unfinished_work_cut_short_begins_anew(tmp_path):
    partial = PartialResult(tmp_path / "h.json", "key")
    partial.save({"total": np.arange(200.0)})
    assert partial.load()["total"][3] == 3
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:900])
    assert partial.load() is None


def test_classes_of_no_frames_are_one_line():
    class Nothing:
        tasks = np.array(["a"], object)

    with pytest.raises(RobosteerError, match="classes: found no usable frames"):
        labels_of(Nothing, np.zeros(0, int), None)


def test_votes_are_counted_as_the_paper_does():
    correct = np.array([[[1, 1, 0, 1], [1, 0, 0, 1]], [[1, 1, 0, 0], [1, 0, 1, 1]]], bool)
    accuracy, margin = accuracy_and_margin(correct, [(0, 0), (0, 1), (1, 0)])
    assert accuracy == 0.75  # 3:0, 2:1, 0:3, 2:1
    assert margin == (3 + 1 - 3 + 1) / 4
    assert accuracy_and_margin(correct, [(0, 0), (0, 1)])[0] == 0.5  # a draw is not right


def test_no_episode_is_on_both_sides_of_a_split():
    episodes, positive = np.repeat(np.arange(6), 5), np.repeat(np.arange(6) < 2, 5)
    train, test = split_by_episode(episodes, positive)
    assert set(episodes[train]).isdisjoint(episodes[test])
    assert len(train) + len(test) == 30
    assert {len(np.unique(positive[x])) for x in (train, test)} == {2}
    with pytest.raises(RobosteerError, match="found 1 episode of one class"):
        split_by_episode(episodes, episodes == 0)


def test_disjoint_sets_share_no_head_and_say_so():
    scores = np.arange(12.0).reshape(3, 4)
    other = scores.copy()
    other[0, 0] = 5.5
    ranked = {"a": HeadSelection("knn", scores, [(0, 0), (0, 1)]), "b": HeadSelection("knn", other, [(0, 1), (0, 2)])}
    found = make_disjoint(ranked)
    assert found["a"].heads == [(0, 0), (0, 2)]
    assert found["b"].heads == [(0, 1), (0, 3)]
    assert found["a"].settings["disjoint_from"] == ["b"]
    many = {str(i): HeadSelection("knn", scores, [(0, 0)] + [(1, n) for n in range(4)]) for i in range(3)}
    with pytest.raises(RobosteerError, match="want 15 heads, expected at most 12"):
        make_disjoint(many)
    assert slug("Pick up the RED cube!") == "pick-up-the-red-cube"
