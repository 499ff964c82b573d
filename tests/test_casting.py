"""The bfloat16 wrapper."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from tests import toy
from weatherlib import casting, predictor_base, xarray_jax


class Recorder(predictor_base.Predictor):
    """Remembers what it was called with, and returns the template."""

    frames_per_step = 3

    def __init__(self, output=None):
        self.seen = []
        self.output = output

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        self.seen = [inputs, targets_template, forcings, kwargs]
        return targets_template if self.output is None else self.output

    def loss(self, inputs, targets, forcings, **kwargs):
        loss = self(inputs, targets, forcings, **kwargs)["2m_temperature"]
        loss = loss.mean(["time", "lat", "lon"], skipna=False)
        return loss, {"two": loss}

    def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
        return self.loss(inputs, targets, forcings, **kwargs), targets


def cast_toy():
    return casting.Bfloat16Cast(toy.ToyPredictor())


def called(method, *args, **kwargs):
    """Returns what a predictor without parameters gives inside a Haiku function."""
    return hk.transform(method).apply({}, None, *args, **kwargs)


def rounded(dataset):
    return dataset.map(lambda array: array.astype(jnp.bfloat16).astype(np.float32))


def test_the_wrapped_predictor_sees_bfloat16_and_unchanged_keywords():
    recorder = Recorder()
    data = toy.example(3)
    predictions = called(casting.Bfloat16Cast(recorder), *data, key="value")
    for before, seen in zip(data, recorder.seen):
        assert {array.dtype for array in seen.values()} == {np.dtype(jnp.bfloat16)}
        xr.testing.assert_equal(seen.coords.to_dataset(), before.coords.to_dataset())
    assert recorder.seen[3] == {"key": "value"}
    xr.testing.assert_equal(predictions, rounded(data[1]))
    assert {array.dtype for array in predictions.values()} == {np.dtype(np.float32)}


def test_integers_and_booleans_keep_their_dtype():
    inputs, targets, forcings = toy.example(3)
    inputs["soil_type"] = (("lat", "lon"), np.arange(12).reshape(3, 4))
    inputs["is_sea"] = inputs["land_sea_mask"] > 0.5
    targets["category"] = (("time",), np.arange(3, dtype=np.int8))
    recorder = Recorder()
    predictions = called(casting.Bfloat16Cast(recorder), inputs, targets, forcings)
    seen = recorder.seen[0]
    assert seen["soil_type"].dtype == np.int64
    assert seen["is_sea"].dtype == np.bool_
    assert seen["soil_type"].values.max() == 11
    assert predictions["category"].dtype == np.int8
    assert predictions["category"].values.tolist() == [0, 1, 2]


def test_predictions_take_the_dtype_of_the_template():
    inputs, targets, forcings = toy.example(3)
    predictions = called(
        casting.Bfloat16Cast(Recorder()), inputs, targets.astype(np.float16), forcings
    )
    assert {array.dtype for array in predictions.values()} == {np.dtype(np.float16)}


def test_forcings_may_be_absent():
    recorder = Recorder()
    inputs, targets, _ = toy.example(3)
    called(casting.Bfloat16Cast(recorder), inputs, targets, None)
    assert recorder.seen[2] is None


def test_a_disabled_wrapper_passes_everything_through():
    recorder = Recorder()
    data = toy.example(3)
    wrapped = casting.Bfloat16Cast(recorder, enabled=False)
    assert wrapped(*data, key=1) is data[1]
    assert recorder.seen == [*data, {"key": 1}]
    loss, _ = wrapped.loss(*data, key=2)
    assert loss.dtype == np.float32
    assert recorder.seen[3] == {"key": 2}
    (loss, _), predictions = wrapped.loss_and_predictions(*data, key=3)
    assert loss.dtype == np.float32
    assert predictions is data[1]
    assert recorder.seen[3] == {"key": 3}


def test_frames_per_step_is_that_of_the_wrapped_predictor():
    assert casting.Bfloat16Cast(Recorder()).frames_per_step == 3
    assert cast_toy().frames_per_step == 1


def test_parameters_and_gradients_stay_float32():
    data = toy.example(1)
    params = toy.initialised(cast_toy, data)
    predictions = toy.run(cast_toy, data)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert {array.dtype for array in predictions.values()} == {np.dtype(np.float32)}
    function = toy.transformed(cast_toy, "loss")

    def mean_loss(params):
        loss, _ = function.apply(params, None, *data)
        return xarray_jax.unwrap_data(loss.mean(skipna=False))

    gradients = jax.jit(jax.grad(mean_loss))(params)
    for gradient in jax.tree.leaves(gradients):
        assert gradient.dtype == np.float32
        assert np.abs(gradient).max() > 0


def test_predictions_in_bfloat16_are_near_those_in_float32():
    data = toy.example(1)
    rough = toy.run(cast_toy, data)
    exact = toy.run(toy.ToyPredictor, data)
    for name in exact:
        difference = np.abs(rough[name].values - exact[name].values).max()
        assert 0 < difference < 0.05


def test_a_fresh_initialisation_is_that_without_the_wrapper():
    data = toy.example(1)
    with_wrapper = toy.initialised(cast_toy, data)
    without = toy.initialised(toy.ToyPredictor, data)
    jax.tree.map(np.testing.assert_array_equal, with_wrapper, without)


def test_the_loss_itself_is_computed_in_bfloat16():
    # A published quirk: losses have no more than three significant digits.
    loss, diagnostics = toy.run(cast_toy, toy.example(1), method="loss")
    for values in (loss, *diagnostics.values()):
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, values.values.astype(jnp.bfloat16))


def test_loss_and_predictions_agree_with_each_alone():
    data = toy.example(1)
    predictions = toy.run(cast_toy, data)
    loss, diagnostics = toy.run(cast_toy, data, method="loss")
    (loss_2, diagnostics_2), predictions_2 = toy.run(
        cast_toy, data, method="loss_and_predictions"
    )
    np.testing.assert_array_equal(loss, loss_2)
    xr.testing.assert_equal(predictions, predictions_2)
    for name in diagnostics:
        np.testing.assert_array_equal(diagnostics[name], diagnostics_2[name])


@pytest.mark.parametrize("method", ["__call__", "loss", "loss_and_predictions"])
def test_a_predictor_that_leaves_bfloat16_is_an_error(method):
    inputs, targets, forcings = toy.example(3)
    wrapped = casting.Bfloat16Cast(Recorder(output=targets))
    with pytest.raises(ValueError, match=r"expected .* in bfloat16 .* found float32"):
        called(getattr(wrapped, method), inputs, targets, forcings)


def test_predictions_beside_a_bfloat16_loss_are_checked_too():
    class Half(Recorder):
        def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
            loss = self.loss(inputs, targets, forcings)
            return loss, targets.map(lambda array: array.astype(np.float32))

    with pytest.raises(ValueError, match="expected predictions in bfloat16"):
        wrapped = casting.Bfloat16Cast(Half())
        called(wrapped.loss_and_predictions, *toy.example(3))


def test_a_template_with_two_floating_dtypes_is_an_error():
    inputs, targets, forcings = toy.example(3)
    targets["2m_temperature"] = targets["2m_temperature"].astype(np.float64)
    with pytest.raises(ValueError, match=r"exactly one floating dtype.*found 2.*float"):
        called(casting.Bfloat16Cast(Recorder()), inputs, targets, forcings)


def test_infer_floating_dtype_looks_at_floating_variables_only():
    data = {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.int64)}
    assert casting.infer_floating_dtype(data) == np.float32
    assert casting.infer_floating_dtype(toy.example(1)[0]) == np.float32
    half = {"a": jnp.zeros(1, jnp.bfloat16)}
    assert casting.infer_floating_dtype(half) == jnp.bfloat16
    with pytest.raises(ValueError, match=r"found 0 .no floating-point variable"):
        casting.infer_floating_dtype({"b": data["b"]})


def test_tree_map_cast_changes_only_one_dtype():
    tree = {"a": jnp.ones(1, jnp.bfloat16), "b": [jnp.ones(1, jnp.int32)]}
    tree["c"] = xr.Dataset({"x": ("y", np.ones(2, np.float16))})
    cast = casting.tree_map_cast(tree, jnp.bfloat16, jnp.float32)
    assert cast["a"].dtype == jnp.float32
    assert cast["b"][0].dtype == jnp.int32
    assert cast["c"]["x"].dtype == np.float16


@hk.transform_with_state
def counted(enabled):
    """Reads, updates and reads again a bfloat16 state, and a float32 parameter."""
    with casting.bfloat16_variable_view(enabled):
        count = hk.get_state("count", (), jnp.bfloat16, jnp.ones)
        hk.set_state("count", count * 2)
        exact = hk.get_parameter("exact", (), jnp.float32, jnp.ones)
        rough = hk.get_parameter("rough", (), jnp.bfloat16, jnp.ones)
    outside = hk.get_parameter("outside", (), jnp.bfloat16, jnp.ones)
    return count, exact, rough, outside


def test_the_view_stores_float32_and_shows_bfloat16():
    params, state = counted.init(None, True)
    dtypes = {name: leaf.dtype for name, leaf in params["~"].items()}
    assert dtypes == {"exact": "f4", "rough": "f4", "outside": jnp.bfloat16}
    assert state["~"]["count"].dtype == jnp.float32
    (count, exact, rough, outside), state = counted.apply(params, state, None, True)
    assert count.dtype == rough.dtype == outside.dtype == jnp.bfloat16
    assert exact.dtype == jnp.float32
    assert state["~"]["count"].dtype == jnp.float32
    assert state["~"]["count"] == 2


def test_a_view_that_is_not_enabled_changes_nothing():
    params, state = counted.init(None, False)
    assert params["~"]["rough"].dtype == jnp.bfloat16
    assert state["~"]["count"].dtype == jnp.bfloat16


def test_parameters_that_were_stored_as_bfloat16_are_used_as_they_are():
    params, state = counted.init(None, True)
    params["~"]["rough"] = params["~"]["rough"].astype(jnp.bfloat16)
    (_, _, rough, _), _ = counted.apply(params, state, None, True)
    assert rough.dtype == jnp.bfloat16


def test_parameters_of_another_dtype_are_an_error():
    params, state = counted.init(None, True)
    params["~"]["rough"] = params["~"]["rough"].astype(jnp.float16)
    with pytest.raises(ValueError, match="rough: Bfloat16Cast needs a float32 param"):
        counted.apply(params, state, None, True)
