"""Tests of the weights that resize images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.geometry import resampling

SIDES = st.integers(1, 40)


@given(SIDES, SIDES, st.sampled_from(resampling.METHODS))
def test_new_pixels_are_weighted_means_of_old_ones(source, target, method):
    weights = resampling.resize_weights(source, target, method)
    assert weights.shape == (target, source)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)


@given(SIDES, st.sampled_from(resampling.METHODS))
def test_the_size_that_is_there_changes_nothing(size, method):
    weights = resampling.resize_weights(size, size, method)
    np.testing.assert_allclose(weights, np.eye(size), atol=1e-12)


@given(SIDES, SIDES, st.sampled_from(resampling.METHODS[:4]))
def test_a_mirror_image_becomes_a_mirror_image(source, target, method):
    weights = resampling.resize_weights(source, target, method)
    np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "first"),
    [
        # By hand: the first of two pixels out of four lies at 0.5 of the old ones.
        ("bilinear", [0.5, 0.5, 0, 0]),
        # Kernel of -0.75 at distances 1.5, 0.5, 0.5 and 1.5; the first is the edge.
        ("bicubic", [0.59375 - 0.09375, 0.59375, -0.09375, 0]),
        # Triangle of twice the width, without what lies beyond the edge.
        ("bilinear_antialias", [3 / 7, 3 / 7, 1 / 7, 0]),
        ("nearest", [1, 0, 0, 0]),
    ],
)
def test_halving_takes_these_shares(method, first):
    weights = resampling.resize_weights(4, 2, method)
    np.testing.assert_allclose(weights[0], first, atol=1e-12)


def test_antialiasing_sees_all_pixels_of_a_step_and_the_others_do_not():
    narrow = resampling.resize_weights(40, 4, "bicubic")
    wide = resampling.resize_weights(40, 4, "bicubic_antialias")
    assert (np.count_nonzero(narrow, axis=1) <= 4).all()
    assert (np.count_nonzero(wide, axis=1) >= 20).all()


def test_an_axis_without_pixels_is_refused():
    with pytest.raises(ValueError, match="cannot resize 0 pixels to 3"):
        resampling.resize_weights(0, 3, "bicubic")
