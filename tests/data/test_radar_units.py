import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.data import radar_units

_BYTES = np.arange(255, dtype=np.uint8)


def test_pixels_are_liquid_water_by_the_published_formulas():
    found = radar_units.pixels_to_vil(np.array([0, 5, 6, 18, 19, 254, 255], np.uint8))
    expected = [
        0,
        0,
        4 / 90.66,
        16 / 90.66,
        np.exp((19 - 83.9) / 38.9),
        np.exp((254 - 83.9) / 38.9),
        np.nan,
    ]
    np.testing.assert_allclose(found, expected)
    # The thresholds of nowcasts are levels of the weather service, in kg/m2.
    levels = radar_units.pixels_to_vil(np.array([16.0, 74, 133, 160, 181, 219]))
    np.testing.assert_allclose(levels, [0.14, 0.76, 3.5, 6.9, 12, 32], rtol=0.12)


def test_thresholds_are_the_reflectivities_of_those_levels():
    dbz = radar_units.pixels_to_dbz(np.array([74.0, 133, 160, 181, 219]))
    np.testing.assert_allclose(dbz, [30, 41, 46, 50, 57], atol=1.1)


def test_rain_becomes_reflectivity_by_marshall_and_palmer():
    np.testing.assert_allclose(
        radar_units.rain_to_dbz(np.array([1.0, 10.0])),
        10 * np.log10([200, 200 * 10**1.6]),
    )
    assert radar_units.rain_to_dbz(np.array(0.0)) == -np.inf
    # 1000 mm6/m3 through 4500 m.
    vil = radar_units.dbz_to_vil(np.array(30.0))
    np.testing.assert_allclose(vil, 3.44e-6 * 1000 ** (4 / 7) * 4500)


def test_every_pixel_comes_back_as_itself_by_way_of_each_quantity():
    wet = _BYTES[_BYTES > radar_units.DRY]
    for there, back in (
        (radar_units.pixels_to_vil, radar_units.vil_to_pixels),
        (radar_units.pixels_to_dbz, radar_units.dbz_to_pixels),
        (radar_units.pixels_to_rain, radar_units.rain_to_pixels),
    ):
        np.testing.assert_array_equal(back(there(wet), rounded=True), wet)
        np.testing.assert_allclose(back(there(wet)), wet, rtol=1e-9)
        dry = _BYTES[_BYTES <= radar_units.DRY]
        np.testing.assert_array_equal(back(there(dry)), np.zeros(len(dry)))


@given(st.floats(0.1, 400), st.floats(1000, 9000))
def test_rain_comes_back_within_the_rounding_of_pixels(rain, depth):
    pixel = radar_units.rain_to_pixels(np.array(rain), depth)
    if radar_units.DRY < pixel < radar_units.HIGHEST and not 17.9 < pixel < 18.1:
        again = radar_units.pixels_to_rain(pixel, depth)
        np.testing.assert_allclose(again, rain, rtol=1e-9)
        # Half a pixel is 1.3 % of the water, and 1.4 % of the rain, or less than 15 %
        # where few pixels are left.
        whole = radar_units.rain_to_pixels(np.array(rain), depth, rounded=True)
        if whole > radar_units.DRY:
            again = radar_units.pixels_to_rain(whole, depth)
            assert abs(again / rain - 1) < (0.015 if pixel > 19 else 0.2)


@given(st.lists(st.floats(0, 500), min_size=2, max_size=30))
def test_more_rain_is_never_a_lower_pixel(rates):
    ordered = np.sort(rates)
    for rounded in (False, True):
        pixels = radar_units.rain_to_pixels(ordered, rounded=rounded)
        assert (np.diff(pixels) >= 0).all()
        assert pixels.min() >= 0 and pixels.max() <= radar_units.HIGHEST


def test_what_is_missing_stays_missing():
    values = np.array([np.nan, 1.0])
    for convert in (
        radar_units.rain_to_pixels,
        radar_units.dbz_to_pixels,
        radar_units.vil_to_pixels,
        radar_units.pixels_to_vil,
        radar_units.pixels_to_rain,
    ):
        np.testing.assert_array_equal(np.isnan(convert(values)), [True, False])


@pytest.mark.parametrize("depth", [3000.0, 4500.0, 6000.0])
def test_the_driest_reflectivity_is_where_pixels_begin(depth):
    dbz = radar_units.driest_dbz(depth)
    assert radar_units.dbz_to_pixels(np.array(dbz), depth) == 0
    assert radar_units.dbz_to_pixels(np.array(dbz + 0.01), depth) > radar_units.DRY
