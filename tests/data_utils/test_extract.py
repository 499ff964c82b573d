"""Extraction of inputs, targets and forcings."""

import numpy as np
import pandas as pd
import pytest
import xarray

from tests import tolerances
from tests.conftest import GOLDENS
from tests.weather_samples import TASK, weather
from weatherlib import data_utils, task

_CASES = [
    ("a_10deg_13lev", task.TASK_13, "24h"),
    ("b_15deg_precip_out", task.TASK_13_PRECIP_OUT, "12h"),
]
_OPENERS = {
    "decoded": lambda path: xarray.load_dataset(path, decode_timedelta=True),
    "numbers": lambda path: xarray.load_dataset(path, decode_timedelta=False),
}


def _source(case):
    return next((GOLDENS / "graphcast" / case).glob("source-*"))


def _hours(dataset):
    return (dataset["time"].values / np.timedelta64(1, "h")).tolist()


@pytest.mark.parametrize("opener", _OPENERS)
@pytest.mark.parametrize(("case", "config", "longest"), _CASES)
def test_forcings_of_the_published_files_are_reproduced(case, config, longest, opener):
    dataset = _OPENERS[opener](_source(case))
    before = dataset.copy(deep=True)
    _, targets, forcings = data_utils.extract_inputs_targets_forcings(
        dataset, **config, target_lead_times=slice("6h", longest)
    )
    golden = xarray.load_dataset(
        GOLDENS / "graphcast" / case / "forcings_extracted.nc", decode_timedelta=True
    )
    assert set(forcings) == set(golden)
    for name in golden:
        tolerance = (
            tolerances.RADIATION * float(golden[name].max())
            if name == data_utils.TISR
            else tolerances.PROGRESS
        )
        assert forcings[name].dims == golden[name].dims
        assert forcings[name].dtype == np.float32
        np.testing.assert_allclose(
            forcings[name].values, golden[name].values, rtol=0, atol=tolerance
        )
    np.testing.assert_array_equal(forcings["time"], golden["time"])
    np.testing.assert_array_equal(targets["time"], golden["time"])
    xarray.testing.assert_identical(dataset, before)


def test_an_open_file_is_read_as_the_published_notebook_does():
    with (
        _source("a_10deg_13lev").open("rb") as file,
        xarray.open_dataset(file, engine="h5netcdf", decode_timedelta=False) as opened,
    ):
        inputs, _, _ = data_utils.extract_inputs_targets_forcings(
            opened, **task.TASK_13, target_lead_times="6h"
        )
        assert _hours(inputs) == [-6, 0]
        assert np.isfinite(inputs["temperature"].values).all()


def test_lead_times_are_counted_back_from_the_last_frame():
    data = weather(6)
    inputs, targets, forcings = data_utils.extract_inputs_targets_forcings(
        data, **TASK, target_lead_times="6h"
    )
    np.testing.assert_array_equal(
        inputs["temperature"], data["temperature"].isel(time=[3, 4])
    )
    np.testing.assert_array_equal(
        targets["temperature"], data["temperature"].isel(time=[5])
    )
    assert _hours(inputs) == [-6, 0]
    assert _hours(targets) == _hours(forcings) == [6]
    assert list(inputs) == list(TASK.input_variables)
    assert list(targets) == list(TASK.target_variables)
    assert list(forcings) == list(TASK.forcing_variables)
    assert "datetime" not in {*inputs.coords, *targets.coords, *forcings.coords}


@pytest.mark.parametrize("origin", [0, -48, 1000])
def test_the_origin_of_time_does_not_matter(origin):
    data = weather(5)
    moved = data.assign_coords(time=data["time"] + np.timedelta64(origin, "h"))
    expected = data_utils.extract_input_target_times(data, "12h", slice("6h", "18h"))
    found = data_utils.extract_input_target_times(moved, "12h", slice("6h", "18h"))
    for one, other in zip(expected, found, strict=True):
        xarray.testing.assert_identical(one, other)


@pytest.mark.parametrize(
    ("lead_times", "expected"),
    [
        ("12h", [12]),
        (("18h", "6h"), [6, 18]),
        ([pd.Timedelta("12h")], [12]),
        (slice("12h", "18h"), [12, 18]),
        (slice(None, "18h"), [6, 12, 18]),
        (slice("6h", "18h", 2), [6, 18]),
    ],
)
def test_lead_times_come_in_many_forms(lead_times, expected):
    _, targets = data_utils.extract_input_target_times(weather(6), "12h", lead_times)
    assert _hours(targets) == expected


def test_longer_pasts_give_more_frames():
    inputs, _ = data_utils.extract_input_target_times(weather(6), "24h", "6h")
    assert _hours(inputs) == [-18, -12, -6, 0]


def test_levels_come_in_the_order_of_the_task():
    config = {**TASK, "pressure_levels": (850, 300)}
    inputs, targets, _ = data_utils.extract_inputs_targets_forcings(
        weather(3), **config, target_lead_times="6h"
    )
    assert inputs["level"].values.tolist() == [850, 300]
    np.testing.assert_array_equal(
        targets["geopotential"].isel(level=0),
        weather(3)["geopotential"].isel(time=[2], level=2),
    )


def test_a_task_without_levels_needs_none():
    config = task.TaskConfig(
        input_variables=("2m_temperature",),
        target_variables=("2m_temperature",),
        forcing_variables=(),
        pressure_levels=(),
        input_duration="6h",
    )
    data = weather(2)[["2m_temperature"]].drop_vars("datetime")
    inputs, targets, forcings = data_utils.extract_inputs_targets_forcings(
        data, **config, target_lead_times="6h"
    )
    assert inputs.sizes["time"] == targets.sizes["time"] == 1
    assert not forcings.data_vars


