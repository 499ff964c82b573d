import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherlib.simulation import surface


def _grid(rows):
    lat = (np.arange(rows) + 0.5) * 180 / rows - 90
    return lat, np.arange(2 * rows) * 180 / rows


@pytest.mark.parametrize("rows", [16, 32, 90])
def test_land_covers_what_it_covers_on_the_earth(rows):
    lat, lon = _grid(rows)
    land = surface.land_fraction(lat, lon)
    assert land.shape == (rows, 2 * rows)
    assert land.min() >= 0
    assert land.max() <= 1 + 1e-12
    area = np.diff(np.sin(np.deg2rad(np.linspace(-90, 90, rows + 1))))
    share = np.average(land.mean(axis=1), weights=area)
    assert share == pytest.approx(0.29, abs=0.01)


@pytest.mark.parametrize(
    ("lat", "lon", "expected"),
    [
        *((0, 25, 1), (50, 100, 1), (-25, 135, 1), (-80, 60, 1), (40, 260, 1)),
        *((0, 200, 0), (-50, 250, 0), (40, 320, 0), (42, 51, 0)),
    ],
)
def test_places_are_on_land_or_at_sea(lat, lon, expected):
    rows, columns = _grid(180)
    land = surface.land_fraction(rows, columns)
    found = land[np.abs(rows - lat).argmin(), np.abs(columns - lon).argmin()]
    assert found == pytest.approx(expected, abs=0.01)


@settings(deadline=None)
@given(
    sizes=st.lists(st.floats(0.1, 5), min_size=2, max_size=20),
    count=st.integers(1, 12),
)
def test_overlaps_keep_the_mean(sizes, count):
    source = np.concatenate([[0], np.cumsum(sizes)])
    target = np.linspace(0, source[-1], count + 1)
    weights = surface.overlaps(source, target)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    values = np.arange(len(sizes)) ** 2.0
    width = np.diff(source)
    np.testing.assert_allclose(
        (weights @ values).mean(), (values * width).sum() / width.sum()
    )


def test_cells_end_at_the_limits():
    edges = surface.cell_edges(np.array([-60.0, 0.0, 50.0]), -90, 90)
    np.testing.assert_allclose(edges, [-90, -30, 25, 90])


def test_mountains_are_high_where_the_earth_has_them_and_periodic():
    tibet, ocean = surface.mountain_height(np.array([33.0, 0.0]), np.array([88, 200.0]))
    assert tibet > 3000
    assert 0 <= ocean < 20
    np.testing.assert_allclose(
        surface.mountain_height(np.array(10.0), np.array([0.0, 350.0])),
        surface.mountain_height(np.array(10.0), np.array([360.0, -10.0])),
    )
