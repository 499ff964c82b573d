"""Tests of frames as vectors."""

import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.baselines import fields, flattened


def test_vectors_run_through_longitudes_then_latitudes_then_channels():
    frames = jnp.arange(2 * 3 * 4, dtype=jnp.float32).reshape(1, 2, 3, 4)
    vector = flattened.flatten(frames)
    expected = [
        frames[0, row, column, channel]
        for channel in range(4)
        for row in range(2)
        for column in range(3)
    ]
    np.testing.assert_array_equal(vector[0], expected)


@pytest.mark.parametrize("axes", [(), (2,), (2, 3)])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 2, 4), (2, 5, 1)])
def test_vectors_become_the_frames_they_were_made_of(axes, sizes):
    shape = (*axes, *sizes)
    frames = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    vectors = flattened.flatten(frames)
    assert vectors.shape == (*axes, np.prod(sizes))
    found = flattened.unflatten(vectors, *sizes[:2])
    np.testing.assert_array_equal(found, frames)


def test_static_fields_follow_the_channels_of_each_frame():
    frames, static = jnp.ones((1, 3, 2, 2, 2)), jnp.full((1, 2, 2, 1), 5.0)
    seen = fields.Fields(frames, jnp.zeros((1, 2, 2, 2, 0)), static)
    found = flattened.seen_frames(seen)
    np.testing.assert_array_equal(found[..., :2], 1)
    np.testing.assert_array_equal(found[..., 2:], jnp.full((1, 3, 2, 2, 1), 5.0))


def test_only_errors_of_shapes_are_explained():
    with (
        pytest.raises(ValueError, match="other"),
        flattened.weights_of_grid(2, 3),
    ):
        raise ValueError("other")
