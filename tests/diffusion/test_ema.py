"""Tests of the running average of weights."""

import jax
import jax.numpy as jnp
import numpy as np

from weatherlib.diffusion import ema


def test_averages_follow_by_the_published_decay(strict_numerics):
    params = {"layer": {"w": jnp.full((2, 3), 1.0), "b": jnp.zeros(2, jnp.bfloat16)}}
    average = ema.start(params)
    mean = 1.0
    for count in range(1, 5):
        params = jax.tree.map(lambda x: x + jnp.ones((), x.dtype), params)
        average = jax.jit(ema.update)(average, params)
        decay = min(0.9999, (1 + count) / (10 + count))
        mean -= (1 - decay) * (mean - (1 + count))
        np.testing.assert_allclose(average.params["layer"]["w"], mean, rtol=1e-6)
    assert int(average.updates) == 4
    assert average.params["layer"]["b"].dtype == jnp.bfloat16


def test_the_decay_grows_to_its_limit():
    decays = [float(ema.decay_at(jnp.asarray(n))) for n in (1, 90, 10**6)]
    np.testing.assert_allclose(decays, [2 / 11, 0.91, 0.9999], rtol=1e-6)
