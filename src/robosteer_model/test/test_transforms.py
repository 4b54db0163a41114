"""Observations to model inputs, model outputs to actions.

Pins: training (`batch`) and serving (`inputs`) give bit-identical model inputs; the state is tokenized normalised and
unpadded; padding comes after normalisation; absent cameras are left out unless openpi's shapes are asked for; every
missing or misshapen field is named.
"""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import TOKENIZER, droid_observation, tiny_checkpoint, tiny_config, tiny_stats

from robosteer_model.config import FAST_CAMERAS
from robosteer_model.errors import ModelError
from robosteer_model.images import convert_to_uint8, parse_image, resize_with_pad_pil
from robosteer_model.layouts import DataLayout
from robosteer_model.tokenizer import PromptTokenizer, SentencePiece, load_sentencepiece
from robosteer_model.transforms import Transforms, absolute_actions, delta_actions, pad_to_dim

STATS = {"state": tiny_stats(), "actions": tiny_stats()}
MODEL = SentencePiece.from_file(TOKENIZER)


@pytest.fixture(scope="module")
def transforms():
    return Transforms.of(tiny_checkpoint())


def test_batch_equals_single_observations_bit_for_bit(transforms):
    raws = [droid_observation(seed, (20, 40)) for seed in range(3)]
    for i, raw in enumerate(raws):
        raw["prompt"] = f"task_{i}\nnow"
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (3, 5, 8)).astype(np.float32)
    images = {
        key: np.stack([raw[f"observation/{key}"] for raw in raws])
        for key in ("exterior_image_1_left", "wrist_image_left")
    }
    state = np.stack(
        [np.concatenate([r["observation/joint_position"], r["observation/gripper_position"]]) for r in raws]
    )
    batch, chunks = transforms.batch(images, state, [r["prompt"] for r in raws], actions)
    for i, raw in enumerate(raws):
        single = transforms.inputs(raw | {"actions": actions[i]})
        observation = transforms.observation(single)
        assert jax.tree.structure(batch) == jax.tree.structure(observation)
        for ours, theirs in zip(jax.tree.leaves(batch), jax.tree.leaves(observation), strict=True):
            np.testing.assert_array_equal(np.asarray(ours)[i], np.asarray(theirs)[0])
        np.testing.assert_array_equal(chunks[i], single["actions"])


def test_state_is_tokenized_normalised_and_unpadded(transforms):
    raw = droid_observation()
    inputs = transforms.inputs(raw)
    state = np.concatenate([raw["observation/joint_position"], raw["observation/gripper_position"]])
    q01, q99 = STATS["state"].q01, STATS["state"].q99
    normalised = (state - q01) / (q99 - q01 + 1e-6) * 2 - 1
    tokens, _ = PromptTokenizer(MODEL, 64, discrete_state=True).tokenize(raw["prompt"], normalised)
    np.testing.assert_array_equal(inputs["tokenized_prompt"], tokens)
    np.testing.assert_array_equal(inputs["state"][:8], normalised.astype(np.float32))
    np.testing.assert_array_equal(inputs["state"][8:], 0)


def test_absent_cameras_are_left_out_or_black(transforms):
    raw = droid_observation()
    assert set(transforms.inputs(raw)["image"]) == {"base_0_rgb", "left_wrist_0_rgb"}
    full = Transforms(tiny_config(), STATS, MODEL, keep_absent=True).inputs(raw)
    assert list(full["image"]) == ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]
    assert not full["image_mask"]["right_wrist_0_rgb"]
    assert not full["image"]["right_wrist_0_rgb"].any()


def test_fast_keeps_padding_images_unmasked_and_pads_nothing():
    config = tiny_config(model_type="pi0_fast", action_expert=None, cameras=FAST_CAMERAS, action_dim=8)
    inputs = Transforms(config, STATS, MODEL).inputs(droid_observation())
    assert list(inputs["image"]) == list(FAST_CAMERAS)
    assert all(inputs["image_mask"].values())
    assert inputs["state"].shape == (8,)
    assert not inputs["token_ar_mask"].any()


def test_fast_without_its_action_tokenizer_says_what_is_missing():
    config = tiny_config(model_type="pi0_fast", action_expert=None, cameras=FAST_CAMERAS, action_dim=8)
    with pytest.raises(ModelError, match="no FAST action tokenizer"):
        Transforms(config, STATS, MODEL).inputs(droid_observation() | {"actions": np.zeros((5, 8))})


def test_pi0_normalises_by_z_score_and_adds_a_newline():
    config = tiny_config(model_type="pi0", discrete_state_input=False)
    inputs = Transforms(config, STATS, MODEL).inputs(droid_observation())
    stats = STATS["state"]
    raw = droid_observation()
    state = np.concatenate([raw["observation/joint_position"], raw["observation/gripper_position"]])
    np.testing.assert_allclose(inputs["state"][:8], (state - stats.mean) / (stats.std + 1e-6), rtol=1e-6)
    used = inputs["tokenized_prompt"][inputs["tokenized_prompt_mask"]]
    assert list(used) == MODEL.encode(raw["prompt"], bos=True) + MODEL.encode("\n")


