"""Tests of what is silenced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import dropout


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_share_is_silenced_and_the_mean_kept(dtype, strict_numerics):
    x = jnp.full((100, 50), 3, dtype)
    found = dropout.silence(x, 0.25, jax.random.PRNGKey(0))
    assert found.dtype == dtype
    values, counts = np.unique(np.asarray(found, np.float32), return_counts=True)
    np.testing.assert_allclose(values, [0, 4])
    assert counts[0] / x.size == pytest.approx(0.25, abs=0.03)
    other = dropout.silence(x, 0.25, jax.random.PRNGKey(1))
    assert (found != other).any()


def test_without_a_key_or_a_share_nothing_is_silenced():
    x = jnp.ones((3,))
    assert dropout.silence(x, 0.5, None) is x
    assert dropout.silence(x, 0.0, jax.random.PRNGKey(0)) is x
