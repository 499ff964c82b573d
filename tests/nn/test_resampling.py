"""Tests of resizing on arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.geometry import resampling as weights
from weatherlib.nn import resampling


@pytest.mark.parametrize("method", weights.METHODS)
def test_rows_and_columns_are_resized_one_after_the_other(method, strict_numerics):
    images = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
    found = resampling.resize(jnp.asarray(images), 4, 9, method)
    by_row = weights.resize_weights(6, 4, method)
    by_column = weights.resize_weights(5, 9, method)
    expected = np.einsum("rh,bchw,kw->bcrk", by_row, images, by_column)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tokens_are_resized_as_images_of_their_channels(strict_numerics):
    tokens = np.random.default_rng(0).standard_normal((2, 6, 4)).astype(np.float32)
    found = resampling.resize_tokens(jnp.asarray(tokens), (2, 3), (5, 4), "bilinear")
    images = jnp.asarray(tokens.reshape(2, 2, 3, 4).transpose(0, 3, 1, 2))
    expected = resampling.resize(images, 5, 4, "bilinear")
    expected = np.asarray(expected).transpose(0, 2, 3, 1).reshape(2, 20, 4)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    same = resampling.resize_tokens(jnp.asarray(tokens), (2, 3), (2, 3), "bilinear")
    np.testing.assert_array_equal(same, tokens)


def test_narrow_types_come_back_as_they_were(strict_numerics):
    images = jnp.ones((1, 4, 4), jnp.bfloat16)
    found = resampling.resize(images, 7, 4, "bicubic")
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, jnp.ones((1, 7, 4), jnp.bfloat16))
