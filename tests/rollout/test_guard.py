import functools
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from tests.rollout import models
from weatherlib import predictor_base, rollout, xarray_jax


class Planted(predictor_base.Predictor):
    """Persistence; one grid point of temperature gets worse with the hour of the sun.

    The sun tells the step, so that a value is planted at a step of our choice.
    """

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        last = inputs.drop_vars("sun").isel(time=[-1])
        last = last.assign_coords(time=targets_template.coords["time"])
        sun = forcings["sun"]
        spot = (inputs["lat"] == 0) & (inputs["lon"] == 90) & (inputs["level"] == 850)
        spot = xarray_jax.DataArray(jnp.asarray(spot.values), dims=spot.dims)
        return last.assign(t=last["t"] + sun.where(spot, 0.0))


def state(**changes):
    inputs = models.initial()
    inputs = inputs.rename(heat="t", wind="sea_surface_temperature").drop_vars("mask")
    inputs["t"] = inputs["t"] * 0 + 280
    inputs["sea_surface_temperature"] = inputs["sea_surface_temperature"] * 0 + 285
    return inputs.rename({**changes})


def suns(*values):
    inputs = models.initial()
    forcings = models.forcings(len(values), inputs)
    forcings["sun"].values[:] = values
    return forcings


@functools.cache
def forecaster(**settings):
    return rollout.Forecaster(Planted, {}, **settings)


BOUNDS = {"t": (150.0, 360.0)}


@pytest.mark.parametrize("per_chunk", [1, 2])
@pytest.mark.parametrize(
    ("planted", "text"),
    [
        (np.nan, "1 values are NaN or infinite"),
        (np.inf, "1 values are NaN or infinite"),
        (500.0, "1 values are outside 150 to 360"),
        (-500.0, "1 values are outside 150 to 360"),
    ],
)
def test_a_broken_field_is_named_with_level_step_and_place(planted, text, per_chunk):
    guard = rollout.Guard(bounds=BOUNDS, on_violation="raise")
    with pytest.raises(rollout.GuardError) as caught:
        forecaster(num_steps_per_chunk=per_chunk).predict(
            state(), suns(0, 0, planted, 0), steps=4, guard=guard
        )
    message = str(caught.value)
    assert message.startswith("t at 850 hPa, step 3 (lead time 18 h)")
    assert text in message
    assert "lat 0, lon 90" in message


def test_extremes_of_the_field_are_told():
    guard = rollout.Guard(bounds=BOUNDS, on_violation="raise")
    with pytest.raises(rollout.GuardError, match="min 280, max 780"):
        forecaster().predict(state(), suns(500), steps=1, guard=guard)


def test_a_warning_is_given_once_per_variable_and_level():
    guard = rollout.Guard(bounds=BOUNDS)
    with pytest.warns(rollout.GuardWarning, match="t at 850 hPa, step 2") as caught:
        found = forecaster().predict(state(), suns(0, 500, 1, 1), steps=4, guard=guard)
    assert len(caught) == 1
    assert found.sizes["time"] == 4


