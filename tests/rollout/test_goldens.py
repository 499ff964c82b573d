"""Published rollouts, by the published functions and by the Forecaster."""

import functools

import haiku as hk
import jax
import numpy as np
import pytest

from tests import tolerances
from tests.rollout import goldens
from weatherlib import rollout

KEY = jax.random.PRNGKey(0)


def check(case, found, precision):
    largest, mean = case.difference(found, case.expected(precision))
    if precision == "f32":
        assert largest <= tolerances.FORECAST_F32_ROLLOUT
    else:
        assert largest <= tolerances.FORECAST_BF16_ROLLOUT[0]
        assert mean <= tolerances.FORECAST_BF16_ROLLOUT[1]


@functools.cache
def forecaster(name, precision, per_chunk):
    case = goldens.case(name)
    return rollout.Forecaster(
        functools.partial(case.make_predictor, precision),
        case.params,
        task=case.task,
        num_steps_per_chunk=per_chunk,
    )


@pytest.mark.parametrize(
    ("name", "precision", "per_chunk"),
    [
        pytest.param("a", "f32", 1, marks=pytest.mark.slow),
        ("a", "f32", 2),
        pytest.param("a", "bf16", 1, marks=pytest.mark.slow),
        ("a", "bf16", 2),
    ],
)
def test_chunked_prediction_gives_the_published_forecast(name, precision, per_chunk):
    case = goldens.case(name)
    apply = hk.transform(
        lambda i, t, f: case.make_rollout(precision)(i, targets_template=t, forcings=f)
    ).apply
    traces = []

    @jax.jit
    def predict(rng, inputs, targets_template, forcings):
        traces.append(None)
        return apply(case.params, rng, inputs, targets_template, forcings)

    found = rollout.chunked_prediction(
        predict,
        KEY,
        case.inputs,
        case.targets * np.nan,
        case.forcings,
        num_steps_per_chunk=per_chunk,
    )
    assert len(traces) == 1
    check(case, found, precision)


@pytest.mark.parametrize(
    ("name", "precision", "per_chunk"),
    [
        pytest.param("a", "f32", 1, marks=pytest.mark.slow),
        pytest.param("a", "f32", 2, marks=pytest.mark.slow),
        pytest.param("a", "bf16", 1, marks=pytest.mark.slow),
        ("a", "bf16", 2),
        ("b", "f32", 2),
    ],
)
def test_the_forecaster_gives_the_published_forecast(name, precision, per_chunk):
    case = goldens.case(name)
    ours = forecaster(name, precision, per_chunk)
    estimate = ours.fits(case.source.isel(time=slice(2)), steps=case.steps)
    found = ours.predict(
        case.source.isel(time=slice(2)), case.forcings, steps=case.steps, guard=None
    )
    check(case, found, precision)
    assert ours.traces == 1
    exact = ours.fits(case.source.isel(time=slice(2)), steps=case.steps)
    assert exact.exact
    assert not estimate.exact
    ratio = estimate.parts["working memory"] / exact.parts["working memory"]
    assert 0.5 < ratio < 2


def test_targets_and_forcings_follow_from_two_frames():
    case = goldens.case("b")
    initial = case.source.isel(time=slice(2)).drop_vars(
        ["toa_incident_solar_radiation"], errors="ignore"
    )
    found = forecaster("b", "f32", 2).predict(initial, steps=case.steps, guard=None)
    check(case, found, "f32")
    dates = case.source["datetime"].isel(time=slice(2, None))
    np.testing.assert_array_equal(found["datetime"], dates)
