"""Forcings that follow from time and place."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from tests import tolerances, weather_samples
from tests.conftest import GOLDENS
from weatherlib import data_utils
from weatherlib.data_utils import progress, statistics

_SECONDS = st.integers(-(10**10), 10**11)


def test_progress_of_year_and_day_gives_the_published_numbers():
    golden = np.load(GOLDENS / "geometry" / "time_progress.npz")
    seconds, longitude = golden["seconds"], golden["lon"]
    year = data_utils.featurize_progress(
        "year_progress", ("time",), data_utils.get_year_progress(seconds)
    )
    day = data_utils.featurize_progress(
        "day_progress", ("time", "lon"), data_utils.get_day_progress(seconds, longitude)
    )
    computed = {**year, **day}
    assert len(computed) == 6
    for name, value in computed.items():
        np.testing.assert_allclose(
            value.values, golden[name], rtol=0, atol=tolerances.PROGRESS
        )


@given(st.lists(_SECONDS, min_size=1, max_size=5))
def test_progress_of_the_year_stays_below_one(seconds):
    progress = data_utils.get_year_progress(np.array(seconds))
    assert progress.dtype == np.float32
    assert (progress >= 0).all()
    assert (progress < 1).all()


@given(st.lists(_SECONDS, min_size=1, max_size=5), st.floats(-180, 360))
def test_progress_of_the_day_stays_below_one_and_moves_with_the_sun(seconds, longitude):
    seconds = np.array(seconds)
    progress = data_utils.get_day_progress(seconds, np.array([longitude, 0.0]))
    assert progress.shape == (len(seconds), 2)
    assert (progress >= 0).all()
    assert (progress < 1).all()
    later = data_utils.get_day_progress(seconds + 6 * 3600, np.array([longitude - 90]))
    apart = np.abs(later[:, 0] - progress[:, 0])
    assert np.minimum(apart, 1 - apart).max() < 1e-5


def test_features_need_a_name_for_each_dimension():
    with pytest.raises(ValueError, match=r"year_progress.*2 dimensions.*have 1"):
        data_utils.featurize_progress("year_progress", ("time", "lon"), np.zeros(3))


def test_seconds_are_counted_from_1970():
    dates = xarray.DataArray(np.array(["1970-01-02", "1969-12-31"], "datetime64[ns]"))
    seconds = data_utils.get_seconds_since_epoch(dates)
    assert seconds.tolist() == [86400, -86400]
    assert seconds.dtype == np.int64


def test_derived_variables_are_added_in_place_and_kept_where_present():
    data = weather_samples.weather(2)
    data["day_progress"] = ("lon", np.full(12, 0.5))
    data_utils.add_derived_vars(data)
    assert {"year_progress", "year_progress_sin", "year_progress_cos"} <= set(data)
    assert (data["day_progress"] == 0.5).all()
    assert "day_progress_sin" not in data


@pytest.mark.parametrize("lacking", ["datetime", "lon"])
def test_derived_variables_need_their_coordinates(lacking):
    data = weather_samples.weather(2).drop_vars(lacking)
    with pytest.raises(ValueError, match=f"{lacking} must be a coordinate"):
        data_utils.add_derived_vars(data)


@pytest.mark.parametrize("lacking", ["datetime", "lat", "lon"])
def test_radiation_needs_its_coordinates(lacking):
    data = weather_samples.weather(2).drop_vars(lacking)
    with pytest.raises(ValueError, match=f"{lacking} must be a coordinate"):
        data_utils.add_tisr_var(data)


def test_radiation_that_is_there_is_kept():
    data = weather_samples.weather(2)
    data[data_utils.TISR] = ("lat", np.full(7, 1200.0))
    data_utils.add_tisr_var(data)
    assert (data[data_utils.TISR] == 1200).all()


def test_radiation_of_each_member_is_that_of_its_own_dates():
    data = weather_samples.weather(2, batch=3)
    data_utils.add_tisr_var(data)
    for member in range(3):
        alone = data.isel(batch=[member]).drop_vars(data_utils.TISR)
        data_utils.add_tisr_var(alone)
        np.testing.assert_array_equal(
            alone[data_utils.TISR].values,
            data[data_utils.TISR].isel(batch=[member]).values,
        )
    assert data[data_utils.TISR].dims == ("batch", "time", "lat", "lon")
    members = data[data_utils.TISR].values
    assert np.abs(members[0] - members[2]).max() > 1e5


def test_members_that_advance_differently_cannot_share_a_time_axis():
    data = weather_samples.weather(2, batch=2)
    dates = data["datetime"].values.copy()
    dates[1, 1] += np.timedelta64(1, "h")
    data = data.assign_coords(datetime=(("batch", "time"), dates))
    with pytest.raises(ValueError, match=r"datetime: batch member 1 .*cannot select"):
        data_utils.add_tisr_var(data)


def test_radiation_matches_the_published_field():
    golden = xarray.load_dataset(GOLDENS / "geometry" / "toa_radiation.nc")
    field = golden[data_utils.TISR]
    data = xarray.Dataset(
        coords={
            "lat": golden["lat"],
            "lon": golden["lon"],
            "datetime": ("time", golden["datetime"].values),
        }
    )
    data_utils.add_tisr_var(data)
    error = np.abs(data[data_utils.TISR].values - field.values).max()
    assert error < tolerances.RADIATION * float(field.max())


def test_handling_data_never_loads_jax():
    code = (
        "import sys, weatherlib.data_utils, weatherlib.data, json;"
        "print(json.dumps([m for m in ('jax', 'jaxlib', 'haiku') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == []


def _latitude_task():
    inputs = (*weather_samples.TASK.input_variables, "lattitude")
    return dataclasses.replace(weather_samples.TASK, input_variables=inputs)


def test_the_latitude_of_each_point_is_an_input_where_the_data_lack_it():
    weather = weather_samples.weather()
    inputs = data_utils.split_initial(weather, _latitude_task())
    found = inputs["lattitude"]
    assert found.dims == ("lat", "lon") and found.dtype == np.float32
    for column in found.transpose("lon", "lat").values:
        np.testing.assert_array_equal(column, weather["lat"].values.astype("f4"))
    extracted, _, _ = data_utils.extract_inputs_targets_forcings(
        weather, target_lead_times="6h", **dataclasses.asdict(_latitude_task())
    )
    np.testing.assert_array_equal(extracted["lattitude"], found)
    own = weather.assign(lattitude=found + 1)
    kept = data_utils.split_initial(own, _latitude_task())["lattitude"]
    np.testing.assert_array_equal(kept, found + 1)


def test_latitudes_need_no_dates_and_are_no_problem_of_the_data():
    weather = weather_samples.weather()
    problems = data_utils.check(weather, _latitude_task())
    assert not any("lattitude" in str(problem) for problem in problems)
    grid = weather[["2m_temperature"]].drop_vars("datetime")
    found = progress.with_statics(grid, ("lattitude", "2m_temperature"))
    assert set(found) == {"2m_temperature", "lattitude"}
    assert progress.with_statics(grid, ("2m_temperature",)) is grid
    with pytest.raises(ValueError, match="lat, lon must be a coordinate"):
        progress.with_statics(xarray.Dataset(), ("lattitude",))


def test_latitudes_have_statistics_when_they_are_asked_for():
    weather = weather_samples.weather().isel(batch=0)
    names = ("2m_temperature", "lattitude")
    found = statistics.compute_statistics(weather, variables=names)
    lat = weather["lat"].values
    np.testing.assert_allclose(found.mean["lattitude"], lat.mean(), atol=1e-4)
    np.testing.assert_allclose(found.stddev["lattitude"], lat.std(), rtol=1e-5)
    usual = statistics.compute_statistics(weather, variables=names[:1])
    assert "lattitude" not in usual.mean
