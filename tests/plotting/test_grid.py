import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plotting.fields import field
from weatherlib.plotting import grid


@given(shift=st.integers(0, 11), west=st.sampled_from([0, -180, 15, -170]))
def test_global_columns_come_from_180_west_whatever_their_order(shift, west):
    longitude = np.roll(west + np.arange(0, 360, 30.0), shift)
    original = field(lon=longitude)
    flat = grid.flatten(original)
    assert flat.wraps
    assert np.all(np.diff(flat.longitude) > 0)
    assert -180 - 1e-3 <= flat.longitude[0] < -180 + 30
    for column, lon in enumerate(flat.longitude):
        index = np.argmin(np.abs((longitude - lon + 180) % 360 - 180))
        np.testing.assert_array_equal(flat.values[:, column], original[:, index])


@given(descending=st.booleans())
def test_rows_go_north_whatever_their_order(descending):
    lat = np.linspace(-60, 80, 8)
    original = field(lat=lat[::-1] if descending else lat)
    flat = grid.flatten(original)
    np.testing.assert_allclose(flat.latitude, lat)
    np.testing.assert_array_equal(flat.values[0, 6], original.sel(lat=-60, lon=0))


@pytest.mark.parametrize(
    ("longitude", "first", "last"),
    [
        ([350, 355, 0, 5, 10], -10, 10),
        ([0, 5, 10, 350, 355], -10, 10),
        ([170, 175, -180, -175], 170, 185),
        ([200, 210, 220], -160, -140),
        ([-20, -10, 0], -20, 0),
    ],
)
def test_a_window_stays_in_one_piece(longitude, first, last):
    flat = grid.flatten(field(lon=longitude))
    assert not flat.wraps
    assert (flat.longitude[0], flat.longitude[-1]) == (first, last)
    assert np.all(np.diff(flat.longitude) > 0)


def test_the_map_ends_at_cell_borders_and_never_beyond_a_pole():
    assert grid.flatten(field()).extent == (-195, 165, -90, 90)
    poles = grid.flatten(field(lat=np.linspace(-90, 90, 7), lon=[0, 10, 20]))
    assert poles.extent == (-5, 25, -90, 90)


def test_a_single_row_and_column_still_have_a_map():
    flat = grid.flatten(field(lat=[10], lon=[20]))
    assert flat.extent == (19.5, 20.5, 9.5, 10.5)


@pytest.mark.parametrize(
    ("lat", "even"), [([0, 10, 20, 30], True), ([0, 10, 20, 35], False)]
)
def test_uneven_rows_are_noticed(lat, even):
    assert grid.flatten(field(lat=lat)).even is even


def test_refined_values_pass_through_the_originals_at_the_borders():
    flat = grid.flatten(field())
    longitude, latitude, values = flat.refined(rows=60)
    assert values.shape == (len(latitude), len(longitude)) == (60, 140)
    np.testing.assert_allclose(values[0, 0], flat.values[0, -1], atol=1e-9)
    np.testing.assert_allclose(values[-1, -1], flat.values[-1, 0], atol=1e-9)


def test_missing_values_are_not_smeared_by_refining():
    original = field()
    original[2, 3] = np.nan
    flat = grid.flatten(original)
    longitude, latitude, values = flat.refined(rows=60)
    assert values.shape == (60, 140)
    row, column = np.argwhere(np.isnan(flat.values))[0]
    far = (np.abs(longitude - flat.longitude[column]) > 15.01)[None, :] | (
        np.abs(latitude - flat.latitude[row]) > 15.01
    )[:, None]
    np.testing.assert_array_equal(np.isnan(values), ~far)


def test_a_field_with_more_than_one_entry_elsewhere_is_refused():
    with pytest.raises(ValueError, match=r"one field.*'time': 2"):
        grid.flatten(field(times=2))


def test_a_field_without_a_grid_is_refused():
    with pytest.raises(ValueError, match="needs dimension and coordinate 'lat'"):
        grid.flatten(field().drop_vars("lat"))