def test_fields_that_go_wrong_together_make_one_warning():
    names = [f"field_{letter}" for letter in "abcde"]
    guard = rollout.Guard()
    broken = [_broken(name) for name in names]
    with pytest.warns(rollout.GuardWarning) as caught:
        guard.report(broken, set())
    (message,) = [str(warning.message) for warning in caught]
    assert all(name in message for name in names[:3])
    assert names[3] not in message and message.endswith("; and 2 more fields")
    known = {(name, None) for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard.report(broken, known)


def _broken(name):
    return rollout.Violation(
        variable=name,
        level=None,
        step=1,
        lead_time=np.timedelta64(6, "h"),
        member=None,
        low=2.0,
        high=2.0,
        lost=0,
        outside=1,
        bounds=(0.0, 1.0),
        point={"lat": 0.0, "lon": 0.0},
    )


def test_bounds_of_the_vocabulary_are_watched_by_default():
    inputs = state(t="temperature")
    heat = xarray.where(inputs["level"] == 500, 500, 0)
    broken = inputs.assign(temperature=inputs["temperature"] + heat)
    with pytest.warns(rollout.GuardWarning, match="temperature at 500 hPa, step 1"):
        rollout.Forecaster(models.Persistence, {}).predict(broken, suns(0), steps=1)


def test_no_guard_and_an_ignoring_one_say_nothing():
    for guard in (None, rollout.Guard(bounds=BOUNDS, on_violation="ignore")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = forecaster().predict(state(), suns(500), steps=1, guard=guard)
        assert not caught
        # The value that others complain about is there, as it was predicted.
        assert found["t"].max() == 780


def test_an_unknown_variable_is_checked_for_nan_only():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecaster().predict(state(), suns(1e6), steps=1)
    with pytest.warns(rollout.GuardWarning, match="NaN"):
        forecaster().predict(state(), suns(np.nan), steps=1)


@pytest.mark.parametrize("frame", [0, 1])
def test_nans_of_the_inputs_are_expected_where_they_were(frame):
    inputs = state()
    sea = inputs["sea_surface_temperature"].copy()
    sea[:, frame, 0, :2] = np.nan
    holed = inputs.assign(sea_surface_temperature=sea)
    # Each step is NaN where either of the frames before it is.
    mixing = rollout.Forecaster(models.Linear, models.params(value=0.5))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = mixing.predict(holed, suns(0, 0, 0), steps=3)
    assert not caught
    lost = np.isnan(found["sea_surface_temperature"].transpose("time", "batch", ...))
    expected = np.zeros((3, 1, 3, 4), bool)
    expected[:, :, 0, :2] = True
    np.testing.assert_array_equal(lost, expected)


def test_infinite_inputs_are_not_expected():
    inputs = state()
    sea = inputs["sea_surface_temperature"].copy()
    sea[:, :, 0, 0] = np.inf
    with pytest.warns(rollout.GuardWarning, match="sea_surface_temperature, step 1"):
        forecaster().predict(
            inputs.assign(sea_surface_temperature=sea), suns(0), steps=1
        )


def test_only_every_nth_step_and_the_last_are_looked_at():
    inputs = state()
    for values, noticed in (((0, 500, -500, 0), 0), ((0, 0, 0, 500), 1)):
        writer = models.ListWriter()
        summary = forecaster().run(
            inputs,
            writer,
            suns(*values),
            steps=4,
            guard=rollout.Guard(bounds=BOUNDS, on_violation="ignore", check_every=3),
        )
        assert len(summary.violations) == noticed


def test_violations_are_reported_in_full():
    summary = forecaster(num_steps_per_chunk=2).run(
        state(),
        models.ListWriter(),
        suns(0, 0, 500),
        steps=3,
        guard=rollout.Guard(bounds=BOUNDS, on_violation="ignore"),
    )
    (violation,) = summary.violations
    assert (violation.variable, violation.level, violation.step) == ("t", 850, 3)
    assert violation.lead_time == np.timedelta64(18, "h")
    assert violation.point == {"lat": 0.0, "lon": 90.0}
    assert (violation.low, violation.high) == (280, 780)
    assert (violation.lost, violation.outside) == (0, 1)
    assert violation.member is None


def test_the_member_is_told():
    guard = rollout.Guard(bounds=BOUNDS, on_violation="ignore")
    forcings = xarray.concat([suns(0), suns(500), suns(0)], "sample")
    for per_batch in (1, 2):
        summary = forecaster(members_per_batch=per_batch).run(
            state(), models.ListWriter(), forcings, steps=1, guard=guard
        )
        (violation,) = summary.violations
        assert violation.member == 1
        assert "member 1" in str(violation)


def test_an_error_ends_the_file_before_the_broken_chunk():
    writer = models.ListWriter()
    guard = rollout.Guard(bounds=BOUNDS, on_violation="raise")
    with pytest.raises(rollout.GuardError, match="step 3"):
        forecaster().run(state(), writer, suns(0, 0, 500, 0), steps=4, guard=guard)
    assert writer.frames_written == 2


def test_other_bounds_need_no_new_trace():
    own = rollout.Forecaster(Planted, {})
    for high in (300.0, 400.0):
        guard = rollout.Guard(bounds={"t": (0.0, high)})
        own.predict(state(), suns(0), steps=1, guard=guard)
    assert own.traces == 1


def test_a_field_without_any_number_says_so():
    inputs = state()
    guard = rollout.Guard(on_violation="raise")
    with pytest.raises(rollout.GuardError, match="no finite value left"):
        rollout.Forecaster(_Nothing, {}).predict(inputs, suns(0), steps=1, guard=guard)


class _Nothing(models.Persistence):
    def __call__(self, inputs, targets_template, forcings, **kwargs):
        return super().__call__(inputs, targets_template, forcings) * np.nan


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_violation": "panic"}, "must be 'warn', 'raise' or 'ignore'"),
        ({"check_every": 0}, "check_every must be at least 1"),
        ({"bounds": {"t": (2.0, 1.0)}}, "bounds of t must ascend"),
    ],
)
def test_settings_that_cannot_work_say_why(settings, message):
    with pytest.raises(ValueError, match=message):
        rollout.Guard(**settings)
