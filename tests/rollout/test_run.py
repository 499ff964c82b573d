import functools
import os
import pathlib
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import xarray

from tests.rollout import models
from weatherlib import data, rollout
from weatherlib.data import writers

STEPS = 7


@functools.cache
def forecaster(**settings):
    make = functools.partial(models.Linear, noise=1.0)
    return rollout.Forecaster(make, models.params(), **settings)


@pytest.fixture
def inputs():
    return models.initial()


@pytest.fixture
def forcings(inputs):
    return models.forcings(STEPS, inputs)


@functools.cache
def whole(members=None):
    inputs = models.initial()
    return forecaster(num_steps_per_chunk=2).predict(
        inputs, models.forcings(STEPS, inputs), steps=STEPS, rng=5, members=members
    )


def run(inputs, forcings, writer, **options):
    return forecaster(num_steps_per_chunk=2).run(
        inputs, writer, forcings, steps=STEPS, rng=5, **options
    )


def assert_same_numbers(found):
    for name, expected in whole().items():
        np.testing.assert_array_equal(found[name].transpose(*expected.dims), expected)


def test_the_writer_gets_the_whole_forecast_in_order(inputs, forcings):
    writer = models.ListWriter()
    summary = run(inputs, forcings, writer)
    assert [chunk.sizes["time"] for chunk in writer.chunks] == [2, 2, 2, 1]
    xarray.testing.assert_identical(writer.dataset, whole())
    assert (summary.first_step, summary.steps) == (0, STEPS)
    assert summary.violations == ()
    assert summary.seconds >= summary.compile_seconds >= 0
    assert summary.steps_per_second > 0


def test_progress_is_told_in_the_calling_thread(inputs, forcings):
    told = []

    def progress(step, total, seconds):
        assert threading.current_thread() is threading.main_thread()
        told.append((step, total, seconds >= 0))

    run(inputs, forcings, models.ListWriter(), progress=progress)
    assert told == [(step, STEPS, True) for step in (0, 2, 4, 6, 7)]


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_an_interrupted_forecast_goes_on_as_if_it_never_stopped(
    inputs, forcings, frames, members
):
    writer = models.ListWriter()
    writer.write(whole(members).isel(time=slice(frames)))
    summary = run(inputs, forcings, writer, members=members)
    assert summary.first_step == frames
    xarray.testing.assert_identical(writer.dataset, whole(members))


def test_a_finished_forecast_is_left_alone(inputs, forcings):
    writer = models.ListWriter()
    writer.write(whole())
    traces = forecaster(num_steps_per_chunk=2).traces
    summary = run(inputs, forcings, writer)
    assert summary.first_step == STEPS
    assert len(writer.chunks) == 1
    assert forecaster(num_steps_per_chunk=2).traces == traces


def test_several_frames_a_step_are_continued_too():
    inputs = models.initial(3)
    forcings = models.forcings(8, inputs)
    make = functools.partial(models.Linear, frames_per_step=2)
    two = rollout.Forecaster(make, models.params(3))
    expected = two.predict(inputs, forcings, steps=4)
    for frames in (2, 4):
        writer = models.ListWriter()
        writer.write(expected.isel(time=slice(frames)))
        two.run(inputs, writer, forcings, steps=4)
        xarray.testing.assert_identical(writer.dataset, expected)
    writer = models.ListWriter()
    writer.write(expected.isel(time=slice(3)))
    with pytest.raises(ValueError, match="multiple of the 2 frame"):
        two.run(inputs, writer, forcings, steps=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.assign_coords(time=w.time + models.STEP), "has the lead times"),
        (
            lambda w: w.assign_coords(datetime=w["datetime"] + models.STEP),
            "began at another date",
        ),
        (lambda w: w.assign_coords(lat=-w.lat), "other values of lat"),
        (lambda w: w.drop_vars("wind"), "lacks wind"),
        (
            lambda w: xarray.concat(
                [w, w], "time", coords="minimal", compat="override"
            ),
            "8 frames; expected at most 7",
        ),
    ],
)
def test_another_forecast_is_not_continued(inputs, forcings, change, message):
    writer = models.ListWriter()
    writer.write(change(whole().isel(time=slice(4))))
    with pytest.raises(ValueError, match=message):
        run(inputs, forcings, writer)


def test_other_members_are_not_continued(inputs, forcings):
    writer = models.ListWriter()
    writer.write(whole(2).isel(time=slice(2), sample=slice(None, None, -1)))
    with pytest.raises(ValueError, match="other values of sample"):
        run(inputs, forcings, writer, members=2)


def test_a_failing_writer_stops_the_forecast_and_keeps_what_was_written(
    inputs, forcings
):
    writer = models.ListWriter(fail_after=4)
    with pytest.raises(OSError, match="disk full"):
        run(inputs, forcings, writer)
    assert writer.frames_written == 4
    writer.fail_after = None
    run(inputs, forcings, writer)
    xarray.testing.assert_identical(writer.dataset, whole())


def test_a_failing_writer_is_noticed_before_all_is_computed(inputs):
    asked = []
    forcings = models.forcings(100, inputs)

    def read(start, stop):
        asked.append(start)
        return forcings.isel(time=slice(start, stop))

    with pytest.raises(OSError, match="disk full"):
        forecaster().run(inputs, models.ListWriter(fail_after=2), read, steps=100)
    assert max(asked) < 20


