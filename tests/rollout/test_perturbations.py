"""Noise and initial states of ensembles, with a model that is known by heart."""

import jax
import numpy as np
import pytest
import xarray

from tests import weather_samples
from weatherlib import data_utils, rollout
from weatherlib.geometry import sphere
from weatherlib.rollout import members, perturbations

TASK = weather_samples.TASK
_PREDICTED = (
    "temperature",
    "2m_temperature",
    "mean_sea_level_pressure",
    "geopotential",
    "specific_humidity",
)
START = np.datetime64("2022-01-02T12", "ns")


@pytest.fixture(scope="module")
def weather():
    return weather_samples.weather(frames=8, rows=13, columns=24)


@pytest.fixture(scope="module")
def inputs(weather):
    return data_utils.split_initial(weather.isel(time=slice(7)), TASK)


@pytest.fixture(scope="module")
def scales(weather):
    level = xarray.DataArray([1.0, 2.0, 4.0], {"level": weather["level"]}, ("level",))
    return xarray.Dataset(
        {
            "temperature": level,
            "geopotential": level * 100,
            "specific_humidity": level * 1e-3,
            "2m_temperature": 3.0,
            "mean_sea_level_pressure": 500.0,
        }
    )


def _config(kind="spherical", **settings):
    return rollout.PerturbationConfig(kind=kind, **{"amplitude": 0.5, **settings})


def _draws(inputs, scales, config, count):
    return xarray.concat(
        [
            perturbations.noise(inputs, TASK, scales, jax.random.PRNGKey(m), config)
            for m in range(count)
        ],
        "sample",
    )


@pytest.mark.parametrize("kind", ["gaussian", "spherical"])
def test_noise_has_the_scale_of_each_variable_and_level(kind, inputs, scales):
    drawn = _draws(inputs, scales, _config(kind, correlation_length=3000.0), 20)
    assert set(drawn) == set(scales)
    area = xarray.DataArray(sphere.latitude_weights(inputs["lat"].values), dims="lat")
    for name in ("temperature", "2m_temperature"):
        over = [dim for dim in drawn[name].dims if dim != "level"]
        spread = np.sqrt((drawn[name] ** 2 * area).mean(over))
        np.testing.assert_allclose(spread / (0.5 * scales[name]), 1, atol=0.25)
        assert abs((drawn[name] / scales[name]).mean()) < 0.2


def test_gaussian_noise_is_white_and_spherical_noise_is_smooth(inputs, scales):
    for kind, low, high in (("gaussian", -0.3, 0.3), ("spherical", 0.5, 1.0)):
        config = _config(kind, correlation_length=3000.0)
        field = _draws(inputs, scales, config, 4)["2m_temperature"]
        middle = field.isel(lat=6).values
        along = np.corrcoef(middle.ravel(), np.roll(middle, 1, -1).ravel())[0, 1]
        assert low < along < high, kind


def test_variables_levels_and_members_are_independent(inputs, scales):
    drawn = _draws(inputs, scales, _config("gaussian"), 2)
    first, second = drawn["temperature"].values
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(first[0, 0].ravel(), first[0, 1].ravel())[0, 1]) < 0.2
    other = drawn["geopotential"].values[0]
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1


def test_noise_of_a_variable_does_not_depend_on_the_others(inputs, scales):
    key = jax.random.PRNGKey(3)
    whole = perturbations.noise(inputs, TASK, scales, key, _config())
    fewer = inputs.drop_vars("temperature")
    xarray.testing.assert_equal(
        perturbations.noise(fewer, TASK, scales, key, _config()),
        whole.drop_vars("temperature").drop_vars("level", errors="ignore")
        if "level" not in fewer.dims
        else whole.drop_vars("temperature"),
    )


