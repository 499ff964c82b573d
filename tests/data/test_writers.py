"""Writers of forecasts: what they store."""

import contextlib
import pathlib
import warnings

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

import weatherlib
from tests.data import forecasts
from tests.weather_samples import weather
from weatherlib import data
from weatherlib.data import layout


def test_frames_come_back_exactly(path):
    forecast = forecasts.forecast()
    with forecasts.writer(path) as writer:
        for frame in range(3):
            writer.write(forecasts.frame(forecast, frame))
            assert writer.frames_written == frame + 1
            assert not path.exists()
            assert forecasts.partial(path).exists()
        writer.write(forecasts.frame(forecast, 3))
    assert path.exists()
    assert not forecasts.partial(path).exists()
    found = forecasts.read(path)
    forecasts.assert_same_values(found, forecast)
    assert found["geopotential"].dtype == np.float32


def test_the_file_follows_cf(path):
    with forecasts.writer(path) as writer:
        writer.write(forecasts.forecast(2))
    found = forecasts.read(path)
    assert found.attrs.items() >= {**forecasts.ATTRS, "Conventions": "CF-1.11"}.items()
    assert weatherlib.__version__ in found.attrs["history"]
    assert "frames_written" not in found.attrs
    temperature = found["2m_temperature"].attrs
    assert temperature["units"] == "K"
    assert temperature["standard_name"] == "air_temperature"
    assert temperature["long_name"] == "2m temperature"
    rain = found["total_precipitation_6hr"].attrs
    assert rain["cell_methods"] == "time: sum (interval: 6 hours)"
    assert found["lat"].attrs["units"] == "degrees_north"
    assert found["lon"].attrs["standard_name"] == "longitude"
    assert found["level"].attrs["units"] == "hPa"
    assert found["level"].attrs["positive"] == "down"
    assert found["time"].attrs["standard_name"] == "forecast_period"
    assert found["forecast_reference_time"].values.astype("M8[h]") == forecasts.START
    valid = found["valid_time"].transpose("time", "batch").values
    np.testing.assert_array_equal(valid[:, 0], forecasts.START + found["time"].values)


def test_what_the_vocabulary_lacks_keeps_its_own_attributes(path):
    snow = {
        "units": "kg m-2", "long_name": "snow on Mars", "standard_name": "snow_amount",
        "cell_methods": "time: mean", "GRIB_paramId": 1,
    }  # fmt: skip
    frames = forecasts.forecast(2)
    frames["martian_snow"] = frames["2m_temperature"].assign_attrs(snow)
    frames["2m_temperature"] = frames["2m_temperature"].assign_attrs(snow)
    frames["unsaid"] = frames["2m_temperature"].drop_attrs()
    with forecasts.writer(path, derive=["thickness_300_850"]) as writer:
        writer.write(frames)
    found = forecasts.read(path)
    del snow["GRIB_paramId"]
    assert found["martian_snow"].attrs.items() >= snow.items()
    assert "GRIB_paramId" not in found["martian_snow"].attrs
    assert found["2m_temperature"].attrs["units"] == "K"
    assert "cell_methods" not in found["2m_temperature"].attrs
    assert found["unsaid"].attrs["long_name"] == "unsaid"
    thickness = found["thickness_300_850"].attrs
    assert thickness["units"] == "m"
    assert thickness["long_name"] == "thickness from 850 to 300 hPa"


