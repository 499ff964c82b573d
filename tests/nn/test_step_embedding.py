"""Tests of the numbers that tell a network a step of noise."""

import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import step_embedding


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize("cosines_first", [False, True])
def test_steps_of_noise_are_told_as_sines_and_cosines(width, cosines_first):
    t = jnp.asarray([0, 7, 999])
    found = step_embedding.timestep_embedding(t, width, cosines_first=cosines_first)
    angles = np.array([0, 7, 999])[:, None] * 10000.0 ** -(np.arange(3) / 3)
    parts = [np.sin(angles), np.cos(angles)]
    if cosines_first:
        parts.reverse()
    expected = np.pad(np.concatenate(parts, 1), ((0, 0), (0, width - 6)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_last_frequency_can_be_the_slowest():
    found = step_embedding.timestep_embedding(
        jnp.asarray([10000]), 8, last_included=True
    )
    np.testing.assert_allclose(found[0, 3], np.sin(1.0), rtol=1e-3)
    with pytest.raises(ValueError, match="a width of 1 has no room"):
        step_embedding.timestep_embedding(jnp.asarray([1]), 1)
    with pytest.raises(ValueError, match="a width of 2 has no room"):
        step_embedding.timestep_embedding(jnp.asarray([1]), 2, last_included=True)
