"""Writers of forecasts: what interrupts them, and going on afterwards."""

import contextlib
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import weatherlib
from tests.data import forecasts


def test_an_interrupted_forecast_is_readable_and_goes_on(path):
    forecast = forecasts.forecast()
    with pytest.raises(KeyboardInterrupt), forecasts.writer(path) as writer:
        writer.write(forecasts.frame(forecast, 0))
        writer.write(forecasts.frame(forecast, 1))
        raise KeyboardInterrupt
    assert not path.exists()
    forecasts.assert_same_values(
        forecasts.read(forecasts.partial(path)), forecasts.frame(forecast, 0, 1)
    )
    with forecasts.writer(path) as writer:
        assert writer.frames_written == 2
        state = writer.last_frames(2)
        forecasts.assert_same_values(state, forecasts.frame(forecast, 0, 1))
        assert state["geopotential"].dims == ("batch", "time", "level", "lat", "lon")
        assert set(state.coords) == {"time", "level", "lat", "lon"}
        writer.write(forecasts.frame(forecast, 2, 3))
    forecasts.assert_same_values(forecasts.read(path), forecast)


def test_a_frame_that_was_not_completed_is_written_again(path):
    forecast = forecasts.forecast()
    with contextlib.suppress(KeyboardInterrupt), forecasts.writer(path) as writer:
        writer.write(forecasts.frame(forecast, 0, 1, 2))
        raise KeyboardInterrupt
    forecasts.set_mark(forecasts.partial(path), 2)
    with forecasts.writer(path) as writer:
        assert writer.frames_written == 2
        forecasts.assert_same_values(
            writer.last_frames(1), forecasts.frame(forecast, 1)
        )
        writer.write(forecasts.frame(forecast, 2))
    forecasts.assert_same_values(
        forecasts.read(path), forecasts.frame(forecast, 0, 1, 2)
    )


def test_a_forecast_without_a_complete_frame_starts_afresh(path):
    forecast = forecasts.forecast()
    with contextlib.suppress(KeyboardInterrupt), forecasts.writer(path) as writer:
        writer.write(forecasts.frame(forecast, 0, 1))
        raise KeyboardInterrupt
    forecasts.set_mark(forecasts.partial(path), 0)
    with forecasts.writer(path) as writer:
        assert writer.frames_written == 0
        writer.write(forecasts.frame(forecast, 0))
    forecasts.assert_same_values(forecasts.read(path), forecasts.frame(forecast, 0))


_ENDLESS = """
    import itertools, sys
    import numpy as np
    from tests.data import forecasts
    forecast = forecasts.forecast(1)
    with forecasts.writer(sys.argv[1]) as writer:
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
    with forecasts.writer(path) as writer:
        found = writer.frames_written
        assert found >= reported
        state = writer.last_frames(found)
        numbers = state["geopotential"].isel(lat=0, lon=0, level=0, batch=0)
        assert numbers.values.tolist() == list(range(1, found + 1))
        lead = np.array([(found + 1) * 6], "timedelta64[h]").astype("timedelta64[ns]")
        writer.write((forecasts.forecast(1) * 0).assign_coords(time=lead))
    assert forecasts.read(path).sizes["time"] == found + 1


_FULL = """
    import resource, signal, sys
    from tests.data import forecasts
    limit = int(sys.argv[2])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    forecast = forecasts.forecast(40)
    try:
        with forecasts.writer(sys.argv[1]) as writer:
            writer.write(forecast.isel(time=[0]))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            for frame in range(1, 40):
                writer.write(forecast.isel(time=[frame]))
    except OSError as error:
        print(type(error).__name__, error.errno, error, sep="|")
