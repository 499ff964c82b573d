"""Forecasts of any length from their initial state."""

import dataclasses
import time

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray

from tests.weather_samples import LEVELS, TASK, weather
from weatherlib import data_utils, task


def _truth(data, steps, config=TASK):
    return data_utils.extract_inputs_targets_forcings(
        data, **config, target_lead_times=slice("6h", f"{6 * steps}h")
    )


@pytest.mark.parametrize("batch", [1, 2])
def test_the_initial_state_gives_what_extraction_gives_from_the_truth(batch):
    data = weather(5, batch=batch)
    inputs, targets, forcings = _truth(data, 3)
    initial = data.isel(time=slice(0, 2))
    xarray.testing.assert_identical(data_utils.split_initial(initial, TASK), inputs)
    template = data_utils.targets_template(initial, TASK, 3)
    assert list(template) == list(targets)
    for name in targets:
        assert template[name].dims == targets[name].dims
        assert template[name].shape == targets[name].shape
        assert template[name].dtype == np.float32
        assert np.isnan(template[name].values).all()
    for axis in ("time", "level", "lat", "lon"):
        np.testing.assert_array_equal(template[axis], targets[axis])
    made = data_utils.forcings(initial, TASK, 3)
    assert list(made) == list(forcings)
    xarray.testing.assert_allclose(made.compute(), forcings, rtol=1e-6)


def test_only_the_last_frames_are_read():
    data = weather(6)
    late = data_utils.split_initial(data, TASK)
    xarray.testing.assert_identical(
        late, data_utils.split_initial(data.isel(time=[4, 5]), TASK)
    )


def test_a_thousand_steps_at_a_quarter_degree_cost_nothing():
    grid = xarray.Dataset(
        coords={
            "lat": np.linspace(-90, 90, 721),
            "lon": np.arange(0, 360, 0.25),
            "level": list(task.TASK.pressure_levels),
            "time": pd.to_timedelta([0, 6], unit="h").to_numpy(),
            "datetime": (
                ("batch", "time"),
                np.array([["2022-01-01T00", "2022-01-01T06"]], "datetime64[ns]"),
            ),
        }
    )
    start = time.perf_counter()
    template = data_utils.targets_template(grid, task.TASK, 1000)
    forcings = data_utils.forcings(grid, task.TASK, 1000)
    assert time.perf_counter() - start < 5
    assert template.nbytes > 9 * 10**11
    assert isinstance(template["geopotential"].data, dask.array.Array)
    assert isinstance(forcings[data_utils.TISR].data, dask.array.Array)
    assert forcings["year_progress_sin"].shape == (1, 1000)


def test_eager_forcings_hold_the_same_numbers():
    initial = weather(2)
    lazy = data_utils.forcings(initial, TASK, 2)
    eager = data_utils.forcings(initial, TASK, 2, lazy=False)
    assert isinstance(eager[data_utils.TISR].data, np.ndarray)
    xarray.testing.assert_identical(lazy.compute(), eager)


def test_radiation_can_be_summed_over_other_periods():
    initial = weather(2)
    hours = [
        data_utils.forcings(initial, TASK, 1, time_step=f"{hour}h")[data_utils.TISR]
        for hour in range(1, 7)
    ]
    whole = data_utils.forcings(initial, TASK, 1, integration_period="6h")
    expected = sum(hour.values for hour in hours)
    np.testing.assert_allclose(
        whole[data_utils.TISR].values, expected, atol=1e-3 * expected.max()
    )


def test_other_time_steps_follow_from_the_data_or_are_given():
    config = dataclasses.replace(TASK, input_duration="6h")
    initial = weather(2, step="3h")
    template = data_utils.targets_template(initial, config, 2)
    assert template["time"].values.astype("timedelta64[h]").astype(int).tolist() == [
        3,
        6,
    ]
    single = initial.isel(time=[1])
    config = dataclasses.replace(TASK, input_duration="3h")
    inputs = data_utils.split_initial(single, config, time_step="3h")
    assert inputs.sizes["time"] == 1
    template = data_utils.targets_template(single, config, 2, time_step="3h")
    assert template["time"].values[-1] == np.timedelta64(6, "h")


