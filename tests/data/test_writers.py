"""Writers of forecasts."""

import contextlib
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

import weatherlib
from tests.weather_samples import weather
from weatherlib import data
from weatherlib.data import layout

_START = np.array(["2022-01-01T06"], "datetime64[ns]")
_ATTRS = {
    "title": "Forecast of a test",
    "source": "GraphCast",
    "checkpoint_sha256": "abc123",
    "licence": "CC BY 4.0",
}
_NAMES = ["forecast.nc", "forecast.zarr"]
_TARGETS = ["2m_temperature", "geopotential", "total_precipitation_6hr"]


def _forecast(frames=4, batch=1):
    """Returns frames as a rollout gives them, the first 6 h after the start."""
    frames_of = weather(frames + 1, batch=batch)[_TARGETS].isel(time=slice(1, None))
    rng = np.random.default_rng(1)
    frames_of = frames_of.map(
        lambda v: v + rng.normal(size=v.shape).astype(np.float32), keep_attrs=True
    )
    return frames_of.drop_vars("datetime").transpose("time", "batch", ...)


def _frame(forecast, *frames):
    return forecast.isel(time=list(frames))


def _writer(path, **options):
    options = {"attrs": _ATTRS, "reference_time": _START, **options}
    return data.open_writer(path, **options)


def _assert_same_values(found, expected):
    assert set(found.data_vars) == set(expected.data_vars)
    for name in expected.data_vars:
        dims = expected[name].dims
        np.testing.assert_array_equal(found[name].transpose(*dims), expected[name])
    np.testing.assert_array_equal(found["time"], expected["time"])


def _read(path):
    with data.open_dataset(path) as dataset:
        return dataset.load()


@pytest.fixture(params=_NAMES)
def path(request, tmp_path):
    return tmp_path / request.param


def _partial(path):
    return path.with_name(path.name + ".partial")


def test_frames_come_back_exactly(path):
    forecast = _forecast()
    with _writer(path) as writer:
        for frame in range(3):
            writer.write(_frame(forecast, frame))
            assert writer.frames_written == frame + 1
            assert not path.exists()
            assert _partial(path).exists()
        writer.write(_frame(forecast, 3))
    assert path.exists()
    assert not _partial(path).exists()
    found = _read(path)
    _assert_same_values(found, forecast)
    assert found["geopotential"].dtype == np.float32


def test_the_file_follows_cf(path):
    with _writer(path) as writer:
        writer.write(_forecast(2))
    found = _read(path)
    assert found.attrs.items() >= {**_ATTRS, "Conventions": "CF-1.11"}.items()
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
    assert found["forecast_reference_time"].values.astype("M8[h]") == _START
    valid = found["valid_time"].transpose("time", "batch").values
    np.testing.assert_array_equal(valid[:, 0], _START + found["time"].values)


