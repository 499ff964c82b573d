import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from weatherlib.nn import patching
from weatherlib.nn.edges import ZERO, Edges


def globe(first, last):
    return Edges(columns="around", over_first_row=first, over_last_row=last)


GLOBE = globe("on_pole", "pole")


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    lat=st.integers(1, 9),
    lon=st.integers(1, 9),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_a_field_of_any_size_comes_back_from_its_patches(lat, lon, patch):
    field = jnp.arange(2 * lat * lon * 3, dtype=jnp.float32).reshape(2, lat, lon, 3)
    points = patching.to_patches(field, patch)
    assert points.shape[1:3] == (-(-lat // patch[0]), -(-lon // patch[1]))
    found = patching.from_patches(points, patch, (lat, lon))
    np.testing.assert_array_equal(found, field)


def test_a_point_holds_its_cells_row_by_row_and_the_last_are_repeated():
    field = jnp.arange(15.0).reshape(1, 3, 5, 1)
    points = patching.to_patches(field, (2, 3))
    np.testing.assert_array_equal(points[0, 0, 0], [0, 1, 2, 5, 6, 7])
    np.testing.assert_array_equal(points[0, 0, 1], [3, 4, 4, 8, 9, 9])
    np.testing.assert_array_equal(points[0, 1, 1], [13, 14, 14, 13, 14, 14])


def test_the_channels_of_a_cell_stay_together():
    field = jnp.arange(8.0).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(
        patching.to_patches(field, (2, 2)).reshape(-1), np.arange(8)
    )


@pytest.mark.parametrize(
    ("patch", "sizes", "expected"),
    [
        ((1, 1), (5, 7), GLOBE),
        ((2, 2), (6, 8), globe("pole", "pole")),
        ((2, 2), (7, 8), globe("pole", "repeat")),
        # Half-way round lies between two patches.
        ((2, 2), (6, 6), globe("repeat", "repeat")),
    ],
)
def test_patches_go_on_over_poles_that_they_reach(patch, sizes, expected):
    assert patching.patch_edges(GLOBE, patch, sizes) == expected


def test_zeros_and_repeated_edges_stay():
    for edges in (ZERO, Edges()):
        assert patching.patch_edges(edges, (3, 3), (5, 5)) == edges


def test_patches_must_divide_a_circle():
    with pytest.raises(ValueError, match="patch_size 3 does not divide the 8 columns"):
        patching.patch_edges(GLOBE, (1, 3), (6, 8))
