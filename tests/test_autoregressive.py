"""Feeding predictions back: equal to a plain loop, and clear about what cannot be."""

import logging

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from tests import toy
from weatherlib import (
    autoregressive,
    casting,
    losses,
    normalization,
    predictor_base,
    xarray_jax,
)
from weatherlib.autoregressive import loop

RADIATION = "toa_incident_solar_radiation"
RAIN = "total_precipitation_6hr"


def wrapped(frames_per_step=1, **kwargs):
    return autoregressive.Predictor(toy.ToyPredictor(frames_per_step), **kwargs)


def plain_loop(data, frames_per_step):
    """Returns the predictions of each step, made one by one with xarray."""
    inputs, targets, forcings = (d.drop_vars("datetime") for d in data)
    predictor = toy.transformed(lambda: toy.ToyPredictor(frames_per_step))
    moving = [name for name in inputs if "time" in inputs[name].dims]
    first = targets.isel(time=slice(0, frames_per_step))
    predictions = []
    for start in range(0, targets.sizes["time"], frames_per_step):
        step = slice(start, start + frames_per_step)
        forced = forcings.isel(time=step).assign_coords(time=first["time"])
        step_predictions = predictor.apply(
            toy.parameters(), None, inputs, first, forced
        )
        predictions.append(step_predictions.assign_coords(time=targets["time"][step]))
        new = xr.merge([step_predictions, forced])[moving]
        window = xr.concat([inputs[moving], new], "time")
        window = window.isel(time=slice(-inputs.sizes["time"], None))
        inputs = inputs.assign(window.assign_coords(time=inputs["time"]))
    return xr.concat(predictions, "time")


@pytest.mark.parametrize(
    ("steps", "past", "frames_per_step", "batch"),
    [(1, 2, 1, 1), (4, 2, 1, 2), (3, 1, 1, 1), (2, 3, 2, 1), (3, 2, 4, 2)],
)
def test_predictions_are_those_of_a_plain_loop(steps, past, frames_per_step, batch):
    data = toy.example(steps * frames_per_step, past=past, batch=batch, seed=steps)
    predictions = toy.run(lambda: wrapped(frames_per_step), data)
    expected = plain_loop(data, frames_per_step)
    assert set(predictions) == set(data[1])
    for name in expected:
        assert predictions[name].dims[:2] == ("time", "batch")
        np.testing.assert_allclose(
            predictions[name].transpose(*expected[name].dims),
            expected[name],
            rtol=1e-5,
            atol=1e-6,
        )
    xr.testing.assert_equal(
        predictions.coords.to_dataset(), data[1].coords.to_dataset()
    )


def test_the_order_of_dimensions_does_not_matter():
    data = toy.example(3)
    expected = toy.run(wrapped, data)
    turned = [d.transpose("lon", "time", "lat", ..., "batch") for d in (data[0],)]
    turned += [d.transpose("lat", "batch", ..., "time", "lon") for d in data[1:]]
    predictions = toy.run(wrapped, turned)
    for name in expected:
        actual = predictions[name].transpose(*expected[name].dims)
        np.testing.assert_allclose(actual, expected[name], rtol=1e-5, atol=1e-6)


def test_the_values_of_the_template_are_not_read():
    inputs, targets, forcings = toy.example(3)
    expected = toy.run(wrapped, (inputs, targets, forcings))
    predictions = toy.run(wrapped, (inputs, targets * np.nan, forcings))
    xr.testing.assert_equal(predictions, expected)


def test_parameters_do_not_depend_on_the_number_of_steps():
    bare = toy.initialised(toy.ToyPredictor, toy.example(1))
    assert jax.tree.leaves(bare)
    for steps in (1, 3):
        params = toy.initialised(wrapped, toy.example(steps))
        jax.tree.map(np.testing.assert_array_equal, params, bare)


def test_each_step_sees_the_lead_times_of_the_first_and_no_dates():
    seen = []

    class Recorder(toy.ToyPredictor):
        def __call__(self, inputs, targets_template, forcings, **kwargs):
            seen.append((inputs, targets_template, forcings, kwargs))
            return super().__call__(inputs, targets_template, forcings)

    data = toy.example(4)
    make = lambda: autoregressive.Predictor(Recorder())  # noqa: E731
    toy.run(make, data, key="value")
    assert len(seen) == 1, "the step must be traced once, whatever its number"
    inputs, template, forcings, kwargs = seen[0]
    assert kwargs == {"key": "value"}
    hours = [d["time"].values / np.timedelta64(1, "h") for d in seen[0][:3]]
    assert [h.tolist() for h in hours] == [[-6, 0], [6], [6]]
    assert set(inputs) == set(data[0])
    assert set(template) == set(data[1])
    for dataset, before in zip((inputs, template, forcings), data):
        assert "datetime" not in dataset.coords
        for name in before:
            assert dataset[name].dims == before[name].dims


