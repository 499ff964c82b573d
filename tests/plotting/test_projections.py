import matplotlib.figure
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plotting.fields import field
from weatherlib import plotting
from weatherlib.plotting import projections, views

_MIDDLES = {"lambert": (10.0, 50.0), "orthographic": (-100.0, 40.0)}


def _make(name):
    return projections.make(name, *_MIDDLES.get(name, (25.0, 0.0)))


@pytest.mark.parametrize("name", projections.NAMES)
@given(longitude=st.floats(-180, 179.9), latitude=st.floats(-89, 89))
def test_places_come_back_from_the_map(name, longitude, latitude):
    projection = _make(name)
    x, y = projection.forward(np.array([longitude]), np.array([latitude]))
    if not np.isfinite(x[0]):
        return
    lon, lat = projection.inverse(x, y)
    np.testing.assert_allclose(lat, latitude, atol=0.02)
    turn = (lon - longitude + 180.0) % 360.0 - 180.0
    np.testing.assert_allclose(turn * np.cos(np.deg2rad(latitude)), 0.0, atol=0.02)


@pytest.mark.parametrize("name", projections.NAMES)
def test_places_lie_where_proj_puts_them(name):
    pyproj = pytest.importorskip("pyproj")
    lon_0, lat_0 = _MIDDLES.get(name, (25.0, 0.0))
    words = {
        "plate-carree": f"+proj=eqc +lon_0={lon_0}",
        "robinson": f"+proj=robin +lon_0={lon_0}",
        "mollweide": f"+proj=moll +lon_0={lon_0}",
        "orthographic": f"+proj=ortho +lon_0={lon_0} +lat_0={lat_0}",
        "north-polar": f"+proj=stere +lon_0={lon_0} +lat_0=90",
        "south-polar": f"+proj=stere +lon_0={lon_0} +lat_0=-90",
        "lambert": f"+proj=lcc +lon_0={lon_0} +lat_0={lat_0} +lat_1={lat_0}",
    }[name]
    theirs = pyproj.Proj(f"{words} +R=1")
    lon, lat = np.meshgrid(np.arange(-180.0, 180.0, 13.0), np.arange(-85.0, 86.0, 10.0))
    x, y = _make(name).forward(lon, lat)
    shown = np.isfinite(x)
    assert shown.sum() > 50
    expected = theirs(lon[shown], lat[shown])
    # Robinson's table is joined by another curve there.
    tolerance = 3e-3 if name == "robinson" else 1e-5
    np.testing.assert_allclose(x[shown], expected[0], atol=tolerance)
    np.testing.assert_allclose(y[shown], expected[1], atol=tolerance)


def test_the_far_side_of_the_globe_is_not_shown():
    x, _ = projections.make("orthographic", 0.0, 0.0).forward(
        np.array([0.0, 100.0]), np.array([0.0, 0.0])
    )
    assert np.isfinite(x).tolist() == [True, False]
    lon, _ = projections.make("robinson").inverse(np.array([3.0]), np.array([1.35]))
    assert np.isnan(lon).all()


@pytest.mark.parametrize("name", projections.NAMES)
@pytest.mark.parametrize("descending", [True, False])
def test_a_warm_place_is_drawn_where_it_is(name, descending):
    lat = np.linspace(-87.5, 87.5, 36)
    array = field(lat=lat[::-1] if descending else lat, lon=np.arange(0, 360, 5.0))
    place = (45.0, 52.5) if name != "south-polar" else (45.0, -52.5)
    array[:] = 0.0
    array.loc[{"lat": place[1], "lon": place[0]}] = 1.0
    view = plotting.find_view(name, array)
    x, y, values = views.sample(array, view, pixels=600)
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    expected = view.projection.forward(np.array([place[0]]), np.array([place[1]]))
    np.testing.assert_allclose([x[column], y[row]], np.ravel(expected), atol=0.03)


