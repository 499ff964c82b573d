import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from weatherlib.data_utils import calendar, progress


def waves(dates, lon):
    """Returns sine and cosine of year and of day, as forcings have them."""
    seconds = dates.values.astype("datetime64[s]").astype(np.int64)
    year = progress.get_year_progress(seconds)
    day = progress.get_day_progress(seconds, np.array([lon], np.float32))[..., 0]
    found = [progress.featurize_progress("x", ("t",), p) for p in (year, day)]
    return [(made["x_sin"].values, made["x_cos"].values) for made in found]


@pytest.mark.parametrize("numpy", [np, jnp])
@pytest.mark.parametrize("lon", [0.0, 181.3, 354.375])
def test_dates_are_those_that_the_waves_were_made_of(numpy, lon):
    dates = pd.date_range("1940", "2065-12-31T23", freq="11h")
    found = calendar.moment(numpy, *waves(dates, lon), lon)
    np.testing.assert_array_equal(found.minute, 60 * dates.hour)
    days = np.asarray(calendar.dayofyear(numpy, found))
    np.testing.assert_array_equal(days, dates.day_of_year)
    for shift in (-1, 1):
        moved = calendar.dayofyear(numpy, found.later(shift))
        expected = (dates + pd.Timedelta(days=shift)).day_of_year
        np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("period", [("1850", "1939"), ("2066", "2199")])
def test_in_other_years_a_day_is_one_off_at_most(period):
    dates = pd.date_range(*period, freq="7h")
    found = calendar.moment(np, *waves(dates, 0.0), 0.0)
    np.testing.assert_array_equal(found.minute, 60 * dates.hour)
    apart = calendar.dayofyear(np, found) - dates.day_of_year
    assert set(np.unique(np.abs(apart))) <= {0, 1, 364, 365}


def test_minutes_are_told():
    dates = pd.date_range("2020-02-28", "2020-03-02", freq="1min")
    found = calendar.moment(np, *waves(dates, 90.0), 90.0)
    np.testing.assert_array_equal(found.minute, 60 * dates.hour + dates.minute)
    np.testing.assert_array_equal(calendar.dayofyear(np, found), dates.day_of_year)