def test_each_member_gets_forcings_of_its_own_dates():
    both = weather(3, batch=2)
    _, _, forcings = data_utils.extract_inputs_targets_forcings(
        both, **TASK, target_lead_times="6h"
    )
    for member in range(2):
        _, _, alone = data_utils.extract_inputs_targets_forcings(
            both.isel(batch=[member]), **TASK, target_lead_times="6h"
        )
        xarray.testing.assert_equal(forcings.isel(batch=[member]), alone)


def test_forcings_of_the_file_are_not_computed_again():
    data = weather(3)
    data[data_utils.TISR] = data["2m_temperature"] * 0 + 7
    inputs, _, forcings = data_utils.extract_inputs_targets_forcings(
        data, **TASK, target_lead_times="6h"
    )
    assert (forcings[data_utils.TISR] == 7).all()
    assert (inputs[data_utils.TISR] == 7).all()


def _extract(data, lead_times="6h", **changes):
    return data_utils.extract_inputs_targets_forcings(
        data, **{**TASK, **changes}, target_lead_times=lead_times
    )


@pytest.mark.parametrize(
    ("data", "lead_times", "message"),
    [
        (weather(3).drop_vars("temperature"), "6h", "temperature: not in the data"),
        (weather(3).isel(level=[0, 1]), "6h", "level: 850 hPa not in the data"),
        (weather(3).drop_vars("level"), "6h", "level: the dimension has no coord"),
        (weather(3).drop_vars("datetime"), "6h", "datetime must be a coordinate"),
        (weather(2), "6h", r"time: 1 input frame\(s\).*expected 2"),
        (weather(3), slice("6h", "24h"), r"time: 0 input frame\(s\)"),
        (weather(4), ("6h", "9h", "12h"), "time: the data lacks 0 days 09:00:00"),
        (weather(4), slice("30h", "6h"), "time: the data lacks any lead time"),
        (weather(4), slice("6h", None), "has no end"),
        (weather(4), [], "target_lead_times is empty"),
        (weather(4), "soon", "'soon' is not a length of time"),
        (weather(4), "NaT", "'NaT' is a missing time"),
        (
            weather(4).assign_coords(time=weather(4)["datetime"].values[0]),
            "6h",
            "time: holds datetime64.*conform",
        ),
        (
            weather(4).isel(time=[0, 1, 2, 2]),
            ["0h", "6h"],
            "occurs more than once",
        ),
    ],
)
def test_what_is_missing_is_named(data, lead_times, message):
    with pytest.raises(ValueError, match=message):
        _extract(data, lead_times)


def test_a_past_that_is_no_length_of_time_is_refused():
    with pytest.raises(ValueError, match="'long ago' is not a length of time"):
        _extract(weather(3), input_duration="long ago")


def test_a_forcing_cannot_be_a_target():
    with pytest.raises(ValueError, match="2m_temperature: named both"):
        _extract(weather(3), forcing_variables=("2m_temperature",))


def test_numbers_without_units_are_not_guessed():
    data = weather(3).assign_coords(time=[0, 6, 12])
    with pytest.raises(ValueError, match="time: numbers without a `units`"):
        _extract(data)


@pytest.mark.parametrize(
    ("units", "numbers"),
    [("hours", [0, 6]), ("h", [0, 6]), ("minutes", [0, 360]), ("days", [0, 0.25])],
)
def test_numbers_are_decoded_by_their_units(units, numbers):
    data = xarray.Dataset(coords={"time": ("time", numbers, {"units": units})})
    decoded = data_utils.decode_time(data)
    assert _hours(decoded) == [0, 6]
    assert decoded["time"].dtype == "timedelta64[ns]"
    assert "units" not in decoded["time"].attrs
    assert data["time"].attrs == {"units": units}


@pytest.mark.parametrize("units", ["hours since 2020-01-01", "furlongs"])
def test_units_that_are_no_length_of_time_are_refused(units):
    data = xarray.Dataset(coords={"time": ("time", [0, 6], {"units": units})})
    with pytest.raises(ValueError, match="not a length of time"):
        data_utils.decode_time(data)


def test_the_time_step_is_read_from_the_data():
    step = data_utils.infer_time_step(weather(4, step="3h")["time"])
    assert step == pd.Timedelta("3h")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([0], r"1 frame\(s\) do not show"),
        ([0, 1, 3], "uneven steps.*between frames 1 and 2"),
        ([0, 1, 0], "uneven steps"),
        ([2, 1, 0], "must ascend"),
        ([1, 1, 1], "must ascend"),
    ],
)
def test_times_without_one_step_are_refused(frames, message):
    time = weather(4).isel(time=frames)["time"]
    with pytest.raises(ValueError, match=message):
        data_utils.infer_time_step(time)


def test_numbers_have_no_time_step():
    with pytest.raises(ValueError, match="time: holds int64"):
        data_utils.infer_time_step(xarray.DataArray([0, 1], dims="time"))


def test_valid_times_need_dates():
    with pytest.raises(ValueError, match="datetime: the data has no such"):
        data_utils.valid_times(weather(2).drop_vars("datetime"))
    numbers = weather(2).assign_coords(datetime=("time", [1, 2]))
    with pytest.raises(ValueError, match="datetime: holds int64"):
        data_utils.valid_times(numbers)
    single = weather(2).assign_coords(datetime=weather(2)["datetime"].isel(batch=0))
    assert data_utils.valid_times(single).dims == ("batch", "time")
