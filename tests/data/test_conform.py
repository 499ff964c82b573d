"""Changes that fit data to a task and lose nothing."""

import dataclasses

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weather_samples import LEVELS, TASK, weather
from weatherlib import data, data_utils, variables

_GOOD = weather(3)


def _errors(dataset, task=TASK):
    return [str(p) for p in data_utils.check(dataset, task) if p.severity == "error"]


def _era5(dataset):
    """Returns the dataset as a download from the Climate Data Store would hold it."""
    short = {
        "2m_temperature": "t2m",
        "mean_sea_level_pressure": "msl",
        "geopotential": "z",
        "temperature": "t",
        "specific_humidity": "q",
        "land_sea_mask": "lsm",
    }
    dates = dataset["datetime"].values[0]
    dataset = dataset.isel(batch=0, lat=slice(None, None, -1), level=[2, 1, 0])
    dataset = dataset.drop_vars("datetime").assign_coords(time=dates)
    axes = {"time": "valid_time", "lat": "latitude", "lon": "longitude"}
    dataset = dataset.rename({**short, **axes, "level": "pressure_level"})
    return dataset.assign_coords(number=0, expver=("valid_time", ["1"] * 3))


def test_good_data_is_left_alone():
    conformed, changes = data.conform(_GOOD, TASK)
    assert changes == []
    xarray.testing.assert_identical(conformed[list(_GOOD)], _GOOD)


def test_a_download_becomes_what_models_read():
    source = _era5(_GOOD)
    before = source.copy(deep=True)
    conformed, changes = data.conform(source, TASK)
    xarray.testing.assert_identical(source, before)
    assert _errors(conformed) == []
    for name in _GOOD:
        assert conformed[name].dims == _GOOD[name].dims
        np.testing.assert_array_equal(conformed[name], _GOOD[name])
    for axis in ("lat", "lon", "level", "time", "datetime"):
        np.testing.assert_array_equal(conformed[axis], _GOOD[axis])
    text = "\n".join(changes)
    for words in (
        "renamed latitude to lat",
        "renamed valid_time to time",
        "renamed t2m to 2m_temperature",
        "renamed z to geopotential",
        "left out the coordinates number, expver",
        "levels into the order of the model",
        "from south to north",
        "moved the dates to datetime",
        "added batch",
    ):
        assert words in text


def test_conforming_twice_changes_nothing_more():
    conformed, _ = data.conform(_era5(_GOOD), TASK)
    again, changes = data.conform(conformed, TASK)
    assert changes == []
    xarray.testing.assert_identical(again, conformed)


_UNITS = [
    ("2m_temperature", "degC", 1.0, -273.15),
    ("mean_sea_level_pressure", "hPa", 0.01, 0.0),
    ("geopotential", "m", 1 / variables.GRAVITY, 0.0),
    ("specific_humidity", "g kg**-1", 1e3, 0.0),
    ("total_precipitation_6hr", "mm", 1e3, 0.0),
    ("land_sea_mask", "%", 100.0, 0.0),
]


@pytest.mark.parametrize(("name", "units", "scale", "offset"), _UNITS)
def test_units_are_converted_by_their_attribute(name, units, scale, offset):
    changed = _GOOD.copy()
    values = changed[name].astype(np.float64) * scale + offset
    changed[name] = values.astype(np.float32).assign_attrs(units=units)
    conformed, changes = data.conform(changed, TASK)
    assert changes == [f"converted {name} from {units} to {variables.get(name).units}"]
    np.testing.assert_allclose(conformed[name], _GOOD[name], rtol=1e-6)
    assert conformed[name].dtype == np.float32
    assert conformed[name].attrs["units"] == variables.get(name).units


@pytest.mark.parametrize("name", ["2m_temperature", "mean_sea_level_pressure"])
def test_units_are_converted_by_the_values_where_no_attribute_tells(name):
    changed = _GOOD.copy()
    scale, offset = next((s, o) for n, _, s, o in _UNITS if n == name)
    changed[name] = changed[name] * scale + offset
    conformed, changes = data.conform(changed, TASK)
    assert len(changes) == 1
    assert changes[0].endswith("as the values tell")
    np.testing.assert_allclose(conformed[name], _GOOD[name], rtol=1e-6)


def test_values_that_contradict_their_attribute_stay():
    changed = _GOOD.copy()
    changed["2m_temperature"] = (changed["2m_temperature"] - 273.15).assign_attrs(
        units="K"
    )
    conformed, changes = data.conform(changed, TASK)
    assert changes == []
    assert _errors(conformed)


def test_height_under_its_own_name_becomes_geopotential():
    changed = _GOOD.drop_vars("geopotential")
    height = _GOOD["geopotential"] / variables.GRAVITY
    changed["gh"] = height.assign_attrs(units="gpm")
    conformed, changes = data.conform(changed, TASK)
    np.testing.assert_allclose(
        conformed["geopotential"], _GOOD["geopotential"], rtol=1e-6
    )
    assert "renamed gh to geopotential" in changes
    assert "converted geopotential from gpm to m2 s-2" in changes


