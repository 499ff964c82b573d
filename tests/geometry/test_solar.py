import json

import numpy as np
import pandas as pd
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tolerances
from tests.conftest import GOLDENS
from weatherlib.geometry import solar, sphere

LAT, LON = np.linspace(-90, 90, 13), np.arange(24) * 15.0
JUNE, MARCH = "2021-06-21T12:00", "2021-03-20T12:00"


@pytest.fixture(scope="module")
def golden():
    return xarray.load_dataset(GOLDENS / "geometry" / "toa_radiation.nc")


@pytest.fixture(scope="module")
def golden_terms():
    return json.loads((GOLDENS / "geometry" / "toa_terms.json").read_text())


def every_instant(timestamps, lat, lon, seconds, bins):
    """The trapezoidal rule without any short cut."""
    places = sphere.grid_positions(lat, lon)
    watts = solar.total_solar_irradiance(timestamps)
    sums = []
    for end, power in zip(solar.days_since_j2000(timestamps), watts, strict=True):
        path = solar.sun_path(end - np.linspace(seconds, 0, bins + 1) / 86400)
        flux = power * np.maximum(places @ path.direction.T, 0) / path.distance**2
        sums.append(np.trapezoid(flux, dx=seconds / bins, axis=-1))
    return np.stack(sums)


def assert_close(found, expected):
    largest = np.max(expected)
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=tolerances.RADIATION * largest
    )


def test_hourly_sums_are_the_published_ones(golden):
    found = solar.get_toa_incident_solar_radiation(
        golden.datetime.values, golden.lat.values, golden.lon.values
    )
    assert found.dtype == np.float32
    assert_close(found, golden.toa_incident_solar_radiation.values)


def test_sums_over_other_periods_are_the_published_ones(golden):
    found = solar.get_toa_incident_solar_radiation(
        golden.datetime6.values,
        golden.lat.values,
        golden.lon.values,
        integration_period="6h",
        num_integration_bins=60,
    )
    assert_close(found, golden.toa_6h_60bins.values)


