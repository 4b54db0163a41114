"""Finetuning of a pi0-FAST model: cross-entropy of action tokens, an adapter kept apart, its merge.

Regressions pinned: a loss over prompt or padding; actions of another frame in a row's tokens; a FAST model treated as
if its last layer were dead; an adapter that is applied to another base; a merge that is not the trained policy.
"""

import dataclasses

import numpy as np
import pytest

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
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.train import train
from robosteer_training.frames import FastInputs

from .tiny_model import random_params, tiny_config

SETTINGS = TrainSettings(
    steps=12, batch_size=8, peak_lr=2e-2, warmup_steps=0, holdout=0.2, eval_every=0, eval_draws=1, vision_cache=False
)
PROMPT, ACTIONS = 6, 4


@pytest.fixture(scope="module")
def fast(base, frames):
    """A tiny FAST checkpoint and frames whose four action tokens say how bright the first image is."""
    config = tiny_config(model_type="pi0_fast", action_expert=None, cameras=FAST_CAMERAS[:2], max_token_len=16)
    shade = frames.images["base_0_rgb"].mean(axis=(1, 2, 3))
    bins = (shade // 64).astype(np.int32)
    length = np.arange(config.max_token_len)
    tokens = np.where(length < PROMPT, 10 + length, 0)[None].repeat(len(shade), 0).astype(np.int32)
    tokens[:, PROMPT : PROMPT + ACTIONS] = 100 + bins[:, None]
    learned = ((length >= PROMPT) & (length < PROMPT + ACTIONS))[None].repeat(len(shade), 0)
    made = dataclasses.replace(
        frames,
        images=dict(zip(config.cameras, frames.images.values(), strict=True)),
        tokens=tokens,
        tokens_mask=(length < PROMPT + ACTIONS)[None].repeat(len(shade), 0),
        fast=FastInputs(learned.astype(np.int32), learned, 100),
    )
    return dataclasses.replace(base, params=random_params(config), config=config), made


@pytest.fixture(scope="module")
def trained(fast, tmp_path_factory):
    checkpoint, frames = fast
    spec = AdapterSpec(checkpoint.config, recipe_by_name("steering"), ((0, 1), (2, 3)))
    done = train(checkpoint.params, spec, frames, SETTINGS, tmp_path_factory.mktemp("train"))
    return spec, done


def test_the_cross_entropy_falls_on_unseen_episodes(trained):
    spec, done = trained
    (_, before), (_, after) = done.history.heldout
    assert after < 0.95 * before
    (_, wrong_before), (_, wrong_after) = done.history.action_error
    assert wrong_after <= wrong_before
    # Nothing is dead in a FAST model: its output is the prefix's.
    assert all(np.asarray(leaf).any() for leaf in done.adapter["head_q/b"])
    assert not any(path.startswith("dense/") for path in spec.leaves)


def test_an_adapter_apart_is_the_trained_policy_once_merged(fast, trained, tmp_path, capsys):
    checkpoint, frames = fast
    spec, done = trained
    base = save_checkpoint(tmp_path / "base", checkpoint)
    told = {"base_digest": params_digest(checkpoint.params)}
    check = Check(frames, frames.rows_of(np.array(done.heldout_episodes)))
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