@pytest.mark.parametrize("name", ["total_precipitation", "tp"])
def test_precipitation_summed_over_the_period_wanted_gets_its_name(name):
    attrs = {"units": "m", "cell_methods": "time: sum (interval: 6 hours)"}
    changed = _GOOD.rename(total_precipitation_6hr=name)
    changed[name].attrs = attrs
    assert "called" in _errors(changed)[0] and len(_errors(changed)) == 1
    conformed, changes = data.conform(changed, TASK)
    assert changes == [f"renamed {name} to total_precipitation_6hr"]
    assert _errors(conformed) == []
    rain = conformed["total_precipitation_6hr"]
    np.testing.assert_array_equal(rain, _GOOD["total_precipitation_6hr"])
    for method in ("interval: 1 hour", "comment: from the start of the forecast"):
        changed[name].attrs = {**attrs, "cell_methods": f"time: sum ({method})"}
        conformed, _ = data.conform(changed, TASK)
        assert "total_precipitation_6hr" not in conformed


def test_a_height_that_is_wanted_itself_is_not_taken_for_geopotential():
    both = ("geopotential", "geopotential_height")
    task = dataclasses.replace(TASK, target_variables=both)
    height = _GOOD["geopotential"] / variables.GRAVITY
    changed = _GOOD.drop_vars("geopotential").assign(geopotential_height=height)
    conformed, _ = data.conform(changed, task)
    xarray.testing.assert_equal(conformed["geopotential_height"], height)


def test_precipitation_that_the_task_names_is_not_renamed():
    both = ("total_precipitation", "total_precipitation_6hr")
    task = dataclasses.replace(TASK, target_variables=both)
    changed = _GOOD.rename(total_precipitation_6hr="total_precipitation")
    method = "time: sum (interval: 6 hours)"
    changed["total_precipitation"].attrs["cell_methods"] = method
    conformed, _ = data.conform(changed, task)
    assert "total_precipitation" in conformed


def test_z_without_levels_is_the_height_of_the_ground():
    changed = _GOOD.rename(geopotential_at_surface="z")
    conformed, changes = data.conform(changed, TASK)
    assert changes == ["renamed z to geopotential_at_surface"]
    assert "geopotential" in conformed


def test_levels_in_pascal_and_beyond_need_are_brought_down():
    levels = (200, *LEVELS)
    rich = weather(3, levels=levels)
    pascal = rich.assign_coords(level=("level", [p * 100.0 for p in levels]))
    conformed, changes = data.conform(pascal, TASK)
    assert conformed["level"].values.tolist() == list(LEVELS)
    assert conformed["level"].dtype == np.int32
    assert changes == ["converted level from Pa to hPa", "left out the levels 200 hPa"]


def test_missing_levels_stay_missing():
    conformed, changes = data.conform(_GOOD.isel(level=[0, 1]), TASK)
    assert changes == []
    assert any("850 hPa missing" in error for error in _errors(conformed))


def test_a_single_level_gets_an_axis():
    task = dataclasses.replace(TASK, pressure_levels=(500,))
    conformed, changes = data.conform(_GOOD.isel(level=1), task)
    assert changes == ["gave level an axis"]
    assert _errors(conformed, task) == []
    np.testing.assert_array_equal(
        conformed["temperature"], _GOOD["temperature"].isel(level=[1])
    )


def test_constant_fields_lose_their_time_and_others_keep_it():
    changed = _GOOD.copy()
    mask = changed["land_sea_mask"].expand_dims(time=changed["time"])
    changed["land_sea_mask"] = mask
    conformed, changes = data.conform(changed, TASK)
    assert changes == ["took the time axis from land_sea_mask, which is constant"]
    assert conformed["land_sea_mask"].dims == ("lat", "lon")
    changed["land_sea_mask"] = mask * xarray.DataArray([1, 1, 0.5], dims="time")
    conformed, changes = data.conform(changed, TASK)
    assert "time" in conformed["land_sea_mask"].dims


def test_surface_fields_lose_a_level_axis_of_one():
    changed = _GOOD.copy()
    changed["2m_temperature"] = changed["2m_temperature"].expand_dims(level=[500])
    single = changed.isel(level=slice(1, 2))
    task = dataclasses.replace(TASK, pressure_levels=(500,))
    conformed, changes = data.conform(single, task)
    assert changes == ["took the level axis of length 1 from 2m_temperature"]
    assert conformed["2m_temperature"].dims == ("batch", "time", "lat", "lon")


def test_packed_values_are_unpacked():
    changed = _GOOD.copy()
    packed = np.round((changed["2m_temperature"] - 270) / 0.01).astype(np.int16)
    changed["2m_temperature"] = packed.assign_attrs(scale_factor=0.01, add_offset=270.0)
    conformed, changes = data.conform(changed, TASK)
    assert changes == ["unpacked 2m_temperature"]
    np.testing.assert_allclose(
        conformed["2m_temperature"], _GOOD["2m_temperature"], atol=0.006
    )