"""


@pytest.mark.parametrize(
    ("name", "limit"), [(forecasts.NAMES[0], 300_000), (forecasts.NAMES[1], 700)]
)
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
    forecast = forecasts.forecast(40)
    with forecasts.writer(path) as writer:
        assert writer.frames_written == safe
        writer.write(forecasts.frame(forecast, *range(safe, 40)))
    forecasts.assert_same_values(forecasts.read(path), forecast)


def test_a_full_disk_is_named(path, monkeypatch):
    forecast = forecasts.forecast()
    writer = forecasts.writer(path)
    writer.write(forecasts.frame(forecast, 0))

    def full(frames):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer._store, "append", full)
    with pytest.raises(OSError, match=r"No space left.*1 frame\(s\) are safe") as error:
        writer.write(forecasts.frame(forecast, 1))
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(ValueError, match="the writer is closed"):
        writer.write(forecasts.frame(forecast, 1))
    forecasts.assert_same_values(
        forecasts.read(forecasts.partial(path)), forecasts.frame(forecast, 0)
    )
    assert not path.exists()


def test_a_first_frame_that_cannot_be_stored_leaves_nothing(path, monkeypatch):
    writer = forecasts.writer(path)

    def full(first, attrs):
        forecasts.partial(
            path
        ).mkdir() if path.suffix == ".zarr" else forecasts.partial(path).touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer._store, "create", full)
    with pytest.raises(OSError, match="no frame was stored"):
        writer.write(forecasts.forecast(1))
    assert list(path.parent.iterdir()) == []


def test_netcdf_takes_its_space_before_it_writes(tmp_path, monkeypatch):
    path = tmp_path / "forecast.nc"
    forecast = forecasts.forecast(2)
    writer = forecasts.writer(path)
    writer.write(forecasts.frame(forecast, 0))

    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"1 frame\(s\) are safe"):
        writer.write(forecasts.frame(forecast, 1))
    monkeypatch.undo()
    forecasts.assert_same_values(
        forecasts.read(forecasts.partial(path)), forecasts.frame(forecast, 0)
    )


def test_netcdf_asks_for_free_space_where_it_cannot_take_it(tmp_path, monkeypatch):
    path = tmp_path / "forecast.nc"
    forecast = forecasts.forecast(2)
    monkeypatch.delattr(os, "posix_fallocate")
    with forecasts.writer(path) as writer:
        writer.write(forecasts.frame(forecast, 0))
        writer.write(forecasts.frame(forecast, 1))
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    writer = forecasts.writer(tmp_path / "other.nc")
    writer.write(forecasts.frame(forecast, 0))
    with pytest.raises(OSError, match="No space left"):
        writer.write(forecasts.frame(forecast, 1))


def test_a_finish_that_fails_leaves_the_partial_file(path, monkeypatch):
    writer = forecasts.writer(path)
    writer.write(forecasts.forecast(1))

    def broken():
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(writer._store, "finish", broken)
    with pytest.raises(OSError, match="writing failed"):
        writer.close()
    assert forecasts.partial(path).exists()
    assert not path.exists()


@pytest.mark.parametrize("name", forecasts.NAMES)
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
        forecasts.writer(folder / name)
    assert error.value.errno == errno.EACCES


def test_a_folder_that_is_a_file_is_told(path):
    path.parent.joinpath("file").write_text("x")
    with pytest.raises(OSError, match="cannot write"):
        forecasts.writer(path.parent / "file" / path.name)


def test_starting_afresh_drops_what_was_left(path):
    forecast = forecasts.forecast(2)
    with contextlib.suppress(KeyboardInterrupt), forecasts.writer(path) as writer:
        writer.write(forecasts.frame(forecast, 0))
        raise KeyboardInterrupt
    with forecasts.writer(path, resume=False) as writer:
        assert writer.frames_written == 0
        writer.write(forecasts.frame(forecast, 0))
    assert forecasts.read(path).sizes["time"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"attrs": {**forecasts.ATTRS, "checkpoint_sha256": "other"}},
            "checkpoint_sha256 is",
        ),
        ({"attrs": {}}, "licence is 'CC BY 4.0', now None"),
        ({"reference_time": forecasts.START + np.timedelta64(1, "D")}, "it starts at"),
    ],
)
def test_another_forecast_is_not_continued(path, options, words):
    with contextlib.suppress(KeyboardInterrupt), forecasts.writer(path) as writer:
        writer.write(forecasts.forecast(1))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match=f"holds another forecast: .*{words}"):
        forecasts.writer(path, **options)
    with forecasts.writer(path) as writer:
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
    forecast = forecasts.forecast(2)
    writer = forecasts.writer(path)
    writer.write(forecasts.frame(forecast, 0))
    if resumed:
        writer.__exit__(KeyboardInterrupt, None, None)
        writer = forecasts.writer(path)
    with pytest.raises(ValueError, match=words):
        writer.write(change(forecasts.frame(forecast, 1)))
    writer.write(forecasts.frame(forecast, 1))
    writer.close()
    assert forecasts.read(path).sizes["time"] == 2


@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("resumed", [False, True])
def test_frames_must_follow_each_other(path, frame, resumed):
    forecast = forecasts.forecast(3)
    writer = forecasts.writer(path)
    writer.write(forecasts.frame(forecast, 0, 1))
    if resumed:
        writer.__exit__(KeyboardInterrupt, None, None)
        writer = forecasts.writer(path)
    with pytest.raises(ValueError, match="time: frames must follow each other"):
        writer.write(forecasts.frame(forecast, frame))
    writer.close()


def test_a_damaged_partial_file_is_named(path):
    partial = forecasts.partial(path)
    if path.suffix == ".zarr":
        partial.mkdir()
        (partial / "junk").write_text("x")
    else:
        partial.write_bytes(b"\x89HDF\r\n\x1a\n broken")
    with pytest.raises(OSError, match="left by an earlier run and unreadable"):
        forecasts.writer(path)
    with forecasts.writer(path, resume=False) as writer:
        writer.write(forecasts.forecast(1))
    assert path.exists()


def test_a_finished_file_under_the_partial_name_is_not_continued(path):
    with forecasts.writer(path) as writer:
        writer.write(forecasts.forecast(1))
    path.rename(forecasts.partial(path))
    with pytest.raises(ValueError, match="not an unfinished forecast"):
        forecasts.writer(path)
