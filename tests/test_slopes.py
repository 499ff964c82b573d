"""Slopes and curvatures of fields."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from weatherlib import slopes, xarray_jax
from weatherlib.geometry.harmonics import EARTH_RADIUS

LENGTH = 1000.0
RATIO = LENGTH * 1000 / EARTH_RADIUS
STEP = 2.0
WITH_POLES = np.arange(-90.0, 91.0, STEP)
AROUND = np.arange(0.0, 360.0, STEP)


def wave(lat, lon):
    """A harmonic of degree 3 and order 2, its slopes and its Laplacian."""
    phi, lam = np.deg2rad(lat)[:, np.newaxis], np.deg2rad(lon)
    field = np.cos(phi) ** 2 * np.sin(phi) * np.cos(2 * lam)
    east = -2 * np.cos(phi) * np.sin(phi) * np.sin(2 * lam)
    north = (np.cos(phi) ** 3 - 2 * np.cos(phi) * np.sin(phi) ** 2) * np.cos(2 * lam)
    return field, RATIO * east, RATIO * north, -12 * RATIO**2 * field


def computed(lat, lon, field):
    found = slopes.compute_slopes(
        jnp.asarray(field[np.newaxis, ..., np.newaxis], jnp.float32), lat, lon, LENGTH
    )
    return [np.asarray(part)[0, ..., 0] for part in found]


@pytest.mark.parametrize(
    "lat", [WITH_POLES, WITH_POLES[::-1], WITH_POLES[:-1] + STEP / 2]
)
@pytest.mark.parametrize("lon", [AROUND, AROUND - 180])
def test_slopes_are_those_of_a_harmonic(lat, lon):
    field, *expected = wave(lat, lon)
    away_from_poles = np.abs(lat) < 75
    for part, wanted in zip(computed(lat, lon, field), expected):
        bound = 4e-3 * np.abs(wanted).max()
        np.testing.assert_allclose(
            part[away_from_poles], wanted[away_from_poles], atol=bound
        )


def test_differences_go_over_the_poles():
    lat, lon = WITH_POLES, AROUND
    # The distance from the Greenwich plane, which has no kink at a pole.
    field = np.cos(np.deg2rad(lat))[:, np.newaxis] * np.sin(np.deg2rad(lon))
    _, north, curvature = computed(lat, lon, field)
    np.testing.assert_allclose(north[-1], -RATIO * np.sin(np.deg2rad(lon)), atol=1e-3)
    np.testing.assert_allclose(north[0], RATIO * np.sin(np.deg2rad(lon)), atol=1e-3)
    np.testing.assert_allclose(curvature[[0, -1]], 0, atol=1e-3)


def test_slopes_are_small_next_to_the_poles_where_points_crowd():
    lat = WITH_POLES
    field = np.zeros((len(lat), len(AROUND)))
    field[lat == 88, ::2] = 1
    east, _, curvature = computed(lat, AROUND, field)
    assert np.abs(east).max() == 0
    spacing = np.deg2rad(STEP) * 0.25
    assert np.abs(curvature).max() <= 4 * (RATIO / spacing) ** 2


def test_a_region_has_one_sided_slopes_at_its_sides():
    lat, lon = np.arange(30.0, 50.0, STEP), np.arange(350.0, 380.0, STEP) % 360
    plane = np.deg2rad(lat)[:, np.newaxis] + 0 * lon
    _, north, _ = computed(lat, lon, plane)
    np.testing.assert_allclose(north, RATIO, rtol=1e-4)
    plane = 0 * lat[:, np.newaxis] + np.deg2rad(np.arange(lon.size) * STEP)
    east, _, _ = computed(lat, lon, plane)
    cosine = np.cos(np.deg2rad(lat))[:, np.newaxis]
    np.testing.assert_allclose(east * cosine, np.full(plane.shape, RATIO), rtol=1e-4)


def dataset(dims=("batch", "time", "level", "lat", "lon")):
    sizes = {"batch": 2, "time": 2, "level": 3, "lat": 91, "lon": 180}
    lat, lon = WITH_POLES.astype(np.float32), AROUND.astype(np.float32)
    factors = np.arange(1.0, 13.0, dtype=np.float32).reshape(2, 2, 3, 1, 1)
    values = factors * wave(lat, lon)[0].astype(np.float32)
    array = xr.DataArray(values, dims=tuple(sizes))
    return xr.Dataset(
        {"z": array.transpose(*dims), "year": ("batch", np.zeros(2, np.float32))},
        coords={"lat": lat, "lon": lon, "level": [200, 500, 850]},
    )


@pytest.mark.parametrize(
    "dims",
    [
        ("batch", "time", "level", "lat", "lon"),
        ("lon", "level", "batch", "lat", "time"),
    ],
)
def test_each_frame_and_level_has_its_slopes(dims):
    given = dataset(dims)
    found = slopes.add_slopes(given, ["z"], LENGTH)
    assert set(found) == {"z", "year", *(f"z_{part}" for part in slopes.PARTS)}
    expected = computed(WITH_POLES, AROUND, wave(WITH_POLES, AROUND)[0])
    for part, wanted in zip(slopes.PARTS, expected):
        array = found[f"z_{part}"]
        assert array.dims == dims
        assert array.dtype == np.float32
        values = xarray_jax.unwrap_data(array.transpose(*dataset()["z"].dims))
        np.testing.assert_allclose(values[1, 0, 2], 9 * wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [("q", "there is no q among z, year"), ("year", "year has no slopes")],
)
def test_what_has_no_slopes_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        slopes.add_slopes(dataset(), [name])
