"""Quantities that follow from others."""

import pathlib

import numpy as np
import pytest
import xarray

from tests.data import layouts
from weatherlib import data, variables
from weatherlib.geometry import harmonics

_SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data"


def _need(name):
    path = _SHARED / name
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return data.open_dataset(path)


def _global_wind(rows=37, columns=72, m=3):
    """Returns a wind of one rotational and one divergent harmonic, and their fields."""
    lat = np.linspace(-90, 90, rows)
    lon = np.arange(columns) * 360 / columns
    phi, lam = np.deg2rad(lat)[:, None], np.deg2rad(lon)[None]
    cosine, sine = np.cos(phi), np.sin(phi)
    # cos^m(phi) sin(phi) cos(m lambda) is a harmonic of degree m + 1.
    potential = cosine**m * sine * np.cos(m * lam)
    north = cosine ** (m - 1) * (cosine**2 - m * sine**2) * np.cos(m * lam)
    east = -m * cosine ** (m - 1) * sine * np.sin(m * lam)
    laplacian = -(m + 1) * (m + 2) * potential / harmonics.EARTH_RADIUS**2
    scale = 1e7
    u = (2 * east - north) * scale / harmonics.EARTH_RADIUS
    v = (2 * north + east) * scale / harmonics.EARTH_RADIUS
    wind = xarray.Dataset(
        {
            "u_component_of_wind": (("lat", "lon"), u),
            "v_component_of_wind": (("lat", "lon"), v),
        },
        coords={"lat": lat, "lon": lon},
    )
    return wind, laplacian * scale, 2 * laplacian * scale


@pytest.mark.parametrize("m", [1, 2, 7, 25])
def test_winds_that_the_grid_resolves_are_differentiated_exactly(m):
    wind, vorticity, divergence = _global_wind(m=m)
    found = data.add_derived(wind, ["vorticity", "divergence"])
    scale = np.abs(divergence).max()
    np.testing.assert_allclose(found["vorticity"], vorticity, atol=1e-9 * scale)
    np.testing.assert_allclose(found["divergence"], divergence, atol=1e-9 * scale)
    assert found["vorticity"].attrs["units"] == "s-1"


def test_rows_without_poles_and_gaussian_rows_work_too():
    lon = np.arange(48) * 7.5
    for lat in (
        (np.arange(24) + 0.5) * 7.5 - 90,
        np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(24)[0])),
    ):
        u = 30 * np.cos(np.deg2rad(lat))[:, None] * np.ones(48)
        vorticity, divergence = harmonics.vorticity_and_divergence(u, 0 * u, lat)
        wanted = 60 * np.sin(np.deg2rad(lat)) / harmonics.EARTH_RADIUS
        np.testing.assert_allclose(vorticity, wanted[:, None] + 0 * lon, atol=1e-14)
        np.testing.assert_allclose(divergence, 0, atol=1e-14)


def test_spectral_derivatives_agree_with_ncl():
    wind = _need("spectral/era5_uv850_2025120100_2.5x2.5_latfixed.nc")
    reference = _need("spectral/era5_vodv850_2025120100_2.5x2.5_ncl.nc")
    found = data.add_derived(wind, ["vorticity", "divergence"])
    for name in ("vorticity", "divergence"):
        scale = float(np.abs(reference[name]).max())
        np.testing.assert_allclose(found[name], reference[name], atol=1e-5 * scale)


def test_a_truncation_leaves_out_short_waves():
    wind, _, _ = _global_wind(m=7)
    u, v = (wind[f"{c}_component_of_wind"].values for c in "uv")
    lat = wind["lat"].values
    cut, _ = harmonics.vorticity_and_divergence(u, v, lat, truncation=7)
    np.testing.assert_allclose(cut, 0, atol=1e-15)
    kept, _ = harmonics.vorticity_and_divergence(u, v, lat, truncation=8)
    whole, _ = harmonics.vorticity_and_divergence(u, v, lat)
    np.testing.assert_allclose(kept, whole, atol=1e-15)


def test_a_part_of_the_globe_is_differentiated_by_differences():
    wind, vorticity, divergence = _global_wind(rows=181, columns=360, m=3)
    window = {"lat": slice(100, 160), "lon": slice(20, 90)}
    found = data.add_derived(wind.isel(window), ["vorticity", "divergence"])
    for name, wanted in (("vorticity", vorticity), ("divergence", divergence)):
        inside = wanted[window["lat"], window["lon"]]
        np.testing.assert_allclose(
            found[name], inside, atol=0.01 * np.abs(wanted).max()
        )