def test_only_what_is_fed_back_is_carried_from_step_to_step():
    inputs, targets, forcings = toy.example(3)
    # One target that is not an input, and one input that does not move.
    carried = loop.Loop.make(inputs, targets, forcings, 1).window(inputs)
    assert set(carried) == {"geopotential", "2m_temperature", RADIATION}
    for name, array in carried.items():
        assert array.shape == inputs[name].shape


def test_a_single_step_needs_no_loop():
    data = toy.example(1)
    function = toy.transformed(wrapped)
    jaxpr = jax.make_jaxpr(function.apply)(
        toy.parameters(), jax.random.PRNGKey(0), *data
    )
    assert not [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]


@pytest.mark.parametrize("method", ["loss", "loss_and_predictions"])
@pytest.mark.parametrize("frames_per_step", [1, 2])
def test_the_loss_is_the_mean_over_steps(method, frames_per_step):
    steps = 3
    data = toy.example(steps * frames_per_step)
    targets = data[1]
    make = lambda: wrapped(frames_per_step)  # noqa: E731
    result = toy.run(make, data, method=method)
    loss, diagnostics = result if method == "loss" else result[0]
    predictions = plain_loop(data, frames_per_step)
    parts = []
    for start in range(0, steps * frames_per_step, frames_per_step):
        step = {"time": slice(start, start + frames_per_step)}
        parts.append(
            losses.weighted_mse_per_level(
                predictions.isel(step), targets.isel(step), {"2m_temperature": 0.1}
            )
        )
    assert loss.dims == ("batch",)
    np.testing.assert_allclose(
        loss, np.mean([part[0] for part in parts], axis=0), rtol=1e-4
    )
    assert isinstance(diagnostics, xr.Dataset)
    for name in targets:
        expected = np.mean([part[1][name] for part in parts], axis=0)
        np.testing.assert_allclose(diagnostics[name], expected, rtol=1e-4)
    if method == "loss_and_predictions":
        for name in targets:
            actual = result[1][name].transpose(*predictions[name].dims)
            np.testing.assert_allclose(actual, predictions[name], rtol=1e-4, atol=1e-5)
        assert "datetime" in result[1].coords


def test_the_loss_of_one_step_is_left_to_the_wrapped_predictor():
    make = lambda: autoregressive.Predictor(toy.LossOnlyPredictor())  # noqa: E731
    data = toy.example(1)
    loss, _ = toy.run(make, data, method="loss")
    expected = toy.run(toy.LossOnlyPredictor, data, method="loss")[0]
    np.testing.assert_array_equal(loss, expected)
    with pytest.raises(NotImplementedError):
        toy.run(make, toy.example(2), method="loss")


def test_the_loss_and_predictions_of_one_step_are_those_of_the_wrapped_predictor():
    data = toy.example(2)
    make = lambda: wrapped(2)  # noqa: E731
    ((loss, _), predictions) = toy.run(make, data, method="loss_and_predictions")
    (expected, _), expected_predictions = toy.run(
        lambda: toy.ToyPredictor(2), data, method="loss_and_predictions"
    )
    np.testing.assert_array_equal(loss, expected)
    xr.testing.assert_equal(predictions, expected_predictions)


def test_diagnostics_come_back_in_the_kind_of_container_they_came_in():
    class Plain(toy.ToyPredictor):
        def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
            (loss, _), predictions = super().loss_and_predictions(
                inputs, targets, forcings
            )
            return (loss, {"one": loss, "two": loss.mean(skipna=False)}), predictions

    make = lambda: autoregressive.Predictor(Plain())  # noqa: E731
    loss, diagnostics = toy.run(make, toy.example(2), method="loss")
    assert type(diagnostics) is dict
    np.testing.assert_array_equal(diagnostics["one"], loss)
    assert diagnostics["two"].dims == ()
    np.testing.assert_allclose(diagnostics["two"], loss.mean(), rtol=1e-6)


