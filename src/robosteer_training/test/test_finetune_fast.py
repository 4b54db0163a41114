"""Finetuning of a pi0-FAST model: cross-entropy of action tokens, an adapter kept apart, its merge.

Regressions pinned: a loss over prompt or padding; actions of another frame in a row's tokens; training that does not
make the recorded tokens the likely ones; a FAST model treated as if its last layer were dead; an adapter that is
applied to another base; a merge that is not the trained policy.
"""

import dataclasses

import numpy as np
import pytest

from robosteer_model import pi0_fast
from robosteer_model.adapter_file import is_adapter, load_adapter, merge_adapter
from robosteer_model.checkpoint import load_checkpoint, save_checkpoint
from robosteer_model.commands import checkpoint as checkpoint_command
from robosteer_model.config import FAST_CAMERAS
from robosteer_model.digest import params_digest
from robosteer_model.errors import ModelError
from robosteer_model.params import flatten
from robosteer_rig.errors import RobosteerError
from robosteer_training.action_tokens import load_action_tokens
from robosteer_training.export import Check, export
from robosteer_training.finetune.adapter import merge
from robosteer_training.finetune.frozen import frozen_leaves, place_frozen
from robosteer_training.finetune.heldout import Heldout
from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.step import make_step
from robosteer_training.finetune.train import train
from robosteer_training.frames import FastInputs, observation_of

from .tiny_model import random_params, tiny_config

SETTINGS = TrainSettings(
    steps=60, batch_size=8, peak_lr=3e-2, warmup_steps=0, holdout=0.0, eval_every=0, eval_draws=1, vision_cache=False
)
PROMPT, ACTIONS, CHOICES, FRAMES = 6, 4, 100, 8


