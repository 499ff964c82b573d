"""Tests of regions against the published lists."""

import numpy as np
import pytest

from tests.climax import published
from weatherlib import climax
from weatherlib.climax import regions

GRIDS = {"5.625deg_p2": (32, 64, 2), "1.40625deg_p4": (128, 256, 4)}


def coordinates(rows, columns):
    half = 90 / rows
    return np.linspace(-90 + half, 90 - half, rows), np.arange(columns) * 360 / columns


def sizes_for(rows, columns, size, **changes):
    return climax.ClimaXConfig(
        img_size=(rows, columns), patch_size=size, embed_dim=8, num_heads=2, **changes
    )


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", regions.REGIONS)
def test_the_published_quirk_gives_the_published_patches(name, grid, order):
    expected = published.listed("region_info.json")
    info = expected["region_info"][f"{grid}_lat_{order}"][name]
    lat, lon = coordinates(*GRIDS[grid][:2])
    if order == "descending":
        lat = lat[::-1]
    sizes = sizes_for(*GRIDS[grid], region=name, mirrored_region=True)
    found = regions.find_region(sizes, lat, lon)
    assert [found.rows[0], found.rows[-1]] == [info["min_h"], info["max_h"]]
    assert [found.columns[0], found.columns[-1]] == [info["min_w"], info["max_w"]]
    if "patch_ids" in info:
        np.testing.assert_array_equal(found.patch_ids.reshape(-1), info["patch_ids"])
    else:
        assert found.patch_ids.size == (len(lat) * len(lon)) // GRIDS[grid][2] ** 2


@pytest.mark.parametrize("name", regions.REGIONS)
def test_published_edges_are_ours(name):
    edges = published.listed("region_info.json")["boundaries"][name]
    assert list(regions.REGIONS[name]) == [*edges["lat_range"], *edges["lon_range"]]


@pytest.mark.parametrize("turned", [False, True])
def test_without_the_quirk_all_points_lie_in_the_region(turned):
    lat, lon = coordinates(32, 64)
    lat = lat[::-1] if turned else lat
    sizes = sizes_for(32, 64, 2, region="NorthAmerica")
    found = regions.find_region(sizes, lat, lon)
    inside = lat[found.rows]
    assert inside.min() >= 15 and inside.max() <= 65
    assert lon[found.columns].min() >= 220 and lon[found.columns].max() <= 300
    # No further row of patches would fit.
    assert inside.max() + 2 * 5.625 > 65


def test_a_box_goes_on_across_the_seam():
    lat, lon = coordinates(32, 64)
    sizes = sizes_for(32, 64, 2, region_box=(30.0, 60.0, -25.0, 25.0))
    found = regions.find_region(sizes, lat, lon)
    np.testing.assert_array_equal(found.patch_columns, [30, 31, 0, 1])
    east = (lon[found.columns] + 180) % 360 - 180
    assert (np.diff(east) > 0).all() and east.min() >= -25 and east.max() <= 25
    turned = sizes_for(32, 64, 2, region_box=(30.0, 60.0, 335.0, 25.0))
    assert regions.find_region(turned, lat, lon) == found
    west_first = (lon + 180) % 360 - 180
    again = regions.find_region(sizes, lat, np.sort(west_first))
    assert again.patch_columns == (14, 15, 16, 17)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region": "Europa"}, "did you mean 'Europe'"),
        ({"region_box": (0.0, 5.0, 0.0, 5.0)}, "no whole patch of 2x2 points"),
        ({"region_box": (60.0, 30.0, 0.0, 40.0)}, "region_box must be south, north"),
        ({"region_box": (30.0, 60.0, 0.0, 400.0)}, "region_box must be south, north"),
    ],
)
def test_regions_that_are_none_are_refused(changes, message):
    lat, lon = coordinates(32, 64)
    with pytest.raises(ValueError, match=message):
        regions.find_region(sizes_for(32, 64, 2, **changes), lat, lon)


def test_a_region_outside_of_a_small_grid_is_refused():
    lat, lon = coordinates(32, 64)
    sizes = sizes_for(8, 16, 2, region="Australia")
    with pytest.raises(ValueError, match=r"region Australia: no whole patch.*8x16"):
        regions.find_region(sizes, lat[20:28], lon[:16])


@pytest.mark.parametrize(
    "changes",
    [
        {"region_box": (0.0, 40.0, 0.0, 40.0)},
        {"time_history": 2},
        {"head": "projection", "out_variables": ("tas",)},
    ],
)
def test_a_region_goes_with_one_frame_and_one_choice(changes):
    with pytest.raises(ValueError, match="region"):
        sizes_for(32, 64, 2, region="Europe", **changes)