def test_xarray_reads_the_file_without_a_warning(path):
    with forecasts.writer(path) as writer:
        writer.write(forecasts.forecast(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = "zarr" if path.suffix == ".zarr" else "h5netcdf"
        with xarray.open_dataset(path, engine=engine, decode_timedelta=True) as found:
            forecasts.assert_same_values(found, forecasts.forecast(2))


def test_dates_of_the_frames_give_the_start(path):
    frames = weather(4, batch=2)[forecasts.TARGETS]
    with forecasts.writer(path, reference_time=None) as writer:
        writer.write(frames.isel(time=[1]))
        writer.write(frames.isel(time=[2, 3]))
    found = forecasts.read(path)
    np.testing.assert_array_equal(
        found["valid_time"].transpose("batch", "time"),
        frames["datetime"].isel(time=[1, 2, 3]),
    )


def test_without_dates_there_are_no_valid_times(path):
    with forecasts.writer(path, reference_time=None) as writer:
        writer.write(forecasts.forecast(1))
    assert "valid_time" not in forecasts.read(path)


def test_static_fields_and_members_are_kept(path):
    chunk = forecasts.forecast(2, batch=2).expand_dims(sample=[0, 1, 2])
    chunk["land_sea_mask"] = weather(1)["land_sea_mask"]
    start = np.array(["2022-01-01", "2022-02-01"], "M8[ns]")
    with forecasts.writer(path, reference_time=start) as writer:
        writer.write(forecasts.frame(chunk, 0))
        writer.write(forecasts.frame(chunk, 1))
    found = forecasts.read(path)
    forecasts.assert_same_values(found, chunk)
    assert found["sample"].values.tolist() == [0, 1, 2]
    assert found["valid_time"].shape == (2, 2)


@pytest.mark.parametrize("step", ["30min", "6h", "24h"])
def test_lead_times_of_any_step_are_kept(path, step):
    forecast = weather(5, step=step)[forecasts.TARGETS].isel(time=slice(1, None))
    with forecasts.writer(path) as writer:
        for frame in range(4):
            writer.write(forecasts.frame(forecast, frame))
    np.testing.assert_array_equal(forecasts.read(path)["time"], forecast["time"])


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "new" / "deeper" / "forecast.nc"
    with forecasts.writer(path) as writer:
        writer.write(forecasts.forecast(1))
    assert path.exists()


@pytest.mark.parametrize("name", ["forecast.grib", "forecast"])
def test_unknown_kinds_of_file_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"unknown kind of file.*\.nc, .*\.zarr"):
        forecasts.writer(tmp_path / name)


def test_a_finished_file_is_replaced_only_on_request(path):
    forecast = forecasts.forecast(2)
    with forecasts.writer(path) as writer:
        writer.write(forecasts.frame(forecast, 0))
    with pytest.raises(FileExistsError, match="exists already"):
        forecasts.writer(path)
    with forecasts.writer(path, overwrite=True) as writer:
        writer.write(forecast)
        assert forecasts.read(path).sizes["time"] == 1
    assert forecasts.read(path).sizes["time"] == 2
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_chunks_need_frames_with_lead_times(path):
    with (
        pytest.raises(ValueError, match="no frames with lead times"),
        forecasts.writer(path) as writer,
    ):
        writer.write(forecasts.forecast(1).drop_vars("time"))
    with pytest.raises(ValueError, match="expected lead times"):
        layout.encode(forecasts.forecast(1).assign_coords(time=forecasts.START))
    with pytest.raises(ValueError, match="a forecast needs the dimension"):
        layout.encode(forecasts.forecast(1).isel(time=0))
    with pytest.raises(ValueError, match="not a whole number of hours"):
        layout.encode(weather(2, step="30min"), None, "hours")


def test_a_forecast_without_frames_is_no_forecast(path):
    with (
        pytest.raises(ValueError, match="no frame was written"),
        forecasts.writer(path),
    ):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_closed_writer_takes_and_gives_nothing(path):
    writer = forecasts.writer(path)
    writer.write(forecasts.forecast(1))
    writer.close()
    writer.close()
    for action in (
        lambda: writer.write(forecasts.forecast(1)),
        lambda: writer.last_frames(1),
    ):
        with pytest.raises(ValueError, match="the writer is closed"):
            action()


def test_more_frames_than_written_cannot_be_read(path):
    with forecasts.writer(path) as writer:
        with pytest.raises(ValueError, match="1 frames wanted, 0 written"):
            writer.last_frames(1)
        writer.write(forecasts.forecast(2))
        with pytest.raises(ValueError, match="3 frames wanted, 2 written"):
            writer.last_frames(3)


@pytest.mark.parametrize("value", [None, {"a": 1}, object()])
def test_attributes_are_text_and_numbers(path, value):
    attrs = {**forecasts.ATTRS, "extra": value}
    if value is None:
        with forecasts.writer(path, attrs=attrs) as writer:
            writer.write(forecasts.forecast(1))
        assert "extra" not in forecasts.read(path).attrs
    else:
        with pytest.raises(ValueError, match="attribute 'extra' is"):
            forecasts.writer(path, attrs=attrs)


def test_attributes_may_be_numbers(path):
    attrs = {"steps": 4, "dt": 6.0, "levels": [1, 2], "n": np.float32(2)}
    with (
        contextlib.suppress(KeyboardInterrupt),
        forecasts.writer(path, attrs=attrs) as writer,
    ):
        writer.write(forecasts.forecast(1))
        raise KeyboardInterrupt
    with forecasts.writer(path, attrs=attrs) as writer:
        assert writer.frames_written == 1
    assert forecasts.read(path).attrs["steps"] == 4


def test_a_start_that_is_no_date_is_refused(path):
    with pytest.raises(ValueError, match="'soon' is not a date"):
        forecasts.writer(path, reference_time="soon")
    with forecasts.writer(path, reference_time="2022-01-01T06") as writer:
        writer.write(forecasts.forecast(1))
    assert forecasts.read(path)["valid_time"].dims == ("time",)


def _need_zarr(zarr_format):
    """Skips a test of format 3 where zarr is older."""
    if zarr_format == 3:
        pytest.importorskip("zarr", minversion="3")


def test_format_3_needs_a_new_zarr(tmp_path, monkeypatch):
    import zarr

    monkeypatch.setattr(zarr, "__version__", "2.18.3")
    with pytest.raises(
        ValueError, match="zarr_format 3: version 3 of the Zarr format needs zarr 3"
    ):
        forecasts.writer(tmp_path / "forecast.zarr", zarr_format=3)


@pytest.mark.parametrize("level", [0, 5])
@pytest.mark.parametrize("zarr_format", [2, 3, None])
def test_compressed_files_hold_the_same_numbers(tmp_path, level, zarr_format):
    _need_zarr(zarr_format)
    path = tmp_path / ("forecast.zarr" if zarr_format else "forecast.nc")
    compression = data.Compression(level=level)
    with forecasts.writer(
        path, compression=compression, zarr_format=zarr_format
    ) as writer:
        writer.write(forecasts.frame(forecasts.forecast(3), 0))
        writer.write(forecasts.frame(forecasts.forecast(3), 1, 2))
    forecasts.assert_same_values(forecasts.read(path), forecasts.forecast(3))


def test_format_3_can_be_resumed(tmp_path):
    _need_zarr(3)
    path = tmp_path / "forecast.zarr"
    forecast = forecasts.forecast(3)
    with (
        contextlib.suppress(KeyboardInterrupt),
        forecasts.writer(path, zarr_format=3) as writer,
    ):
        writer.write(forecasts.frame(forecast, 0))
        raise KeyboardInterrupt
    with forecasts.writer(path, zarr_format=3) as writer:
        writer.write(forecasts.frame(forecast, 1, 2))
    assert (path / "zarr.json").exists()
    forecasts.assert_same_values(forecasts.read(path), forecast)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"level": 10}, "level must be 0 to 9"),
        ({"keep_bits": 0}, "keep_bits must be 1 to 22"),
        ({"keep_bits": 23}, "keep_bits must be 1 to 22"),
    ],
)
def test_impossible_compression_is_refused(settings_, words):
    with pytest.raises(ValueError, match=words):
        data.Compression(**settings_)


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match="zarr_format must be 2 or 3"):
        forecasts.writer(tmp_path / "forecast.zarr", zarr_format=4)


