"""Tests of functions that are applied to tiles of fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.nn import tiling


def _fields(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def _grow(x):
    """Returns every point as a square of four."""
    return jnp.repeat(jnp.repeat(2 * x + 1, 2, 1), 2, 2)


@given(
    length=st.integers(1, 60),
    size=st.integers(1, 20),
    share=st.floats(0, 0.99),
    grow=st.integers(1, 3),
    around=st.booleans(),
)
def test_weights_of_all_tiles_add_up_to_one_everywhere(
    length, size, share, grow, around
):
    tiles = tiling.Tiles(size=size, overlap=int(share * size))
    axis = tiling._axis(length, tiles, grow, around)
    total = np.zeros(length * grow)
    for start, weights in zip(axis.starts, axis.weights):
        assert weights.shape == (min(size, length) * grow,)
        assert (weights > 0).all()
        places = start * grow + np.arange(len(weights))
        assert around or places[-1] < len(total)
        np.add.at(total, places % len(total), weights)
    np.testing.assert_allclose(total, 1)
    shared = axis.size - np.diff(axis.starts)
    assert (shared >= min(tiles.overlap, size)).all()


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize(
    ("rows", "columns", "size", "overlap"),
    [(3, 4, 9, 2), (7, 11, 3, 1), (2, 13, 5, 4), (13, 2, 4, 0)],
)
def test_a_function_of_single_points_is_the_same_in_tiles(
    rows, columns, size, overlap, around
):
    tiles = tiling.Tiles(size=size, overlap=overlap, around=around)
    x = _fields(2, rows, columns, 3)
    found = tiling.map_tiles(_grow, x, tiles, grow=2)
    np.testing.assert_allclose(found, _grow(x), atol=1e-5)


def test_functions_may_shrink_fields():
    def halve(x):
        return x.reshape(2, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))

    x = _fields(2, 14, 22, 3)
    tiles = tiling.Tiles(size=4, overlap=1)
    found = tiling.map_tiles(halve, x, tiles, shrink=2)
    np.testing.assert_allclose(found, halve(x), atol=1e-6)
    with pytest.raises(ValueError, match="3 does not divide a field of 14x22"):
        tiling.map_tiles(halve, x, tiles, shrink=3)


def test_tiles_have_one_size_and_memory_of_one(strict_numerics):
    seen = []

    def function(x):
        seen.append(x.shape)
        return x

    tiles = tiling.Tiles(size=8, overlap=2)
    tiling.map_tiles(function, _fields(1, 50, 70, 2), tiles)
    assert set(seen) == {(1, 8, 8, 2)}


def test_on_a_globe_the_seam_is_like_any_other_place():
    """A smoothing within tiles moves with the field when tiles go around."""

    def smooth(x):
        padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
        return (padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]) / 3

    x = _fields(1, 4, 32, 1)
    whole = (jnp.roll(x, 1, 2) + x + jnp.roll(x, -1, 2)) / 3
    errors = {}
    for around in (True, False):
        tiles = tiling.Tiles(size=8, overlap=4, around=around)
        found = tiling.map_tiles(smooth, x, tiles)
        errors[around] = np.abs(found - whole)[0, :, [0, -1]].max()
    assert errors[True] < 0.4 * errors[False]


def test_gradients_go_through_tiles():
    tiles = tiling.Tiles(size=4, overlap=2)
    x = _fields(1, 9, 10, 2)
    found = jax.jit(
        jax.grad(lambda x: (tiling.map_tiles(_grow, x, tiles, grow=2) ** 2).sum())
    )(x)
    expected = jax.grad(lambda x: (_grow(x) ** 2).sum())(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_narrow_fields_stay_narrow():
    tiles = tiling.Tiles(size=4, overlap=2)
    x = _fields(1, 9, 10, 2).astype(jnp.bfloat16)
    assert tiling.map_tiles(_grow, x, tiles, grow=2).dtype == jnp.bfloat16


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_sizes_out_of_range_are_refused(size, overlap):
    with pytest.raises(ValueError, match="an overlap below it, found"):
        tiling.Tiles(size=size, overlap=overlap)


@pytest.mark.parametrize("around", [False, True])
def test_padding_and_cropping_undo_each_other(around):
    x = _fields(2, 5, 7, 3)
    padded = tiling.pad_to_multiple(x, 4, around=around)
    assert padded.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(tiling.crop(padded, 5, 7), x)
    np.testing.assert_array_equal(padded[:, 5:], padded[:, 4:5].repeat(3, 1))
    column = x[:, :, 0] if around else x[:, :, -1]
    np.testing.assert_array_equal(padded[:, :5, 7], column)
    with pytest.raises(ValueError, match="3 columns cannot be continued"):
        tiling.pad_to_multiple(x[:, :, :3], 16, around=True)
