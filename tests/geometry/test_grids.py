import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.geometry import grids

GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))


@pytest.mark.parametrize(
    "rows",
    [
        np.linspace(-90, 90, 721, dtype=np.float32),
        np.linspace(87.1875, -87.1875, 32),
        np.arange(70, 30, -0.1, dtype=np.float32),
        GAUSSIAN,
        GAUSSIAN[::-1],
        [12],
        [-5, 5],
    ],
)
def test_rows_of_global_gaussian_and_window_grids_are_accepted(rows):
    checked = grids.check_latitude(rows)
    assert checked.dtype == np.float64
    np.testing.assert_array_equal(checked, rows)


@pytest.mark.parametrize(
    "columns",
    [
        np.arange(0, 360, 0.25, dtype=np.float32),
        np.arange(-180, 180, 0.1, dtype=np.float32),
        [350, 355, 0, 5],
        np.arange(20, -20, -1.5),
        [0, 120, 240],
        [0, 180],
        [7],
    ],
)
def test_columns_are_accepted_however_they_are_counted(columns):
    np.testing.assert_array_equal(grids.check_longitude(columns), columns)


@given(st.integers(3, 60), st.data())
def test_a_missing_row_is_found_wherever_it_is(rows, data):
    gap = data.draw(st.integers(1, rows - 1))
    lat = np.delete(np.linspace(-80, 80, rows + 1), gap)
    with pytest.raises(ValueError, match="evenly spaced"):
        grids.check_latitude(lat)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [0.0, 10.0, 20.0, 31.0],
            "most steps are 10 degrees, but there is 20 followed",
        ),
        ([0.0, 10.0, 10.0, 20.0], "without repeats, found 10 followed by 10"),
        ([0.0, 10.0, 5.0], "must rise or fall throughout"),
        ([80.0, 90.5], r"must lie in \[-90, 90\] degrees, found 90.5"),
        ([0.0, np.nan], "must hold finite numbers"),
        ([0.0, np.inf], "must hold finite numbers"),
        (["0", "1"], "must hold finite numbers"),
        ([], "list of at least one number"),
        ([[0.0, 1.0]], r"list of at least one number, got shape \(1, 2\)"),
    ],
)
def test_bad_rows_are_refused_with_what_was_found(rows, message):
    with pytest.raises(ValueError, match=f"latitude .*{message}"):
        grids.check_latitude(rows)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (np.linspace(0, 360, 37), "360 is the same place as another column"),
        ([-180.0, -90.0, 0.0, 90.0, 180.0], "180 is the same place"),
        ([0.0, 10.0, 10.0], "10 is the same place"),
        ([0.0, 10.0, 30.0], "evenly spaced: most steps are"),
        ([0.0, 20.0, 10.0], "must rise or fall throughout"),
        ([0.0, np.nan], "must hold finite numbers"),
        ([], "list of at least one number"),
    ],
)
def test_bad_columns_are_refused_with_what_was_found(columns, message):
    with pytest.raises(ValueError, match=f"longitude .*{message}"):
        grids.check_longitude(columns)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.arange(-90.0, 91, 30), True),
        (np.arange(80.0, -81, -20).astype(np.float32), True),
        (np.arange(-90.0, 90, 30), False),
        (np.arange(10.0, 50, 10), False),
    ],
)
def test_rows_are_symmetric_where_each_has_its_mirror_image(rows, expected):
    assert grids.is_symmetric(rows) is expected
