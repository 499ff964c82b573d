import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rollout import models
from weatherlib import autoregressive, predictor_base, rollout, task, xarray_jax
from weatherlib.nn import prepared

KEY = jax.random.PRNGKey(3)


@pytest.fixture
def inputs():
    return models.initial()


@pytest.fixture(scope="module")
def shared():
    return rollout.Forecaster(models.Linear, models.params())


@pytest.fixture
def forecaster():
    return rollout.Forecaster(models.Linear, models.params())


@functools.cache
def noisy(**settings):
    make = functools.partial(models.Linear, noise=1.0)
    return rollout.Forecaster(make, models.params(), **settings)


@given(
    steps=st.integers(1, 7),
    per_chunk=st.integers(1, 4),
    frames=st.integers(1, 3),
    batch=st.integers(1, 2),
)
@settings(max_examples=5, deadline=None)
def test_any_chunks_give_the_published_forecast(steps, per_chunk, frames, batch):
    inputs = models.initial(frames, batch)
    template, forcings = models.targets(steps, inputs), models.forcings(steps, inputs)
    parameters = models.params(frames)
    expected = rollout.chunked_prediction(
        models.predictor_fn(models.Linear(), parameters),
        KEY,
        inputs,
        template,
        forcings,
    )
    found = rollout.Forecaster(
        models.Linear, parameters, num_steps_per_chunk=per_chunk
    ).predict(inputs, forcings, targets_template=template)
    for name in ("heat", "wind"):
        assert found[name].dims == template[name].dims
        np.testing.assert_allclose(
            found[name], expected[name].transpose(*found[name].dims), rtol=1e-5
        )
    xarray.testing.assert_equal(found.time, template.time)
    xarray.testing.assert_equal(found["datetime"], template["datetime"])


def test_results_carry_attributes_and_are_plain_numpy(inputs, shared):
    found = shared.predict(inputs, models.forcings(2, inputs), steps=2)
    assert found["heat"].attrs == {"units": "K"}
    assert isinstance(found["heat"].data, np.ndarray)


def test_equal_shapes_are_traced_once(inputs):
    make = functools.partial(models.Linear, noise=1.0)
    forecaster = rollout.Forecaster(make, models.params(), num_steps_per_chunk=2)
    for steps, start in ((3, "2020-01-01"), (8, "1999-07-03"), (1, "2021-01-01")):
        state = models.initial(start=np.datetime64(start, "ns"), seed=steps)
        forecaster.predict(state, models.forcings(steps, state), steps=steps, rng=steps)
    assert forecaster.traces == 1
    for members in (2, 3):
        forcings = models.forcings(3, inputs)
        forecaster.predict(inputs, forcings, steps=3, members=members)
    assert forecaster.traces == 2
    assert forecaster.compile_seconds > 0


def test_new_parameters_need_no_new_trace(inputs, forecaster):
    forcings = models.forcings(2, inputs)
    before = forecaster.predict(inputs, forcings, steps=2)
    forecaster.update(models.params(value=0.1))
    after = forecaster.predict(inputs, forcings, steps=2)
    fresh = rollout.Forecaster(models.Linear, models.params(value=0.1))
    xarray.testing.assert_equal(after, fresh.predict(inputs, forcings, steps=2))
    assert forecaster.traces == 1
    assert not before.equals(after)


def test_parameters_of_another_type_are_compiled_anew(inputs):
    own = rollout.Forecaster(models.Linear, models.params())
    forcings = models.forcings(1, inputs)
    before = own.predict(inputs, forcings, steps=1)
    own.update(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), models.params()))
    after = own.predict(inputs, forcings, steps=1)
    assert own.traces == 2
    np.testing.assert_allclose(before["wind"], after["wind"], rtol=0.02, atol=0.02)


def test_inputs_stay_as_they_were(inputs):
    forecaster = rollout.Forecaster(models.Linear, models.params())
    before = inputs.copy(deep=True)
    forcings = models.forcings(3, inputs)
    expected = forecaster.predict(inputs, forcings, steps=3)
    xarray.testing.assert_identical(inputs, before)
    on_device = xarray.Dataset(
        {
            name: xarray_jax.Variable(array.dims, jnp.asarray(array.data))
            for name, array in inputs.items()
        },
        inputs.coords,
    )
    for _ in range(2):
        found = forecaster.predict(on_device, forcings, steps=3)
        np.testing.assert_array_equal(found["wind"], expected["wind"])