def test_xarray_reads_the_file_without_a_warning(path):
    with _writer(path) as writer:
        writer.write(_forecast(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = "zarr" if path.suffix == ".zarr" else "h5netcdf"
        with xarray.open_dataset(path, engine=engine, decode_timedelta=True) as found:
            _assert_same_values(found, _forecast(2))


def test_dates_of_the_frames_give_the_start(path):
    frames = weather(4, batch=2)[_TARGETS]
    with _writer(path, reference_time=None) as writer:
        writer.write(frames.isel(time=[1]))
        writer.write(frames.isel(time=[2, 3]))
    found = _read(path)
    np.testing.assert_array_equal(
        found["valid_time"].transpose("batch", "time"),
        frames["datetime"].isel(time=[1, 2, 3]),
    )


def test_without_dates_there_are_no_valid_times(path):
    with _writer(path, reference_time=None) as writer:
        writer.write(_forecast(1))
    assert "valid_time" not in _read(path)


def test_static_fields_and_members_are_kept(path):
    chunk = _forecast(2, batch=2).expand_dims(sample=[0, 1, 2])
    chunk["land_sea_mask"] = weather(1)["land_sea_mask"]
    start = np.array(["2022-01-01", "2022-02-01"], "M8[ns]")
    with _writer(path, reference_time=start) as writer:
        writer.write(_frame(chunk, 0))
        writer.write(_frame(chunk, 1))
    found = _read(path)
    _assert_same_values(found, chunk)
    assert found["sample"].values.tolist() == [0, 1, 2]
    assert found["valid_time"].shape == (2, 2)


@pytest.mark.parametrize("step", ["30min", "6h", "24h"])
def test_lead_times_of_any_step_are_kept(path, step):
    forecast = weather(5, step=step)[_TARGETS].isel(time=slice(1, None))
    with _writer(path) as writer:
        for frame in range(4):
            writer.write(_frame(forecast, frame))
    np.testing.assert_array_equal(_read(path)["time"], forecast["time"])


def test_an_interrupted_forecast_is_readable_and_goes_on(path):
    forecast = _forecast()
    with pytest.raises(KeyboardInterrupt), _writer(path) as writer:
        writer.write(_frame(forecast, 0))
        writer.write(_frame(forecast, 1))
        raise KeyboardInterrupt
    assert not path.exists()
    _assert_same_values(_read(_partial(path)), _frame(forecast, 0, 1))
    with _writer(path) as writer:
        assert writer.frames_written == 2
        state = writer.last_frames(2)
        _assert_same_values(state, _frame(forecast, 0, 1))
        assert state["geopotential"].dims == ("batch", "time", "level", "lat", "lon")
        assert set(state.coords) == {"time", "level", "lat", "lon"}
        writer.write(_frame(forecast, 2, 3))
    _assert_same_values(_read(path), forecast)


def test_a_frame_that_was_not_completed_is_written_again(path):
    forecast = _forecast()
    with contextlib.suppress(KeyboardInterrupt), _writer(path) as writer:
        writer.write(_frame(forecast, 0, 1, 2))
        raise KeyboardInterrupt
    _set_mark(_partial(path), 2)
    with _writer(path) as writer:
        assert writer.frames_written == 2
        _assert_same_values(writer.last_frames(1), _frame(forecast, 1))
        writer.write(_frame(forecast, 2))
    _assert_same_values(_read(path), _frame(forecast, 0, 1, 2))


def test_a_forecast_without_a_complete_frame_starts_afresh(path):
    forecast = _forecast()
    with contextlib.suppress(KeyboardInterrupt), _writer(path) as writer:
        writer.write(_frame(forecast, 0, 1))
        raise KeyboardInterrupt
    _set_mark(_partial(path), 0)
    with _writer(path) as writer:
        assert writer.frames_written == 0
        writer.write(_frame(forecast, 0))
    _assert_same_values(_read(path), _frame(forecast, 0))


def _set_mark(partial, frames):
    """Makes a file look as if it had been cut off while a frame was written."""
    if partial.is_dir():
        import zarr

        zarr.open_group(str(partial), mode="r+").attrs["frames_written"] = frames
        return
    import netCDF4

    with netCDF4.Dataset(partial, "a") as file:
        file.setncattr("frames_written", np.int64(frames))


_ENDLESS = """
    import itertools, sys
    import numpy as np
    from tests.data import test_writers
    forecast = test_writers._forecast(1)
    with test_writers._writer(sys.argv[1]) as writer:
        for frame in itertools.count(1):
            lead = np.array([frame * 6], "timedelta64[h]").astype("timedelta64[ns]")
            writer.write((forecast * 0 + frame).assign_coords(time=lead))
            print(frame, flush=True)
"""


def test_a_killed_forecast_keeps_every_frame_it_reported(path):
    last = 3
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_ENDLESS), str(path)],
        stdout=subprocess.PIPE,
        cwd=pathlib.Path(weatherlib.__file__).parents[1],
    )
    for _ in range(last):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    reported = last + len(child.stdout.read().split())
    child.wait()
    child.stdout.close()
    assert not path.exists()
    with _writer(path) as writer:
        found = writer.frames_written
        assert found >= reported
        state = writer.last_frames(found)
        numbers = state["geopotential"].isel(lat=0, lon=0, level=0, batch=0)
        assert numbers.values.tolist() == list(range(1, found + 1))
        lead = np.array([(found + 1) * 6], "timedelta64[h]").astype("timedelta64[ns]")
        writer.write((_forecast(1) * 0).assign_coords(time=lead))
    assert _read(path).sizes["time"] == found + 1


_FULL = """
    import resource, signal, sys
    from tests.data import test_writers
    limit = int(sys.argv[2])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    forecast = test_writers._forecast(40)
    try:
        with test_writers._writer(sys.argv[1]) as writer:
            writer.write(forecast.isel(time=[0]))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            for frame in range(1, 40):
                writer.write(forecast.isel(time=[frame]))
    except OSError as error:
        print(type(error).__name__, error.errno, error, sep="|")
"""


