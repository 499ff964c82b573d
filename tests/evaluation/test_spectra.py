import numpy as np
import pytest
import scipy.special
import xarray
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation import samples
from weatherlib.evaluation import spectra

_POLES = np.linspace(-90, 90, 33)
_CELLS = np.linspace(-87.1875, 87.1875, 32)
_GAUSS = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))


def _harmonic(degree, order, lat):
    theta, phi = np.meshgrid(
        np.pi / 2 - np.deg2rad(lat), np.arange(64) * 2 * np.pi / 64, indexing="ij"
    )
    return scipy.special.sph_harm_y(degree, order, theta, phi).real


@pytest.mark.parametrize(
    "lat", [_POLES, _CELLS, _GAUSS], ids=["poles", "cells", "gauss"]
)
@given(degree=st.integers(0, 15), data=st.data())
def test_a_harmonic_has_its_power_at_its_wavenumber_alone(lat, degree, data):
    order = data.draw(st.integers(0, degree))
    power = spectra.spherical_power(3 * _harmonic(degree, order, lat), lat)
    expected = np.zeros(len(power))
    # The mean square over the sphere of an orthonormal harmonic's real part.
    expected[degree] = 9 / (4 * np.pi) / (1 if order == 0 else 2)
    np.testing.assert_allclose(power, expected, atol=1e-12)


def test_filtered_fields_have_the_power_that_spherepack_left_them():
    names = ("msl_2025120100_2.5x2.5", "msl_2025120100_2.5x2.5_t0-42_ncl",
             "msl_2025120100_2.5x2.5_t5-42_ncl")  # fmt: skip
    powers = []
    for name in names:
        with xarray.open_dataset(samples.real(f"spectral/era5_{name}.nc")) as opened:
            lat, field = opened["latitude"].values, opened["msl"].values
        powers.append(spectra.spherical_power(field, lat, 42))
    whole, low, band = powers
    np.testing.assert_allclose(low, whole, rtol=2e-3)
    np.testing.assert_allclose(band[5:], low[5:], rtol=1e-4)
    assert (band[:5] < 1e-6 * low[:5]).all()


def test_vorticity_has_the_power_of_its_streamfunction():
    with xarray.open_dataset(
        samples.real("spectral/era5_vodv850_2025120100_2.5x2.5_ncl.nc")
    ) as o:
        lat, vorticity = o["latitude"].values, o["vo"].values
    with xarray.open_dataset(
        samples.real("spectral/era5_sfvp850_2025120100_2.5x2.5_ncl.nc")
    ) as o:
        streamfunction = o["sf"].values
    radius, degree = 6.37122e6, np.arange(31)
    ours = spectra.spherical_power(vorticity, lat)[:31]
    theirs = spectra.spherical_power(streamfunction, lat)[:31]
    expected = theirs * (degree * (degree + 1) / radius**2) ** 2
    np.testing.assert_allclose(ours[2:], expected[2:], rtol=0.02)


@given(seed=st.integers(0, 50), columns=st.integers(4, 17))
def test_zonal_power_adds_up_to_the_mean_square_of_each_row(seed, columns):
    field = np.random.default_rng(seed).standard_normal((2, 3, columns))
    power = spectra.zonal_power(field)
    np.testing.assert_allclose(power.sum(-1), (field**2).mean(-1))
    turned = spectra.zonal_power(np.roll(field, 2, -1))
    np.testing.assert_allclose(turned, power, atol=1e-12)


def test_a_truncation_that_the_grid_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="wavenumbers 0 to 31"):
        spectra.spherical_power(np.zeros((32, 64)), _CELLS, 40)


def test_radial_power_of_white_noise_is_its_variance():
    noise = 3 * np.random.default_rng(0).standard_normal((20, 64, 48))
    power = spectra.radial_power(noise)
    assert power.shape == (20, 24)
    np.testing.assert_array_equal(spectra.radial_wavenumbers(64, 48), np.arange(1, 25))
    np.testing.assert_allclose(power.mean(0)[3:], 9, rtol=0.2)
    np.testing.assert_allclose(power.mean(), 9, rtol=0.03)


@pytest.mark.parametrize("direction", [0, 30, 90])
def test_radial_power_does_not_mind_the_direction_of_waves(direction):
    rows, columns = np.mgrid[:64, :64]
    angle = np.deg2rad(direction)
    phase = rows * np.sin(angle) + columns * np.cos(angle)
    power = spectra.radial_power(5 + np.sin(2 * np.pi * 8 * phase / 64))
    assert np.argmax(power) + 1 == 8
    # A mean or a ramp over the picture is no wave of its own.
    assert power[0] < 1e-3 * power[7]


def test_radial_power_of_oblong_cells_is_by_length_whatever_the_direction():
    cell = (10.0, 7.0)
    rows, columns = 48, 64  # 480 by 448 km.
    numbers = spectra.radial_wavenumbers(rows, columns, cell)
    np.testing.assert_array_equal(numbers, np.arange(1, 23))  # To 20 km.
    down, across = np.mgrid[:rows, :columns] * np.array(cell)[:, None, None]
    for angle in np.deg2rad([0, 40, 90]):
        phase = (down * np.sin(angle) + across * np.cos(angle)) / 56
        power = spectra.radial_power(np.sin(2 * np.pi * phase), cell)
        assert numbers[power.argmax()] == 8  # 448 km / 56 km.
    noise = np.random.default_rng(0).standard_normal((20, rows, columns))
    np.testing.assert_allclose(spectra.radial_power(noise, cell).mean(), 1, rtol=0.03)


def test_radial_power_of_a_blurred_field_falls():
    noise = np.random.default_rng(1).standard_normal((64, 64))
    near = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / 3
    ratio = spectra.radial_power(near) / spectra.radial_power(noise)
    assert ratio[1] > 0.8
    assert ratio[-3:].max() < 0.3
    holed = noise.copy()
    holed[3, 4] = np.nan
    assert np.isnan(spectra.radial_power(holed)).all()