class TestRandomNumbers:
    def test_step_k_draws_from_the_key_folded_with_k(self, inputs):
        found = noisy(num_steps_per_chunk=2).predict(
            inputs.drop_vars("sun"), steps=3, rng=KEY
        )
        quiet = rollout.Forecaster(models.Linear, models.params(value=0.0))
        base = quiet.predict(inputs.drop_vars("sun"), steps=1)["wind"]
        apply = hk.transform(lambda: [hk.next_rng_key() for _ in range(2)]).apply
        rollout_by_hand = [inputs["wind"].isel(time=i).values for i in (0, 1)]
        for step in range(3):
            keys = apply({}, jax.random.fold_in(KEY, step))
            noise = models.number_of(keys[1])
            following = 0.45 * sum(rollout_by_hand[-2:]) + base.values[0] + noise
            rollout_by_hand.append(np.asarray(following))
            np.testing.assert_allclose(
                found["wind"].isel(time=step), following, rtol=1e-4, atol=1e-5
            )

    @pytest.mark.parametrize("per_chunk", [2, 3])
    def test_chunks_do_not_change_them(self, inputs, per_chunk):
        forcings = models.forcings(5, inputs)
        one = noisy().predict(inputs, forcings, steps=5, rng=1)
        more = noisy(num_steps_per_chunk=per_chunk).predict(
            inputs, forcings, steps=5, rng=1
        )
        np.testing.assert_allclose(one["heat"], more["heat"], rtol=1e-5, atol=1e-6)

    def test_a_seed_a_key_and_a_typed_key_mean_the_same(self, inputs):
        forcings = models.forcings(2, inputs)
        found = [
            noisy().predict(inputs, forcings, steps=2, rng=rng)["wind"].values
            for rng in (7, jax.random.PRNGKey(7), jax.random.key(7), None)
        ]
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])
        assert not np.array_equal(found[0], found[3])

    def test_members_draw_from_the_key_folded_with_their_number(self, inputs):
        forcings = models.forcings(3, inputs)
        many = noisy(num_steps_per_chunk=2).predict(
            inputs, forcings, steps=3, rng=KEY, members=3
        )
        assert many["wind"].dims == ("sample", "batch", "time", "lat", "lon")
        np.testing.assert_array_equal(many.sample, [0, 1, 2])
        for member in range(3):
            alone = noisy().predict(
                inputs, forcings, steps=3, rng=jax.random.fold_in(KEY, member)
            )
            np.testing.assert_allclose(
                many["heat"].isel(sample=member), alone["heat"], rtol=1e-5, atol=1e-6
            )

    @pytest.mark.parametrize("per_batch", [2, 3, 8])
    def test_members_computed_together_are_those_computed_alone(
        self, inputs, per_batch
    ):
        forcings = models.forcings(2, inputs)
        alone, together = (
            noisy(members_per_batch=size).predict(
                inputs, forcings, steps=2, rng=KEY, members=3
            )
            for size in (1, per_batch)
        )
        np.testing.assert_allclose(
            alone["heat"], together["heat"], rtol=1e-5, atol=1e-6
        )


class TestSeveralFramesAStep:
    def make(self, **settings):
        make = functools.partial(models.Linear, frames_per_step=2)
        return rollout.Forecaster(make, models.params(3), **settings)

    @pytest.mark.parametrize("per_chunk", [1, 2])
    def test_the_window_moves_on_by_all_of_them(self, per_chunk):
        inputs = models.initial(3)
        forcings = models.forcings(6, inputs)
        forecaster = self.make(num_steps_per_chunk=per_chunk)
        assert forecaster.frames_per_step == 2
        found = forecaster.predict(inputs, forcings, steps=3)
        predict = models.predictor_fn(
            models.Linear(frames_per_step=2), models.params(3)
        )
        expected = rollout.chunked_prediction(
            predict,
            KEY,
            inputs,
            models.targets(6, inputs),
            forcings,
            num_steps_per_chunk=2,
        )
        assert found.sizes["time"] == 6
        np.testing.assert_allclose(
            found["wind"], expected["wind"].transpose("batch", "time", ...), rtol=1e-5
        )

    def test_a_template_that_ends_within_a_step_is_refused(self):
        inputs = models.initial(3)
        with pytest.raises(ValueError, match=r"has 5 times.*2 frame"):
            self.make().predict(inputs, targets_template=models.targets(5, inputs))