@pytest.mark.parametrize(("name", "limit"), [(_NAMES[0], 300_000), (_NAMES[1], 700)])
def test_a_file_that_cannot_grow_keeps_what_it_holds(tmp_path, name, limit):
    path = tmp_path / name
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_FULL), str(path), str(limit)],
        capture_output=True,
        text=True,
        check=False,
        cwd=pathlib.Path(weatherlib.__file__).parents[1],
    )
    kind, _, message = done.stdout.strip().split("|")
    assert kind == "OSError"
    assert f"{path}.partial: writing failed" in message
    safe = int(message.split(";")[1].split()[0])
    assert 1 <= safe < 40
    assert f"{safe} frame(s) are safe in it" in message
    assert "run again to go on" in message
    assert done.stderr == ""
    assert not path.exists()
    forecast = _forecast(40)
    with _writer(path) as writer:
        assert writer.frames_written == safe
        writer.write(_frame(forecast, *range(safe, 40)))
    _assert_same_values(_read(path), forecast)


def test_a_full_disk_is_named(path, monkeypatch):
    forecast = _forecast()
    writer = _writer(path)
    writer.write(_frame(forecast, 0))

    def full(frames):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer._store, "append", full)
    with pytest.raises(OSError, match=r"No space left.*1 frame\(s\) are safe") as error:
        writer.write(_frame(forecast, 1))
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(ValueError, match="the writer is closed"):
        writer.write(_frame(forecast, 1))
    _assert_same_values(_read(_partial(path)), _frame(forecast, 0))
    assert not path.exists()


def test_a_first_frame_that_cannot_be_stored_leaves_nothing(path, monkeypatch):
    writer = _writer(path)

    def full(first, attrs):
        _partial(path).mkdir() if path.suffix == ".zarr" else _partial(path).touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer._store, "create", full)
    with pytest.raises(OSError, match="no frame was stored"):
        writer.write(_forecast(1))
    assert list(path.parent.iterdir()) == []


def test_netcdf_takes_its_space_before_it_writes(tmp_path, monkeypatch):
    path = tmp_path / "forecast.nc"
    forecast = _forecast(2)
    writer = _writer(path)
    writer.write(_frame(forecast, 0))

    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"1 frame\(s\) are safe"):
        writer.write(_frame(forecast, 1))
    monkeypatch.undo()
    _assert_same_values(_read(_partial(path)), _frame(forecast, 0))


def test_netcdf_asks_for_free_space_where_it_cannot_take_it(tmp_path, monkeypatch):
    path = tmp_path / "forecast.nc"
    forecast = _forecast(2)
    monkeypatch.delattr(os, "posix_fallocate")
    with _writer(path) as writer:
        writer.write(_frame(forecast, 0))
        writer.write(_frame(forecast, 1))
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    writer = _writer(tmp_path / "other.nc")
    writer.write(_frame(forecast, 0))
    with pytest.raises(OSError, match="No space left"):
        writer.write(_frame(forecast, 1))


def test_a_finish_that_fails_leaves_the_partial_file(path, monkeypatch):
    writer = _writer(path)
    writer.write(_forecast(1))

    def broken():
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(writer._store, "finish", broken)
    with pytest.raises(OSError, match="writing failed"):
        writer.close()
    assert _partial(path).exists()
    assert not path.exists()


@pytest.mark.parametrize("name", _NAMES)
def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(
    tmp_path, name, monkeypatch
):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    real = os.open

    def locked(target, *args, **kwargs):
        if str(target).startswith(str(folder)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
        return real(target, *args, **kwargs)

    # The superuser may write anywhere, so the refusal is played.
    monkeypatch.setattr(os, "open", locked)
    with pytest.raises(PermissionError, match="locked: cannot write forecast") as error:
        _writer(folder / name)
    assert error.value.errno == errno.EACCES


def test_a_folder_that_is_a_file_is_told(path):
    path.parent.joinpath("file").write_text("x")
    with pytest.raises(OSError, match="cannot write"):
        _writer(path.parent / "file" / path.name)


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "new" / "deeper" / "forecast.nc"
    with _writer(path) as writer:
        writer.write(_forecast(1))
    assert path.exists()


@pytest.mark.parametrize("name", ["forecast.grib", "forecast"])
def test_unknown_kinds_of_file_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"unknown kind of file.*\.nc, .*\.zarr"):
        _writer(tmp_path / name)


