import numpy as np
import pytest

from tests.plotting.fields import field
from weatherlib.plotting import styles


@pytest.mark.parametrize(
    ("name", "units", "value", "shown", "shown_units"),
    [
        ("2m_temperature", "K", 273.15, 0.0, "°C"),
        ("temperature", "", 283.15, 10.0, "°C"),
        ("vorticity", "s**-1", 2e-5, 2.0, "10⁻⁵ s⁻¹"),
        ("potential_vorticity", "K m2 kg-1 s-1", 2e-6, 2e-6, "K m2 kg-1 s-1"),
        ("mean_sea_level_pressure", "Pa", 101325.0, 1013.25, "hPa"),
        ("total_precipitation_6hr", "m", 0.002, 2.0, "mm"),
        ("specific_humidity", "kg kg**-1", 0.01, 10.0, "g/kg"),
        ("geopotential", "m**2 s**-2", 53936.575, 550.0, "dam"),
        ("10m_u_component_of_wind", "m s**-1", 5.0, 5.0, "m/s"),
        ("2m_temperature", "degC", 10.0, 10.0, "degC"),
        ("mean_sea_level_pressure", "hPa", 1013.0, 1013.0, "hPa"),
        ("geopotential_height", "", 5500.0, 5500.0, "m"),
        ("something_else", "furlong", 3.0, 3.0, "furlong"),
    ],
)
def test_fields_are_shown_in_units_for_readers(name, units, value, shown, shown_units):
    array = field(name, **({"units": units} if units else {})) * 0 + value
    array.attrs = {"units": units} if units else {}
    result = styles.find(array).show(array, difference=False)
    np.testing.assert_allclose(result, shown, atol=1e-9)
    assert result.attrs["units"] == shown_units
    assert result.name == name


def test_differences_take_no_offset_and_temperatures_differ_in_kelvin():
    array = field() * 0 + 3.0
    result = styles.find(array).show(array, difference=True)
    np.testing.assert_allclose(result, 3.0)
    assert result.attrs["units"] == "K"


def test_a_colour_scale_is_converted_with_the_data():
    array = field("2m_temperature")
    style = styles.find(array)
    norm = styles.matplotlib.colors.Normalize(273.15, 283.15)
    shown = style.show_norm(norm, difference=False)
    np.testing.assert_allclose([shown.vmin, shown.vmax], [0, 10], atol=1e-9)
    shown = style.show_norm(norm, difference=True)
    np.testing.assert_allclose([shown.vmin, shown.vmax], [273.15, 283.15])


def test_one_scale_covers_all_fields_without_their_extremes():
    low, high = field() * 0 + 1.0, field() * 0 + 5.0
    high[0, 0] = 1e6
    norm = styles.normalize([low, high], styles.Style())
    assert norm.vmin == 1.0 and 5.0 <= norm.vmax < 10.0
    norm = styles.normalize([low, high], styles.Style(), robust=False)
    assert norm.vmax == 1e6


@pytest.mark.parametrize("style", [styles.Style(centred=True), styles.Style()])
def test_differences_and_winds_have_zero_in_the_middle(style):
    array = field() * 0 - 4.0
    array[:3] = 1.0
    norm = styles.normalize([array], style, difference=not style.centred)
    assert norm.vmin == -norm.vmax == -4.0


def test_rain_starts_at_zero():
    array = field("total_precipitation_6hr") * 0 + 0.004
    style = styles.find(array)
    shown = style.show(array, difference=False)
    norm = styles.normalize([shown], style)
    assert (norm.vmin, norm.vmax) == (0.0, 4.0)


def test_constant_and_empty_fields_still_have_a_scale():
    constant = field() * 0 + 7.0
    norm = styles.normalize([constant], styles.Style())
    assert (norm.vmin, norm.vmax) == (6.5, 7.5)
    norm = styles.normalize([constant * np.nan], styles.Style())
    assert norm.vmin < norm.vmax


def test_titles_name_level_valid_time_and_lead_time():
    array = field("geopotential", times=2).isel(time=1).assign_coords(level=500)
    assert styles.label(array) == "Geopotential at 500 hPa"
    assert styles.valid_label(array) == "2022-01-01 12:00 UTC, +12 h"
    assert styles.label(field("sea_breeze_index")) == "Sea breeze index"


def test_the_valid_time_follows_from_the_start_of_the_forecast():
    array = field(times=2).isel(time=1).drop_vars("datetime")
    assert styles.valid_label(array) == "+12 h"
    start = np.datetime64("2020-02-29T18", "ns")
    array = array.assign_coords(forecast_reference_time=start)
    assert styles.valid_label(array) == "2020-03-01 06:00 UTC, +12 h"


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("K", "K²"),
        ("m2 s-2", "m⁴ s⁻⁴"),
        ("m**2 s**-2", "m⁴ s⁻⁴"),
        ("m/s", "m² s⁻²"),
        ("kg/kg", "(kg/kg)²"),
        ("0-1", "(0-1)²"),
        ("", ""),
    ],
)
def test_squares_of_units_are_written_with_powers(units, expected):
    assert styles.squared(units) == expected