def test_outputs_undo_normalisation_and_drop_padding(transforms):
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 8))
    inputs = transforms.inputs(droid_observation() | {"actions": actions})
    assert inputs["actions"].shape == (5, 10)
    restored = transforms.outputs(inputs["actions"])
    assert restored.dtype == np.float64
    np.testing.assert_allclose(restored, actions, atol=1e-6)


def test_relative_actions_are_relative_to_the_robots_own_state():
    mask = [True] * 7 + [False]
    transforms = Transforms(tiny_config(), STATS, MODEL, delta_mask=mask)
    raw = droid_observation()
    state = transforms.layout.read_state(raw)
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 8))
    model_actions = transforms.inputs(raw | {"actions": actions})["actions"]
    np.testing.assert_allclose(transforms.outputs(model_actions, state), actions, atol=1e-5)
    with pytest.raises(ModelError, match="found no state"):
        transforms.outputs(model_actions)
    delta = delta_actions(actions, state, mask)
    np.testing.assert_array_equal(delta[:, 7], actions[:, 7])
    np.testing.assert_allclose(absolute_actions(delta, state, mask), actions, atol=1e-12)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("observation/joint_position", None, "expected also 'observation/joint_position'"),
        ("observation/wrist_image_left", None, "expected also 'observation/wrist_image_left'"),
        ("prompt", None, "prompt: found NoneType"),
        ("prompt", 3, "prompt: found int"),
        ("observation/joint_position", np.array([np.nan] * 7), "observation/joint_position: found float64"),
        ("observation/joint_position", np.zeros((7, 1)), "expected a vector"),
        ("observation/joint_position", np.zeros(9), r"found shape \(10,\), expected a last axis of at most 8"),
        (
            "observation/wrist_image_left",
            np.zeros((4, 4), np.uint8),
            "observation/wrist_image_left: image: found uint8",
        ),
        ("observation/wrist_image_left", np.zeros((4, 4, 3), np.int16), "found int16"),
    ],
)
def test_wrong_fields_are_named(transforms, field, value, message):
    raw = droid_observation()
    if value is None:
        del raw[field]
    else:
        raw[field] = value
    with pytest.raises(ModelError, match=message):
        transforms.inputs(raw)


def test_lerobot_float_images_are_truncated_and_transposed():
    image = np.random.default_rng(0).uniform(0, 1, (3, 6, 8)).astype(np.float32)
    np.testing.assert_array_equal(parse_image(image), convert_to_uint8(image).transpose(1, 2, 0))


def test_pil_resize_pads_the_short_side_with_black():
    out = resize_with_pad_pil(np.full((2, 10, 20, 3), 200, np.uint8), 28, 28)
    assert out.shape == (2, 28, 28, 3)
    assert not out[:, :7].any()
    assert (out[:, 7:21] == 200).all()


def test_batch_names_missing_images_and_unequal_sizes(transforms):
    image = np.zeros((1, 28, 28, 3), np.uint8)
    with pytest.raises(ModelError, match="expected also 'wrist_image_left'"):
        transforms.batch({"exterior_image_1_left": image}, np.zeros((1, 8)), ["x"])
    images = {"exterior_image_1_left": image, "wrist_image_left": image}
    with pytest.raises(ModelError, match=r"found sizes \[1, 2\]"):
        transforms.batch(images, np.zeros((2, 8)), ["x", "y"])


def test_statistics_are_required():
    with pytest.raises(ModelError, match="norm_stats: found none"):
        Transforms(tiny_config(), None, MODEL)


def test_own_layouts_feed_the_models_slots_in_order():
    layout = DataLayout(images=("cam/a", "cam/b"), state=("q",), action_dim=6, slots={})
    config = dataclasses.replace(tiny_config(), cameras=("left", "right"))
    raw = {"cam/a": np.full((28, 28, 3), 1, np.uint8), "cam/b": np.full((28, 28, 3), 2, np.uint8), "q": np.zeros(8)}
    inputs = Transforms(config, STATS, MODEL, layout=layout).inputs(raw | {"prompt": b"bytes"})
    assert inputs["image"]["left"][0, 0, 0] == 1
    assert inputs["image"]["right"][0, 0, 0] == 2


def test_padding_refuses_to_cut():
    with pytest.raises(ModelError, match="at most action_dim=2"):
        pad_to_dim(np.zeros(3), 2)


def test_tokenizer_larger_than_the_embedding_is_refused():
    with pytest.raises(ModelError, match="found 482 pieces, expected at most vocab_size=100"):
        Transforms(tiny_config(vocab_size=100), STATS, MODEL)


def test_missing_paligemma_model_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOSTEER_CACHE", str(tmp_path))
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "openpi"))
    with pytest.raises(ModelError, match=r"copy gs://big_vision/paligemma_tokenizer.model there"):
        load_sentencepiece()
    (tmp_path / "paligemma_tokenizer.model").write_bytes(TOKENIZER.read_bytes())
    assert load_sentencepiece().vocab_size == 482


def test_garbage_is_no_tokenizer(tmp_path):
    with pytest.raises(ModelError, match="no valid SentencePiece model"):
        load_sentencepiece(b"garbage")
    with pytest.raises(ModelError, match="No such file"):
        load_sentencepiece(tmp_path / "none.model")