def test_ctrl_c_leaves_whole_chunks_from_which_to_go_on(inputs, forcings):
    writer = models.ListWriter()

    def progress(step, total, seconds):
        if step >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(inputs, forcings, writer, progress=progress)
    assert writer.frames_written in (4, 6, STEPS)
    assert not [t for t in threading.enumerate() if t.name == "weatherlib-writer"]
    run(inputs, forcings, writer)
    xarray.testing.assert_identical(writer.dataset, whole())


def test_forcings_that_fail_leave_the_chunks_before_them_written(inputs, forcings):
    def read(start, stop):
        if start >= 4:
            raise OSError("server gone")
        return forcings.isel(time=slice(start, stop))

    writer = models.ListWriter()
    with pytest.raises(OSError, match="server gone"):
        run(inputs, read, writer)
    xarray.testing.assert_identical(writer.dataset, whole().isel(time=slice(4)))


class _WaitingWriter(models.ListWriter):
    """Writes a chunk only when a later one is being computed."""

    def __init__(self, later):
        super().__init__()
        self.later = later
        self.overlapped = True

    def write(self, chunk):
        if not self.chunks:
            self.overlapped = self.later.wait(30)
        super().write(chunk)


def test_later_chunks_are_computed_while_one_is_written(inputs):
    later = threading.Event()
    forcings = models.forcings(6, inputs)

    def read(start, stop):
        if start >= 2:
            later.set()
        return forcings.isel(time=slice(start, stop))

    writer = _WaitingWriter(later)
    forecaster().run(inputs, writer, read, steps=6)
    assert writer.overlapped
    assert writer.frames_written == 6


def test_a_slow_writer_holds_the_computation_back(inputs):
    release = threading.Event()
    asked = []
    forcings = models.forcings(30, inputs)

    class Slow(models.ListWriter):
        def write(self, chunk):
            release.wait(30)
            super().write(chunk)

    def read(start, stop):
        asked.append(start)
        return forcings.isel(time=slice(start, stop))

    thread = threading.Thread(
        target=forecaster().run, args=(inputs, Slow(), read), kwargs={"steps": 30}
    )
    thread.start()
    thread.join(3)
    waiting = max(asked)
    release.set()
    thread.join()
    assert waiting <= 5
    assert max(asked) == 29


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_files_are_written_and_continued(inputs, forcings, tmp_path, suffix):
    path = tmp_path / f"forecast.{suffix}"
    stop = _StopAfter(4)
    with (
        pytest.raises(KeyboardInterrupt),
        writers.open_writer(path) as writer,
    ):
        run(inputs, forcings, writer, progress=stop)
    assert not path.exists()
    with writers.open_writer(path) as writer:
        first = writer.frames_written
        assert 4 <= first <= STEPS
        summary = run(inputs, forcings, writer)
    assert summary.first_step == first
    with data.open_dataset(path) as found:
        assert_same_numbers(found)


class _StopAfter:
    def __init__(self, steps):
        self.steps = steps

    def __call__(self, step, total, seconds):
        if step >= self.steps:
            raise KeyboardInterrupt


def test_a_killed_process_leaves_a_forecast_to_continue(inputs, forcings, tmp_path):
    script = """
        import os, sys
        from tests.rollout import models, test_run
        from weatherlib.data import writers

        def progress(step, total, seconds):
            if step >= 2:
                os._exit(9)

        inputs = models.initial()
        with writers.open_writer(sys.argv[1]) as writer:
            test_run.run(inputs, models.forcings(test_run.STEPS, inputs), writer,
                         progress=progress)
    """
    path = tmp_path / "forecast.zarr"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path.cwd())},
    )
    assert done.returncode == 9, done.stderr
    assert not path.exists()
    with writers.open_writer(path) as writer:
        assert writer.frames_written >= 2
        run(inputs, forcings, writer)
    with data.open_dataset(path) as found:
        assert_same_numbers(found)


def test_forcings_may_be_read_from_netcdf_while_netcdf_is_written(tmp_path):
    # The library crashes the process where two threads are in it.
    script = """
        import sys
        import numpy as np, xarray
        from tests.rollout import models
        from weatherlib import rollout
        from weatherlib.data import writers

        steps, (source, path) = 60, sys.argv[1:]
        inputs = models.initial(lat=40, lon=80).drop_vars("mask")
        suns = models.forcings(steps, inputs)
        suns["sun"] = suns["sun"].expand_dims(lat=40, lon=80, axis=(2, 3))
        suns.to_netcdf(source, engine="netcdf4")
        lazy = xarray.open_dataset(
            source, engine="netcdf4", cache=False, decode_timedelta=False)
        inputs["sun"] = inputs["sun"].expand_dims(lat=40, lon=80, axis=(2, 3))
        forecaster = rollout.Forecaster(models.Linear, models.params())
        with writers.open_writer(path) as writer:
            forecaster.run(inputs, writer, lazy, steps=steps)
        print("survived")
    """
    arguments = [str(tmp_path / "sun.nc"), str(tmp_path / "forecast.nc")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path.cwd())},
    )
    assert "survived" in done.stdout, (done.returncode, done.stderr)
