import numpy as np
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.geometry import harmonics


@given(order=st.integers(0, 12), more=st.integers(1, 12))
def test_legendre_functions_are_those_of_scipy(order, more):
    lat = np.linspace(-90, 90, 13)
    found = harmonics.legendre(np.sin(np.deg2rad(lat)), order, order + more - 1)
    theta = np.deg2rad(90 - lat)
    expected = [
        (-1) ** order * scipy.special.sph_harm_y(degree, order, theta, 0.0).real
        for degree in range(order, order + more)
    ]
    np.testing.assert_allclose(found / np.sqrt(2 * np.pi), expected, atol=1e-12)


def test_high_degrees_stay_finite_and_normalised():
    lat = np.linspace(-90, 90, 1001)
    area = np.cos(np.deg2rad(lat)) * np.deg2rad(0.18)
    for order in (0, 150, 299):
        found = harmonics.legendre(np.sin(np.deg2rad(lat)), order, 299)
        np.testing.assert_allclose((found**2 * area).sum(axis=1), 1, atol=1e-2)
