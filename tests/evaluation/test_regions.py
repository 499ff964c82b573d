import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.evaluation import regions


def _grid(rows=18, columns=36, poles=False):
    edge = 90 if poles else 90 - 90 / rows
    return regions.Grid(
        lat=np.linspace(-edge, edge, rows),
        lon=np.arange(columns) * 360 / columns,
        shape=(rows, columns),
    )


@given(
    rows=st.integers(2, 60),
    poles=st.booleans(),
    weighting=st.sampled_from(["area", "cosine", "none"]),
)
def test_weights_average_to_one(rows, poles, weighting):
    grid = _grid(max(rows, 3), poles=poles)
    weights = regions.point_weights(grid, weighting)
    np.testing.assert_allclose(weights.mean(), 1)
    assert (weights >= 0).all()


def test_regions_that_part_the_globe_add_up_to_it():
    mask = np.random.default_rng(0).uniform(size=(18, 36))
    names = ["global", "tropics", "extra-tropics", "land", "sea"]
    found = regions.region_masks(_grid(), names, land_sea_mask=mask)
    np.testing.assert_array_equal(found["tropics"] + found["extra-tropics"], 1)
    np.testing.assert_allclose(found["land"] + found["sea"], found["global"])
    halves = ["northern-extratropics", "southern-extratropics", "tropics"]
    found = regions.region_masks(_grid(), halves)
    np.testing.assert_array_equal(sum(found.values()), 1)


@given(west=st.integers(-360, 360), width=st.integers(0, 359))
def test_a_box_runs_eastwards_over_the_seam(west, width):
    lon = np.arange(360.0)
    mask = regions.Box(west=west, east=west + width).mask(np.zeros(1), lon)
    inside = {(west + step) % 360 for step in range(width + 1)}
    np.testing.assert_array_equal(np.flatnonzero(mask[0]), sorted(inside))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_points_on_the_edge_of_a_box_are_in_it_whatever_their_type(dtype):
    lat = (43 + 0.1 * np.arange(20)).astype(dtype).astype(np.float64)
    lon = ((355 + 0.3 * np.arange(20)) % 360).astype(dtype).astype(np.float64)
    for first in range(17):
        south, west = 43 + 0.1 * first, 355 + 0.3 * first
        box = regions.Box(south=round(south, 1), north=round(south + 0.3, 1),
                          west=round(west, 1), east=round(west + 0.9, 1))  # fmt: skip
        mask = box.mask(lat, lon)
        np.testing.assert_array_equal(np.flatnonzero(mask.any(1)), first + np.arange(4))
        np.testing.assert_array_equal(np.flatnonzero(mask.any(0)), first + np.arange(4))


def test_europe_is_where_weatherbench_has_it():
    grid = _grid(180, 360)
    mask = regions.region_masks(grid, ["europe"])["europe"]
    inside = [(lat, lon) for lat, lon in ((50.5, 10), (50.5, 350), (36.5, 42))]
    outside = [(34.5, 10), (75.5, 10), (50.5, 43), (50.5, 347)]
    for points, expected in ((inside, 1), (outside, 0)):
        for lat, lon in points:
            assert mask[np.argmin(abs(grid.lat - lat)), lon] == expected


def test_default_regions_depend_on_the_grid():
    assert list(regions.region_masks(_grid())) == list(regions.DEFAULT_REGIONS)
    part = regions.Grid(lat=np.arange(40.0, 60), lon=np.arange(0.0, 20), shape=(20, 20))
    assert list(regions.region_masks(part)) == ["domain"]
    assert not part.is_global and not part.is_periodic
    plane = regions.Grid(lat=None, lon=None, shape=(5, 6))
    np.testing.assert_array_equal(
        regions.region_masks(plane)["domain"], np.ones((5, 6))
    )
    np.testing.assert_array_equal(regions.point_weights(plane), np.ones((5, 6)))


def test_a_box_is_written_with_four_edges():
    assert regions.parse_box("alps=43,49,5,17") == (
        "alps",
        regions.Box(south=43, north=49, west=5, east=17),
    )
    with pytest.raises(ValueError, match="south,north,west,east"):
        regions.parse_box("alps=43,49,5")
    with pytest.raises(ValueError, match="south < north"):
        regions.parse_box("alps=49,43,5,17")
    with pytest.raises(ValueError, match="'=43,49,5,17': the box has no name"):
        regions.parse_box("=43,49,5,17")


@pytest.mark.parametrize(
    ("name", "message"),
    [("atlantis", "is not known; there are global"), ("land", "give a land-sea mask")],
)
def test_a_region_that_cannot_be_drawn_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        regions.region_masks(_grid(), [name])


def test_the_size_of_cells_is_that_at_the_middle_latitude():
    lat, lon = np.arange(50.0, 71, 0.5), np.arange(-10.0, 20, 1)
    shape = (len(lat), len(lon))
    part = regions.Grid(lat=lat, lon=lon, shape=shape)
    np.testing.assert_allclose(part.cell_km, [55.6, 111.2 * 0.497], rtol=1e-2)
    uneven = regions.Grid(lat=lat, lon=lon**3, shape=shape)
    plane = regions.Grid(lat=None, lon=None, shape=shape)
    row = regions.Grid(lat=lat[:1], lon=lon, shape=(1, len(lon)))
    for grid in (_grid(), uneven, plane, row):
        assert grid.cell_km is None


def test_a_region_outside_of_the_grid_is_refused():
    part = regions.Grid(lat=np.arange(40.0, 60), lon=np.arange(0.0, 20), shape=(20, 20))
    with pytest.raises(ValueError, match="no point of the grid"):
        regions.region_masks(part, ["ausnz"])
    plane = regions.Grid(lat=None, lon=None, shape=(5, 6))
    with pytest.raises(ValueError, match="no latitude"):
        regions.region_masks(plane, ["europe"])
