import haiku as hk
import jax
import numpy as np
import pytest
import xarray

from tests.training import toys
from weatherlib import climatology_removal, predictor_base, task, training
from weatherlib.data_utils import harmonics

TASK = task.TaskConfig(
    input_variables=(toys.PRESSURE, "geopotential", "day_progress_sin",
                     "day_progress_cos"),
    target_variables=(toys.PRESSURE, "geopotential"),
    forcing_variables=("day_progress_sin", "day_progress_cos"),
    pressure_levels=(500, 850),
    input_duration="12h",
)  # fmt: skip
SETTINGS = harmonics.HarmonicsConfig(years=0, days=1)


class Persistence(predictor_base.Predictor):
    """Repeats the last frame, and keeps what it saw."""

    def __init__(self):
        self.seen = []

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        self.seen.append(inputs)
        return xarray.Dataset(
            {
                name: inputs[name]
                .isel(time=-1, drop=True)
                .expand_dims(time=target["time"])
                .transpose(*target.dims)
                for name, target in targets_template.items()
            }
        )

    def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
        found = self(inputs, targets, forcings)
        error = found[toys.PRESSURE] - targets[toys.PRESSURE]
        return ((error**2).mean(["time", "lat", "lon"]), {}), found

    def loss(self, inputs, targets, forcings, **kwargs):
        return self.loss_and_predictions(inputs, targets, forcings)[0]


def frames():
    weather = toys.weather()
    hours = weather["datetime"].dt.hour.isel(batch=0, drop=True)
    tide = 700 * np.cos(2 * np.pi * hours / 24) * (weather["lat"] > 0)
    name = toys.PRESSURE
    weather[name] = (weather[name] + tide).transpose(*weather[name].dims)
    weather[name] = weather[name].astype(np.float32)
    return training.Frames(weather, TASK)


@pytest.fixture(scope="module")
def amplitudes():
    whole = frames().period(training.Period())
    return harmonics.fit_departures(whole, TASK.target_variables, SETTINGS)


def test_what_is_predicted_is_the_anomaly_and_what_comes_back_is_weather(amplitudes):
    inner = Persistence()
    wrapper = climatology_removal.WithoutClimatology(inner, amplitudes)
    inputs, targets, forcings = frames().batch(np.arange(2))
    found = wrapper(inputs, targets, forcings)
    for name in TASK.target_variables:
        now = harmonics.departure(amplitudes, name, inputs).isel(time=-1)
        then = harmonics.departure(amplitudes, name, forcings).isel(time=0)
        expected = inputs[name].isel(time=-1) - now + then
        np.testing.assert_allclose(
            found[name].isel(time=0),
            expected.transpose(*found[name].isel(time=0).dims),
            rtol=1e-6,
        )
    plain = abs(inputs[toys.PRESSURE].isel(time=-1) - targets[toys.PRESSURE])
    better = abs(found[toys.PRESSURE] - targets[toys.PRESSURE])
    north = {"lat": slice(2, None)}
    assert better.isel(north).mean() < 0.5 * plain.isel(north).mean()


def test_taking_away_and_putting_back_is_exact(amplitudes):
    class Truth(Persistence):
        def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
            self.seen.append(targets)
            return super().loss_and_predictions(inputs, targets, forcings)[0], targets

    inner = Truth()
    wrapper = climatology_removal.WithoutClimatology(inner, amplitudes)
    inputs, targets, forcings = frames().batch(np.arange(2))
    _, found = wrapper.loss_and_predictions(inputs, targets, forcings)
    xarray.testing.assert_allclose(found, targets, rtol=1e-6)
    assert abs(inner.seen[0] - targets)[toys.PRESSURE].max() > 100


def test_the_loss_compares_anomalies(amplitudes):
    wrapper = climatology_removal.WithoutClimatology(Persistence(), amplitudes)
    data = frames().batch(np.arange(2))
    loss, _ = wrapper.loss(*data)
    found = wrapper(*data)
    error = (found - data[1])[toys.PRESSURE]
    np.testing.assert_allclose(loss, (error**2).mean(["time", "lat", "lon"]), rtol=1e-3)
    both, predictions = wrapper.loss_and_predictions(*data)
    np.testing.assert_allclose(both[0], loss)
    xarray.testing.assert_allclose(predictions, found)


def test_every_start_is_served_by_one_program(amplitudes):
    traced = []

    def run(*data):
        traced.append(1)
        return climatology_removal.WithoutClimatology(Persistence(), amplitudes)(*data)

    apply = jax.jit(hk.without_apply_rng(hk.transform(run)).apply)
    source = frames()
    for start in (0, 1, 9):
        data = source.batch(np.array([start]))
        found = apply({}, *data)
        expected = climatology_removal.WithoutClimatology(Persistence(), amplitudes)(
            *data
        )
        for name in found:
            np.testing.assert_allclose(
                np.asarray(found[name]), expected[name], rtol=1e-5
            )
    assert len(traced) == 1


def test_levels_are_matched_by_their_values(amplitudes):
    turned = amplitudes.isel(level=[1, 0])
    data = frames().batch(np.arange(1))
    found, expected = (
        climatology_removal.WithoutClimatology(Persistence(), a)(*data)
        for a in (turned, amplitudes)
    )
    xarray.testing.assert_allclose(found, expected)
    one = climatology_removal.WithoutClimatology(
        Persistence(), amplitudes.isel(level=[0])
    )
    with pytest.raises(ValueError, match=r"geopotential: .* lacks the levels \[850\]"):
        one(*data)


def test_another_grid_or_no_dates_are_refused(amplitudes):
    wrapper = climatology_removal.WithoutClimatology(Persistence(), amplitudes)
    inputs, targets, forcings = frames().batch(np.arange(1))
    with pytest.raises(ValueError, match="lat: the climatology was fitted on 4 values"):
        wrapper(inputs.isel(lat=slice(2)), targets, forcings)
    with pytest.raises(ValueError, match=r"lon: .* from 0 to 315, the data"):
        wrapper(inputs.assign_coords(lon=inputs["lon"] + 5), targets, forcings)
    with pytest.raises(ValueError, match="forcings lack day_progress_sin"):
        wrapper(inputs, targets, forcings.drop_vars("day_progress_sin"))


def test_a_task_must_read_the_dates():
    climatology_removal.check_task(TASK, SETTINGS)
    with pytest.raises(ValueError, match="input_variables lacks day_progress_cos"):
        climatology_removal.check_task(toys.TASK, SETTINGS)
