import numpy as np
import scores.continuous
import xarray
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.evaluation import deterministic


def _fields(shape=(5, 4, 6), seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((2, *shape))


def test_errors_are_those_of_the_scores_package():
    forecast, truth = _fields()
    weights = np.cos(np.deg2rad([-60.0, -20.0, 20.0, 60.0]))
    dims = ("time", "lat", "lon")
    ours, theirs = (xarray.DataArray(x, dims=dims) for x in (forecast, truth))
    weighted = xarray.DataArray(weights, dims="lat")
    for name, function in (
        ("mse", scores.continuous.mse),
        ("rmse", scores.continuous.rmse),
        ("mae", scores.continuous.mae),
        ("bias", scores.continuous.additive_bias),
    ):
        found = getattr(deterministic, name)(forecast, truth, weights[:, None], (1, 2))
        expected = function(ours, theirs, preserve_dims="time", weights=weighted)
        np.testing.assert_allclose(found, expected.values, err_msg=name)


def test_missing_values_are_left_out_with_their_weight():
    values = np.array([[1.0, np.nan], [3.0, 5.0]])
    weights = np.array([[1.0, 100.0], [1.0, 2.0]])
    assert deterministic.weighted_mean(values, weights) == (1 + 3 + 10) / 4
    assert np.isnan(deterministic.weighted_mean(values * np.nan, weights))
    assert np.isinf(deterministic.weighted_mean(np.array([np.inf, 1.0])))


@given(shift=st.floats(-1e3, 1e3), scale=st.floats(0.1, 10))
def test_correlation_of_anomalies_is_one_for_any_multiple_of_them(shift, scale):
    truth = _fields()[1]
    climatology = np.full(truth.shape, shift)
    forecast = climatology + scale * (truth - climatology)
    found = deterministic.anomaly_correlation(forecast, truth, climatology)
    np.testing.assert_allclose(found, 1)
    opposite = 2 * climatology - forecast
    found = deterministic.anomaly_correlation(opposite, truth, climatology)
    np.testing.assert_allclose(found, -1)


def test_activity_is_the_spread_of_the_anomaly_in_space():
    field = _fields()[0]
    climatology = np.full(field.shape, 7.0)
    found = deterministic.activity(field, climatology, axis=(1, 2))
    np.testing.assert_allclose(found, field.std(axis=(1, 2)))
    np.testing.assert_allclose(deterministic.activity(climatology, climatology), 0)