def gradients(make, data):
    function = toy.transformed(make, "loss")

    @jax.jit
    @jax.grad
    def gradient(params):
        loss, _ = function.apply(params, jax.random.PRNGKey(1), *data)
        return jnp.mean(xarray_jax.unwrap_data(loss))

    return gradient(toy.parameters())


def test_gradient_checkpointing_changes_no_gradient():
    data = toy.example(3)
    expected = gradients(wrapped, data)
    actual = gradients(lambda: wrapped(gradient_checkpointing=True), data)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        assert np.abs(e).max() > 0
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["__call__", "loss"])
def test_gradient_checkpointing_computes_steps_again(method):
    data = toy.example(3)
    make = lambda: wrapped(gradient_checkpointing=True)  # noqa: E731
    function = toy.transformed(make, method)
    jaxpr = str(
        jax.make_jaxpr(function.apply)(toy.parameters(), jax.random.PRNGKey(0), *data)
    )
    assert "remat" in jaxpr or "checkpoint" in jaxpr


def test_gradient_checkpointing_of_a_single_step_is_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        toy.run(lambda: wrapped(gradient_checkpointing=True), toy.example(1))
    assert "single step needs no gradient checkpointing" in caplog.text


def test_noise_is_added_to_the_inputs_of_the_first_of_several_steps_only():
    data = toy.example(2)
    function = toy.transformed(lambda: wrapped(noise_level=0.5), "loss")
    disturbed = jax.jit(lambda key: function.apply(toy.parameters(), key, *data)[0])
    keys = [jax.random.PRNGKey(seed) for seed in range(2)]
    first = disturbed(keys[0])
    np.testing.assert_array_equal(disturbed(keys[0]), first)
    assert np.abs(disturbed(keys[1]) - first).max() > 1e-4
    # The published order of keys: one for each moving input, by name.
    sequence = hk.PRNGSequence(keys[0])
    inputs = data[0].copy()
    for name in sorted(inputs.drop_vars("land_sea_mask")):
        noise = jax.random.normal(next(sequence), inputs[name].shape)
        inputs[name] = inputs[name] + 0.5 * np.asarray(noise)
    expected = toy.run(wrapped, (inputs, *data[1:]), method="loss")[0]
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    undisturbed = toy.run(wrapped, data, method="loss")[0]
    assert np.abs(first - undisturbed).max() > 1e-4


def test_noise_is_not_added_to_predictions_or_to_a_single_step():
    noisy = lambda: wrapped(noise_level=0.5)  # noqa: E731
    for method, steps in (("__call__", 3), ("loss", 1)):
        data = toy.example(steps)
        expected = toy.run(wrapped, data, method=method)
        actual = toy.run(noisy, data, method=method)
        jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_random_predictors_draw_a_new_key_at_each_step():
    class Random(predictor_base.Predictor):
        def __call__(self, inputs, targets_template, forcings, **kwargs):
            return targets_template.map(
                lambda array: xarray_jax.DataArray(
                    jax.random.normal(hk.next_rng_key(), array.shape), dims=array.dims
                )
            ).assign_coords(time=targets_template["time"])

    inputs, targets, forcings = toy.example(3)
    data = (inputs[["2m_temperature"]], targets[["2m_temperature"]], forcings)
    make = lambda: autoregressive.Predictor(Random())  # noqa: E731
    field = toy.run(make, data)["2m_temperature"].values
    assert len(np.unique(field)) == field.size


def test_haiku_state_moves_on_from_step_to_step():
    class Counter(toy.ToyPredictor):
        def __call__(self, inputs, targets_template, forcings, **kwargs):
            count = hk.get_state("count", (), init=jnp.zeros)
            hk.set_state("count", count + 1)
            return super().__call__(inputs, targets_template, forcings)

    inputs, targets, forcings = toy.example(4)

    @hk.transform_with_state
    def forward():
        return autoregressive.Predictor(Counter())(inputs, targets, forcings)

    params, state = forward.init(jax.random.PRNGKey(0))
    before = state["~"]["count"]
    _, state = forward.apply(params, state, None)
    assert state["~"]["count"] - before == 4


def test_a_float64_or_integer_input_is_fed_back_in_its_own_dtype():
    inputs, targets, forcings = toy.example(3)
    inputs["2m_temperature"] = inputs["2m_temperature"].astype(np.float64)
    forcings[RADIATION] = forcings[RADIATION].astype(np.float64)
    predictions = toy.run(wrapped, (inputs, targets, forcings))
    expected = toy.run(wrapped, toy.example(3))
    np.testing.assert_allclose(
        predictions["geopotential"], expected["geopotential"], rtol=1e-5, atol=1e-6
    )