def test_targets_that_are_no_inputs_take_their_form_from_the_vocabulary():
    initial = weather(2).drop_vars("total_precipitation_6hr")
    config = dataclasses.replace(
        TASK, target_variables=("total_precipitation_6hr", "vorticity")
    )
    template = data_utils.targets_template(initial, config, 1)
    assert template["total_precipitation_6hr"].dims == ("batch", "time", "lat", "lon")
    assert template["vorticity"].dims == ("batch", "time", "level", "lat", "lon")
    assert template["level"].values.tolist() == list(LEVELS)


def test_targets_of_unknown_form_are_refused():
    config = dataclasses.replace(TASK, target_variables=("fog_of_war",))
    with pytest.raises(ValueError, match="fog_of_war: neither in the initial state"):
        data_utils.targets_template(weather(2), config, 1)


def test_forcings_that_cannot_be_computed_come_from_known_values():
    config = dataclasses.replace(
        TASK, forcing_variables=("sea_surface_temperature", data_utils.TISR)
    )
    data = weather(5, batch=2)
    data["sea_surface_temperature"] = data["2m_temperature"] + 1
    initial = data.isel(time=slice(0, 2)).drop_vars("sea_surface_temperature")
    with pytest.raises(ValueError, match=r"sea_surface_temperature: .* `known`"):
        data_utils.forcings(initial, config, 3)
    made = data_utils.forcings(initial, config, 3, known=data)
    np.testing.assert_array_equal(
        made["sea_surface_temperature"],
        data["sea_surface_temperature"].isel(time=slice(2, 5)),
    )
    with pytest.raises(ValueError, match="no known value at 2022-01-02 06:00:00"):
        data_utils.forcings(initial, config, 4, known=data)
    with pytest.raises(ValueError, match="known values have 3 batch members"):
        data_utils.forcings(
            initial,
            config,
            1,
            known=weather(5, batch=3).assign(
                sea_surface_temperature=weather(5, batch=3)["2m_temperature"]
            ),
        )


def test_known_radiation_goes_before_computed_radiation():
    data = weather(4)
    data[data_utils.TISR] = data["2m_temperature"] * 0 + 5
    made = data_utils.forcings(data.isel(time=[0, 1]), TASK, 2, known=data)
    assert (made[data_utils.TISR] == 5).all()


def test_a_forcing_without_time_is_repeated():
    config = dataclasses.replace(TASK, forcing_variables=("land_sea_mask",))
    made = data_utils.forcings(weather(2), config, 3)
    xarray.testing.assert_equal(made["land_sea_mask"], weather(2)["land_sea_mask"])


def test_a_task_without_forcings_gets_none():
    config = dataclasses.replace(TASK, forcing_variables=())
    made = data_utils.forcings(weather(2).drop_vars("datetime"), config, 3)
    assert not made.data_vars
    assert made.sizes["time"] == 3


@pytest.mark.parametrize("steps", [0, -1])
def test_a_forecast_has_at_least_one_step(steps):
    for function in (data_utils.targets_template, data_utils.forcings):
        with pytest.raises(ValueError, match="steps must be at least 1"):
            function(weather(2), TASK, steps)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (weather(1), {}, r"1 frame\(s\) do not show the time step"),
        (weather(1), {"time_step": "6h"}, r"1 frame\(s\) at a step.*expected 2"),
        (weather(2, step="5h"), {}, "step of 0 days 05:00:00 does not divide"),
        (weather(2), {"time_step": "0h"}, "time_step must be positive"),
        (weather(2).drop_vars("time"), {}, "time: the data has no such coordinate"),
        (weather(2).drop_vars("temperature"), {}, "temperature: inputs of the model"),
        (weather(2).isel(level=[0]), {}, "level: 500, 850 hPa not in the data"),
    ],
)
def test_initial_states_that_do_not_do_are_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        data_utils.split_initial(data, TASK, **options)


def test_forcings_need_dates_and_a_grid():
    with pytest.raises(ValueError, match="datetime: the data has no such"):
        data_utils.forcings(weather(2).drop_vars("datetime"), TASK, 1)
    with pytest.raises(ValueError, match="lat must be a coordinate"):
        data_utils.forcings(weather(2).drop_vars("lat"), TASK, 1)
    with pytest.raises(ValueError, match="lon must be a coordinate"):
        data_utils.targets_template(weather(2).drop_vars("lon"), TASK, 1)
