import numpy as np
import pytest
import xarray

from tests.evaluation import samples
from weatherlib import evaluation
from weatherlib.evaluation import climatology, intake, reading


def _reader(dataset):
    return reading.TruthReader(intake.as_truth(dataset))


def _waves(days=800):
    """Returns a series of known annual waves by hour of the day."""
    times = np.datetime64("2019-01-01", "ns") + np.arange(2 * days) * samples.STEP
    day = times.astype("datetime64[D]")
    of_year = (day - times.astype("datetime64[Y]")).astype(int) + 1
    phase = 2 * np.pi * of_year / 365.25
    value = 10 + 3 * np.sin(phase) - 2 * np.cos(3 * phase) + np.arange(len(times)) % 2
    grid = {"time": times, "lat": [-45.0, 45.0], "lon": [0.0, 180.0]}
    field = value[:, None, None] * np.array([[1.0, 2.0], [3.0, 4.0]])
    return xarray.Dataset({"x": (("time", "lat", "lon"), field)}, grid)


@pytest.mark.parametrize("block", [2**6, 2**26])
def test_waves_of_the_year_are_found_whatever_the_blocks(block, monkeypatch):
    monkeypatch.setattr(climatology, "_BLOCK_BYTES", block * 8)
    truth = _reader(_waves())
    found = evaluation.fit_climatology(truth, ["x"], by_hour=True)
    assert "3 annual harmonics by hour of day" in found.description
    moments = truth.times[[0, 7, 500]]
    np.testing.assert_allclose(
        found.at("x", moments, None), truth.at("x", moments, None)
    )


def test_short_series_have_a_mean_and_missing_values_are_left_out():
    dataset = _waves(20)
    dataset["x"][3, 0, 0] = np.nan
    found = evaluation.fit_climatology(_reader(dataset), ["x"])
    mean = dataset["x"].mean("time")
    np.testing.assert_allclose(
        found.at("x", dataset["time"].values[:1], None)[0, 0], mean
    )
    with pytest.raises(ValueError, match="too few for 30 harmonics"):
        evaluation.fit_climatology(_reader(dataset), ["x"], harmonics=30)


def test_a_period_without_truth_is_refused():
    truth = _reader(_waves(20))
    period = (np.datetime64("1990-01-01", "ns"), np.datetime64("1991-01-01", "ns"))
    with pytest.raises(ValueError, match="no time in 1990"):
        evaluation.fit_climatology(truth, ["x"], period)


def _table(hours=(0, 12), days=366):
    values = np.arange(len(hours) * days * 4.0).reshape(len(hours), days, 2, 2)
    coords = {
        "hour": list(hours),
        "dayofyear": np.arange(1, days + 1),
        "lat": [45.0, -45.0],
        "lon": [0.0, 180.0],
    }
    return xarray.Dataset({"x": (("hour", "dayofyear", "lat", "lon"), values)}, coords)


def _opened(table):
    return evaluation.open_climatology(
        table, intake.grid_of(intake.as_truth(_waves(2)))
    )


def test_a_file_gives_the_value_of_hour_and_day_of_year():
    table = _table()
    found = _opened(table)
    moments = np.array(
        ["2020-12-31T12", "2021-01-01T00", "2021-03-01T00"], "datetime64[ns]"
    )
    values = found.at("x", moments, None)[:, 0]
    for value, (hour, day) in zip(values, [(12, 366), (0, 1), (0, 60)]):
        expected = table["x"].sel(hour=hour, dayofyear=day).sortby("lat")
        np.testing.assert_array_equal(value, expected)
    # A file of common years serves the last day of a leap year.
    short = _opened(_table(days=365)).at("x", moments[:1], None)
    expected = _table(days=365)["x"].sel(hour=12, dayofyear=365).sortby("lat")
    np.testing.assert_array_equal(short[0, 0], expected)
    # One of a single hour serves every hour.
    daily = _opened(_table(hours=(0,))).at("x", moments[:1], None)
    assert np.isfinite(daily).all()


def test_a_file_that_lacks_something_says_so():
    moments = np.array(["2020-12-31T06"], "datetime64[ns]")
    with pytest.raises(ValueError, match="no hour 6, it has 0, 12"):
        _opened(_table()).at("x", moments, None)
    with pytest.raises(ValueError, match="y: not in the climatology, which has x"):
        _opened(_table()).at("y", moments, None)
    with pytest.raises(ValueError, match="has a time axis"):
        _opened(_waves(2))
    with pytest.raises(ValueError, match="regrid one"):
        _opened(_table().assign_coords(lat=[50.0, -45.0]))


@pytest.mark.parametrize("block", [16, 2**26])
def test_quantiles_are_those_of_each_point_whatever_the_bands(block, monkeypatch):
    monkeypatch.setattr(climatology, "_BLOCK_BYTES", block)
    happened = samples.truth()
    truth = _reader(happened)
    levels = np.array([850.0])
    found = climatology.fit_quantiles(truth, "geopotential", [0.1, 0.9], levels)
    expected = np.quantile(
        happened["geopotential"].sel(level=[850]), [0.1, 0.9], axis=0
    )
    np.testing.assert_allclose(found, expected)
