"""Normalisation statistics.

Pins: quantile edges are float64 as in openpi's numpy (numpy 2 promotion shifts q01/q99); streaming in other batch
sizes gives the same mean and std; the JSON file is validated field by field; padding passes through.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_model.errors import ModelError
from robosteer_model.norm_stats import (
    NormStats,
    RunningStats,
    load_norm_stats,
    norm_stats_from_json,
    norm_stats_to_json,
    normalize,
    save_norm_stats,
    unnormalize,
)

STATS = NormStats(np.array([1.0, -2.0]), np.array([0.5, 2.0]), q01=np.array([0.0, -6.0]), q99=np.array([2.0, 2.0]))


def test_quantiles_of_a_known_distribution():
    running = RunningStats()
    for batch in np.random.default_rng(0).uniform(-1, 3, (50, 400, 1)):
        running.update(batch)
    stats = running.result()
    np.testing.assert_allclose([stats.q01[0], stats.q99[0]], [-0.96, 2.96], atol=0.02)
    np.testing.assert_allclose([stats.mean[0], stats.std[0]], [1.0, 4 / np.sqrt(12)], atol=0.02)


def test_first_edges_are_widened_in_float64():
    data = np.array([[1.0], [2.0], [3.0]], np.float32)
    running = RunningStats()
    running.update(data)
    assert running.result().q01.dtype == np.float64
    assert running.result().q01[0] == 1.0 - 1e-10


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(0, 2**31))
def test_batching_does_not_change_mean_and_std(size, seed):
    data = np.random.default_rng(seed).normal(2, 3, (80, 2))
    running = RunningStats()
    for start in range(0, 80, size):
        running.update(data[start : start + size])
    stats = running.result()
    np.testing.assert_allclose(stats.mean, data.mean(0), rtol=1e-9)
    np.testing.assert_allclose(stats.std, data.std(0), rtol=1e-9)


def test_constant_dimensions_work():
    running = RunningStats()
    running.update(np.zeros((3, 2)))
    running.update(np.ones((3, 2)) * [0, 1])
    stats = running.result()
    assert stats.std[0] == 0
    assert np.all(np.isfinite(normalize(np.zeros(2), stats, quantile=True)))


@pytest.mark.parametrize("bad", [np.array([[np.nan]]), np.zeros((0, 1)), np.zeros((2, 1), int), np.zeros((2, 3))])
def test_bad_batches_are_refused(bad):
    running = RunningStats()
    running.update(np.zeros((2, 1)))
    with pytest.raises(ModelError):
        running.update(bad)


def test_too_little_data_is_refused():
    running = RunningStats()
    running.update(np.zeros((1, 1)))
    with pytest.raises(ModelError, match="found 1 vectors"):
        running.result()


@pytest.mark.parametrize("quantile", [False, True])
def test_unnormalize_is_the_inverse(quantile):
    x = np.random.default_rng(0).normal(size=(3, 2))
    np.testing.assert_allclose(unnormalize(normalize(x, STATS, quantile=quantile), STATS, quantile=quantile), x)


def test_values_are_not_clipped():
    assert normalize(np.array([100.0, 0.0]), STATS, quantile=True)[0] > 90


def test_padding_passes_through_quantile_unnormalisation():
    out = unnormalize(np.array([0.0, 0.0, 0.7]), STATS, quantile=True)
    assert out.shape == (3,)
    assert out[2] == 0.7


def test_wrong_widths_are_refused():
    with pytest.raises(ModelError, match="at most 2"):
        normalize(np.zeros(3), STATS, quantile=False)
    with pytest.raises(ModelError, match="at least 2"):
        unnormalize(np.zeros(1), STATS, quantile=False)


def test_quantiles_are_needed_for_pi05():
    with pytest.raises(ModelError, match="no q01/q99"):
        normalize(np.zeros(2), NormStats(np.zeros(2), np.ones(2)), quantile=True)


def test_file_round_trip(tmp_path):
    path = tmp_path / "norm_stats.json"
    save_norm_stats(path, {"state": STATS, "actions": NormStats(np.zeros(1), np.ones(1))})
    loaded = load_norm_stats(path)
    np.testing.assert_array_equal(loaded["state"].q99, STATS.q99)
    assert loaded["actions"].q01 is None
    assert json.loads(path.read_text())["norm_stats"]["actions"]["q99"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": [1.0]}, r"state.*std: found shape \(2,\), expected \(1,\)"),
        ({"mean": []}, "non-empty list of numbers"),
        ({"mean": [1.0, "2"]}, "non-empty list of numbers"),
        ({"mean": [1.0, True]}, "non-empty list of numbers"),
        ({"mean": None}, "state"),
        ({"std": [1.0, -1.0]}, "negative"),
        ({"std": [1.0, 1e999]}, "found"),
        ({"q01": None}, "both or neither"),
        ({"q01": [9.0, 9.0]}, "q01 > q99"),
        ({"extra": [1.0]}, "expected mean, std"),
    ],
)
def test_every_field_is_validated(change, message):
    document = json.loads(norm_stats_to_json({"state": STATS}))
    document["norm_stats"]["state"] |= change
    with pytest.raises(ModelError, match=message) as error:
        norm_stats_from_json(json.dumps(document).replace("Infinity", "1e999"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"norm_stats": 3}', '{"norm_stats": {"state": 3}}', "NaN"])
def test_other_documents_are_refused(text):
    with pytest.raises(ModelError):
        norm_stats_from_json(text)
