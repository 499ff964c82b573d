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
    period = (truth.times[0], truth.times[9])
    far = np.array([100 * samples.STEP]).astype("timedelta64[ns]")
    few = "has 10 times in the period, 2020-01-01 00:00 to 2020-01-05 12:00: too few"
    for fit, name in (
        (references.fit_ridge, "ridge"),
        (references.fit_damping, "damped-persistence"),
    ):
        with pytest.raises(ValueError, match=f"{name}: the truth {few} .* of 1200 h"):
            fit(truth, normal, ["geopotential"], far, period)
        between = np.array([samples.STEP / 2]).astype("timedelta64[ns]")
        with pytest.raises(ValueError, match="no two of them are 6 h apart"):
            fit(truth, normal, ["geopotential"], between, period)


def test_a_reference_that_is_fitted_needs_a_period_and_warns_of_overlap():
    forecast, truth = samples.pair()
    with pytest.raises(ValueError, match=r"2020-01-01 00:00, as --period START:END"):
        evaluation.evaluate(forecast, truth, references=("ridge",))
    found = evaluation.evaluate(
        forecast, truth, references=("ridge",), period=("2020-01-01", "2020-01-10")
    )
    assert "reaches into the starts" in found.attrs["notes"]


def _archive_and_later(times=120):
    """Returns a long series, its end, and forecasts of the end."""
    whole = samples.truth(times=times, rows=4, columns=6)
    later = whole.isel(time=slice(times - 20, None))
    return whole, later, samples.forecasts(later, starts=12, leads=2)


def test_references_of_later_days_are_fitted_to_an_archive():
    whole, later, forecast = _archive_and_later()
    # The regression also reads the state before a start.
    forecast = forecast.isel(time=slice(1, None))
    options = {
        "references": references.REFERENCES,
        "thresholds": {"2m_temperature": (evaluation.parse_threshold("q0.9"),)},
        "metrics": ("rmse", "acc", "csi"),
        "regions": ("global",),
        "confidence": 0,
    }
    before = whole.isel(time=slice(0, 100))
    period = (before["time"].values[0], before["time"].values[-1])
    expected = evaluation.evaluate(forecast, whole, period=period, **options)
    # Its axes and levels need not be those of the truth.
    archive = before.isel(latitude=slice(None, None, -1))
    extra = archive["geopotential"].isel(level=[0]).assign_coords(level=[1000.0])
    tall = xarray.concat([extra, archive["geopotential"]], "level")
    archive = archive.drop_vars(["geopotential", "level"]).assign(geopotential=tall)
    for chosen in (None, period):
        found = evaluation.evaluate(
            forecast, later, reference_data=archive, period=chosen, **options
        )
        for name in ("2m_temperature", "geopotential", "csi.2m_temperature"):
            xarray.testing.assert_allclose(found[name], expected[name])
        notes = found.attrs["notes"]
        assert "of the reference data, 2020-01-01 00:00 to 2020-02-19 12:00" in notes
        assert "flatters" not in notes and "missing" not in notes
    found = evaluation.evaluate(forecast, later, reference_data=whole, **options)
    assert "reaches into the starts" in found.attrs["notes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[["geopotential"]], "2m_temperature: not in the reference data"),
        (lambda d: d.sel(level=[850.0]), "no level 500 hPa: the reference data has"),
        (lambda d: d.isel(longitude=slice(3)), "the reference data is on 4 x 3 points"),
        (lambda d: d.isel(level=0, drop=True), "the reference data has no levels"),
        (
            lambda d: d.assign(geopotential=d["geopotential"].assign_attrs(units="m")),
            "geopotential: the reference data is in m, the truth in",
        ),
        (lambda d: d.expand_dims(number=3), "the reference data: has 3 members"),
        (lambda d: d.isel(time=[0, 0]), "the time 2020-01-01 00:00 occurs more"),
    ],
)
def test_an_archive_that_does_not_go_with_the_truth_is_refused(change, message):
    whole, later, forecast = _archive_and_later(24)
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(forecast, later, reference_data=change(whole))


@pytest.mark.parametrize(
    ("period", "has"),
    [
        (("2020-01-01", "2020-01-12"), None),
        (("", "2020-01-03"), None),
        (("2019-12-31T13", "2020-01-12T11"), None),
        (("2019-12-01", "2020-01-02"), "4 times in the period, 2020-01-01 00:00 to"),
        (("2020-01-12", "2020-03-01"), "2 times .* to 2020-01-12 12:00"),
    ],
)
def test_a_period_that_the_truth_has_in_part_is_warned_of(period, has):
    forecast, truth = samples.pair()
    options = {"period": period, "metrics": ("rmse",), "confidence": 0}
    if has is None:
        notes = evaluation.evaluate(forecast, truth, **options).attrs["notes"]
        assert "only a part" not in notes
        return
    with pytest.warns(UserWarning, match=f"only a part .* the truth has {has}"):
        found = evaluation.evaluate(forecast, truth, **options)
    assert "only a part of the period" in found.attrs["notes"]
    # Nothing is fitted to it here.
    evaluation.evaluate(forecast, truth, references=("persistence",), **options)
