import numpy as np
import pytest
import xarray

from tests.evaluation import samples
from weatherlib import data, task, training
from weatherlib.data import (
    radar,
    radar_fields,
    radar_grid,
    radar_units,
    synthetic,
)

_KNMI = "radar_knmi_nl_5min_rain_20100826T0000-0455.nc"
_FMI = "radar_fmi_finland_5min_dbz_20160928T1445-1800.nc"


def _series(
    values, *, name="rain", step=5, coords=None, dims=("time", "y", "x"), **attrs
):
    values = np.asarray(values)
    times = np.datetime64("2020-06-01T00:00", "ns") + np.arange(
        values.shape[dims.index("time")]
    ) * np.timedelta64(step, "m")
    field = xarray.DataArray(
        values, {"time": times, **(coords or {})}, dims, name, attrs
    )
    return field.to_dataset()


def _rain(frames=4, rows=6, columns=8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.gamma(0.3, 4.0, (frames, rows, columns))


@pytest.mark.parametrize(
    ("attrs", "rate"),
    [
        ({"units": "mm/h"}, 1.0),
        ({"units": "mm h-1"}, 1.0),
        # Sums over the 5 minutes of the series.
        ({"units": "mm"}, 12.0),
    ],
)
def test_rain_is_told_by_its_units(attrs, rate):
    rain = _rain()
    found = radar.open_radar(_series(rain, **attrs))
    assert found["vil"].dims == ("time", "lat", "lon")
    assert found["vil"].dtype == np.float32
    np.testing.assert_allclose(
        found["vil"], radar_units.rain_to_pixels(rain * rate), rtol=1e-5
    )
    back = radar.as_quantity(found, "rain_rate")
    wet = rain * rate > 0.1
    np.testing.assert_allclose(back.values[wet], (rain * rate)[wet], rtol=0.05)
    assert (back.values[rain * rate < 0.08] == 0).all()
    assert back.attrs["units"] == "mm h-1"


def test_a_rain_sum_may_say_its_period():
    rain = _rain(frames=1)
    with pytest.raises(ValueError, match="give period, such as '5min'"):
        radar.open_radar(_series(rain, units="mm"))
    found = radar.open_radar(_series(rain, units="mm"), period="1h")
    np.testing.assert_allclose(
        found["vil"], radar_units.rain_to_pixels(rain), rtol=1e-5
    )


def test_byte_codes_of_reflectivity_are_read_by_their_comment():
    code = np.random.default_rng(0).integers(0, 256, (3, 5, 5), dtype=np.uint8)
    code[0, 0, 0] = 255
    stored = _series(
        code, name="dbz_code", comment="dBZ = (code - 64) / 2 ; 255 = no data"
    )
    found = radar.open_radar(stored)
    dbz = np.where(code == 255, np.nan, (code.astype(float) - 64) / 2)
    np.testing.assert_allclose(found["vil"], radar_units.dbz_to_pixels(dbz), rtol=1e-5)
    back = radar.as_quantity(found, "reflectivity").values
    known = (dbz > 7) & (dbz < 60)
    np.testing.assert_allclose(back[known], dbz[known], atol=0.5)


def test_reflectivity_water_and_pixels_are_told_too():
    dbz = np.linspace(-30, 60, 24).reshape(2, 3, 4)
    for name, attrs, values, expected in (
        ("z", {"units": "dBZ"}, dbz, radar_units.dbz_to_pixels(dbz)),
        ("vil", {"units": "kg m-2"}, dbz + 30, radar_units.vil_to_pixels(dbz + 30)),
        ("vil", {"units": "1"}, np.abs(dbz), np.abs(dbz)),
    ):
        found = radar.open_radar(_series(values, name=name, **attrs))
        np.testing.assert_allclose(found["vil"], expected, rtol=1e-5)
    # Bytes as SEVIR keeps them.
    found = radar.open_radar(_series(np.full((2, 3, 3), 255, np.uint8), name="vil"))
    assert np.isnan(found["vil"]).all()


def test_a_value_that_means_none_may_be_given():
    rain = _rain()
    rain[1, 2, 3] = -999
    found = radar.open_radar(_series(rain, units="mm/h"), missing=-999)
    assert np.isnan(found["vil"]).sum() == np.isnan(found["vil"][1, 2, 3]) == 1


def test_other_names_and_orders_of_axes_are_understood():
    rain = _rain()
    plain = radar.open_radar(_series(rain, units="mm/h"))["vil"].values
    turned = _series(
        rain.transpose(2, 1, 0),
        dims=("longitude", "latitude", "time"),
        units="mm/h",
        coords={
            "latitude": np.linspace(50, 50.5, 6),
            "longitude": np.linspace(5, 5.7, 8),
        },
    )
    found = radar.open_radar(turned)
    np.testing.assert_array_equal(found["vil"], plain)
    np.testing.assert_allclose(found["lat"], np.linspace(50, 50.5, 6))
    np.testing.assert_allclose(found.attrs["cell_km"], 11.12, atol=0.01)
    metres = {"x": ("x", np.arange(8) * 2000.0, {"units": "m"})}
    found = radar.open_radar(_series(rain, units="mm/h", coords=metres))
    assert found.attrs["cell_km"] == 2.0
    assert "lon" not in found.coords


def test_files_are_read_when_their_values_are_used(tmp_path):
    rain = _rain(frames=6)
    stored = _series(rain, units="mm/h")
    for number in range(2):
        part = stored.isel(time=slice(3 * number, 3 * number + 3))
        part.to_netcdf(tmp_path / f"{number}.nc")
    found = radar.open_radar(tmp_path / "*.nc")
    assert not found["vil"].variable._in_memory
    np.testing.assert_allclose(
        found["vil"].isel(time=4), radar_units.rain_to_pixels(rain[4]), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("stored", "options", "message"),
    [
        (_series(_rain(), name="field"), {}, "give quantity, one of rain_sum"),
        (_series(_rain(), units="mm/h"), {"variable": "rian"}, "did you mean rain"),
        (_series(_rain(), units="mm/h"), {"quantity": "snow"}, "no 'snow'"),
        (
            _series(_rain(), units="mm/h").assign(
                other=_series(_rain(), units="mm/h")["rain"]
            ),
            {},
            "several fields .*name one with variable",
        ),
        (_series(_rain()[0, 0], dims=("time",), units="mm/h"), {}, "no fields of time"),
        (
            _series(_rain(), units="mm/h").assign_coords(time=[0, 1, 2, 3]),
            {},
            "no dates",
        ),
        (
            _series(_rain(), units="mm/h").isel(time=[0, 1, 1, 2]),
            {},
            "occur twice",
        ),
        (_series(_rain(), units="mm/h").isel(time=[0, 2, 1, 3]), {}, "comes after"),
        (
            _series(_rain()[None], dims=("level", "time", "y", "x"), units="mm/h").isel(
                level=[0, 0]
            ),
            {},
            "of time, rows and columns",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused(stored, options, message):
    with pytest.raises(ValueError, match=message):
        radar.open_radar(stored, **options)


def test_uneven_frames_are_refused_and_gaps_are_described():
    stored = _series(_rain(frames=6), units="mm/h")
    times = stored["time"].values.copy()
    times[3:] += np.timedelta64(7, "m")
    with pytest.raises(ValueError, match="no multiple of the 0 days 00:05:00"):
        radar.open_radar(stored.assign_coords(time=times))
    times[3:] += np.timedelta64(3, "m")
    found = radar.open_radar(stored.assign_coords(time=times))
    spacing = radar_grid.find_spacing(found["time"].values)
    assert spacing.gaps.tolist() == [3]
    assert spacing.description.startswith("2 frame(s) are missing in 1 gap(s)")
    with pytest.raises(ValueError, match="several frames"):
        radar_grid.find_spacing(times[:1])


def test_a_file_that_is_missing_or_cut_short_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"rain\.nc"):
        radar.open_radar(tmp_path / "rain.nc")
    path = tmp_path / "rain.nc"
    _series(_rain(), units="mm/h").to_netcdf(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(OSError, match="damaged or cut short"):
        radar.open_radar(path)["vil"].load()


def test_pictures_are_cropped_and_cut_into_tiles():
    found = synthetic.synthetic_radar(frames=2, rows=20, columns=30)
    middle = radar_grid.crop(found, 8)
    np.testing.assert_array_equal(
        middle["vil"], found["vil"].isel(lat=slice(6, 14), lon=slice(11, 19))
    )
    corner = radar_grid.crop(found, 5, 7, at=(15, 23))
    np.testing.assert_array_equal(corner["vil"], found["vil"][:, 15:, 23:])
    with pytest.raises(ValueError, match="does not lie in a picture of 20 x 30"):
        radar_grid.crop(found, 21)
    parts = radar_grid.tiles((20, 30), 8)
    covered = np.zeros((20, 30), bool)
    for part in parts:
        covered[part.slices] = True
        assert (part.rows, part.columns) == (8, 8)
    assert covered.all()
    assert len(parts) == 3 * 4
    assert len(radar_grid.tiles((20, 30), (20, 30))) == 1
    for size, stride, message in ((21, None, "do not fit"), (8, 0, "at least 1")):
        with pytest.raises(ValueError, match=message):
            radar_grid.tiles((20, 30), size, stride)


def test_other_quantities_need_a_known_name_and_pictures():
    found = synthetic.synthetic_radar(frames=1, rows=8, columns=8)
    with pytest.raises(ValueError, match="no 'snow'"):
        radar.as_quantity(found, "snow")
    with pytest.raises(ValueError, match="vil: not in the data"):
        radar.as_quantity(found.rename(vil="rain"), "rain_rate")
    with pytest.raises(ValueError, match="no 'rain_sum'"):
        radar.to_pixels(np.zeros(3), "rain_sum")
    np.testing.assert_array_equal(radar.as_quantity(found, "pixels"), found["vil"])


def test_a_series_can_be_trained_on_as_any_other():
    found = synthetic.synthetic_radar(frames=12, rows=16, columns=16)
    placed = radar_grid.on_plane(found)
    nowcast = task.TaskConfig(
        input_variables=("vil",),
        target_variables=("vil",),
        forcing_variables=(),
        pressure_levels=(),
        input_duration="15min",
    )
    fitted, _ = data.conform(placed, nowcast)
    frames = training.Frames(fitted, nowcast)
    inputs, targets, _ = frames.batch(frames.starts(targets=4)[:2], 4)
    assert inputs["vil"].shape == (2, 3, 16, 16)
    np.testing.assert_array_equal(targets["vil"][1], found["vil"][4:8])


def test_the_field_of_a_file_says_what_it_is():
    field = xarray.DataArray(np.zeros(3), attrs={"units": "furlong"}, name="length")
    assert radar_fields.find_quantity(field) is None


def test_real_rain_of_the_netherlands_is_read_with_its_missing_part():
    found = radar.open_radar(samples.real(_KNMI))
    assert dict(found.sizes) == {"time": 60, "lat": 765, "lon": 700}
    frame = found["vil"].isel(time=30).values
    # Beyond the range of the radars nothing is measured.
    assert 0.7 < np.isnan(frame).mean() < 0.8
    with xarray.open_dataset(samples.real(_KNMI), mask_and_scale=False) as stored:
        code = stored["rain"].isel(time=30).values
    np.testing.assert_array_equal(np.isnan(frame), code == 65535)
    rain = radar.as_quantity(found.isel(time=[30]), "rain_rate").values[0]
    wet = (code != 65535) & (code > 0)
    np.testing.assert_allclose(rain[wet], code[wet] * 0.12, rtol=0.005)
    assert (rain[code == 0] == 0).all()


def test_real_reflectivity_of_finland_is_read_by_its_code():
    found = radar.open_radar(samples.real(_FMI))
    assert found.attrs["source_quantity"] == "reflectivity"
    with xarray.open_dataset(samples.real(_FMI), mask_and_scale=False) as stored:
        code = stored["dbz_code"].isel(time=20).values
    frame = found["vil"].isel(time=20)
    np.testing.assert_array_equal(np.isnan(frame), code == 255)
    dbz = radar.as_quantity(found.isel(time=[20]), "reflectivity").values[0]
    strong = (code != 255) & (code > 80)
    np.testing.assert_allclose(
        dbz[strong], (code[strong].astype(float) - 64) / 2, atol=0.2
    )