class TestForcings:
    def test_a_function_is_asked_for_the_frames_of_each_chunk_only(self, inputs):
        whole = models.forcings(5, inputs)
        asked = []

        def forcings(start, stop):
            asked.append((start, stop))
            return whole.isel(time=slice(start, stop))

        forecaster = rollout.Forecaster(
            models.Linear, models.params(), num_steps_per_chunk=2
        )
        found = forecaster.predict(inputs, forcings, steps=5)
        assert asked == [(0, 1), (0, 2), (2, 4), (4, 5)]
        xarray.testing.assert_equal(found, forecaster.predict(inputs, whole, steps=5))

    def test_one_without_a_time_is_repeated(self, inputs, shared):
        constant = xarray.Dataset({"sun": ("batch", np.ones(1, np.float32))})
        varying = models.forcings(3, inputs) * 0 + 1
        found, expected = (
            shared.predict(inputs, forcings, steps=3)
            for forcings in (constant, varying)
        )
        xarray.testing.assert_equal(found, expected)

    def test_a_chunk_is_handed_on_before_those_of_the_next_one_fail(self, inputs):
        whole = models.forcings(3, inputs)

        def forcings(start, stop):
            if start == 2:
                raise OSError("server gone")
            return whole.isel(time=slice(start, stop))

        chunks = rollout.Forecaster(models.Linear, models.params()).stream(
            inputs, forcings, steps=3
        )
        assert [next(chunks).sizes["time"] for _ in range(2)] == [1, 1]
        with pytest.raises(OSError, match="server gone"):
            next(chunks)

    def test_a_function_that_returns_too_few_frames_is_an_error(self, inputs, shared):
        whole = models.forcings(3, inputs)
        with pytest.raises(ValueError, match="end too early: frames 3 to 3"):
            shared.predict(
                inputs, lambda start, stop: whole.isel(time=slice(start, stop)), steps=4
            )

    def test_a_function_that_loses_a_variable_is_an_error(self, inputs, shared):
        whole = models.forcings(3, inputs)

        def forcings(start, stop):
            part = whole.isel(time=slice(start, stop))
            return part if start == 0 else part.drop_vars("sun")

        with pytest.raises(ValueError, match="lack sun at some times"):
            shared.predict(inputs, forcings, steps=4)


def _uneven(i, t, f):
    times = models.STEP * np.array([1, 2, 4])
    return {"inputs": i, "forcings": f, "targets_template": t.assign_coords(time=times)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_uneven, "targets template must follow the inputs at even steps"),
        (
            lambda i, t, f: {
                "inputs": i,
                "forcings": f.assign_coords(time=f.time.values + models.STEP),
                "steps": 3,
            },
            "forcings must follow the inputs.*number 0 is at lead time 0 days 12",
        ),
        (
            lambda i, t, f: {"inputs": i, "forcings": f, "steps": 4},
            "3 times, too few for a forecast of 4 frames",
        ),
        (
            lambda i, t, f: {
                "inputs": i,
                "forcings": f,
                "targets_template": t[["heat"]],
            },
            "not predicted or forced: wind",
        ),
        (lambda i, t, f: {"inputs": i, "forcings": f, "steps": 0}, "at least 1"),
        (lambda i, t, f: {"inputs": i, "forcings": f}, "give steps"),
        (
            lambda i, t, f: {
                "inputs": i,
                "forcings": f,
                "steps": 5,
                "targets_template": t,
            },
            "template holds 1 to 3",
        ),
        (
            lambda i, t, f: {
                "inputs": i.isel(time=-1).drop_vars("time"),
                "forcings": f,
                "steps": 1,
            },
            "no state to start from",
        ),
        (
            lambda i, t, f: {"inputs": i.isel(time=[-1]), "forcings": f, "steps": 1},
            "single input frame does not show the time step",
        ),
        (
            lambda i, t, f: {
                "inputs": i.assign_coords(time=i.time.values * 0),
                "forcings": f,
                "steps": 1,
            },
            "must ascend",
        ),
        (
            lambda i, t, f: {
                "inputs": i,
                "forcings": f,
                "targets_template": t.isel(lat=slice(None, None, -1)),
            },
            "lat: the inputs and the targets template differ",
        ),
        (
            lambda i, t, f: {
                "inputs": i,
                "forcings": f.assign_coords(lat=-i.lat),
                "steps": 1,
            },
            "lat: the inputs and the forcings differ",
        ),
        (
            lambda i, t, f: {
                "inputs": i,
                "forcings": f,
                "targets_template": t.assign(mask=i["mask"]),
            },
            "without a time dimension: .*mask",
        ),
        (
            lambda i, t, f: {
                "inputs": i.expand_dims(sample=2),
                "forcings": f,
                "steps": 1,
                "members": 3,
            },
            "members is 3, but the inputs have 2",
        ),
        (
            lambda i, t, f: {"inputs": i, "forcings": f, "steps": 1, "members": 0},
            "members must be at least 1",
        ),
        (
            lambda i, t, f: {
                "inputs": i.assign(name=(("lat",), np.array(["a", "b", "c"]))),
                "forcings": f,
                "steps": 1,
            },
            "name: expected numbers",
        ),
    ],
)
def test_requests_that_cannot_work_say_why(inputs, shared, change, message):
    arguments = change(inputs, models.targets(3, inputs), models.forcings(3, inputs))
    with pytest.raises(ValueError, match=message):
        shared.predict(**arguments)


