import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray

from tests.cli import cases
from weatherlib.cli import forecasting, models, setups


@pytest.fixture(scope="module")
def model():
    return models.load_model(cases.CASE / "params.npz")


@pytest.fixture(scope="module")
def statistics():
    return models.load_statistics(cases.CASE)


@pytest.fixture
def weather():
    with xarray.open_dataset(
        cases.CASE / cases.SOURCE, decode_timedelta=True
    ) as dataset:
        return dataset.load()


@pytest.mark.parametrize(
    ("steps", "frames", "known", "start"),
    [(1, 4, 1, 2), (2, 4, 2, 1), (5, 4, 2, 1), (1, 3, 1, 1), (3, 2, 0, 1)],
)
def test_the_last_frames_are_the_truth_as_far_as_they_go(
    steps, frames, known, start, weather, model, statistics
):
    weather = weather.isel(time=slice(frames))
    setup = setups.prepare(model, statistics, weather, steps=steps)
    assert setup.steps == steps and setup.forcings.sizes["time"] == steps
    assert setup.time_step == pd.Timedelta("6h")
    np.testing.assert_array_equal(
        setup.start["datetime"], weather["datetime"].isel(time=[start - 1, start])
    )
    xarray.testing.assert_equal(
        setup.inputs["temperature"].drop_vars("time"),
        weather["temperature"].isel(time=[start - 1, start]).drop_vars(
            ["time", "datetime"]
        ),
    )  # fmt: skip
    if not known:
        assert setup.targets is None
        return
    lead = np.arange(1, known + 1) * np.timedelta64(6, "h")
    np.testing.assert_array_equal(setup.targets["time"], lead)
    np.testing.assert_array_equal(
        setup.targets["geopotential"], weather["geopotential"][:, start + 1 :]
    )


def test_another_time_step_of_the_data_replaces_six_hours(weather, model, statistics):
    hours = np.arange(4) * np.timedelta64(12, "h")
    weather = weather.assign_coords(
        time=hours.astype("timedelta64[ns]"),
        datetime=(
            ("batch", "time"),
            (np.datetime64("2022-01-01", "ns") + hours)[np.newaxis],
        ),
    )
    task = dataclasses.replace(model.task_config, input_duration="24h")
    model = dataclasses.replace(model, task_config=task)
    setup = setups.prepare(model, statistics, weather, steps=2)
    assert setup.time_step == pd.Timedelta("12h")
    np.testing.assert_array_equal(
        setup.template["time"], [np.timedelta64(12, "h"), np.timedelta64(24, "h")]
    )


def test_known_forcings_come_from_the_data(weather, model, statistics):
    name = "toa_incident_solar_radiation"
    setup = setups.prepare(model, statistics, weather, steps=2)
    np.testing.assert_array_equal(
        setup.forcings[name].transpose(*weather[name].dims), weather[name][:, 2:]
    )
    beyond = setups.prepare(model, statistics, weather, steps=3)
    assert np.isfinite(beyond.forcings[name]).all()


def test_of_large_data_only_the_end_is_checked(weather, model, statistics, monkeypatch):
    weather["2m_temperature"][:, 0] = np.nan
    with pytest.raises(ValueError, match="2m_temperature"):
        setups.prepare(model, statistics, weather)
    monkeypatch.setattr(setups, "_CHECKED_WHOLE", 0)
    monkeypatch.setattr(setups, "_CHECKED_FRAMES", 3)
    setups.prepare(model, statistics, weather)


def test_forecasts_of_weights_without_terms_say_so(model):
    bare = dataclasses.replace(model, license="")
    assert forecasting.origin_attrs(bare)["license"] == "not stated"
    free = dataclasses.replace(model, license="CC0-1.0")
    assert forecasting.origin_attrs(free)["license"] == "CC0-1.0"


def test_a_forecast_too_large_for_memory_wants_a_file(
    weather, model, statistics, monkeypatch
):
    setup = setups.prepare(model, statistics, weather, steps=2)
    monkeypatch.setattr("os.sysconf", lambda name: 512)
    with pytest.raises(ValueError, match="write it to a file with --output"):
        forecasting.run(None, setup, model)


def test_parameters_are_drawn_only_where_there_are_none(weather, model, statistics):
    assert forecasting.initialise(model, statistics, None) is model
    setup = setups.prepare(model, statistics, weather)
    empty = dataclasses.replace(model, params=None)
    drawn = forecasting.initialise(empty, statistics, setup)
    shapes = {
        (module, name): array.shape
        for module, arrays in model.params.items()
        for name, array in arrays.items()
    }
    assert shapes == {
        (module, name): array.shape
        for module, arrays in drawn.params.items()
        for name, array in arrays.items()
    }