def test_a_finished_file_is_replaced_only_on_request(path):
    forecast = _forecast(2)
    with _writer(path) as writer:
        writer.write(_frame(forecast, 0))
    with pytest.raises(FileExistsError, match="exists already"):
        _writer(path)
    with _writer(path, overwrite=True) as writer:
        writer.write(forecast)
        assert _read(path).sizes["time"] == 1
    assert _read(path).sizes["time"] == 2
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_starting_afresh_drops_what_was_left(path):
    forecast = _forecast(2)
    with contextlib.suppress(KeyboardInterrupt), _writer(path) as writer:
        writer.write(_frame(forecast, 0))
        raise KeyboardInterrupt
    with _writer(path, resume=False) as writer:
        assert writer.frames_written == 0
        writer.write(_frame(forecast, 0))
    assert _read(path).sizes["time"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attrs": {**_ATTRS, "checkpoint_sha256": "other"}}, "checkpoint_sha256 is"),
        ({"attrs": {}}, "licence is 'CC BY 4.0', now None"),
        ({"reference_time": _START + np.timedelta64(1, "D")}, "it starts at"),
    ],
)
def test_another_forecast_is_not_continued(path, options, words):
    with contextlib.suppress(KeyboardInterrupt), _writer(path) as writer:
        writer.write(_forecast(1))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match=f"holds another forecast: .*{words}"):
        _writer(path, **options)
    with _writer(path) as writer:
        assert writer.frames_written == 1


def _without_a_variable(chunk):
    return chunk.drop_vars("geopotential")


def _with_a_variable(chunk):
    return chunk.assign(sst=chunk["2m_temperature"])


def _on_another_grid(chunk):
    return chunk.assign_coords(lat=chunk["lat"] + 1)


def _with_fewer_levels(chunk):
    return chunk.isel(level=[0, 1])


def _in_double_precision(chunk):
    return chunk.astype(np.float64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_a_variable, "geopotential is only in the file"),
        (_with_a_variable, "sst is only in the chunk"),
        (_on_another_grid, "lat has other values"),
        (_with_fewer_levels, "geopotential has"),
        (_in_double_precision, "is float32, now float64"),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_frames_that_do_not_fit_are_refused(path, change, words, resumed):
    forecast = _forecast(2)
    writer = _writer(path)
    writer.write(_frame(forecast, 0))
    if resumed:
        writer.__exit__(KeyboardInterrupt, None, None)
        writer = _writer(path)
    with pytest.raises(ValueError, match=words):
        writer.write(change(_frame(forecast, 1)))
    writer.write(_frame(forecast, 1))
    writer.close()
    assert _read(path).sizes["time"] == 2


@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("resumed", [False, True])
def test_frames_must_follow_each_other(path, frame, resumed):
    forecast = _forecast(3)
    writer = _writer(path)
    writer.write(_frame(forecast, 0, 1))
    if resumed:
        writer.__exit__(KeyboardInterrupt, None, None)
        writer = _writer(path)
    with pytest.raises(ValueError, match="time: frames must follow each other"):
        writer.write(_frame(forecast, frame))
    writer.close()


def test_chunks_need_frames_with_lead_times(path):
    with (
        pytest.raises(ValueError, match="no frames with lead times"),
        _writer(path) as writer,
    ):
        writer.write(_forecast(1).drop_vars("time"))
    with pytest.raises(ValueError, match="expected lead times"):
        layout.encode(_forecast(1).assign_coords(time=_START))
    with pytest.raises(ValueError, match="a forecast needs the dimension"):
        layout.encode(_forecast(1).isel(time=0))
    with pytest.raises(ValueError, match="not a whole number of hours"):
        layout.encode(weather(2, step="30min"), None, "hours")