def test_a_single_step_may_lack_what_the_next_one_reads(inputs, shared):
    template = models.targets(1, inputs)[["heat"]]
    forcings = models.forcings(1, inputs)
    found = shared.predict(inputs, forcings, targets_template=template)
    assert list(found) == ["heat"]


def test_a_target_that_is_no_input_is_predicted_only(inputs, shared):
    template = models.targets(3, inputs)
    template = template.assign(rain=template["wind"])
    forcings = models.forcings(3, inputs)
    found = shared.predict(inputs, forcings, targets_template=template)
    np.testing.assert_allclose(
        found["rain"].isel(lat=0, lon=0).values, forcings["sun"].values, rtol=1e-6
    )


@pytest.mark.parametrize("name", ["num_steps_per_chunk", "members_per_batch"])
def test_settings_that_cannot_work_say_why(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        rollout.Forecaster(models.Linear, models.params(), **{name: 0})


class _Wrong(predictor_base.Predictor):
    def __init__(self, change):
        self.change = change

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        return self.change(models.Persistence()(inputs, targets_template, forcings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop_vars("wind"), "returned no wind; it predicts heat"),
        (lambda p: p.isel(lat=0), "returned heat with the dimensions"),
        (lambda p: p.isel(lat=[0]), "returned heat of shape"),
    ],
)
def test_a_predictor_that_returns_something_else_is_named(inputs, change, message):
    forecaster = rollout.Forecaster(lambda: _Wrong(change), {})
    with pytest.raises(ValueError, match=message):
        forecaster.predict(inputs, models.forcings(1, inputs), steps=1)


class _Static(predictor_base.Predictor):
    """Persistence plus a part that depends on the parameters only."""

    computed = 0

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        weight = hk.get_parameter("w", [2], init=jnp.ones)

        def compute():
            type(self).computed += 1
            return jnp.sum(weight**2) * np.arange(4, dtype=np.float32)

        part = prepared.once("squares", compute)
        predictions = models.Persistence()(inputs, targets_template, forcings)
        return predictions + xarray_jax.DataArray(part, dims=("lon",))


class TestPreparedParts:
    def test_they_are_computed_once_and_change_nothing(self, inputs):
        forcings = models.forcings(4, inputs)
        _Static.computed = 0
        forecaster = rollout.Forecaster(_Static, models.params())
        found = forecaster.predict(inputs, forcings, steps=4)
        forecaster.predict(inputs, forcings, steps=3)
        shapes_and_pass = 2
        assert _Static.computed <= shapes_and_pass
        expected = rollout.Forecaster(_Static, models.params(), prepare=False).predict(
            inputs, forcings, steps=4
        )
        xarray.testing.assert_equal(found, expected)

    def test_they_follow_new_parameters(self, inputs):
        forcings = models.forcings(1, inputs)
        forecaster = rollout.Forecaster(_Static, models.params(value=1.0))
        first = forecaster.predict(inputs, forcings, steps=1)
        forecaster.update(models.params(value=2.0))
        second = forecaster.predict(inputs, forcings, steps=1)
        added = (second - first)["wind"].isel(lat=0, time=0, batch=0)
        np.testing.assert_allclose(added, 6.0 * np.arange(4), rtol=1e-6)


