import numpy as np
import pytest
import xarray

from weatherlib.data_utils import harmonics, progress

LAT, LON = np.array([10.0, 20.0, 30.0]), np.array([0.0, 90.0, 180.0, 270.0])


def series(dates, seed=0, years=1, days=1, noise=0.0):
    """Returns a dataset made of waves at each point, and these waves."""
    rng = np.random.default_rng(seed)
    seconds = dates.astype("datetime64[s]").astype(np.int64)
    year = seconds / progress.AVG_SEC_PER_YEAR * 2 * np.pi
    day = seconds[:, None] / 86400 * 2 * np.pi + np.deg2rad(LON)
    shape = (2, len(LAT), len(LON))
    wave = np.zeros((len(dates), *shape))
    for k in range(1, years + 1):
        for f in (np.sin, np.cos):
            wave += f(k * year)[:, None, None, None] * rng.standard_normal(shape)
    for k in range(1, days + 1):
        for f in (np.sin, np.cos):
            wave += f(k * day)[:, None, None, :] * rng.standard_normal(shape)
    place = rng.standard_normal(shape)
    place -= place.mean(axis=(1, 2), keepdims=True)
    values = 300.0 + place + wave + noise * rng.standard_normal(wave.shape)
    dataset = xarray.Dataset(
        {"temperature": (("time", "level", "lat", "lon"), values)},
        coords={"level": [500, 850], "lat": LAT, "lon": LON, "time": dates},
    )
    names = [f"{k}_progress_{f}" for k in ("year", "day") for f in ("sin", "cos")]
    computed = progress.compute_forcings(
        names, xarray.DataArray(dates, dims="time"), dataset["lat"], dataset["lon"]
    )
    return dataset.assign(computed), place + wave


DATES = np.datetime64("2001-01-01", "ns") + np.arange(2922) * np.timedelta64(6, "h")


def test_waves_of_year_and_day_are_found_and_the_mean_stays():
    settings = harmonics.HarmonicsConfig(years=2, days=1)
    dataset, expected = series(DATES, years=2)
    found = harmonics.fit_departures(dataset, ["temperature"], settings)
    assert found["temperature"].dims == ("year_wave", "day_wave", "level", "lat", "lon")
    apart = harmonics.departure(found, "temperature", dataset)
    apart = apart.transpose("time", "level", "lat", "lon")
    # The record is not a whole number of years, so the waves have a mean.
    expected = expected - expected.mean((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(apart, expected, atol=2e-3)
    left = harmonics.remove(dataset, found)["temperature"]
    assert left.dims == dataset["temperature"].dims
    np.testing.assert_allclose(left.std(), 0, atol=2e-3)
    np.testing.assert_allclose(left.mean(), dataset["temperature"].mean(), atol=1e-3)


def test_taking_away_and_putting_back_changes_nothing():
    settings = harmonics.HarmonicsConfig(years=1, days=2)
    dataset, _ = series(DATES[:400], noise=1.0)
    found = harmonics.fit_departures(dataset, ["temperature"], settings)
    there = harmonics.remove(dataset, found)
    back = harmonics.remove(there, found, sign=1)
    xarray.testing.assert_allclose(back, dataset, rtol=1e-6)
    assert abs(there["temperature"] - dataset["temperature"]).max() > 1


def test_half_daily_waves_in_six_hourly_data_have_one_phase_and_fit():
    dataset, expected = series(DATES[:400], years=0, days=2)
    settings = harmonics.HarmonicsConfig(years=0, days=2)
    found = harmonics.fit_departures(dataset, ["temperature"], settings)
    assert abs(found["temperature"]).max() < 5
    apart = harmonics.departure(found, "temperature", dataset)
    np.testing.assert_allclose(
        apart.transpose("time", "level", "lat", "lon"), expected, atol=2e-3
    )


def test_lazy_data_give_the_same():
    settings = harmonics.HarmonicsConfig(years=1, days=1)
    dataset, _ = series(DATES[:600], noise=1.0)
    eager = harmonics.fit_departures(dataset, ["temperature"], settings)
    lazy = harmonics.fit_departures(dataset.chunk(time=100), ["temperature"], settings)
    xarray.testing.assert_allclose(lazy, eager)


def test_amplitudes_come_back_from_a_file(tmp_path):
    settings = harmonics.HarmonicsConfig(years=1, days=0)
    dataset, _ = series(DATES[:400])
    found = harmonics.fit_departures(dataset, ["temperature"], settings)
    path = harmonics.save(found, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [harmonics.FILE]
    xarray.testing.assert_identical(harmonics.read(path), found)
    dataset.to_netcdf(tmp_path / "other.nc")
    with pytest.raises(ValueError, match=r"other\.nc: not a file of climatology"):
        harmonics.read(tmp_path / "other.nc")


def test_what_cannot_be_fitted_is_named():
    settings = harmonics.HarmonicsConfig(years=1, days=0)
    dataset, _ = series(DATES[:40])
    with pytest.raises(ValueError, match="geopotential, year_progress_sin"):
        harmonics.fit_departures(
            dataset.drop_vars("year_progress_sin"), ["geopotential"], settings
        )
    holes = dataset.copy(deep=True)
    holes["temperature"][3, 0, 1, 2] = np.nan
    with pytest.raises(ValueError, match="temperature: has missing values"):
        harmonics.fit_departures(holes, ["temperature"], settings)
    with pytest.raises(ValueError, match="needs the dimensions time, lat and lon"):
        harmonics.fit_departures(dataset.isel(lat=0), ["temperature"], settings)


@pytest.mark.parametrize("change", [{"years": -1}, {"days": 21}])
def test_impossible_numbers_of_waves_are_refused(change):
    with pytest.raises(ValueError, match="must be 0 to 20"):
        harmonics.HarmonicsConfig(**change)
