"""Tests of normal distributions of latent fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from weatherlib.nn import gaussians


def _some(seed, shape=(3, 2, 2, 4)):
    one, two = jax.random.split(jax.random.key(seed))
    return gaussians.DiagonalGaussian(
        jax.random.normal(one, shape), 0.3 * jax.random.normal(two, shape)
    )


def test_channels_are_means_then_clamped_log_variances(strict_numerics):
    moments = jnp.asarray([[1.0, 2.0, -99.0, 99.0]])
    found = gaussians.from_moments(moments)
    np.testing.assert_array_equal(found.mean, [[1, 2]])
    np.testing.assert_array_equal(found.log_variance, [[-30, 20]])
    np.testing.assert_allclose(found.variance, np.exp([[-30.0, 20]]), rtol=1e-5)
    np.testing.assert_allclose(found.deviation, np.exp([[-15.0, 10]]), rtol=1e-5)


def test_density_and_divergence_are_those_of_their_definition(strict_numerics):
    first, second = _some(0), _some(1)
    field = first.sample(jnp.ones_like(first.mean))
    plain = stats.norm(np.asarray(first.mean), np.asarray(first.deviation))
    expected = -plain.logpdf(np.asarray(field)).sum((1, 2, 3))
    np.testing.assert_allclose(first.nll(field), expected, rtol=1e-5)
    # The divergence is the mean difference of the densities.
    keys = jax.random.split(jax.random.key(0), 300)

    def difference(key):
        drawn = first.draw(key)
        return second.nll(drawn) - first.nll(drawn)

    estimate = jax.vmap(difference)(keys).mean(0)
    np.testing.assert_allclose(first.kl(second), estimate, rtol=0.1)
    standard = gaussians.DiagonalGaussian(
        jnp.zeros_like(first.mean), jnp.zeros_like(first.mean)
    )
    np.testing.assert_allclose(first.kl(), first.kl(standard), rtol=1e-5)
    np.testing.assert_allclose(first.kl(first), 0, atol=1e-5)


def test_draws_have_the_mean_and_the_deviation():
    held = _some(0, (1, 2, 2, 2))
    drawn = jax.vmap(held.draw)(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(drawn.mean(0), held.mean, atol=0.1)
    np.testing.assert_allclose(drawn.std(0), held.deviation, rtol=0.1)
    np.testing.assert_array_equal(held.mode(), held.mean)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_draws_keep_the_type(dtype):
    held = jax.tree.map(lambda x: x.astype(dtype), _some(0))
    assert held.draw(jax.random.key(0)).dtype == dtype
    assert held.kl().dtype == jnp.float32
