"""Tests of the tables of cuboid attention against published ones."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.prediff import published
from weatherlib.geometry import cuboid_patterns, cuboids
from weatherlib.geometry.cuboid_patterns import Cuboid

LETTERS = st.tuples(*[st.sampled_from("ld")] * 3)
SMALL = st.tuples(*[st.integers(1, 6)] * 3)
NUMBERS = st.tuples(*[st.integers(0, 3)] * 3)
PADDING = st.sampled_from(cuboids.PADDINGS)


def cuboid_of(case):
    shift = tuple(case.get("shift_size", (0, 0, 0)))
    return Cuboid(tuple(case["cuboid_size"]), tuple(case["strategy"]), shift)


@pytest.mark.parametrize("number", range(4))
def test_data_is_cut_and_joined_as_published(number):
    case = published.listed()[f"reorder{number}"]
    data = published.arrays()[f"reorder{number}_in"]
    cut = cuboids.reorder(data, cuboid_of(case))
    np.testing.assert_array_equal(cut, published.arrays()[f"reorder{number}_out"])
    joined = cuboids.reverse(cut, cuboid_of(case), tuple(case["data_shape"]))
    np.testing.assert_array_equal(joined, data)


@pytest.mark.parametrize("number", range(8))
def test_cuboids_are_fitted_and_masked_as_published(number):
    case = published.listed()[f"mask{number}"]
    shape = tuple(case["data_shape"])
    fitted = cuboids.fitted(cuboid_of(case), shape)
    assert list(fitted.size) == case["updated_cuboid_size"]
    assert list(fitted.shift) == case["updated_shift_size"]
    expected = published.arrays()[f"mask{number}"]
    found = cuboids.attention_mask(shape, fitted, case["padding_type"])
    np.testing.assert_array_equal(found, expected)
    layout = cuboids.layout(shape, cuboid_of(case), case["padding_type"])
    assert (layout.query_region is None) == expected.all()


@pytest.mark.parametrize("number", range(3))
def test_relative_positions_are_numbered_as_published(number):
    case = published.listed()[f"relpos{number}"]
    found = cuboids.relative_position_index(case["cuboid_size"])
    np.testing.assert_array_equal(found, published.arrays()[f"relpos{number}_index"])
    assert found.max() == case["table_rows"] - 1


def test_patterns_are_the_published_ones():
    for key, case in published.listed()["patterns"].items():
        name, sizes = key.split("|")
        shape = tuple(map(int, sizes.split("x")))[:3]
        expected = cuboid_patterns.cuboids_from_lists(
            case["cuboid_size"], case["strategy"], case["shift_size"]
        )
        assert cuboid_patterns.pattern(name, shape) == expected, key


def test_patterns_take_other_numbers_and_small_data():
    pattern = cuboid_patterns.pattern
    shape = (5, 12, 18)
    assert pattern("divided_space_time", shape) == pattern("divided_st", shape)
    assert pattern("video_swin", shape) == pattern("video_swin_2x4", shape)
    assert pattern("video_swin_3x5", shape)[1] == Cuboid((3, 5, 5), shift=(1, 2, 2))
    assert pattern("video_swin_8x32", shape)[1] == Cuboid((5, 12, 12), shift=(2, 6, 6))
    assert pattern("spatial_lg_v1", shape) == pattern("spatial_lg_4", shape)
    assert pattern("spatial_lg_32", shape) == pattern("divided_st", shape)
    assert pattern("spatial_lg_v1", (5, 4, 5))[1] == Cuboid((1, 4, 4))
    sizes = [cuboid.size for cuboid in pattern("axial_space_dilate_3", shape)]
    assert sizes == [(5, 1, 1), (1, 4, 1), (1, 4, 1), (1, 1, 6), (1, 1, 6)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("axail", "unknown attention pattern 'axail' .did you mean 'axial'"),
        ("video_swin_0x4", "0 is no size"),
        ("axial_space_dilate", "unknown attention pattern"),
    ],
)
def test_unknown_patterns_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        cuboid_patterns.pattern(name, (4, 4, 4))


def test_a_pattern_of_data_without_points_is_refused():
    with pytest.raises(ValueError, match="no points to attend to"):
        cuboid_patterns.pattern("axial", (0, 4, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (0, 1, 1)}, "at least 1"),
        ({"shift": (0, -1, 0)}, "must not be negative"),
        ({"strategy": ("l", "x", "d")}, "'l' .local. or 'd' .dilated."),
    ],
)
def test_impossible_cuboids_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Cuboid(**{"size": (2, 2, 2), **changes})


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="found 1, 2 and 1"):
        cuboid_patterns.cuboids_from_lists([(1, 1, 1)], ["lll"] * 2, [(0, 0, 0)])


def test_lists_for_other_than_three_axes_are_refused():
    with pytest.raises(
        ValueError, match=r"each of time, rows and columns, found .2, 2"
    ):
        cuboid_patterns.cuboids_from_lists([(2, 2)], ["lll"], [(0, 0, 0)])


def test_data_that_is_no_multiple_of_cuboids_is_not_cut():
    with pytest.raises(ValueError, match="do not fill"):
        cuboids.reorder(np.zeros((1, 3, 4, 4, 1)), Cuboid((2, 2, 2)))


@hypothesis.given(counts=SMALL, size=SMALL, strategy=LETTERS)
def test_joining_undoes_cutting(counts, size, strategy):
    shape = tuple(n * s for n, s in zip(counts, size))
    data = np.arange(2 * np.prod(shape) * 3).reshape(2, *shape, 3)
    cuboid = Cuboid(size, strategy)
    cut = cuboids.reorder(data, cuboid)
    assert cut.shape == (2, np.prod(counts), np.prod(size), 3)
    np.testing.assert_array_equal(cuboids.reverse(cut, cuboid, shape), data)


@hypothesis.given(counts=SMALL, size=SMALL, strategy=LETTERS)
def test_points_of_a_cuboid_lie_as_the_strategy_says(counts, size, strategy):
    shape = tuple(n * s for n, s in zip(counts, size))
    places = np.stack(np.indices(shape), axis=-1)[np.newaxis]
    for points in cuboids.reorder(places, Cuboid(size, strategy))[0]:
        for axis, letter in enumerate(strategy):
            along = np.unique(points[:, axis])
            step = 1 if letter == "l" else counts[axis]
            assert len(along) == size[axis]
            assert (np.diff(along) == step).all()


def plain_mask(shape, cuboid, padding):
    """Returns which points see each other, looked at pair by pair."""
    padded = [-(-n // s) * s for n, s in zip(shape, cuboid.size)]
    seen = {}
    for place in np.ndindex(*padded):
        # Where the point was before the shift, and whether it went round the end.
        old = [(p + s) % n for p, s, n in zip(place, cuboid.shift, padded)]
        wrapped = tuple(p + s >= n for p, s, n in zip(place, cuboid.shift, padded))
        real = all(p < n for p, n in zip(old, shape))
        number = []
        for axis, letter in enumerate(cuboid.strategy):
            blocks = padded[axis] // cuboid.size[axis]
            p = place[axis]
            block = p // cuboid.size[axis] if letter == "l" else p % blocks
            number.append(block)
        seen.setdefault(tuple(number), []).append((wrapped, real))
    masks = []
    for number in sorted(seen):
        points = seen[number]
        masks.append(
            [
                [
                    a[0] == b[0] and (padding != "ignore" or (a[1] and b[1]))
                    for b in points
                ]
                for a in points
            ]
        )
    return np.array(masks)


@hypothesis.settings(max_examples=60)
@hypothesis.given(shape=SMALL, size=SMALL, shift=NUMBERS, strategy=LETTERS, pad=PADDING)
def test_masks_hide_what_was_added_and_what_came_round_the_end(
    shape, size, shift, strategy, pad
):
    small = tuple(min(a, b - 1) for a, b in zip(shift, size))
    cuboid = cuboids.fitted(Cuboid(size, strategy, small), shape)
    found = cuboids.attention_mask(shape, cuboid, pad)
    assert np.array_equal(found, plain_mask(shape, cuboid, pad))


@hypothesis.given(shape=SMALL, size=SMALL, shift=NUMBERS, strategy=LETTERS, pad=PADDING)
def test_a_layout_fits_together(shape, size, shift, strategy, pad):
    layout = cuboids.layout(shape, Cuboid(size, strategy, shift), pad)
    assert layout.count * layout.volume == np.prod(layout.padded)
    added = any(layout.added)
    assert (layout.stretch is not None) == (pad == "nearest" and added)
    assert (layout.visible is not None) == (pad == "ignore" and added)
    index = layout.query_place[:, None] - layout.key_place
    whole = cuboids.relative_position_index(size)
    np.testing.assert_array_equal(index, whole[: layout.volume, : layout.volume])
    if layout.visible is not None:
        assert layout.visible.sum() == np.prod(shape)
        assert layout.visible_unordered.sum() == np.prod(shape)


def test_equal_layouts_are_made_once_and_are_read_only():
    first = cuboids.layout((3, 5, 4), Cuboid((2, 2, 2), shift=(0, 1, 1)), "ignore")
    again = cuboids.layout((3, 5, 4), Cuboid((2, 2, 2), shift=(0, 1, 1)), "ignore")
    assert first is again
    for array in (first.query_region, first.key_place, first.visible):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_tables_grow_with_the_data_and_not_with_the_square_of_cuboids():
    cuboid = Cuboid((13, 64, 64), shift=(6, 32, 32))
    layout = cuboids.layout((26, 128, 128), cuboid, "ignore")
    arrays = [a for a in vars(layout).values() if isinstance(a, np.ndarray)]
    assert sum(a.nbytes for a in arrays) < 16 * np.prod(layout.padded)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (4, 4, [0, 1, 2, 3]),
        (3, 6, [0, 0, 1, 1, 2, 2]),
        (3, 5, [0, 0, 1, 1, 2]),
        (5, 3, [0, 1, 3]),
        (6, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_nearest_points_are_those_below(source, target, expected):
    np.testing.assert_array_equal(cuboids.nearest_indices(source, target), expected)
