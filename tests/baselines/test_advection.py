"""What the wind along the contours of a field carries."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from tests.training import toys
from weatherlib import baselines, training, xarray_jax
from weatherlib.baselines import advection, network
from weatherlib.geometry.harmonics import EARTH_RADIUS

LAT = np.arange(-89.0, 90.0, 2.0)
LON = np.arange(0.0, 360.0, 2.0)
RATIO = 500e3 / EARTH_RADIUS
TWO = advection.Places(carriers=(0,), carried=(1,))


def wave():
    """A harmonic of degree 3 and order 2, and what it changes by eastward."""
    phi, lam = np.deg2rad(LAT)[:, np.newaxis], np.deg2rad(LON)
    shape = np.cos(phi) ** 2 * np.sin(phi)
    return shape * np.cos(2 * lam), -2 * shape * np.sin(2 * lam)


def advect(channels, places=TWO, lat=LAT, lon=LON, mean=None):
    field = jnp.stack([jnp.asarray(c, jnp.float32) for c in channels], -1)[np.newaxis]
    module = hk.without_apply_rng(
        hk.transform(lambda x: advection.Advection()(x, places, lat, lon))
    )
    params = module.init(jax.random.PRNGKey(0), field)
    if mean is not None:
        params = {"advection": {"mean": jnp.asarray(mean, jnp.float32)[..., None]}}
    return np.asarray(module.apply(params, field))[0]


def check_rigid_rotation(found):
    """A flow around the pole turns a field without changing its shape."""
    _, eastward = wave()
    away_from_poles = np.abs(LAT) < 75
    for part, factor in ((found[..., 0], 1), (found[..., 1], -0.2 * 12 * RATIO**2)):
        wanted = -(RATIO**2) * factor * eastward
        np.testing.assert_allclose(
            part[away_from_poles],
            wanted[away_from_poles],
            atol=0.01 * np.abs(wanted).max(),
        )


def test_a_flow_around_the_pole_turns_fields():
    carrier = np.broadcast_to(np.sin(np.deg2rad(LAT))[:, np.newaxis], (90, 180))
    check_rigid_rotation(advect([carrier, wave()[0]]))


def test_the_order_of_latitudes_makes_no_difference():
    rng = np.random.default_rng(0)
    channels = rng.standard_normal((2, 8, 9))
    lat, lon = np.arange(30.0, 50.0, 2.5), np.arange(-10.0, 12.5, 2.5)
    found = advect(channels, lat=lat, lon=lon)
    turned = advect(channels[:, ::-1], lat=lat[::-1], lon=lon)
    np.testing.assert_allclose(turned[::-1], found, rtol=1e-4, atol=1e-3)


def test_the_learned_mean_carries_as_values_do():
    carrier = np.broadcast_to(np.sin(np.deg2rad(LAT))[:, np.newaxis], (90, 180))
    field, _ = wave()
    check_rigid_rotation(advect([0 * field, field], mean=carrier / 10))


def test_nothing_carries_itself():
    field, _ = wave()
    found = advect([field, field])
    np.testing.assert_allclose(found[..., 0], 0, atol=1e-6)


def test_places_are_those_of_the_newest_frame_on_all_levels():
    dims = {"batch": 1, "time": 3, "level": 2, "lat": 4, "lon": 5}

    def field(*names):
        return (names, np.zeros([dims[name] for name in names]))

    inputs = xarray.Dataset(
        {
            "geopotential": field("batch", "time", "level", "lat", "lon"),
            "land_sea_mask": field("lat", "lon"),
            "temperature": field("batch", "time", "lat", "lon"),
        }
    )
    found = advection.find_places(
        inputs,
        ["geopotential", "land_sea_mask"],
        ["temperature", "geopotential", "precipitation"],
    )
    assert found == advection.Places(carriers=(4, 5, 6), carried=(4, 5, 9))
    with pytest.raises(ValueError, match="carriers: vorticity is not among the inputs"):
        advection.find_places(inputs, ["vorticity"], ["temperature"])


def test_in_a_mirrored_world_results_change_by_their_signs():
    rng = np.random.default_rng(1)
    channels = rng.standard_normal((4, 6, 8))
    lat, lon = np.arange(-10.0, 14, 4), np.arange(0.0, 32, 4)
    places = advection.Places(carriers=(0, 2), carried=(1, 2, 3))
    signs = np.array([1.0, -1, -1, 1])
    found = advect(channels, places, lat, lon)
    turned = advect(channels[:, ::-1] * signs[:, None, None], places, lat, lon)
    expected = found * advection.mirrored_signs(signs, places)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(turned[::-1], expected, rtol=1e-4, atol=1e-3)


def test_extras_are_inputs_without_differences():
    sizes = network.ResidualCnnConfig(
        width=3, dilations=(1,), positions=False, differences=1.0
    )
    x, extra = jnp.ones((1, 5, 6, 2)), jnp.ones((1, 5, 6, 3))

    def run(x, extra):
        places = np.zeros((5, 6, 4), np.float32)
        edges = network.Edges()
        return network.ResidualCnnNetwork(sizes)(x, places, edges, 2, extras=extra)

    params = hk.transform(run).init(jax.random.PRNGKey(0), x, extra)
    assert params["residual_cnn/member_0/embed"]["w"].shape[2] == 2 * 4 + 3


def predict(data, mirror=False):
    settings = baselines.ResidualCnnConfig(
        width=4, dilations=(1,), carriers=(toys.PRESSURE,), mirror=mirror
    )
    transformed = hk.without_apply_rng(
        hk.transform(lambda *d: baselines.ResidualCnn(settings, toys.TASK)(*d))
    )
    params = transformed.init(jax.random.PRNGKey(0), *data)
    # The last layer starts small.
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    return transformed.apply(params, *data), params


def sample():
    return training.Frames(toys.weather(), toys.TASK).batch(np.arange(2), 1)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_network_sees_what_is_carried(mirror):
    data = sample()
    data[0][toys.PRESSURE] += 0.2 * np.random.default_rng(0).standard_normal(
        data[0][toys.PRESSURE].shape
    ).astype(np.float32)
    found, params = predict(data, mirror)
    lat, lon = (data[0].sizes[dim] for dim in ("lat", "lon"))
    assert params["advection"]["mean"].shape == (lat, lon, 1)
    for field in found.data_vars.values():
        assert np.isfinite(np.asarray(field)).all()

    def error(mean):
        changed = {**params, "advection": {"mean": mean}}
        settings = baselines.ResidualCnnConfig(
            width=4, dilations=(1,), carriers=(toys.PRESSURE,), mirror=mirror
        )
        run = hk.transform(lambda *d: baselines.ResidualCnn(settings, toys.TASK)(*d))
        step = run.apply(changed, None, *data)
        return sum(
            jnp.sum(xarray_jax.unwrap_data(field) ** 2)
            for field in step.data_vars.values()
        )

    gradient = jax.grad(error)(params["advection"]["mean"])
    assert np.abs(np.asarray(gradient)).max() > 0


def test_the_order_of_variables_in_a_dataset_makes_no_difference():
    data = sample()
    found, _ = predict(data)
    turned = [part[list(part)[::-1]] for part in data]
    assert list(turned[1]) != list(data[1])
    again, _ = predict(turned)
    assert set(again) == set(found)
    for name in found:
        np.testing.assert_array_equal(np.asarray(again[name]), np.asarray(found[name]))


def test_a_carrier_that_is_no_input_is_an_error():
    settings = baselines.ResidualCnnConfig(carriers=("vorticity",))
    run = hk.transform(lambda *d: baselines.ResidualCnn(settings, toys.TASK)(*d))
    with pytest.raises(ValueError, match="vorticity is not among the inputs"):
        run.init(jax.random.PRNGKey(0), *sample())


def test_a_list_of_carriers_becomes_a_tuple():
    settings = baselines.ResidualCnnConfig(carriers=["geopotential"])
    assert settings.carriers == ("geopotential",)
    assert dataclasses.replace(settings, width=3).carriers == ("geopotential",)
