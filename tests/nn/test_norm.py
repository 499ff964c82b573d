"""Norms of groups of channels equal their definition."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import norm


def _plain(x, groups, scale, offset, epsilon):
    batch, channels = x.shape[0], x.shape[-1]
    parts = np.asarray(x, np.float64).reshape(batch, -1, groups, channels // groups)
    mean = parts.mean((1, 3), keepdims=True)
    variance = parts.var((1, 3), keepdims=True)
    normal = ((parts - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)
    return normal * np.asarray(scale, np.float64) + np.asarray(offset, np.float64)


@pytest.mark.parametrize("shape", [(2, 6), (2, 5, 6), (3, 2, 4, 5, 6)])
@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-1])
def test_groups_are_normalised_over_all_points(shape, groups, epsilon, strict_numerics):
    rng = np.random.default_rng(0)
    x = jnp.asarray(5 + 3 * rng.standard_normal(shape), jnp.float32)
    scale, offset = (jnp.asarray(rng.standard_normal(6), jnp.float32) for _ in "ab")
    found = norm.group_norm(x, groups, scale, offset, epsilon)
    expected = _plain(x, groups, scale, offset, epsilon)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_narrow_numbers_are_normalised_in_float32():
    x = (300 + jax.random.normal(jax.random.key(0), (1, 4000, 2))).astype(jnp.bfloat16)
    ones, zeros = jnp.ones(2, jnp.bfloat16), jnp.zeros(2, jnp.bfloat16)
    found = norm.group_norm(x, 1, ones, zeros)
    assert found.dtype == jnp.bfloat16
    expected = _plain(np.asarray(x, np.float32), 1, np.ones(2), np.zeros(2), 1e-5)
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=0.02)


def test_the_layer_begins_as_the_plain_norm():
    layer = hk.transform(lambda x: norm.GroupNorm(2, "norm", 1e-6)(x))
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    params = layer.init(None, x)
    np.testing.assert_array_equal(params["norm"]["scale"], 1)
    np.testing.assert_array_equal(params["norm"]["offset"], 0)
    expected = norm.group_norm(x, 2, jnp.ones(4), jnp.zeros(4), 1e-6)
    np.testing.assert_array_equal(layer.apply(params, None, x), expected)


def test_groups_that_do_not_divide_are_refused():
    ones = jnp.ones(6)
    with pytest.raises(ValueError, match="4 groups do not divide 6 channels"):
        norm.group_norm(jnp.zeros((1, 6)), 4, ones, ones)
