"""Filling NaNs before the model, and putting them back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from tests import toy
from weatherlib import (
    autoregressive,
    casting,
    nan_cleaning,
    normalization,
    predictor_base,
    xarray_jax,
)

SEA = "2m_temperature"


class Recorder(predictor_base.Predictor):
    """Remembers its data and answers with the targets it is given."""

    frames_per_step = 2

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        self.seen = [inputs, targets_template, forcings, kwargs]
        return targets_template

    def loss(self, inputs, targets, forcings, **kwargs):
        self(inputs, targets, forcings, **kwargs)
        return "loss"

    def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
        return self.loss(inputs, targets, forcings, **kwargs), targets


def data_with_nans():
    """Inputs with one NaN point in one frame, targets with NaNs elsewhere too."""
    inputs, targets, forcings = toy.example(2)
    inputs[SEA].values[0, 1, 2, 3] = np.nan
    targets[SEA].values[1, 0, 1, 1] = np.nan
    forcings[SEA] = targets[SEA]
    return inputs, targets, forcings


FILLS = [
    2.5,
    np.float64(2.5),
    xr.Dataset({SEA: 2.5, "other": 1.0}),
    {SEA: xr.DataArray(np.full(3, 2.5), dims="lat")},
]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("method", ["loss", "loss_and_predictions"])
def test_the_wrapped_predictor_sees_no_nans(fill, method):
    data = data_with_nans()
    inner = Recorder()
    cleaner = nan_cleaning.NaNCleaner(inner, SEA, fill)
    getattr(cleaner, method)(*data, key=1)
    assert inner.seen[3] == {"key": 1}
    for before, seen in zip(data, inner.seen):
        xr.testing.assert_equal(seen[SEA], before[SEA].fillna(2.5))
        assert seen[SEA].dims == before[SEA].dims
        assert seen[SEA].dtype == np.float32
        assert list(seen) == list(before)
    assert np.isnan(data[0][SEA]).sum() == 1


def test_the_template_of_a_prediction_is_not_touched():
    inputs, targets, forcings = data_with_nans()
    inner = Recorder()
    nan_cleaning.NaNCleaner(inner, SEA, 0.0)(inputs, targets, forcings, key=2)
    assert inner.seen[1] is targets
    assert inner.seen[3] == {"key": 2}
    assert not np.isnan(inner.seen[0][SEA]).any()
    assert not np.isnan(inner.seen[2][SEA]).any()


def test_other_variables_keep_their_nans():
    inputs, targets, forcings = data_with_nans()
    inputs["geopotential"].values[0] = np.nan
    inner = Recorder()
    nan_cleaning.NaNCleaner(inner, SEA, 0.0)(inputs, targets, forcings)
    xr.testing.assert_equal(inner.seen[0]["geopotential"], inputs["geopotential"])


def test_datasets_without_the_variable_or_absent_forcings_are_passed_on():
    inputs, targets, _ = toy.example(2)
    inner = Recorder()
    cleaner = nan_cleaning.NaNCleaner(inner, "sea_surface_temperature", 1.0, True)
    assert cleaner(inputs, targets) is targets
    assert inner.seen[0] is inputs
    assert inner.seen[2] is None
    cleaner.loss(inputs, targets)
    assert inner.seen[1] is targets


@pytest.mark.parametrize("method", ["__call__", "loss_and_predictions"])
@pytest.mark.parametrize("reintroduce", [False, True])
def test_nans_return_where_any_input_frame_had_them_if_asked(method, reintroduce):
    inputs, targets, forcings = data_with_nans()
    cleaner = nan_cleaning.NaNCleaner(Recorder(), SEA, 0.0, reintroduce)
    result = getattr(cleaner, method)(inputs, targets.fillna(7.0), forcings)
    predictions = result if method == "__call__" else result[1]
    if method != "__call__":
        assert result[0] == "loss"
    expected = targets.fillna(7.0)
    if reintroduce:
        expected[SEA].values[0, :, 2, 3] = np.nan
    xr.testing.assert_equal(predictions, expected)
    assert predictions[SEA].dtype == np.float32
    assert predictions[SEA].dims == targets[SEA].dims


def test_a_static_mask_is_enough_to_put_nans_back():
    inputs, targets, forcings = data_with_nans()
    inputs[SEA] = inputs[SEA].isel(time=1, batch=0, drop=True)
    cleaner = nan_cleaning.NaNCleaner(Recorder(), SEA, 0.0, True)
    predictions = cleaner(inputs, targets.fillna(7.0), forcings)
    assert np.isnan(predictions[SEA].isel(lat=2, lon=3)).all()
    assert np.isnan(predictions[SEA]).sum() == 4


def test_nans_cannot_be_put_back_without_an_input():
    inputs, targets, forcings = data_with_nans()
    cleaner = nan_cleaning.NaNCleaner(Recorder(), SEA, 0.0, True)
    with pytest.raises(ValueError, match=f"{SEA}: NaNs cannot be put back"):
        cleaner(inputs.drop_vars(SEA), targets, forcings)


def test_fill_values_by_level_are_matched_by_label():
    inputs, targets, forcings = toy.example(2)
    inputs["geopotential"].values[...] = np.nan
    fill = xr.Dataset(
        {"geopotential": ("level", [1.0, 2.0, 3.0])}, {"level": [850, 700, 500]}
    )
    inner = Recorder()
    nan_cleaning.NaNCleaner(inner, "geopotential", fill)(inputs, targets, forcings)
    seen = inner.seen[0]["geopotential"]
    assert (seen.sel(level=500) == 3).all()
    assert (seen.sel(level=850) == 1).all()
    cleaner = nan_cleaning.NaNCleaner(inner, "geopotential", fill.isel(level=[0, 1]))
    with pytest.raises(ValueError, match=r"no fill value for level \[500\]"):
        cleaner(inputs, targets, forcings)


def test_fill_values_without_the_variable_are_refused():
    with pytest.raises(ValueError, match=rf"lack '{SEA}'; they hold \['other'\]"):
        nan_cleaning.NaNCleaner(Recorder(), SEA, xr.Dataset({"other": 1.0}))


def test_frames_per_step_is_that_of_the_wrapped_predictor():
    assert nan_cleaning.NaNCleaner(Recorder(), SEA, 0.0).frames_per_step == 2


@pytest.mark.usefixtures("strict_numerics")
@pytest.mark.parametrize("fill", FILLS)
def test_bfloat16_is_cleaned_in_bfloat16(fill):
    data = data_with_nans()

    def make():
        cleaner = nan_cleaning.NaNCleaner(toy.ToyPredictor(2), SEA, fill, True)
        return casting.Bfloat16Cast(cleaner)

    predictions = toy.run(make, (*data[:2], data[2].drop_vars(SEA)))
    assert predictions[SEA].dtype == np.float32
    missing = np.isnan(predictions[SEA].transpose("batch", "lat", "lon", "time"))
    assert missing.values[0, 2, 3].all()
    assert missing.values.sum() == 2
    assert not np.isnan(predictions["geopotential"].values).any()


@pytest.mark.parametrize("half", [False, True])
def test_loss_and_gradients_are_finite_through_all_wrappers(half):
    inputs, targets, forcings = toy.example(2)
    hole = {"lat": 2, "lon": 3}
    inputs[SEA][hole] = np.nan
    targets[SEA][hole] = np.nan
    statistics = toy.statistics()

    def make():
        predictor = casting.Bfloat16Cast(toy.ToyPredictor(), enabled=half)
        predictor = normalization.InputsAndResiduals(
            predictor, statistics, statistics, statistics
        )
        predictor = nan_cleaning.NaNCleaner(
            predictor, SEA, xr.Dataset({SEA: 0.25}), reintroduce_nans=True
        )
        return autoregressive.Predictor(predictor)

    data = (inputs, targets, forcings)
    predictions = toy.run(make, data)
    assert np.isnan(predictions[SEA].isel(hole).values).all()
    assert np.isnan(predictions[SEA].values).sum() == 4
    assert not np.isnan(predictions["geopotential"].values).any()
    function = toy.transformed(make, "loss")

    @jax.jit
    @jax.value_and_grad
    def step(params):
        loss, _ = function.apply(params, None, *data)
        return jnp.mean(xarray_jax.unwrap_data(loss))

    loss, gradients = step(toy.parameters())
    assert np.isfinite(loss)
    for gradient in jax.tree.leaves(gradients):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("fill", [2.5, xr.Dataset({SEA: 2.5})])
def test_cleaning_works_on_bfloat16_data(fill):
    inputs, targets, forcings = (x.astype(jnp.bfloat16) for x in data_with_nans())
    inner = Recorder()
    cleaner = nan_cleaning.NaNCleaner(inner, SEA, fill, reintroduce_nans=True)
    predictions = cleaner(inputs, targets, forcings)
    assert inner.seen[0][SEA].dtype == jnp.bfloat16
    assert inner.seen[0][SEA].values[0, 1, 2, 3] == 2.5
    assert predictions[SEA].dtype == jnp.bfloat16
    assert np.isnan(predictions[SEA].values[0, :, 2, 3].astype(np.float32)).all()