def test_parameters_and_parts_are_arguments_of_the_executable(inputs):
    width = 4096

    class Wide(predictor_base.Predictor):
        def __call__(self, inputs, targets_template, forcings, **kwargs):
            weight = hk.get_parameter("w", [width], init=jnp.ones)
            part = prepared.once("part", lambda: jnp.arange(width) * weight)
            predictions = models.Persistence()(inputs, targets_template, forcings)
            return predictions + xarray_jax.DataArray(part.sum(), dims=())

    forecaster = rollout.Forecaster(Wide, {"~": {"w": jnp.ones(width)}})
    report = forecaster.fits(inputs, models.forcings(1, inputs), steps=1, compiled=True)
    assert report.parts["parameters"] == 4 * width
    assert report.parts["prepared parts"] == 4 * width


def test_state_is_the_same_at_each_step(inputs):
    class Counting(predictor_base.Predictor):
        def __call__(self, inputs, targets_template, forcings, **kwargs):
            count = hk.get_state("count", [], init=jnp.zeros)
            hk.set_state("count", count + 1)
            predictions = models.Persistence()(inputs, targets_template, forcings)
            return predictions * 0 + xarray_jax.DataArray(count, dims=())

    forecaster = rollout.Forecaster(Counting, {}, {"~": {"count": jnp.float32(5)}})
    found = forecaster.predict(inputs, models.forcings(3, inputs), steps=3)
    np.testing.assert_array_equal(found["wind"], 5.0)


def test_autoregressive_predictors_roll_out_to_the_same_forecast(inputs):
    forcings, template = models.forcings(4, inputs), models.targets(4, inputs)
    whole = models.predictor_fn(
        autoregressive.Predictor(models.Linear()), models.params()
    )(KEY, inputs.drop_vars("datetime"), template.drop_vars("datetime"), forcings)
    found = rollout.Forecaster(
        models.Linear, models.params(), num_steps_per_chunk=4
    ).predict(inputs, forcings, steps=4)
    np.testing.assert_allclose(
        found["heat"],
        np.asarray(
            xarray_jax.unwrap_data(whole["heat"].transpose("batch", "time", ...))
        ),
        rtol=1e-5,
    )


def test_with_a_task_targets_and_forcings_follow_from_the_state():
    config = task.TaskConfig(
        input_variables=("heat", "mask", "day_progress_sin"),
        target_variables=("heat",),
        forcing_variables=("day_progress_sin",),
        pressure_levels=(500, 850),
        input_duration="12h",
    )
    make = functools.partial(models.Linear, forcing="day_progress_sin")
    forecaster = rollout.Forecaster(make, models.params(), task=config)
    state = models.initial(frames=3).drop_vars("sun")
    found = forecaster.predict(state, steps=3)
    assert list(found) == ["heat"]
    assert found["datetime"].values[0, -1] == models.START + 3 * models.STEP
    assert np.isfinite(found["heat"].values).all()


def test_the_compilation_cache_keeps_executables(inputs, tmp_path):
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[1], 0)
    try:
        forecaster = rollout.Forecaster(
            models.Linear, models.params(), compilation_cache=tmp_path / "cache"
        )
        forecaster.predict(inputs, models.forcings(1, inputs), steps=1)
        assert list((tmp_path / "cache").iterdir())
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_streams_check_the_request_before_the_first_chunk(inputs, shared):
    with pytest.raises(ValueError, match="give steps"):
        shared.stream(inputs, models.forcings(1, inputs))


def test_memory_does_not_grow_with_the_number_of_steps(inputs, shared):
    counts = []
    chunks = shared.stream(inputs, models.forcings(12, inputs), steps=12)
    for chunk in chunks:
        del chunk
        counts.append(len(jax.live_arrays()))
    assert counts[-3] <= counts[2]
