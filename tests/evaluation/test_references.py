import json

import numpy as np
import pytest
import xarray

from tests.evaluation import samples
from weatherlib import data, evaluation
from weatherlib.evaluation import intake, reading, references

_DAYS = np.array([1, 2, 3]).astype("timedelta64[D]").astype("timedelta64[ns]")


def _climatology_rmse(result, name):
    return result[name].sel(metric="rmse", model="climatology", region="domain")


def test_persistence_and_mean_of_real_pressure_are_the_known_ones():
    file = "era5_global_2p5deg_6h_msl_vo850_20251201-20260131.nc"
    truth = data.open_dataset(samples.real(file))[["mean_sea_level_pressure"]]
    known = json.loads(samples.real("baselines.json").read_text())
    known = known["era5_msl, train 2025-12-01..2026-01-15, test 2026-01-16..31"]
    hours = [0, *(int(key[:-1]) for key in known["persistence"])]
    leads = np.array(hours).astype("timedelta64[h]").astype("timedelta64[ns]")
    forecast = truth.sel(time=slice("2026-01-16", None))
    forecast = forecast.expand_dims(prediction_timedelta=leads, axis=1)
    found = evaluation.evaluate(
        forecast,
        truth,
        metrics=("rmse",),
        weighting="cosine",
        period=("2025-12-01", "2026-01-15"),
        regions=("global",),
        confidence=0,
    )
    rmse = found["mean_sea_level_pressure"].sel(metric="rmse", region="global")
    values = rmse.sel(model="persistence").values[1:]
    np.testing.assert_allclose(values, list(known["persistence"].values()), atol=6e-4)
    mean = rmse.sel(model="climatology").values[0]
    np.testing.assert_allclose(mean, known["training_mean"], atol=6e-4)


def test_references_of_real_pressure_over_the_atlantic_are_the_known_ones():
    file = samples.real("ncep_r1_natlantic_2p5deg_daily_slp_2001-2008.nc")
    known = json.loads(samples.real("baselines.json").read_text())
    known = known["ncep_r1_natlantic slp, train 2001-2006, test 2007-2008"]
    truth = data.open_dataset(file)
    forecast = truth.sel(time=slice("2007", None))
    leads = np.concatenate([np.zeros(1, "timedelta64[ns]"), _DAYS])
    found = evaluation.evaluate(
        forecast.expand_dims(prediction_timedelta=leads, axis=1),
        truth,
        metrics=("rmse",),
        references=("persistence", "climatology", "damped-persistence", "ridge"),
        weighting="cosine",
        period=("2001-01-01", "2006-12-31"),
        confidence=0,
    )
    rmse = found["mean_sea_level_pressure"].sel(metric="rmse", region="domain")
    persistence = rmse.sel(model="persistence").values[1:]
    np.testing.assert_allclose(
        persistence, list(known["persistence"].values()), atol=6e-4
    )
    np.testing.assert_allclose(
        rmse.sel(model="climatology").values[0],
        known["climatology (3 annual harmonics)"],
        atol=6e-4,
    )
    ridge = rmse.sel(model="ridge").values[1:]
    np.testing.assert_allclose(
        ridge, list(known["ridge on two states"].values()), rtol=2e-3
    )
    damped = rmse.sel(model="damped-persistence").values[1:]
    assert (damped < persistence).all() and (ridge < damped).all()


def _reader(dataset):
    return reading.TruthReader(intake.as_truth(dataset))


def test_ridge_learns_a_linear_world_of_two_states():
    generator = np.random.default_rng(0)
    rotation = np.linalg.qr(generator.standard_normal((6, 6)))[0]
    states = [generator.standard_normal(6), generator.standard_normal(6)]
    for _ in range(198):
        states.append(0.9 * rotation @ states[-1] + 0.1 * states[-2])
        states[-1] += 0.3 * generator.standard_normal(6)
    times = np.datetime64("2020-01-01", "ns") + np.arange(200) * samples.STEP
    grid = {"lat": [-45.0, 45.0], "lon": [0.0, 120.0, 240.0], "time": times}
    field = np.reshape(states, (200, 2, 3))
    truth = _reader(xarray.Dataset({"x": (("time", "lat", "lon"), field)}, grid))
    normal = evaluation.fit_climatology(truth, ["x"], harmonics=0)
    period = (times[0], times[149])
    lead = np.array([samples.STEP]).astype("timedelta64[ns]")
    model = references.fit_ridge(truth, normal, ["x"], lead, period, penalty=1e-3)
    inits = times[150:199]
    found = model.read("x", inits, lead, None)[0, :, 0, 0]
    error = np.sqrt(((found - field[151:]) ** 2).mean())
    assert 0.25 < error < 0.36


def test_damping_is_the_correlation_of_the_anomaly_with_a_later_one():
    happened = samples.truth(times=600, rows=3, columns=4)
    truth = _reader(happened)
    normal = evaluation.fit_climatology(truth, ["2m_temperature"], harmonics=0)
    leads = (np.array([1, 2]) * samples.STEP).astype("timedelta64[ns]")
    period = (truth.times[0], truth.times[-1])
    model = references.fit_damping(truth, normal, ["2m_temperature"], leads, period)
    factors = model.damping["2m_temperature"].mean((1, 2, 3))
    np.testing.assert_allclose(factors, [0.8, 0.64], atol=0.06)
    found = model.read("2m_temperature", truth.times[:3], leads, None)
    assert found.shape == (1, 3, 2, 1, 3, 4)


def test_ridge_says_what_it_cannot_do():
    truth = _reader(samples.truth())
    normal = evaluation.fit_climatology(truth, ["geopotential"], harmonics=0)
    lead = np.array([samples.STEP]).astype("timedelta64[ns]")
    with pytest.raises(ValueError, match="too few to learn from"):
        references.fit_ridge(
            truth, normal, ["geopotential"], lead, (truth.times[0], truth.times[1])
        )
    far = np.array([100 * samples.STEP]).astype("timedelta64[ns]")
    with pytest.raises(ValueError, match="no times"):
        references.fit_ridge(
            truth, normal, ["geopotential"], far, (truth.times[0], truth.times[9])
        )


def test_a_reference_that_is_fitted_needs_a_period_and_warns_of_overlap():
    forecast, truth = samples.pair()
    with pytest.raises(ValueError, match="fitted to a period"):
        evaluation.evaluate(forecast, truth, references=("ridge",))
    found = evaluation.evaluate(
        forecast, truth, references=("ridge",), period=("2020-01-01", "2020-01-10")
    )
    assert "reaches into the starts" in found.attrs["notes"]
