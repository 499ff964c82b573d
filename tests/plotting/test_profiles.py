import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from tests.plotting.fields import field
from weatherlib import plotting


@given(number=st.integers(1, 8), shift=st.integers(0, 15), days=st.integers(1, 3))
def test_a_wave_has_all_its_variance_at_its_wavenumber(number, shift, days):
    lon = np.arange(16) * 22.5
    wave = 3 * np.cos(np.deg2rad(number * lon))
    array = field(lat=[-45, 0, 45], lon=np.roll(lon, shift))
    array[:] = np.roll(wave, shift)
    spectrum = plotting.zonal_spectrum(array.expand_dims(time=days))
    assert spectrum["wavenumber"].values.tolist() == list(range(1, 9))
    power = 9.0 if number == 8 else 4.5
    np.testing.assert_allclose(spectrum.sel(wavenumber=number), power)
    np.testing.assert_allclose(spectrum.sum(), power)


def test_spectra_are_drawn_side_by_side():
    spectrum = plotting.zonal_spectrum(field(lat=[45, 50]))
    figure = plotting.draw_spectra({"truth": spectrum, "forecast": spectrum * 2})
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [line.get_label() for line in axes.lines] == ["truth", "forecast"]


def test_fields_without_a_spectrum_are_refused():
    with pytest.raises(ValueError, match="once around the globe"):
        plotting.zonal_spectrum(field(lon=[0, 10, 20, 30]))
    with pytest.raises(ValueError, match="no row lies between"):
        plotting.zonal_spectrum(field(lat=[0, 10]))
    with pytest.raises(ValueError, match="without missing values"):
        plotting.zonal_spectrum(field() * np.nan)
    with pytest.raises(ValueError, match="no spectrum"):
        plotting.draw_spectra({})
    with pytest.raises(ValueError, match="one dimension"):
        plotting.draw_spectra({"a": field()})


def test_a_section_has_the_ground_below_and_pressures_on_its_axis():
    base = field("temperature").isel(lon=0, drop=True)
    section = xarray.concat([base - 50, base, base + 10], "level")
    section = section.assign_coords(level=[200, 500, 1000])
    axes = plotting.draw_section(section).axes[0]
    assert axes.get_yscale() == "log" and axes.yaxis_inverted()
    assert [t.get_text() for t in axes.get_yticklabels()][-1] == "1000"
    assert axes.get_title() == "Temperature"
    with pytest.raises(ValueError, match="two or more levels"):
        plotting.draw_section(base)
    with pytest.raises(ValueError, match="two or more levels"):
        plotting.draw_section(xarray.concat([field(), field()], "level"))


def test_lines_of_a_section_are_at_round_numbers_and_zero():
    base = field("u_component_of_wind").isel(lon=0, drop=True) - 280
    section = xarray.concat([base * 5, base, base * 3], "level")
    section = section.assign_coords(level=[200, 500, 1000])
    axes = plotting.draw_section(section).axes[0]
    (lines,) = [c for c in axes.collections if not getattr(c, "filled", True)]
    assert 0.0 in lines.levels
    step = np.diff(lines.levels)[0]
    assert f"{step:e}"[0] in "125" and float(f"{step:.0e}") == pytest.approx(step)


def test_units_of_a_spectrum_are_squared():
    spectrum = xarray.DataArray(
        [1.0, 2.0], {"wavenumber": [1, 2]}, ("wavenumber",), attrs={"units": "m2 s-2"}
    )
    (axes,) = plotting.draw_spectra({"a": spectrum}).axes
    assert axes.get_ylabel() == "power (m⁴ s⁻⁴)"