def test_forcings_may_be_absent():
    inputs, targets, _ = toy.example(3)
    inputs = inputs.drop_vars(RADIATION)
    none = toy.run(wrapped, (inputs, targets, xr.Dataset()))
    function = toy.transformed(wrapped)
    predictions = function.apply(toy.parameters(), None, inputs, targets, xr.Dataset())
    xr.testing.assert_allclose(predictions, none)


def test_forcings_that_are_none_are_no_forcings():
    class Unforced(toy.ToyPredictor):
        def __call__(self, inputs, targets_template, forcings, **kwargs):
            assert not len(forcings)
            return super().__call__(inputs, targets_template, forcings)

    inputs, targets, _ = toy.example(2)
    inputs = inputs.drop_vars(RADIATION)
    make = lambda: autoregressive.Predictor(Unforced())  # noqa: E731
    assert toy.run(make, (inputs, targets, None)).sizes["time"] == 2


def test_new_dimensions_of_targets_that_are_not_fed_back_are_kept():
    class Ensemble(toy.ToyPredictor):
        def __call__(self, inputs, targets_template, forcings, **kwargs):
            predictions = super().__call__(inputs, targets_template, forcings)
            members = xr.DataArray(
                np.ones(3, np.float32), dims="sample", coords={"sample": [10, 11, 12]}
            )
            return predictions.assign({RAIN: members * predictions[RAIN]})

    make = lambda: autoregressive.Predictor(Ensemble())  # noqa: E731
    for steps in (1, 3):
        predictions = toy.run(make, toy.example(steps))
        assert predictions[RAIN].sizes["sample"] == 3
        assert predictions["sample"].values.tolist() == [10, 11, 12]
        assert "sample" not in predictions["geopotential"].dims
    members = lambda: autoregressive.Predictor(Members())  # noqa: E731
    with pytest.raises(ValueError, match=r"predictions have the dim.*'sample'.*inputs"):
        toy.run(members, toy.example(2))


class Members(toy.ToyPredictor):
    def __call__(self, inputs, targets_template, forcings, **kwargs):
        predictions = super().__call__(inputs, targets_template, forcings)
        return predictions.expand_dims(sample=3)


def without_variable(predictions):
    return predictions.drop_vars(RAIN)


def without_time(predictions):
    return predictions.isel(time=0, drop=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_variable, f"the wrapped predictor returned no '{RAIN}'"),
        (without_time, r"returned no time.s. a step instead of 1"),
    ],
)
def test_a_predictor_that_does_not_fill_its_template_is_an_error(change, message):
    class Broken(toy.ToyPredictor):
        def __call__(self, inputs, targets_template, forcings, **kwargs):
            return change(super().__call__(inputs, targets_template, forcings))

    with pytest.raises(ValueError, match=message):
        toy.run(lambda: autoregressive.Predictor(Broken()), toy.example(2))


def moved(data, part, **changes):
    """Returns inputs, targets and forcings with one of them replaced."""
    parts = dict(zip(("inputs", "targets", "forcings"), data))
    parts[part] = changes["to"](parts[part])
    return tuple(parts.values())