@settings(deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=20),
    st.integers(1, 22),
)
def test_rounding_keeps_the_bits_asked_for(numbers, bits):
    values = np.array(numbers, np.float32)
    rounded = data.Compression(keep_bits=bits).rounded(values)
    assert rounded.dtype == np.float32
    normal = np.isfinite(values) & (np.abs(values) > 1e-30) & (np.abs(values) < 1e37)
    error = np.abs(rounded[normal] - values[normal])
    assert (error <= np.abs(values[normal]) * 2.0 ** -(bits + 1) * 1.0001).all()
    np.testing.assert_array_equal(np.isnan(rounded), np.isnan(values))
    dropped = rounded[np.isfinite(values)].view(np.uint32) & ((1 << (23 - bits)) - 1)
    assert not dropped.any()


def test_rounded_files_are_rounded(path):
    with forecasts.writer(
        path, compression=data.Compression(keep_bits=8, level=4)
    ) as writer:
        writer.write(forecasts.frame(forecasts.forecast(2), 0))
        writer.write(forecasts.frame(forecasts.forecast(2), 1))
    found = forecasts.read(path)["2m_temperature"].transpose("time", ...)
    expected = forecasts.forecast(2)["2m_temperature"]
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=2**-9)


def test_half_precision_is_stored_in_full(path):
    chunk = forecasts.forecast(1)[["2m_temperature"]].astype(np.float16)
    with forecasts.writer(path) as writer:
        writer.write(chunk)
    found = forecasts.read(path)
    assert found["2m_temperature"].dtype == np.float32
    np.testing.assert_array_equal(
        found["2m_temperature"].transpose("time", ...), chunk["2m_temperature"]
    )


def test_memory_keeps_a_forecast_too():
    forecast = forecasts.forecast(3)
    with data.MemoryWriter() as writer:
        with pytest.raises(ValueError, match="holds no frames"):
            _ = writer.dataset
        writer.write(forecasts.frame(forecast, 0))
        writer.write(forecasts.frame(forecast, 1, 2))
        assert writer.frames_written == 3
        forecasts.assert_same_values(
            writer.last_frames(2), forecasts.frame(forecast, 1, 2)
        )
        with pytest.raises(ValueError, match="4 frames wanted, 3 written"):
            writer.last_frames(4)
        with pytest.raises(ValueError, match="must follow each other"):
            writer.write(forecasts.frame(forecast, 1))
    xarray.testing.assert_equal(writer.dataset, forecast)
    with pytest.raises(ValueError, match="the writer is closed"):
        writer.write(forecast)


def test_large_fields_are_stored_in_several_chunks():
    from weatherlib.data import storage

    field = xarray.Variable(
        ("time", "batch", "level", "lat", "lon"),
        np.broadcast_to(np.float32(0), (1, 1, 37, 721, 1440)),
    )
    chunk = storage.chunk_sizes(field, small=False)
    assert np.prod(chunk) * 4 <= 2**26
    assert chunk[0] == 1
    assert chunk[3:] == (721, 1440)
    assert storage.chunk_sizes(field.isel(level=0), small=False) == (1, 1, 721, 1440)


def test_writing_leaves_no_open_files(path):
    descriptors = pathlib.Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("no list of open files on this system")
    with forecasts.writer(path) as writer:
        writer.write(forecasts.forecast(1))
    held = [f.readlink() for f in descriptors.iterdir() if f.is_symlink()]
    assert not [name for name in held if str(path) in str(name)]
