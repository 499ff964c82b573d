import inspect

import jax
import numpy as np
import pandas as pd
import pytest
import xarray

from weatherlib import solar_radiation
from weatherlib.geometry import solar

TIMES = pd.date_range("2023-09-25", periods=3, freq="6h").as_unit("ns")
LAT, LON = np.linspace(-60, 60, 5), np.arange(8) * 45.0


@pytest.fixture
def dataset():
    return xarray.Dataset(
        {"t": (("time", "lat", "lon"), np.zeros((3, 5, 8)))},
        coords={
            "time": np.arange(3) * np.timedelta64(6, "h").astype("m8[ns]"),
            "datetime": ("time", TIMES),
            "lat": LAT,
            "lon": LON,
            "level": ("level", [500, 850]),
        },
    )


@pytest.mark.parametrize("use_jit", [False, True])
def test_arrays_come_back_as_jax_arrays_with_and_without_jit(use_jit):
    found = solar_radiation.get_toa_incident_solar_radiation(
        TIMES, LAT, LON, use_jit=use_jit
    ).block_until_ready()
    assert isinstance(found, jax.Array)
    expected = solar.get_toa_incident_solar_radiation(TIMES, LAT, LON)
    np.testing.assert_array_equal(found, expected)


def test_coordinates_may_be_jax_arrays():
    found = solar_radiation.get_toa_incident_solar_radiation(
        TIMES, jax.numpy.asarray(LAT), jax.numpy.asarray(LON)
    )
    assert found.shape == (3, 5, 8)


def test_arguments_are_published_ones_with_the_defaults_of_era5():
    parameters = inspect.signature(
        solar_radiation.get_toa_incident_solar_radiation
    ).parameters
    defaults = {name: p.default for name, p in parameters.items()}
    assert list(defaults) == [
        "timestamps",
        "latitude",
        "longitude",
        "tsi_data",
        "integration_period",
        "num_integration_bins",
        "use_jit",
    ]
    assert list(defaults.values())[3:] == [None, "1h", 360, False]


def test_a_dataset_with_time_keeps_its_coordinates(dataset):
    found = solar_radiation.get_toa_incident_solar_radiation_for_xarray(dataset)
    assert found.dims == ("time", "lat", "lon")
    assert set(found.coords) == {"time", "datetime", "lat", "lon"}
    expected = solar.get_toa_incident_solar_radiation(TIMES, LAT, LON)
    np.testing.assert_array_equal(found.values, expected)


def test_one_time_gives_one_map(dataset):
    found = solar_radiation.get_toa_incident_solar_radiation_for_xarray(
        dataset.isel(time=1)
    )
    assert found.dims == ("lat", "lon")
    assert found.coords["datetime"].values == TIMES[1]


def test_a_batch_gives_one_map_per_member_and_time(dataset):
    batch = dataset.expand_dims(batch=2).assign_coords(
        datetime=(("batch", "time"), np.stack([TIMES, TIMES + pd.Timedelta("1D")]))
    )
    found = solar_radiation.get_toa_incident_solar_radiation_for_xarray(batch)
    assert found.dims == ("batch", "time", "lat", "lon")
    assert not np.array_equal(found[0], found[1])


def test_missing_dimensions_are_named(dataset):
    with pytest.raises(ValueError, match="lat dimensions are missing in `data_array"):
        solar_radiation.get_toa_incident_solar_radiation_for_xarray(dataset.isel(lat=0))


def test_missing_coordinates_are_named(dataset):
    bare = dataset.drop_vars(["datetime", "lon"])
    with pytest.raises(ValueError, match="datetime, lon coordinates are missing in"):
        solar_radiation.get_toa_incident_solar_radiation_for_xarray(bare)


def test_irradiance_travels_as_data_arrays():
    table = solar_radiation.era5_tsi_data()
    assert table.dims == ("time",)
    found = solar_radiation.get_tsi([np.datetime64("2020-07-02")], table)
    np.testing.assert_allclose(found, [1360.9440], rtol=1e-6)
    reference = solar_radiation.reference_tsi_data()
    np.testing.assert_array_equal(solar_radiation.get_tsi(TIMES, reference), 1361.0)


def test_irradiance_that_is_given_is_used():
    reference = solar_radiation.reference_tsi_data()
    one, two = (
        solar_radiation.get_toa_incident_solar_radiation(TIMES, LAT, LON, table)
        for table in (reference, 2 * reference)
    )
    np.testing.assert_allclose(2 * one, two, rtol=1e-6)