def test_numbered_times_are_decoded_and_sorted():
    numbered = _GOOD.assign_coords(time=("time", [0, 6, 12], {"units": "hours"}))
    conformed, changes = data.conform(numbered.isel(time=[2, 0, 1]), TASK)
    assert changes == ["decoded time by its units", "sorted the frames by time"]
    np.testing.assert_array_equal(conformed["time"], _GOOD["time"])
    np.testing.assert_array_equal(conformed["temperature"], _GOOD["temperature"])


def test_numbers_without_units_are_left_as_they_are():
    numbered = _GOOD.assign_coords(time=[0, 6, 12])
    conformed, changes = data.conform(numbered, TASK)
    assert changes == []
    assert _errors(conformed)


def test_dates_of_another_calendar_become_those_of_the_task():
    dated = _GOOD.assign_coords(time=_GOOD["datetime"].values[0])
    dated = dated.drop_vars("datetime").convert_calendar("noleap")
    conformed, changes = data.conform(dated, TASK)
    assert changes[0] == "read dates of the calendar noleap in time"
    assert _errors(conformed) == []
    np.testing.assert_array_equal(conformed["datetime"], _GOOD["datetime"])


def test_a_frame_without_an_axis_gets_one():
    single = _GOOD.isel(time=0, batch=0)
    dates = single["datetime"].values
    single = single.drop_vars("datetime").assign_coords(time=dates)
    conformed, changes = data.conform(single, TASK)
    assert "gave time an axis" in changes
    assert conformed["temperature"].dims == ("batch", "time", "level", "lat", "lon")
    assert conformed["datetime"].values.tolist() == [[dates.astype("int64")]]


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(0, 11), flipped=st.booleans())
def test_whole_globes_are_turned_to_begin_at_greenwich(shift, flipped):
    turned = _GOOD.roll(lon=shift, roll_coords=True)
    longitude = turned["lon"].values
    turned = turned.assign_coords(
        lon=np.where(longitude >= 180, longitude - 360, longitude)
    )
    if flipped:
        turned = turned.isel(lat=slice(None, None, -1))
    conformed, _ = data.conform(turned, TASK)
    np.testing.assert_array_equal(conformed["lon"], _GOOD["lon"])
    for name in _GOOD:
        np.testing.assert_array_equal(conformed[name], _GOOD[name])


def test_windows_across_greenwich_stay_in_one_piece():
    window = _GOOD.roll(lon=2, roll_coords=True).isel(lon=slice(0, 5))
    longitude = window["lon"].values
    longitude = np.where(longitude >= 180, longitude - 360, longitude)
    window = window.assign_coords(lon=longitude)
    conformed, changes = data.conform(window, TASK)
    assert changes == []
    np.testing.assert_array_equal(conformed["lon"], longitude)


def test_a_repeated_meridian_is_left_out_only_if_it_repeats():
    closed = _GOOD.pad(lon=(0, 1), mode="wrap").assign_coords(
        lon=np.linspace(0, 360, 13).astype(np.float32)
    )
    conformed, changes = data.conform(closed, TASK)
    assert changes == ["left out the last column, which repeats the first"]
    np.testing.assert_array_equal(conformed["temperature"], _GOOD["temperature"])
    closed["temperature"][..., -1] += 1
    conformed, changes = data.conform(closed, TASK)
    assert changes == []
    assert conformed.sizes["lon"] == 13


@pytest.mark.parametrize("axis", ["lat", "lon", "level"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_without_a_place_is_refused(axis, value):
    values = _GOOD[axis].values.astype(np.float64)
    values[-1] = value
    odd = _GOOD.assign_coords({axis: values})
    words = rf"{axis}: 1 of {values.size} values .* at index {values.size - 1}"
    with pytest.raises(ValueError, match=words):
        data.conform(odd, TASK)
    with pytest.raises(ValueError, match=words):
        data.canonical(odd)


def test_what_has_no_use_is_left_out_and_named():
    rich = _GOOD.assign(
        snow=_GOOD["2m_temperature"],
        temperature=_GOOD["temperature"].expand_dims(number=[0]),
    )
    conformed, changes = data.conform(rich, TASK)
    assert changes == [
        "left out snow: not in the task",
        "dropped number: a single entry",
    ]
    assert "snow" not in conformed
    assert _errors(conformed) == []


def test_the_dates_of_a_forecast_file_are_used(tmp_path):
    path = tmp_path / "weather.nc"
    with data.open_writer(path) as writer:
        writer.write(_GOOD)
    with data.open_dataset(path, canonical=False) as opened:
        found = data_utils.check(opened, TASK)
        assert ("name", "datetime") in [(p.kind, p.variable) for p in found]
        conformed, changes = data.conform(opened, TASK)
        assert "renamed valid_time to datetime" in changes
        assert data_utils.check(conformed, TASK) == []
        np.testing.assert_array_equal(conformed["datetime"], _GOOD["datetime"])
        np.testing.assert_array_equal(conformed["temperature"], _GOOD["temperature"])


def test_dimensions_are_put_in_order():
    turned = _GOOD.assign(temperature=_GOOD["temperature"].transpose("lon", ...))
    conformed, changes = data.conform(turned, TASK)
    assert changes == ["put the dimensions of temperature in order"]
    assert conformed["temperature"].dims == ("batch", "time", "level", "lat", "lon")