def test_winds_that_cannot_be_differentiated_are_refused():
    wind, _, _ = _global_wind()
    u = wind["u_component_of_wind"].values
    lat = wind["lat"].values
    with pytest.raises(ValueError, match="whole globe"):
        harmonics.vorticity_and_divergence(u[:20], u[:20], lat[:20])
    holed = np.where(u == u.max(), np.nan, u)
    with pytest.raises(ValueError, match="not finite"):
        harmonics.vorticity_and_divergence(holed, u, lat)
    with pytest.raises(ValueError, match="no value on a pole"):
        harmonics.finite_differences(u[:20], u[:20], lat[:20], wind["lon"].values)
    with pytest.raises(ValueError, match="no derivatives"):
        harmonics.finite_differences(u[:2, :2], u[:2, :2], lat[5:7], np.arange(2.0))
    with pytest.raises(ValueError, match="needs the axis lon"):
        data.add_derived(wind.isel(lon=0, drop=True), ["vorticity"])


@pytest.mark.parametrize("chunks", [None, {}])
def test_derived_fields_are_read_as_they_are_needed(tmp_path, chunks):
    wind, vorticity, _ = _global_wind()
    levels = xarray.concat([wind, 2 * wind], dim="level").assign_coords(
        level=[500, 850]
    )
    levels.transpose("level", "lat", "lon").to_netcdf(tmp_path / "wind.nc")
    opened = data.open_dataset(tmp_path / "wind.nc", chunks=chunks)
    found = data.add_derived(opened, ["vorticity", "wind_speed"])
    assert not found["vorticity"].variable._in_memory
    part = found["vorticity"].isel(level=1, lat=slice(3, 9))
    scale = np.abs(vorticity).max()
    np.testing.assert_allclose(part, 2 * vorticity[3:9], atol=1e-6 * scale)
    speed = found["wind_speed"].isel(level=0)
    np.testing.assert_allclose(
        speed,
        np.hypot(wind["u_component_of_wind"], wind["v_component_of_wind"]),
        rtol=1e-6,
    )


def test_humidity_is_that_of_the_ifs():
    opened = _need("era5_tl31_37lev_19590102T00.nc")
    found = data.add_derived(opened, ["relative_humidity"])["relative_humidity"]
    low = found.sel(level=slice(500, 1000))
    # The model allows little supersaturation where water condenses; the coarse grid of
    # the file adds some.
    assert float(low.quantile(0.99)) < 105
    assert 40 < float(low.sel(level=1000).mean()) < 90
    assert found.dims == ("time", "level", "lat", "lon")


def test_humidity_follows_water_and_ice_at_the_ends_of_the_mixture():
    # Vapour pressure of saturation: over water at 0.01 C, over ice at -30 C, in Pa.
    kelvin = np.array([273.16, 243.15])
    vapour = np.array([611.21, 38.02])
    q = 0.621981 * vapour / (50000 - (1 - 0.621981) * vapour)
    state = xarray.Dataset(
        {
            "temperature": (("level", "x"), kelvin[None]),
            "specific_humidity": (("level", "x"), q[None]),
        },
        coords={"level": [500]},
    )
    found = data.add_derived(state, ["relative_humidity"])["relative_humidity"]
    np.testing.assert_allclose(found, 100, rtol=4e-3)


def test_humidity_at_two_metres_agrees_with_that_of_a_forecast():
    pytest.importorskip("pyproj")
    pytest.importorskip("cfgrib")
    opened = _need("grib/meteonet_arpege_2m_NWfrance_20180501T00.grib")
    stated = opened["2m_relative_humidity"]
    found = data.add_derived(
        opened.drop_vars("2m_relative_humidity"), ["2m_relative_humidity"]
    )["2m_relative_humidity"]
    assert float(np.abs(found - stated).mean()) < 1


def test_thickness_and_height_come_from_geopotential():
    state = layouts.series(2, levels=(500, 850))
    found = data.add_derived(state, ["thickness_500_850", "geopotential_height"])
    z = state["geopotential"] / variables.GRAVITY
    np.testing.assert_allclose(
        found["thickness_500_850"], z.sel(level=500) - z.sel(level=850), rtol=1e-5
    )
    assert found["thickness_500_850"].dims == ("time", "lat", "lon")
    np.testing.assert_allclose(found["geopotential_height"], z, rtol=1e-6)


def test_what_cannot_be_derived_is_named():
    state = layouts.series(2)
    with pytest.raises(
        ValueError, match="vortcity: cannot be derived; is it vorticity"
    ):
        data.add_derived(state, ["vortcity"])
    with pytest.raises(ValueError, match=r"10m_wind_speed: needs .*; missing: 10m_u"):
        data.add_derived(state, ["10m_wind_speed"])
    with pytest.raises(ValueError, match="thickness_500_1000: needs geopotential at"):
        data.add_derived(state, ["thickness_500_1000"])
    flat = state.isel(level=0, drop=True)
    with pytest.raises(ValueError, match="needs the axis level"):
        data.add_derived(flat, ["relative_humidity"])
    kept = data.add_derived(state, ["temperature"])
    xarray.testing.assert_identical(kept, state)