@pytest.fixture(scope="module")
def fast(base, frames):
    """A tiny FAST checkpoint and eight frames with four random action tokens each: nothing but the picture tells them.

    The embedding is as large as a trained one's, whose logits can be sure of something.
    """
    config = tiny_config(model_type="pi0_fast", action_expert=None, cameras=FAST_CAMERAS[:2], max_token_len=16)
    params = random_params(config)
    params["PaliGemma"]["llm"]["embedder"]["input_embedding"] *= 8
    total, length = len(frames), np.arange(config.max_token_len)
    tokens = np.where(length < PROMPT, 10 + length, 0)[None].repeat(total, 0).astype(np.int32)
    drawn = np.random.default_rng(7).integers(100, 100 + CHOICES, (total, ACTIONS))
    tokens[:, PROMPT : PROMPT + ACTIONS] = drawn
    learned = ((length >= PROMPT) & (length < PROMPT + ACTIONS))[None].repeat(total, 0)
    made = dataclasses.replace(
        frames,
        images=dict(zip(config.cameras, frames.images.values(), strict=True)),
        tokens=tokens,
        tokens_mask=(length < PROMPT + ACTIONS)[None].repeat(total, 0),
        fast=FastInputs(learned.astype(np.int32), learned, 100),
        usable=np.arange(total) % (total // FRAMES + 1) == 0,
    )
    assert made.usable.sum() == FRAMES
    return dataclasses.replace(base, params=params, config=config), made


@pytest.fixture(scope="module")
def trained(fast, tmp_path_factory):
    checkpoint, frames = fast
    spec = AdapterSpec(checkpoint.config, recipe_by_name("steering"), ((0, 1), (2, 3)))
    done = train(checkpoint.params, spec, frames, SETTINGS, tmp_path_factory.mktemp("train"))
    return spec, done


def test_the_recorded_tokens_become_the_likely_ones(fast, trained):
    """Every one of them, and by the loss as a float64 program of its own computes it from the merged policy."""
    checkpoint, frames = fast
    spec, done = trained
    assert done.history.loss[-1] < done.history.loss[0] / 20
    rows = np.flatnonzero(frames.usable)
    merged = merge(checkpoint.params, done.adapter, spec)
    logits = pi0_fast.text_pass(merged, spec.config, observation_of(frames.gather(rows))).logits
    # The token at position t is predicted at position t - 1.
    scores = np.asarray(logits, np.float64)[:, PROMPT - 1 : PROMPT + ACTIONS - 1]
    targets = frames.tokens[rows][:, PROMPT : PROMPT + ACTIONS]
    np.testing.assert_array_equal(scores.argmax(-1), targets)
    chosen = np.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    cross_entropy = (np.log(np.exp(scores).sum(-1)) - chosen).mean()
    assert cross_entropy < 0.5

    placement = Placement()
    heldout = Heldout(make_step(spec, SETTINGS, "off", placement), frames, rows)
    frozen = place_frozen(frozen_leaves(checkpoint.params, spec, SETTINGS), placement)
    assert heldout.loss(done.adapter, frozen) == pytest.approx(cross_entropy, rel=1e-4)
    assert heldout.action_error(done.adapter, frozen) == 0
    nothing = {path: np.zeros_like(leaf) for path, leaf in done.adapter.items()}
    assert heldout.action_error(nothing, frozen) > 0.9
    # Nothing is dead in a FAST model: its output is the prefix's.
    assert all(np.asarray(leaf).any() for leaf in done.adapter["head_q/b"])
    assert not any(path.startswith("dense/") for path in spec.leaves)


def test_an_adapter_apart_is_the_trained_policy_once_merged(fast, trained, tmp_path, capsys):
    checkpoint, frames = fast
    spec, done = trained
    base = save_checkpoint(tmp_path / "base", checkpoint)
    told = {"base_digest": params_digest(checkpoint.params)}
    check = Check(frames, np.flatnonzero(frames.usable))
    exported = export(
        tmp_path / "adapter", checkpoint, done.adapter, spec, check, rig="rig text", provenance=told, apart=True
    )
    assert exported.kind == "adapter"
    assert exported.max_action_difference < 1e-3 < exported.action_change
    assert exported.bytes < 4.2 * spec.num_parameters + 20_000
    assert 0 <= exported.rounding.lost < 1
    assert is_adapter(exported.path)
    arguments = ["merge", str(exported.path), str(tmp_path / "merged")]
    assert checkpoint_command.main([*arguments, "--base", str(base)]) == 0
    capsys.readouterr()
    merged = load_checkpoint(tmp_path / "merged")
    want = flatten(merge(checkpoint.params, done.adapter, spec))
    for path, leaf in flatten(merged.params).items():
        np.testing.assert_array_equal(leaf, want[path], err_msg=path)
    assert params_digest(merged.params) == exported.digest
    assert merged.rig == "rig text"
    with pytest.raises(ModelError, match="found none, expected the checkpoint that"):
        checkpoint_command.main(arguments)
    with pytest.raises(ModelError, match="give the checkpoint that it was trained on"):
        merge_adapter(exported.path, tmp_path / "merged", tmp_path / "twice")
    (exported.path / "adapter.npz").write_bytes(b"PK half a file")
    with pytest.raises(ModelError, match="expected a sound adapter"):
        load_adapter(exported.path)


class Codec:
    """An action tokenizer by name."""

    def encode(self, actions):
        return [int(x) for x in np.clip((np.asarray(actions).mean(axis=0) + 1) * 50, 0, 100)]

    def decode(self, tokens, horizon, action_dim):
        return np.zeros((horizon, action_dim), np.float32)


def test_an_action_tokenizer_is_found_by_name():
    assert isinstance(load_action_tokens(f"{Codec.__module__}:Codec"), Codec)
    with pytest.raises(RobosteerError, match="cannot find"):
        load_action_tokens("no_such_module:x")
    with pytest.raises(RobosteerError, match="without encode and decode"):
        load_action_tokens("collections:OrderedDict")