def test_days_and_irradiance_are_the_published_ones(golden_terms):
    times = golden_terms["datetime"]
    np.testing.assert_allclose(
        solar.days_since_j2000(times), golden_terms["j2000_days"], rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(
        solar.total_solar_irradiance(times), golden_terms["tsi_w_m2"], rtol=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(
    minutes=st.integers(0, 40_000_000),
    hours=st.sampled_from([0.5, 1, 3, 6, 18, 24, 60]),
    bins=st.sampled_from([1, 2, 5, 6, 7, 60, 361]),
)
def test_short_cuts_do_not_change_the_sum(minutes, hours, bins):
    times = np.array(["1960-01-01"], "datetime64[ns]") + np.timedelta64(minutes, "m")
    lat, lon = np.array([-90, -66.5, -23, 0, 11.1, 67, 90]), np.arange(0, 360, 11.0)
    found = solar.get_toa_incident_solar_radiation(
        times,
        lat,
        lon,
        integration_period=pd.Timedelta(hours=hours),
        num_integration_bins=bins,
    )
    expected = every_instant(times, lat, lon, hours * 3600, bins)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.max())


def test_each_member_of_a_batch_has_its_own_sun():
    times = np.array([[JUNE, "2021-06-21T18:00"], [MARCH, "1979-01-01"]], "M8[ns]")
    found = solar.get_toa_incident_solar_radiation(times, LAT, LON)
    assert found.shape == (2, 2, 13, 24)
    for index in np.ndindex(2, 2):
        alone = solar.get_toa_incident_solar_radiation(times[index], LAT, LON)
        np.testing.assert_array_equal(found[index], alone)


@pytest.mark.parametrize(
    "timestamps",
    [
        [JUNE, MARCH],
        pd.DatetimeIndex([JUNE, MARCH]),
        [pd.Timestamp(JUNE), pd.Timestamp(MARCH)],
        np.array([JUNE, MARCH], "datetime64[s]"),
    ],
    ids=lambda timestamps: type(timestamps).__name__,
)
def test_times_may_be_written_in_any_way(timestamps):
    found = solar.days_since_j2000(timestamps)
    np.testing.assert_array_equal(found, [7842.0, 7749.0])


def test_six_hours_are_the_sum_of_six_single_hours():
    hours = pd.date_range(JUNE, periods=6, freq="h")
    single = solar.get_toa_incident_solar_radiation(hours, LAT, LON)
    together = solar.get_toa_incident_solar_radiation(
        hours[-1:], LAT, LON, integration_period="6h", num_integration_bins=6 * 360
    )
    assert_close(single.sum(axis=0), together[0])


def test_the_pole_has_night_in_one_season_and_day_in_the_other():
    hours = pd.date_range("2021-06-21", periods=24, freq="h")
    south, north = solar.get_toa_incident_solar_radiation(hours, [-90, 90], [0]).T[0]
    assert (south == 0).all()
    assert north.min() == pytest.approx(north.max(), rel=1e-3)
    assert north.min() == pytest.approx(
        1361 * 3600 * np.sin(np.deg2rad(23.44)) / 1.0163**2, rel=1e-3
    )


def test_noon_moves_west_fifteen_degrees_an_hour():
    hours = pd.date_range(MARCH, periods=24, freq="h")
    found = solar.get_toa_incident_solar_radiation(
        hours, [0], LON, integration_period="2min"
    )
    np.testing.assert_array_equal(found[:, 0].argmax(axis=1), -np.arange(24) % 24)


def test_the_sun_is_closest_in_january_and_highest_in_june():
    days = solar.days_since_j2000(pd.date_range("2021-01-01", "2021-12-31", freq="D"))
    path = solar.sun_path(days)
    np.testing.assert_allclose(np.linalg.norm(path.direction, axis=-1), 1)
    assert path.distance.argmin() < 6
    assert 169 <= path.direction[:, 2].argmax() <= 173
    assert path.direction[:, 2].max() == pytest.approx(np.sin(0.409093), abs=1e-4)


def test_irradiance_is_interpolated_between_the_middles_of_years():
    table = solar.SolarIrradiance(
        np.array([2020.5, 2021.5]), np.array([1000.0, 1300.0])
    )
    times = ["2019-01-01", "2020-07-02", "2021-01-01", "2021-07-02T12:00", "2030-01-01"]
    found = solar.total_solar_irradiance(times, table)
    np.testing.assert_allclose(found, [1000, 1000, 1150, 1300, 1300])


def test_irradiance_of_era5_repeats_its_last_cycle():
    table = solar.era5_solar_irradiance()
    assert (table.years[0], table.years[-1]) == (1951.5, 2034.5)
    values = table.watts_per_square_metre
    np.testing.assert_array_equal(values[-13:], values[-26:-13])
    np.testing.assert_allclose(values[table.years == 2020.5], 0.9965 * 1365.7240)


def test_power_of_the_sun_can_be_given():
    reference = solar.reference_solar_irradiance()
    assert reference.watts_per_square_metre == [1361.0]
    double = solar.SolarIrradiance(reference.years, np.array([2722.0]))
    one, two = (
        solar.get_toa_incident_solar_radiation([JUNE], LAT, LON, table)
        for table in (reference, double)
    )
    np.testing.assert_allclose(2 * one, two, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamps": ["no date"]}, "timestamps cannot be read as dates"),
        ({"timestamps": [JUNE, "NaT"]}, r"timestamps must not be missing \(NaT\)"),
        ({"latitude": [0, 91]}, r"latitude must lie in \[-90, 90\] .* found 91"),
        ({"latitude": [np.nan]}, "latitude must be a list of finite numbers"),
        ({"longitude": [[0.0]]}, "longitude must be a list of finite numbers"),
        ({"integration_period": "0h"}, "integration_period must be positive, got '0h'"),
        ({"integration_period": "-1h"}, "integration_period must be positive"),
        ({"num_integration_bins": 0}, "num_integration_bins must be at least 1, got 0"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
def test_bad_arguments_are_refused_with_what_was_found(change, message):
    good = {"timestamps": [JUNE], "latitude": LAT, "longitude": LON}
    with pytest.raises(ValueError, match=message):
        solar.get_toa_incident_solar_radiation(**(good | change))