def test_a_forecast_without_frames_is_no_forecast(path):
    with pytest.raises(ValueError, match="no frame was written"), _writer(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_closed_writer_takes_and_gives_nothing(path):
    writer = _writer(path)
    writer.write(_forecast(1))
    writer.close()
    writer.close()
    for action in (lambda: writer.write(_forecast(1)), lambda: writer.last_frames(1)):
        with pytest.raises(ValueError, match="the writer is closed"):
            action()


def test_more_frames_than_written_cannot_be_read(path):
    with _writer(path) as writer:
        with pytest.raises(ValueError, match="1 frames wanted, 0 written"):
            writer.last_frames(1)
        writer.write(_forecast(2))
        with pytest.raises(ValueError, match="3 frames wanted, 2 written"):
            writer.last_frames(3)


def test_a_damaged_partial_file_is_named(path):
    partial = _partial(path)
    if path.suffix == ".zarr":
        partial.mkdir()
        (partial / "junk").write_text("x")
    else:
        partial.write_bytes(b"\x89HDF\r\n\x1a\n broken")
    with pytest.raises(OSError, match="left by an earlier run and unreadable"):
        _writer(path)
    with _writer(path, resume=False) as writer:
        writer.write(_forecast(1))
    assert path.exists()


def test_a_finished_file_under_the_partial_name_is_not_continued(path):
    with _writer(path) as writer:
        writer.write(_forecast(1))
    path.rename(_partial(path))
    with pytest.raises(ValueError, match="not an unfinished forecast"):
        _writer(path)


@pytest.mark.parametrize("value", [None, {"a": 1}, object()])
def test_attributes_are_text_and_numbers(path, value):
    attrs = {**_ATTRS, "extra": value}
    if value is None:
        with _writer(path, attrs=attrs) as writer:
            writer.write(_forecast(1))
        assert "extra" not in _read(path).attrs
    else:
        with pytest.raises(ValueError, match="attribute 'extra' is"):
            _writer(path, attrs=attrs)


def test_attributes_may_be_numbers(path):
    attrs = {"steps": 4, "dt": 6.0, "levels": [1, 2], "n": np.float32(2)}
    with contextlib.suppress(KeyboardInterrupt), _writer(path, attrs=attrs) as writer:
        writer.write(_forecast(1))
        raise KeyboardInterrupt
    with _writer(path, attrs=attrs) as writer:
        assert writer.frames_written == 1
    assert _read(path).attrs["steps"] == 4


def test_a_start_that_is_no_date_is_refused(path):
    with pytest.raises(ValueError, match="'soon' is not a date"):
        _writer(path, reference_time="soon")
    with _writer(path, reference_time="2022-01-01T06") as writer:
        writer.write(_forecast(1))
    assert _read(path)["valid_time"].dims == ("time",)


def _need_zarr(zarr_format):
    """Skips a test of format 3 where zarr is older."""
    if zarr_format == 3:
        pytest.importorskip("zarr", minversion="3")


def test_format_3_needs_a_new_zarr(tmp_path, monkeypatch):
    import zarr

    monkeypatch.setattr(zarr, "__version__", "2.18.3")
    with pytest.raises(ValueError, match="zarr_format 3 needs zarr 3"):
        _writer(tmp_path / "forecast.zarr", zarr_format=3)


@pytest.mark.parametrize("level", [0, 5])
@pytest.mark.parametrize("zarr_format", [2, 3, None])
def test_compressed_files_hold_the_same_numbers(tmp_path, level, zarr_format):
    _need_zarr(zarr_format)
    path = tmp_path / ("forecast.zarr" if zarr_format else "forecast.nc")
    compression = data.Compression(level=level)
    with _writer(path, compression=compression, zarr_format=zarr_format) as writer:
        writer.write(_frame(_forecast(3), 0))
        writer.write(_frame(_forecast(3), 1, 2))
    _assert_same_values(_read(path), _forecast(3))


def test_format_3_can_be_resumed(tmp_path):
    _need_zarr(3)
    path = tmp_path / "forecast.zarr"
    forecast = _forecast(3)
    with contextlib.suppress(KeyboardInterrupt), _writer(path, zarr_format=3) as writer:
        writer.write(_frame(forecast, 0))
        raise KeyboardInterrupt
    with _writer(path, zarr_format=3) as writer:
        writer.write(_frame(forecast, 1, 2))
    assert (path / "zarr.json").exists()
    _assert_same_values(_read(path), forecast)


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
        _writer(tmp_path / "forecast.zarr", zarr_format=4)


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
    with _writer(path, compression=data.Compression(keep_bits=8, level=4)) as writer:
        writer.write(_frame(_forecast(2), 0))
        writer.write(_frame(_forecast(2), 1))
    found = _read(path)["2m_temperature"].transpose("time", ...)
    expected = _forecast(2)["2m_temperature"]
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=2**-9)


def test_half_precision_is_stored_in_full(path):
    chunk = _forecast(1)[["2m_temperature"]].astype(np.float16)
    with _writer(path) as writer:
        writer.write(chunk)
    found = _read(path)
    assert found["2m_temperature"].dtype == np.float32
    np.testing.assert_array_equal(
        found["2m_temperature"].transpose("time", ...), chunk["2m_temperature"]
    )


def test_memory_keeps_a_forecast_too():
    forecast = _forecast(3)
    with data.MemoryWriter() as writer:
        with pytest.raises(ValueError, match="holds no frames"):
            _ = writer.dataset
        writer.write(_frame(forecast, 0))
        writer.write(_frame(forecast, 1, 2))
        assert writer.frames_written == 3
        _assert_same_values(writer.last_frames(2), _frame(forecast, 1, 2))
        with pytest.raises(ValueError, match="4 frames wanted, 3 written"):
            writer.last_frames(4)
        with pytest.raises(ValueError, match="must follow each other"):
            writer.write(_frame(forecast, 1))
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
    with _writer(path) as writer:
        writer.write(_forecast(1))
    held = [f.readlink() for f in descriptors.iterdir() if f.is_symlink()]
    assert not [name for name in held if str(path) in str(name)]
