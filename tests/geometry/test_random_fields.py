import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.geometry import random_fields, sphere


def test_a_single_coefficient_gives_its_harmonic():
    lat, lon = np.linspace(-80, 80, 9), np.arange(0, 360, 20)
    coefficients = np.zeros((2, 5, 5))
    coefficients[1, 4, 3] = 2.0
    found = random_fields.synthesise(coefficients, lat, lon)
    expected = (
        scipy.special.sph_harm_y(
            4, 3, np.deg2rad(90 - lat)[:, None], np.deg2rad(lon)
        ).imag
        * (-1) ** 3
        * 2.0
        * np.sqrt(2)
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(length=st.floats(60, 20000))
def test_a_spectrum_has_variance_one(length):
    spectrum = random_fields.spectrum_of_length(length)
    degrees = 2 * np.arange(spectrum.size) + 1
    np.testing.assert_allclose((degrees * spectrum).sum() / (4 * np.pi), 1)


def _fields(length, lat, lon, draws=4000):
    spectrum = random_fields.spectrum_of_length(length)
    normals = np.random.default_rng(0).normal(
        size=(draws, 2, spectrum.size, spectrum.size)
    )
    return random_fields.isotropic_field(normals, spectrum, lat, lon)


def test_random_fields_have_the_same_variance_everywhere():
    lat, lon = np.array([-90.0, -60, -20, 0, 45, 85]), np.array([0.0, 33, 200])
    spread = _fields(2500, lat, lon).std(axis=0)
    # Four standard errors of a standard deviation from 4000 draws.
    np.testing.assert_allclose(spread, 1, atol=4 / np.sqrt(8000))


def test_the_correlation_depends_on_the_distance_only():
    length, angle = 2000.0, 20.0
    lat, lon = np.array([-10.0, 10, 60, 80]), np.array([0.0, 20, 180])
    fields = _fields(length, lat, lon)

    def correlation(a, b):
        return np.corrcoef(fields[(slice(None), *a)], fields[(slice(None), *b)])[0, 1]

    along_meridian = [correlation((0, 0), (1, 0)), correlation((2, 2), (3, 2))]
    # From 80 N over the pole to 80 N on the other side are 20 degrees as well.
    over_the_pole = correlation((3, 0), (3, 2))
    distance = np.deg2rad(angle) * random_fields.EARTH_RADIUS_KM
    expected = np.exp(-(distance**2) / (2 * length**2))
    np.testing.assert_allclose([*along_meridian, over_the_pole], expected, atol=0.06)
    # 20 degrees of longitude at 60 N are half as far.
    assert correlation((2, 0), (2, 1)) > expected + 0.1


@pytest.mark.parametrize("length", [0.0, -5.0, np.nan, np.inf])
def test_a_length_must_be_positive(length):
    with pytest.raises(ValueError, match="must be positive"):
        random_fields.spectrum_of_length(length)


def test_a_length_too_short_for_harmonics_is_refused():
    with pytest.raises(ValueError, match="use white noise"):
        random_fields.spectrum_of_length(1.0)


def test_a_longer_length_is_smoother():
    lat, lon = np.linspace(-88, 88, 45), np.arange(0, 360, 4)
    weights = sphere.latitude_weights(lat)[:, None]
    rough, smooth = (
        (np.diff(_fields(length, lat, lon, 5), axis=-1) ** 2 * weights).mean()
        for length in (800, 3000)
    )
    assert smooth < rough / 5