@pytest.mark.parametrize("name", projections.NAMES)
def test_no_line_runs_across_the_map(name):
    array = field(lat=np.linspace(-90, 90, 37), lon=np.arange(0, 360, 5.0))
    view = plotting.find_view(name, array, middle=_MIDDLES.get(name, (150.0, 0.0)))
    axes = matplotlib.figure.Figure().subplots()
    views.prepare(axes, view)
    left, right, _, _ = view.projection.whole
    longest = 0.0
    for collection in axes.collections:
        for segment in collection.get_segments():
            steps = np.hypot(*np.diff(segment, axis=0).T)
            longest = max(longest, steps.max(initial=0.0))
    assert 0.0 < longest < 0.2 * (right - left)


def test_a_field_without_gaps_fills_the_globe_across_the_date_line():
    array = field(lat=np.linspace(-90, 90, 37), lon=np.arange(0, 360, 5.0))
    view = plotting.find_view("robinson", array, middle=(170.0, 0.0))
    x, y, values = views.sample(array, view)
    lon, _ = view.projection.inverse(*np.meshgrid(x, y))
    np.testing.assert_array_equal(np.isfinite(values), np.isfinite(lon))
    # The warmest column is at 40 degrees east, beyond the seam of this map.
    middle = values[len(y) // 2]
    assert abs(lon[len(y) // 2, np.nanargmax(middle)] - 40.0) < 3.0


def test_missing_values_stay_missing_and_windows_do_not_spread():
    array = field(lat=np.linspace(30, 60, 13), lon=np.arange(-10, 31, 2.5))
    array[3, 4] = np.nan
    assert np.isfinite(array[3, 3]) and np.isfinite(array[3, 5])
    view = plotting.find_view("lambert", array)
    x, y, values = views.sample(array, view)
    lon, lat = view.projection.inverse(*np.meshgrid(x, y))
    outside = (lon < -11.3) | (lon > 31.3) | (lat < 28.7) | (lat > 61.3)
    assert np.isnan(values[outside]).all()
    hole = (np.abs(lon - 0.0) < 1) & (np.abs(lat - 37.5) < 1)
    assert hole.any() and np.isnan(values[hole]).all()
    # Smooth elsewhere, and not cell by cell because of one gap.
    north = (np.abs(lon - 20.0) < 1) & (lat > 40) & (lat < 55)
    assert len(np.unique(values[north].round(6))) > 100


def test_a_polar_map_shows_the_region_or_says_that_it_cannot():
    array = field(lat=np.linspace(-87.5, 87.5, 36), lon=np.arange(0, 360, 5.0))
    view = plotting.find_view("north-polar", array, region="europe")
    left, right, low, high = view.extent
    assert view.framed and view.projection.longitude == 12.5
    x, y = view.projection.forward(np.array([12.5]), np.array([50.0]))
    assert left < x < right and low < y < high
    assert right - left < 0.5 * np.ptp(view.projection.whole[:2])
    with pytest.raises(ValueError, match="south-polar shows latitudes -90 to -20"):
        plotting.find_view("south-polar", array, region="europe")


def test_a_region_sets_the_colours_and_the_frame():
    array = field(lat=np.linspace(-87.5, 87.5, 36), lon=np.arange(0, 360, 5.0))
    array[:] = np.broadcast_to(array["lat"].values[:, None], array.shape) + 280
    figure = plotting.draw_map(
        array, view=plotting.find_view("plate-carree", array, region="tropics")
    )
    (image,) = figure.axes[0].images
    assert image.norm.vmin >= 280 - 273.15 - 31 and image.norm.vmax <= 280 - 273.15 + 31
    view = plotting.find_view("plate-carree", array, region=(170.0, -170.0, -5.0, 5.0))
    np.testing.assert_allclose(np.rad2deg(view.extent), [-10, 10, -5, 5], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mercator", {}, "there are plate-carree, robinson"),
        ("robinson", {"region": "atlantis"}, "there are africa"),
        ("robinson", {"region": (0.0, 10.0, 50.0, 40.0)}, "no part of the globe"),
        ("lambert", {"middle": (0.0, 0.0)}, "10 to 80 degrees"),
        (
            "orthographic",
            {"region": (0.0, 10.0, 40.0, 50.0), "middle": (180.0, -45.0)},
            "does not show it",
        ),
    ],
)
def test_maps_that_cannot_be_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        plotting.find_view(name, field(), **settings)
