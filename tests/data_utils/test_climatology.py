import hypothesis
import numpy as np
import pandas as pd
import pytest
import xarray
from hypothesis import strategies as st

from weatherlib import data
from weatherlib.data_utils import climatology, day_sums, series


def _series(start="2001-01-01", end="2004-12-31", hours=12, noise=0.0):
    """Returns a yearly wave whose middle differs by hour and point."""
    times = pd.date_range(start, end, freq=f"{hours}h")
    phase = 2 * np.pi * (times.day_of_year.to_numpy() - 1) / 365.2425
    wave = 280 + 5 * np.cos(phase) + times.hour.to_numpy() / 12
    random = np.random.default_rng(0)
    values = wave[:, None, None, None] + np.arange(12.0).reshape(2, 2, 3)
    values = values + noise * random.normal(size=values.shape)
    return xarray.Dataset(
        {
            "temperature": (("time", "level", "lat", "lon"), values.astype("f4")),
            "land_sea_mask": (("lat", "lon"), np.ones((2, 3), "f4")),
        },
        coords={
            "time": times,
            "level": [500, 850],
            "lat": [10.0, -10.0],
            "lon": [0.0, 120.0, 240.0],
        },
    )


@pytest.mark.parametrize(
    ("settings", "error"), [({"harmonics": 2}, 1e-3), ({"window": 21}, 0.05)]
)
def test_a_yearly_wave_is_found_at_each_hour_in_the_shared_layout(settings, error):
    weather = _series()
    usual = data.climatology(weather, **settings)
    assert list(usual.data_vars) == ["temperature", "temperature_std"]
    assert usual["temperature"].dims == ("hour", "dayofyear", "level", "lat", "lon")
    assert usual["hour"].values.tolist() == [0, 12]
    assert usual["dayofyear"].values[[0, -1]].tolist() == [1, 366]
    found = data.climatology_at(usual, weather["time"])
    assert found["temperature"].dims == weather["temperature"].dims
    difference = np.abs(found["temperature"] - weather["temperature"])
    assert float(difference.max()) < error
    assert float(usual["temperature_std"].max()) < 5 * error


def test_the_standard_deviation_is_that_of_the_weather_about_the_season():
    usual = data.climatology(_series(end="2020-12-31", noise=2.0))
    assert float(usual["temperature_std"].mean()) == pytest.approx(2.0, rel=0.02)
    assert float(usual["temperature_std"].std()) < 0.2


def test_a_window_of_one_day_is_the_mean_of_that_day_over_the_years():
    weather = _series("2001-01-01", "2004-12-31T12", noise=1.0)
    usual = data.climatology(weather, window=1)
    day = (weather["time"].dt.dayofyear == 60) & (weather["time"].dt.hour == 12)
    expected = weather["temperature"].isel(time=day.values).mean("time")
    found = usual["temperature"].sel(hour=12, dayofyear=60, drop=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_weights_fall_linearly_and_run_around_the_turn_of_the_year():
    weights = day_sums.window_weights(61)
    np.testing.assert_allclose(weights[0, [0, 15, 30, 366 - 15]], [1, 0.5, 0, 0.5])
    np.testing.assert_array_equal(weights, weights.T)
    np.testing.assert_array_equal(day_sums.window_weights(1), np.eye(366))


@hypothesis.given(
    largest=st.sampled_from([1 << 4, 1 << 6, 1 << 26]),
    chunk=st.sampled_from([None, 7, 500]),
    missing=st.booleans(),
)
@hypothesis.settings(max_examples=12)
def test_the_result_does_not_depend_on_how_the_data_are_cut(largest, chunk, missing):
    weather = _series(noise=1.0)
    if missing:
        weather["temperature"][:, 0, 1, 2] = np.nan
        weather["temperature"][5:900:7, 1, 0, 0] = np.nan
    expected = data.climatology(weather, harmonics=2)
    if chunk:
        weather = weather.chunk({"time": chunk, "lat": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(climatology, "_VALUES", largest * 2 * 366)
        patch.setattr(series, "_BLOCK", 1 << 10)
        found = data.climatology(weather, harmonics=2)
    xarray.testing.assert_allclose(found, expected, rtol=1e-5)
    lost = np.isnan(found["temperature"]).sum(("hour", "dayofyear"))
    assert int((lost > 0).sum()) == (1 if missing else 0)


def test_dates_may_have_any_shape_and_deviations_have_plain_names():
    usual = data.climatology(_series(noise=1.0), harmonics=1)
    start = xarray.DataArray(pd.date_range("2010-02-01", periods=3), dims="time")
    lead = xarray.DataArray(pd.to_timedelta([0, 12], "h"), dims="lead_time")
    found = data.climatology_at(usual, start + lead, deviation=True)
    assert found["temperature"].dims == ("time", "lead_time", "level", "lat", "lon")
    expected = usual["temperature_std"].sel(hour=12, dayofyear=33)
    np.testing.assert_array_equal(
        found["temperature"].isel(time=1, lead_time=1), expected
    )
    listed = data.climatology_at(usual, ["2010-02-02T12"])
    assert listed["time"].values[0] == np.datetime64("2010-02-02T12")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 60}, "odd number of days"),
        ({"harmonics": -1}, "0 to 20"),
        ({"start": "2001", "end": "2001-03"}, "no data at 00 UTC on the 276 days"),
        ({"end": "2001-08", "harmonics": 3}, "too many for 3 harmonics"),
        ({"variables": ("temprature",)}, "did you mean temperature"),
    ],
)
def test_what_cannot_be_estimated_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.climatology(_series(), **arguments)


def test_dates_that_a_climatology_lacks_are_named():
    usual = data.climatology(_series(), harmonics=1)
    with pytest.raises(ValueError, match="has the hours 0, 12 and not 6"):
        data.climatology_at(usual, ["2010-02-02T06"])
    with pytest.raises(ValueError, match="by full hours"):
        data.climatology_at(usual, ["2010-02-02T12:30"])
    with pytest.raises(ValueError, match="no standard deviations"):
        data.climatology_at(usual[["temperature"]], ["2010-02-02"], deviation=True)
    with pytest.raises(ValueError, match="has dimensions hour and dayofyear"):
        data.climatology_at(_series(), ["2010-02-02"])
    with pytest.raises(ValueError, match="at dates, not at int64"):
        data.climatology_at(usual, xarray.DataArray([1, 2]))
