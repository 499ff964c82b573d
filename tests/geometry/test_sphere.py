import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tolerances
from tests.conftest import GOLDENS
from weatherlib.geometry import sphere

ANGLES = st.tuples(st.floats(-89.9, 89.9), st.floats(0, 359.9))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS / "geometry" / "loss_weights.npz") as file:
        return dict(file)


@given(st.lists(ANGLES, min_size=1, max_size=20))
def test_degrees_survive_the_way_over_positions(places):
    lat, lon = np.array(places).T
    position = sphere.positions_from_angles(*sphere.angles_from_degrees(lat, lon))
    again = sphere.degrees_from_angles(*sphere.angles_from_positions(*position))
    np.testing.assert_allclose(again[0], lat, atol=1e-9)
    np.testing.assert_allclose((again[1] - lon + 180) % 360 - 180, 0, atol=1e-9)


def test_axes_point_to_greenwich_bengal_and_the_north_pole():
    phi, theta = sphere.angles_from_degrees(np.array([0, 0, 90]), np.array([0, 90, 0]))
    positions = np.stack(sphere.positions_from_angles(phi, theta), axis=-1)
    np.testing.assert_allclose(positions, np.eye(3), atol=1e-15)


def test_longitudes_come_back_between_0_and_360():
    _, lon = sphere.degrees_from_angles(np.deg2rad([-90.0, 450.0]), np.zeros(2))
    np.testing.assert_allclose(lon, [270, 90])


def test_a_vector_that_is_too_long_has_no_angle():
    assert np.isnan(sphere.angles_from_positions(0.0, 0.0, 1.1)[1])


def test_single_precision_stays_single_precision():
    grid = sphere.grid_positions(np.float32([10, 20]), np.float32([0, 5, 10]))
    assert grid.dtype == np.float32
    assert grid.shape == (2, 3, 3)


def test_other_array_modules_can_be_named():
    class Doubling:
        deg2rad = staticmethod(lambda x: 2 * x)

    assert sphere.angles_from_degrees(80, 7, Doubling) == (14, 20)


def test_grid_rows_are_latitudes():
    grid = sphere.grid_positions(np.array([90.0, 0.0]), np.array([0.0, 90.0]))
    expected = [[[0, 0, 1], [0, 0, 1]], [[1, 0, 0], [0, 1, 0]]]
    np.testing.assert_allclose(grid, expected, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("lat_weights_poles_10deg", np.linspace(-90, 90, 19)),
        ("lat_weights_no_poles_10deg", np.linspace(-85, 85, 18)),
        ("lat_weights_1deg", np.linspace(-90, 90, 181)),
    ],
)
def test_latitude_weights_are_the_published_ones_in_either_order(golden, name, rows):
    weights = sphere.latitude_weights(rows)
    np.testing.assert_allclose(weights, golden[name], atol=tolerances.GEOMETRY)
    np.testing.assert_array_equal(sphere.latitude_weights(rows[::-1]), weights[::-1])


@given(rows=st.integers(2, 200), poles=st.booleans())
def test_latitude_weights_are_the_areas_of_rows(rows, poles):
    edge = 90 if poles else 90 - 90 / rows
    lat = np.linspace(-edge, edge, rows)
    borders = np.concatenate([[-90], (lat[1:] + lat[:-1]) / 2, [90]])
    areas = np.diff(np.sin(np.deg2rad(borders)))
    np.testing.assert_allclose(sphere.latitude_weights(lat), areas / areas.mean())


@given(start=st.floats(-85, 60), rows=st.integers(1, 40), step=st.floats(0.1, 0.6))
def test_windows_are_weighted_by_the_cosine_of_latitude(start, rows, step):
    lat = start + step * np.arange(rows)
    weights = sphere.latitude_weights(lat)
    cosines = np.cos(np.deg2rad(lat))
    np.testing.assert_allclose(weights, cosines / cosines.mean())
    np.testing.assert_allclose(weights.mean(), 1)


def test_a_window_with_one_pole_is_weighted_by_the_cosine_of_latitude():
    weights = sphere.latitude_weights([0, 30, 60, 90])
    cosines = np.cos(np.deg2rad([0, 30, 60, 90]))
    np.testing.assert_allclose(weights, cosines / cosines.mean(), atol=1e-15)


@pytest.mark.parametrize("rows", [[0, 1, 5], [0, 0], [10, np.nan], [80, 85, 95], []])
def test_rows_that_cannot_be_weighted_are_refused(rows):
    with pytest.raises(ValueError, match="latitude must"):
        sphere.latitude_weights(rows)
