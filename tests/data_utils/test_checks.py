"""Checks of a dataset against a task."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray

from tests.conftest import GOLDENS
from tests.weather_samples import TASK, weather
from weatherlib import data_utils, task, variables


def _problems(data, config=TASK, **options):
    return data_utils.check(data, config, **options)


def _only(data, config=TASK, **options):
    problems = _problems(data, config, **options)
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def _with(name, function, **kwargs):
    data = weather(3)
    attrs = kwargs.pop("attrs", {})
    data[name] = function(data[name]).assign_attrs(attrs)
    return data


def test_good_data_has_no_problems():
    assert _problems(weather(3), truth=True, resolution=30) == []
    data_utils.require(weather(3), TASK, truth=True)


@pytest.mark.parametrize(
    ("case", "config", "resolution"),
    [
        ("a_10deg_13lev", task.TASK_13, 10.0),
        ("b_15deg_precip_out", task.TASK_13_PRECIP_OUT, 15.0),
    ],
)
def test_the_published_files_have_no_problems(case, config, resolution):
    folder = GOLDENS / "graphcast" / case
    data = xarray.load_dataset(next(folder.glob("source-*")), decode_timedelta=True)
    names = ("mean_by_level", "stddev_by_level", "diffs_stddev_by_level")
    statistics = {
        name: xarray.load_dataset(folder / f"stats_{name}.nc") for name in names
    }
    found = _problems(
        data, config, truth=True, statistics=statistics, resolution=resolution
    )
    assert found == []


def test_every_problem_is_reported_at_once():
    data = weather(3)
    data["2m_temperature"] = data["2m_temperature"] - 273.15
    data["mean_sea_level_pressure"] = data["mean_sea_level_pressure"] / 100
    data["geopotential"] = data["geopotential"] / variables.GRAVITY
    data["temperature"][0, 1, 1, 3, 4] = np.nan
    data = data.drop_vars("land_sea_mask").isel(level=[0, 1], time=[0, 1, 1])
    data = data.rename({"lat": "latitude", "specific_humidity": "q"})
    with pytest.raises(ValueError, match="9 problems") as error:
        data_utils.require(data, TASK)
    message = str(error.value)
    for expected in (
        "lat: called `latitude`",
        "specific_humidity: called `q`",
        "level: 850 hPa missing",
        "more than once",
        "land_sea_mask: missing",
        "look like degC, expected K",
        "look like hPa, expected Pa",
        "look like m of geopotential height, expected m2 s-2",
        "values are NaN",
        "fix: multiply by 9.80665",
        "weatherlib.data.conform(dataset, task) does this for",
    ):
        assert expected in message


def test_one_problem_is_counted_as_one():
    with pytest.raises(ValueError, match="1 problem:"):
        data_utils.require(weather(2).isel(level=[0, 1]), TASK)


def test_errors_come_before_notes():
    data = weather(3).isel(lat=slice(None, None, -1)).drop_vars("temperature")
    severities = [problem.severity for problem in _problems(data)]
    assert severities == ["error", "note"]


@pytest.mark.parametrize(
    ("name", "factor", "offset", "words"),
    [
        ("2m_temperature", 1, -273.15, "degC"),
        ("mean_sea_level_pressure", 1e-2, 0, "hPa"),
        ("mean_sea_level_pressure", 1e-3, 0, "kPa"),
        ("geopotential", 1 / variables.GRAVITY, 0, "look like m"),
        ("geopotential", 0.1 / variables.GRAVITY, 0, "look like dam"),
        ("geopotential_at_surface", 1 / variables.GRAVITY, 0, "look like m"),
        ("specific_humidity", 1e3, 0, "g kg-1"),
        ("temperature", 1, -273.15, "degC"),
        ("land_sea_mask", 100, 0, "%"),
    ],
)
def test_values_tell_the_unit_where_the_attribute_does_not(name, factor, offset, words):
    data = _with(name, lambda values: values * factor + offset)
    problem = _only(data)
    assert problem.kind == "units"
    assert problem.variable == name
    assert words in problem.found
    assert problem.lossless


def test_low_ground_is_no_height_where_the_earth_is_not_whole_or_flat():
    low = _with("geopotential_at_surface", lambda values: values / 10)
    assert data_utils.check(low.isel(lat=slice(2, 5)), TASK) == []
    assert data_utils.check(low.isel(lon=slice(0, 6)), TASK) == []
    flat = _with("geopotential_at_surface", lambda values: values / 100)
    assert data_utils.check(flat, TASK) == []


def test_precipitation_in_millimetres_is_seen():
    data = _with("total_precipitation_6hr", lambda values: values * 1e3 + 5)
    problem = _only(data)
    assert problem.variable == "total_precipitation_6hr"
    assert "look like mm" in problem.found


def test_relative_humidity_as_a_fraction_is_seen():
    config = dataclasses.replace(
        TASK, input_variables=("relative_humidity",), target_variables=("temperature",)
    )
    data = weather(3)
    data["relative_humidity"] = data["temperature"] / 300
    problem = _only(data, config)
    assert "look like 1, expected %" in problem.found


@pytest.mark.parametrize(
    ("name", "units", "lossless", "words"),
    [
        ("2m_temperature", "degC", True, "add 273.15"),
        ("2m_temperature", "°F", True, "multiply by 0.555"),
        ("mean_sea_level_pressure", "millibars", True, "multiply by 100"),
        ("geopotential", "gpm", True, "multiply by 9.80665"),
        ("specific_humidity", "g/kg", True, "multiply by 0.001"),
        ("total_precipitation_6hr", "kg m**-2", True, "multiply by 0.001"),
        ("land_sea_mask", "%", True, "multiply by 0.01"),
        ("temperature", "furlongs", False, "convert to K"),
    ],
)
def test_the_attribute_decides_about_the_unit(name, units, lossless, words):
    problem = _only(_with(name, lambda values: values, attrs={"units": units}))
    assert (problem.kind, problem.lossless) == ("units", lossless)
    assert words in problem.fix


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("2m_temperature", "kelvin"),
        ("geopotential", "m**2 s**-2"),
        ("geopotential", "m2/s2"),
        ("land_sea_mask", "(0 - 1)"),
        ("specific_humidity", "kg kg**-1"),
        ("total_precipitation_6hr", "m"),
    ],
)
def test_other_spellings_of_the_right_unit_are_fine(name, units):
    assert _problems(_with(name, lambda v: v, attrs={"units": units})) == []


def test_values_that_contradict_their_attribute_are_not_converted():
    data = _with("2m_temperature", lambda v: v - 273.15, attrs={"units": "K"})
    problem = _only(data)
    assert "although the attribute says 'K'" in problem.found
    assert not problem.lossless


def test_values_of_no_unit_at_all_are_reported():
    problem = _only(_with("2m_temperature", lambda values: values * 1e6))
    assert problem.kind == "range"
    assert "plausible are 150 to 350" in problem.found


@pytest.mark.parametrize(
    "attrs",
    [{"GRIB_stepRange": "5-6"}, {"cell_methods": "time: sum (interval: 1 hour)"}],
)
def test_precipitation_of_one_hour_is_not_that_of_six(attrs):
    data = _with("total_precipitation_6hr", lambda values: values, attrs=attrs)
    problem = _only(data)
    assert problem.found == "summed over 1 h, expected 6 h"
    assert not problem.lossless


def test_precipitation_under_another_period_is_pointed_out():
    data = weather(3).rename(total_precipitation_6hr="tp")
    problem = _only(data, truth=True)
    assert problem.severity == "error"
    assert "the data has tp, summed over another period" in problem.found


@pytest.mark.parametrize(
    ("factor", "words"), [(3e7, "more than one hour"), (1e3, "look like W m-2")]
)
def test_radiation_over_another_period_is_seen(factor, words):
    data = weather(3)
    data[data_utils.TISR] = data["2m_temperature"] / 300 * factor
    problem = _only(data)
    assert problem.variable == data_utils.TISR
    assert words in problem.found


def test_targets_are_needed_only_for_comparison():
    data = weather(3).drop_vars("total_precipitation_6hr")
    assert _only(data).severity == "note"
    assert _only(data, truth=True).severity == "error"


def test_what_is_something_else_is_no_guess_for_a_missing_variable():
    missing = _only(weather(3).drop_vars("2m_temperature"))
    assert missing.found == "missing"
    missing = _only(weather(3).drop_vars("temperature"))
    assert missing.found == "missing"
    on_levels = weather(3).rename(temperature="2m_temperatur")
    found = {p.variable: p.found for p in _problems(on_levels)}
    assert found == {"temperature": "missing; is it `2m_temperatur`?"}
    found = _problems(on_levels.drop_vars("2m_temperature"))
    assert {p.found for p in found if p.variable == "2m_temperature"} == {"missing"}


def test_a_missing_variable_comes_with_a_guess():
    problem = _only(weather(3).rename(temperature="temperatur"))
    assert "is it `temperatur`?" in problem.found
    assert "the data has 2m_temperature" in problem.fix


@pytest.mark.parametrize(
    ("change", "words", "lossless", "severity"),
    [
        (lambda d: d.isel(level=[2, 1, 0]), "in the order", True, "note"),
        (lambda d: d.isel(level=[0, 1, 2, 2]), "occur more than once", False, "error"),
        (lambda d: d.drop_vars("level"), "the coordinate is missing", False, "error"),
        (lambda d: d.isel(level=[0, 2]), "500 hPa missing", False, "error"),
        (
            lambda d: d.assign_coords(level=("level", [30000, 50000, 85000])),
            "in Pa",
            True,
            "error",
        ),
    ],
)
def test_levels_are_checked(change, words, lossless, severity):
    problem = _only(change(weather(3)))
    assert problem.variable == "level"
    assert words in problem.found
    assert (problem.lossless, problem.severity) == (lossless, severity)


def test_extra_levels_are_reported():
    data = weather(3, levels=(300, 500, 700, 850))
    problem = _only(data)
    assert problem.found == "700 hPa are not levels of the model"
    assert problem.lossless


@pytest.mark.parametrize(
    ("change", "variable", "words", "lossless", "severity"),
    [
        (lambda d: d.isel(lat=slice(None, None, -1)), "lat", "north", True, "note"),
        (lambda d: d.isel(lat=[1, 0, 2, 3]), "lat", "neither", True, "error"),
        (lambda d: d.isel(lat=[0, 1, 1, 2]), "lat", "more than once", False, "error"),
        (lambda d: d.isel(lat=[0, 1, 3]), "lat", "uneven", False, "note"),
        (lambda d: d.assign_coords(lat=d["lat"] * 2), "lat", "-180 to", False, "error"),
        (lambda d: d.assign_coords(lat=d["lat"] * np.nan), "lat", "finite", False,
         "error"),
        (lambda d: d.drop_vars("lat"), "lat", "missing", False, "error"),
        (lambda d: d.drop_vars("lon"), "lon", "missing", False, "error"),
        (lambda d: d.assign_coords(lon=d["lon"] - 180), "lon", "-180 to", True, "note"),
        (lambda d: d.assign_coords(lon=d["lon"] * 2), "lon", "660", False, "error"),
        (
            lambda d: d.pad(lon=(0, 1), mode="wrap").assign_coords(
                lon=np.linspace(0, 360, 13)
            ),
            "lon",
            "same meridian",
            True,
            "error",
        ),
    ],
)  # fmt: skip
def test_the_grid_is_checked(change, variable, words, lossless, severity):
    problem = _only(change(weather(3)))
    assert problem.variable == variable
    assert words in problem.found
    assert (problem.lossless, problem.severity) == (lossless, severity)


def test_a_grid_that_is_no_axis_is_refused():
    curved = xarray.Dataset(coords={"lat": (("y", "x"), np.zeros((2, 2)))})
    found = [p for p in _problems(curved) if p.variable == "lat"]
    assert any("expected one axis" in p.found for p in found)


def test_the_resolution_is_that_of_the_checkpoint():
    found = _problems(weather(3), resolution=1.0)
    assert {problem.variable for problem in found} == {"lat", "lon"}
    assert {problem.kind for problem in found} == {"resolution"}
    assert "30 degrees apart" in found[0].found
    assert "trained at 1 degrees" in found[0].found
    assert _problems(weather(3), resolution=0) == []


@pytest.mark.parametrize(
    ("change", "words", "lossless"),
    [
        (lambda d: d.isel(time=[0, 1, 1]), "occurs more than once", False),
        (lambda d: d.isel(time=[2, 1, 0]), "frames run backwards", True),
        (lambda d: d.isel(time=[0, 2, 1]), "comes after a later frame", True),
        (lambda d: d.isel(time=[0, 1, 3]), "uneven: 0 days 06:00:00 in general", False),
        (
            lambda d: d.assign_coords(
                time=("time", [0, 6, 12, 18], {"units": "hours"})
            ),
            "numbers (int64, units 'hours')",
            True,
        ),
        (lambda d: d.assign_coords(time=[0, 6, 12, 18]), "units None", False),
        (
            lambda d: d.assign_coords(time=("time", range(4), {"units": "furlongs"})),
            "numbers (int64, units 'furlongs')",
            False,
        ),
        (lambda d: d.assign_coords(time=list("abcd")), "times such as a", False),
        (
            lambda d: d.assign_coords(time=d["datetime"].values[0]).convert_calendar(
                "noleap"
            ),
            "holds dates of the calendar noleap, expected lead times",
            True,
        ),
        (
            lambda d: d.assign_coords(
                time=xarray.date_range("2003-02-28", periods=4, calendar="360_day")
            ),
            "the calendar 360_day has the day 2003-02-29",
            False,
        ),
    ],
)
def test_time_is_checked(change, words, lossless):
    data = change(weather(4))
    found = [p for p in _problems(data) if p.variable == "time"]
    assert len(found) == 1
    assert words in found[0].found
    assert found[0].lossless is lossless


def test_missing_times_are_found():
    data = weather(3)
    times = data["time"].values.copy()
    times[1] = np.timedelta64("NaT", "ns")
    found = _problems(data.assign_coords(time=times))
    assert any("1 of 3 are not a time" in p.found for p in found)
    assert _only(weather(3).drop_vars("time")).variable == "time"


def test_steps_must_suit_the_model():
    assert _problems(weather(3), time_step="6h") == []
    problem = _only(weather(5, step="3h"), time_step="6h", frames=2)
    assert "frames are 0 days 03:00:00 apart, the model steps by 0 days 06" in (
        problem.found
    )
    assert "does not divide" in _only(weather(4, step="5h")).found


@pytest.mark.parametrize(
    ("frames", "options", "needed"),
    [
        (1, {}, 2),
        (2, {"truth": True}, 3),
        (3, {"frames": 5}, 5),
    ],
)
def test_too_few_frames_are_counted(frames, options, needed):
    problem = _only(weather(frames), **options)
    assert problem.kind == "frames"
    assert f"{frames} frame(s), at least {needed} are needed" in problem.found


def test_dates_are_needed_where_forcings_follow_from_them():
    problem = _only(weather(3).drop_vars("datetime"))
    assert problem.variable == "datetime"
    config = dataclasses.replace(
        TASK, forcing_variables=(), input_variables=("2m_temperature",)
    )
    assert _problems(weather(3).drop_vars("datetime"), config) == []


def test_dates_must_be_dates_in_step_with_time():
    data = weather(3)
    numbers = data.assign_coords(datetime=("time", [1, 2, 3]))
    assert "expected datetime64" in _only(numbers).found
    dates = data["datetime"].values.copy()
    dates[0, 1] += np.timedelta64(1, "h")
    shifted = data.assign_coords(datetime=(("batch", "time"), dates))
    assert "do not advance by" in _only(shifted).found
    dates[0, 1] = np.datetime64("NaT", "ns")
    gap = data.assign_coords(datetime=(("batch", "time"), dates))
    assert "1 of 3 are missing" in _only(gap).found


def test_nan_is_counted_and_placed():
    data = weather(3)
    data["temperature"][0, 1, 2, 3, 4] = np.nan
    data["temperature"][0, 2, 2, 3, 5] = np.nan
    problem = _only(data)
    assert problem.kind == "nan"
    assert "2 of 756 values are NaN" in problem.found
    date = f"({pd.Timestamp(data['datetime'].values[0, 1]):%Y-%m-%d %H:%M})"
    for place in ("time 1", "level 2", "lat 3", "lon 4", date):
        assert place in problem.found
    static = weather(3)
    static["land_sea_mask"][3, 4] = np.nan
    assert _only(static).found.endswith("at index lat 3, lon 4")


def test_nan_is_allowed_where_the_model_takes_it():
    data = weather(3)
    data["2m_temperature"][0, 0] = np.nan
    assert _only(data).kind == "nan"
    assert _problems(data, nan_allowed=("2m_temperature",)) == []
    targets_only = weather(3)
    targets_only["total_precipitation_6hr"][0, 0] = np.nan
    assert _only(targets_only).severity == "note"


def test_infinities_are_reported():
    data = weather(3)
    data["2m_temperature"][0, 0, 0, 1] = np.inf
    problem = _only(data)
    assert problem.kind == "infinite"
    assert "1 of 252 values are infinite" in problem.found


def test_fields_of_nothing_but_nan_do_not_stop_the_check():
    assert _only(_with("2m_temperature", lambda v: v * np.nan)).kind == "nan"


@pytest.mark.parametrize(
    ("change", "variable", "words", "lossless"),
    [
        (lambda d: d.isel(batch=0), "batch", "dimension is missing", True),
        (
            lambda d: d.assign({"temperature": d["temperature"].expand_dims(number=1)}),
            "temperature",
            "dimension number of length 1",
            True,
        ),
        (
            lambda d: d.assign({"temperature": d["temperature"].expand_dims(number=2)}),
            "temperature",
            "dimension number of length 2",
            False,
        ),
        (
            lambda d: d.assign({"2m_temperature": d["2m_temperature"].mean("lon")}),
            "2m_temperature",
            "lon missing",
            False,
        ),
        (
            lambda d: d.assign(
                {"2m_temperature": d["2m_temperature"].expand_dims(level=d["level"])}
            ),
            "2m_temperature",
            "has 3 level(s), but is surface",
            False,
        ),
        (
            lambda d: d.assign(
                {"land_sea_mask": d["land_sea_mask"].expand_dims(time=d["time"])}
            ),
            "land_sea_mask",
            "does not change in time",
            True,
        ),
    ],
)
def test_dimensions_are_checked(change, variable, words, lossless):
    problem = _only(change(weather(3)))
    assert problem.variable == variable
    assert problem.kind == "dims"
    assert words in problem.found
    assert problem.lossless is lossless


def test_a_single_level_without_axis_is_seen():
    config = dataclasses.replace(TASK, pressure_levels=(500,))
    found = _problems(weather(3).isel(level=1), config)
    assert {p.kind for p in found} == {"dims"}
    assert all(p.lossless for p in found)


def test_without_levels_in_the_task_an_upper_air_field_needs_none():
    config = dataclasses.replace(TASK, pressure_levels=())
    flat = weather(3).isel(level=0, drop=True)
    assert _problems(flat, config) == []
    problem = next(p for p in _problems(weather(3), config) if p.kind == "dims")
    assert "has 3 level(s), but is on one level in the task" in problem.found


def test_packed_and_textual_values_are_seen():
    packed = _with(
        "2m_temperature",
        lambda v: (v * 10).astype(np.int16),
        attrs={"scale_factor": 0.1, "add_offset": 0.0},
    )
    problem = _only(packed)
    assert problem.kind == "dtype"
    assert "mask_and_scale" in problem.fix
    text = _with("2m_temperature", lambda v: v.astype(str))
    assert "expected float32" in _only(text).found


def _statistics():
    data = weather(3)
    axes = [dim for dim in data.dims if dim != "level"]
    for name in TASK.forcing_variables:
        data[name] = ((), np.float32(1))
    mean = data.map(lambda v: v.mean([d for d in axes if d in v.dims]))
    spread = abs(mean) * 0.1
    return {
        "mean_by_level": mean,
        "stddev_by_level": spread,
        "diffs_stddev_by_level": spread * 0.1,
    }


def test_statistics_of_the_model_are_fine():
    assert _problems(weather(3), statistics=_statistics()) == []


def test_statistics_of_another_model_are_seen():
    good = _statistics()
    cases = {
        "no values for temperature": good
        | {"mean_by_level": good["mean_by_level"].drop_vars("temperature")},
        "no values on 850 hPa": good
        | {"stddev_by_level": good["stddev_by_level"].isel(level=[0, 1])},
        "a negative deviation": good
        | {"diffs_stddev_by_level": good["diffs_stddev_by_level"] * -1},
        "standard deviations from the mean": good
        | {"mean_by_level": good["mean_by_level"] * 5},
    }
    for words, statistics in cases.items():
        found = _problems(weather(3), statistics=statistics)
        assert found, words
        assert {p.kind for p in found} == {"statistics"}
        assert any(words in p.found for p in found)


def test_a_check_changes_nothing():
    data = weather(3).rename(lat="latitude", temperature="t")
    before = data.copy(deep=True)
    _problems(data)
    xarray.testing.assert_identical(data, before)


def test_a_problem_reads_as_one_line():
    problem = data_utils.Problem(
        kind="units", variable="t", found="in degC", fix="add 273.15", lossless=True
    )
    assert str(problem) == "t: in degC; add 273.15 (data.conform does this)"