class _Growth:
    """Stands for a forecaster: anomalies from 270 K double at every step."""

    def __init__(self):
        self.calls = []

    def predict(self, inputs, forcings, *, steps, rng, members, guard):
        self.calls.append((steps, members, forcings.sizes["time"]))
        frame = inputs[list(_PREDICTED)].isel(time=[-1])
        grown = 270.0 + (frame - 270.0) * 2.0
        lead = np.array([6], "timedelta64[h]").astype("timedelta64[ns]")
        rain = frame["2m_temperature"] * 0
        whole = grown.assign(total_precipitation_6hr=rain)
        if "sample" not in whole["2m_temperature"].dims:
            whole = whole.expand_dims(sample=len(members))
        return whole.assign_coords(time=lead)


def _state(weather):
    def state(back):
        before = weather.isel(time=slice(7 - back))
        inputs = data_utils.split_initial(before, TASK).compute()
        return inputs, data_utils.forcings(before, TASK, 1).compute()

    return state


def _members(weather, scales, config, numbers, forecaster=None):
    return members.initial_members(
        forecaster or _Growth(),
        TASK,
        _state(weather),
        scales,
        config,
        key=perturbations.start_key(7, START),
        numbers=numbers,
    )


@pytest.mark.parametrize("kind", ["gaussian", "spherical", "bred", "lagged"])
def test_members_do_not_depend_on_the_batch_they_are_made_in(kind, weather, scales):
    config = _config(kind, cycles=2)
    whole = _members(weather, scales, config, range(4))
    part = _members(weather, scales, config, range(2, 4))
    for name in ("temperature", "specific_humidity"):
        np.testing.assert_array_equal(part[name], whole[name][2:])
    again = _members(weather, scales, config, range(4))
    xarray.testing.assert_identical(again, whole)


@pytest.mark.parametrize("kind", ["gaussian", "spherical", "bred", "lagged"])
def test_the_control_is_the_unperturbed_state(kind, weather, scales, inputs):
    whole = _members(weather, scales, _config(kind), range(3))
    for name in perturbations.perturbed_names(inputs, TASK):
        np.testing.assert_array_equal(whole[name][0], inputs[name])
        assert (whole[name][1] != inputs[name]).any()
    every = _members(weather, scales, _config(kind, control=False), range(3))
    assert (every["temperature"][0] != inputs["temperature"]).any()
    # Forcings and static fields are common to all.
    assert "sample" not in whole["land_sea_mask"].dims


def test_noise_is_the_same_in_all_input_frames(weather, scales, inputs):
    whole = _members(weather, scales, _config("gaussian"), range(2))
    change = (whole["2m_temperature"][1] - inputs["2m_temperature"]).values
    np.testing.assert_allclose(change[:, 0], change[:, 1], atol=1e-4)


def test_humidity_stays_non_negative_where_noise_is_large(weather, scales):
    whole = _members(weather, scales, _config("gaussian", amplitude=50.0), range(3))
    assert float(whole["specific_humidity"].min()) == 0.0
    assert float(whole["2m_temperature"].min()) < 0.0
    for name in ("total_precipitation_6hr", "relative_humidity", "snow_depth"):
        assert perturbations.is_non_negative(name)
    assert not perturbations.is_non_negative("u_component_of_wind")


def test_bred_perturbations_have_the_amplitude_and_have_grown(weather, scales, inputs):
    model = _Growth()
    config = _config("bred", cycles=3, amplitude=0.01)
    whole = _members(weather, scales, config, range(3), model)
    # Perturbed and control, each once a cycle, for one step.
    assert model.calls == [(1, range(3), 1)] * 6
    names = perturbations.perturbed_names(inputs, TASK)
    change = (whole[names] - inputs[names]).isel(time=-1, sample=[1, 2])
    weights = sphere.latitude_weights(inputs["lat"].values)
    size = perturbations.scaled_norm(
        change.drop_vars("specific_humidity"), scales, weights
    )
    # Humidity apart, which clipping changes.
    assert ((size > 0.005) & (size < 0.015)).all()
    # The perturbation doubles within the input frames, as the model has it.
    ratio = (whole["2m_temperature"] - inputs["2m_temperature"])[1].std(["lat", "lon"])
    np.testing.assert_allclose(ratio[..., 1] / ratio[..., 0], 2, rtol=1e-2)


