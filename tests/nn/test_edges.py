import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn.edges import ZERO, Edges, check_reach, coarsened, fill_up, surround

GLOBE = Edges(columns="around", over_first_row="on_pole", over_last_row="on_pole")
REGION = Edges()


@pytest.mark.parametrize(("kind", "first_behind"), [("on_pole", 1), ("pole", 0)])
def test_over_a_pole_lies_the_other_side(kind, first_behind):
    x = jnp.arange(5 * 8.0).reshape(1, 5, 8, 1)
    edges = Edges(columns="around", over_first_row=kind, over_last_row=kind)
    wide = surround(x, 2, edges)[0, :, 2:-2, 0]
    field = x[0, :, :, 0]
    for reach in (1, 2):
        behind = first_behind + reach - 1
        np.testing.assert_array_equal(wide[2 - reach], jnp.roll(field[behind], 4))
        np.testing.assert_array_equal(wide[-3 + reach], jnp.roll(field[-1 - behind], 4))
    np.testing.assert_array_equal(wide[2:-2], field)


def test_at_the_edges_of_a_region_values_are_repeated():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    wide = surround(x, 1, REGION)[0, :, :, 0]
    np.testing.assert_array_equal(wide, np.pad(x[0, :, :, 0], 1, mode="edge"))


def test_a_globe_goes_on_with_its_first_column():
    x = jnp.arange(24.0).reshape(1, 3, 8, 1)
    wide = surround(x, 2, GLOBE)[0, 2:-2, :, 0]
    np.testing.assert_array_equal(wide, np.pad(x[0, :, :, 0], ((0, 0), (2, 2)), "wrap"))


def test_zero_edges_hold_zeros_on_all_sides():
    x = jnp.arange(1.0, 7).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(
        surround(x, 2, ZERO)[0, :, :, 0], np.pad(x[0, :, :, 0], 2)
    )


def test_zero_rows_go_with_columns_that_go_round():
    x = jnp.arange(1.0, 7).reshape(1, 2, 3, 1)
    edges = Edges(columns="around", over_first_row="zero", over_last_row="repeat")
    wide = surround(x, 1, edges)[0, :, :, 0]
    expected = [[0] * 5, [3, 1, 2, 3, 1], [6, 4, 5, 6, 4], [6, 4, 5, 6, 4]]
    np.testing.assert_array_equal(wide, expected)


def test_zero_columns_go_with_repeated_rows():
    x = jnp.arange(1.0, 3).reshape(1, 1, 2, 1)
    wide = surround(x, 1, Edges(columns="zero"))[0, :, :, 0]
    np.testing.assert_array_equal(wide, [[0, 1, 2, 0]] * 3)


@pytest.mark.parametrize(
    ("rows", "columns", "edges", "message"),
    [
        (2, 8, GLOBE, "at least 3 rows to go on beyond the edge, found 2"),
        (8, 1, GLOBE, "at least 2 columns"),
        (0, 8, ZERO, "at least 1 rows"),
    ],
)
def test_a_grid_too_small_to_go_on_is_refused(rows, columns, edges, message):
    with pytest.raises(ValueError, match=message):
        check_reach(rows, columns, 2, edges)


def test_a_grid_that_is_large_enough_is_accepted():
    check_reach(3, 2, 2, GLOBE)
    check_reach(1, 1, 5, REGION)
    check_reach(1, 1, 5, ZERO)


def test_coarser_rows_never_lie_on_a_pole():
    mixed = Edges(columns="around", over_first_row="on_pole", over_last_row="repeat")
    assert coarsened(mixed) == Edges(
        columns="around", over_first_row="pole", over_last_row="repeat"
    )
    assert coarsened(ZERO) == ZERO


@pytest.mark.parametrize(("rows", "columns"), [(5, 6), (8, 7), (8, 8), (1, 1)])
def test_a_field_is_filled_up_by_its_last_row_and_column(rows, columns):
    x = jnp.arange(float(rows * columns)).reshape(1, rows, columns, 1)
    expected = np.pad(x[0, :, :, 0], ((0, -rows % 4), (0, -columns % 4)), mode="edge")
    np.testing.assert_array_equal(fill_up(x, 4)[0, :, :, 0], expected)


@pytest.mark.parametrize(
    ("rows", "columns", "edges", "message"),
    [
        (2, 8, GLOBE, "reaches 2 point.*at least 3 rows.*found 2"),
        (3, 1, GLOBE, "at least 2 columns.*found 1"),
        (3, 2, GLOBE, None),
        (1, 1, REGION, None),
    ],
)
def test_a_grid_needs_as_many_points_as_lie_beyond_its_edge(
    rows, columns, edges, message
):
    if message is None:
        check_reach(rows, columns, 2, edges)
    else:
        with pytest.raises(ValueError, match=message):
            check_reach(rows, columns, 2, edges)