@pytest.mark.parametrize(
    ("part", "to", "message"),
    [
        (
            "inputs",
            lambda d: d.assign(cloud=d["2m_temperature"]),
            "time-dependent input 'cloud' must also be a target or a forcing",
        ),
        (
            "inputs",
            lambda d: d.assign(geopotential=d["geopotential"].isel(time=0, drop=True)),
            "input 'geopotential' has no time but is predicted or forced",
        ),
        (
            "inputs",
            lambda d: d.isel(level=[0]),
            r"geopotential: inputs have the shape .*'level': 1.* later times .*: 2",
        ),
        (
            "inputs",
            lambda d: d.assign_coords(level=[300, 850]),
            "geopotential: inputs and the values of later times differ in 'level'",
        ),
        (
            "inputs",
            lambda d: d.assign_coords(time=d["time"] * 2),
            r"evenly spaced times .* found -1 days \+12:00:00, 0 days 00:00:00, 0 days",
        ),
        (
            "targets",
            lambda d: d.assign(mask=d[RAIN].isel(time=0, drop=True)),
            "the target 'mask' must have the dimension 'time'",
        ),
        ("targets", lambda d: d.isel(time=slice(0, 0)), "multiple of 1 frame.*found 0"),
        (
            "targets",
            lambda d: d.isel(time=[0, 1, 3]),
            r"must have the times of the targets.*missing none, not asked for .*18:00",
        ),
        (
            "forcings",
            lambda d: d.assign(mask=d[RADIATION].isel(time=0, drop=True)),
            "the forcing 'mask' must have the dimension 'time'",
        ),
        (
            "forcings",
            lambda d: d.assign({RAIN: d[RADIATION]}),
            rf"\['{RAIN}'\] cannot be both targets and forcings",
        ),
        (
            "forcings",
            lambda d: d.isel(time=[0, 1]),
            r"must have the times of the targets.*missing 0 days 18:00:00, 1 days",
        ),
        (
            "forcings",
            lambda d: d.isel(time=[3, 2, 1, 0]),
            "must have the times of the targets, in their order",
        ),
        (
            "forcings",
            lambda d: d.drop_vars("time").isel(time=[0, 1]),
            "forcings have 2 times, targets 4",
        ),
    ],
)
@pytest.mark.parametrize("method", ["__call__", "loss"])
def test_data_that_cannot_be_fed_back_are_refused(part, to, message, method):
    data = moved(toy.example(4), part, to=to)
    function = toy.transformed(wrapped, method)
    with pytest.raises(ValueError, match=message):
        function.init(jax.random.PRNGKey(0), *data)


def test_uneven_or_repeated_times_are_refused_for_several_steps_only():
    inputs, targets, forcings = toy.example(3)
    for hours in ([6, 12, 24], [0, 0, 0], [12, 6, 0]):
        lead = np.array(hours).astype("timedelta64[h]").astype("timedelta64[ns]")
        data = (
            inputs,
            targets.assign_coords(time=lead),
            forcings.assign_coords(time=lead),
        )
        with pytest.raises(ValueError, match="evenly spaced times"):
            toy.run(wrapped, data)
    one = [d.isel(time=[2]) for d in (targets, forcings)]
    assert toy.run(wrapped, (inputs, *one)).sizes["time"] == 1


def test_data_without_times_are_taken_as_evenly_spaced():
    data = toy.example(3)
    expected = toy.run(wrapped, data)
    timeless = [d.drop_vars(["time", "datetime"]) for d in data]
    predictions = toy.run(wrapped, timeless)
    for name in expected:
        np.testing.assert_array_equal(predictions[name], expected[name])


def test_targets_must_fill_whole_steps():
    with pytest.raises(ValueError, match=r"multiple of 2 frame.s. long.*found 3"):
        toy.run(lambda: wrapped(2), toy.example(3))
    with pytest.raises(ValueError, match=r"multiple of 2 frame.s. long.*found 3"):
        toy.run(lambda: wrapped(2), toy.example(3), method="loss")


def test_frames_per_step_is_that_of_the_wrapped_predictor():
    assert wrapped(4).frames_per_step == 4


def published_order(half):
    predictor = casting.Bfloat16Cast(toy.ToyPredictor(), enabled=half)
    statistics = [toy.statistics(factor) for factor in (1, 0.3, 0.5)]
    predictor = normalization.InputsAndResiduals(predictor, *statistics)
    return autoregressive.Predictor(predictor, gradient_checkpointing=True)


def cast_inside_loop(half):
    return autoregressive.Predictor(casting.Bfloat16Cast(toy.ToyPredictor(), half))


def cast_outside_loop(half):
    return casting.Bfloat16Cast(wrapped(), enabled=half)


def cast_outside_everything(half):
    return casting.Bfloat16Cast(published_order(False), enabled=half)


@pytest.mark.usefixtures("strict_numerics")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "order",
    [published_order, cast_inside_loop, cast_outside_loop, cast_outside_everything],
)
def test_wrappers_compose_with_loss_gradients_jit_and_bfloat16(order, half):
    data = toy.example(2)
    make = lambda: order(half)  # noqa: E731
    predictions = toy.run(make, data)
    for name in data[1]:
        assert predictions[name].dtype == np.float32
        assert np.isfinite(predictions[name]).all()
    if half:
        exact = toy.run(lambda: order(False), data)
        for name in data[1]:
            difference = np.abs(predictions[name] - exact[name]).max()
            assert 0 < difference < 0.2
    for gradient in jax.tree.leaves(gradients(make, data)):
        assert gradient.dtype == np.float32
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0