@pytest.mark.parametrize("kind", ["gaussian", "bred", "lagged"])
def test_no_members_are_an_error(kind, weather, scales):
    with pytest.raises(ValueError, match=r"numbers: range\(2, 2\) holds no member"):
        _members(weather, scales, _config(kind), range(2, 2))


def test_a_bred_perturbation_that_vanishes_is_an_error(weather, scales):
    class Forgets(_Growth):
        def predict(self, inputs, forcings, **settings):
            return super().predict(inputs, forcings, **settings) * 0.0

    with pytest.raises(ValueError, match="bred perturbations: their size is"):
        _members(weather, scales, _config("bred"), range(2), Forgets())


def test_lagged_members_are_forecasts_from_earlier_starts(weather, scales, inputs):
    whole = _members(weather, scales, _config("lagged"), range(3))
    name = "2m_temperature"
    truth = weather[name].values
    # Member 1: the frame at the start is a forecast from the one before.
    once = 270.0 + (truth[:, 5] - 270.0) * 2.0
    np.testing.assert_array_equal(whole[name][1][:, 0], truth[:, 5])
    np.testing.assert_allclose(whole[name][1][:, 1], once, rtol=1e-5)
    # Member 2: both frames are forecasts, one and two steps long.
    np.testing.assert_allclose(
        whole[name][2][:, 0], 270.0 + (truth[:, 4] - 270.0) * 2.0, rtol=1e-5
    )
    np.testing.assert_allclose(
        whole[name][2][:, 1], 270.0 + (truth[:, 4] - 270.0) * 4.0, rtol=1e-5
    )
    # Forced inputs are those of the start for every member.
    np.testing.assert_allclose(
        whole["day_progress_sin"].isel(time=-1).values.ravel()[-24:],
        inputs["day_progress_sin"].isel(time=-1).values.ravel()[-24:],
        atol=1e-6,
    )


def test_how_far_back_states_are_needed():
    assert members.steps_before(_config("gaussian"), 5) == 0
    assert members.steps_before(_config("bred", cycles=3), 5) == 3
    assert members.steps_before(_config("lagged"), 5) == 4
    assert members.steps_before(_config("lagged", control=False), 5) == 5


def test_the_key_of_a_start_depends_on_its_date_and_the_seed():
    keys = {
        tuple(np.asarray(perturbations.start_key(seed, start)).tolist())
        for seed in (0, 1)
        for start in (START, START + np.timedelta64(6, "h"), None)
    }
    assert len(keys) == 6


def test_missing_scales_and_levels_are_named(inputs, scales):
    key = jax.random.PRNGKey(0)
    with pytest.raises(ValueError, match="temperature: the statistics hold no"):
        perturbations.noise(
            inputs, TASK, scales.drop_vars("temperature"), key, _config()
        )
    with pytest.raises(ValueError, match="lack the levels 300 hPa"):
        perturbations.noise(inputs, TASK, scales.sel(level=[500, 850]), key, _config())


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "random"},
        {"amplitude": 0.0},
        {"correlation_length": -1.0},
        {"cycles": 0},
        {"amplitude": float("nan")},
    ],
)
def test_a_configuration_is_checked(settings):
    with pytest.raises(ValueError):
        rollout.PerturbationConfig(**settings)


@pytest.mark.parametrize("kind", ["gaussian", "spherical", "bred", "lagged"])
def test_a_description_says_what_was_done(kind):
    text = _config(kind).describe(4)
    assert kind in text and "4 members" in text and "member" in text


def test_keys_of_several_starts_are_those_of_each():
    starts = np.array(["1950-01-01T00", "2026-01-15T12"], "datetime64[ns]")
    keys = rollout.start_keys(4, starts)
    for key, start in zip(keys, starts):
        np.testing.assert_array_equal(key, rollout.start_key(4, start))
