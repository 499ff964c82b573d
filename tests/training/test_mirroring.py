"""Samples of training that are seen upside down."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from tests.training import toys
from weatherlib import predictor_base, training, xarray_jax
from weatherlib.training import mirroring, wrapping
from weatherlib.training.config import WrapperConfig

LAT = np.array([-67.5, -22.5, 22.5, 67.5], np.float32)
BOTH = jnp.array([False, True])


def fields(lat=LAT):
    """Rows that differ, of what keeps and what changes its sign."""
    rng = np.random.default_rng(0)

    def random(*dims):
        sizes = {"batch": 2, "time": 1, "lat": len(lat), "lon": 3}
        values = rng.normal(size=[sizes[dim] for dim in dims]).astype(np.float32)
        return xarray.DataArray(values, dims=dims)

    all_dims = ("batch", "time", "lat", "lon")
    return xarray.Dataset(
        {
            toys.PRESSURE: random(*all_dims),
            "v_component_of_wind": random("lon", "batch", "lat", "time"),
            "land_sea_mask": random("lat", "lon"),
            "year_progress_cos": random("batch", "time"),
            "day_progress_cos": random("batch", "time", "lon"),
        },
        coords={"lat": lat, "lon": np.arange(3.0)},
    )


def values(field):
    return np.asarray(xarray_jax.unwrap_data(field))


def test_chosen_members_are_upside_down():
    given = fields()
    found = mirroring.mirror(given, BOTH)
    signs = {
        toys.PRESSURE: 1, "v_component_of_wind": -1, "land_sea_mask": 1,
        "year_progress_cos": -1, "day_progress_cos": 1,
    }  # fmt: skip
    for name, sign in signs.items():
        before = given[name]
        if name == "land_sea_mask":
            before = before.expand_dims(batch=2)
        after = found[name].transpose(*before.dims)
        assert after.dtype == np.float32
        np.testing.assert_array_equal(values(after.isel(batch=0)), before.isel(batch=0))
        other = sign * before.isel(batch=1)
        if "lat" in other.dims:
            other = other.isel(lat=slice(None, None, -1))
        np.testing.assert_array_equal(values(after.isel(batch=1)), other.values)
    np.testing.assert_array_equal(found["lat"], LAT)


def test_twice_is_as_before():
    given = fields()
    found = mirroring.mirror(mirroring.mirror(given, BOTH), BOTH)
    for name in (toys.PRESSURE, "v_component_of_wind"):
        np.testing.assert_array_equal(values(found[name]), given[name])


def test_a_hemisphere_has_no_mirror_image():
    with pytest.raises(ValueError, match="needs the same rows in both hemispheres"):
        mirroring.mirror(fields(np.array([10, 20, 30, 40.0], np.float32)), BOTH)


class FirstRow(predictor_base.Predictor):
    """Predicts zeros; its loss is what the first row of the inputs holds."""

    def __call__(self, inputs, targets_template, forcings):
        return targets_template.map(jnp.zeros_like)

    def loss_and_predictions(self, inputs, targets, forcings):
        first = inputs[toys.PRESSURE].isel(lat=0).mean(["time", "lon"])
        return (first, {}), targets


def test_losses_see_both_and_predictions_are_put_back():
    given = fields()[[toys.PRESSURE]]
    level = xarray.DataArray(np.float32([1, 2, 3, 4]), dims="lat")
    given[toys.PRESSURE] = (0 * given[toys.PRESSURE] + level).transpose(
        *given[toys.PRESSURE].dims
    )

    def run(inputs):
        wrapped = mirroring.Mirrored(FirstRow())
        return wrapped.loss_and_predictions(inputs, inputs, xarray.Dataset())

    apply = hk.transform(run).apply
    seen = []
    for seed in range(12):
        (loss, _), predictions = apply({}, jax.random.PRNGKey(seed), given)
        seen += values(loss).tolist()
        np.testing.assert_array_equal(
            values(predictions[toys.PRESSURE]), given[toys.PRESSURE]
        )
    assert set(seen) == {1.0, 4.0}
    assert 4 < seen.count(4.0) < 20


@pytest.mark.parametrize("is_training", [True, False])
def test_only_training_sees_the_mirror(is_training):
    frames = training.Frames(toys.weather(12), toys.TASK)
    objective = training.Objective(
        lambda: wrapping.wrap(
            toys.Linear(0.0),
            toys.statistics(),
            WrapperConfig(mirror=True),
            is_training=is_training,
        )
    )
    batch = frames.batch(np.array([0, 3]), 1)
    params, state = objective.shapes(batch)
    traced = jax.make_jaxpr(objective.loss)
    program = str(traced(params, state, jax.random.PRNGKey(0), batch))
    assert (" rev[" in program) == is_training
