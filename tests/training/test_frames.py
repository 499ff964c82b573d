import numpy as np
import pytest
import xarray

from tests.training import toys
from weatherlib import training
from weatherlib.training import frames as frames_module
from weatherlib.training import leads


def _frames(weather=None, **options):
    weather = toys.weather(12) if weather is None else weather
    return training.Frames(weather, toys.TASK, **options)


@pytest.mark.parametrize("in_memory", [True, False])
def test_samples_are_cut_where_their_starts_say(in_memory):
    weather = toys.weather(12)
    inputs, targets, forcings = _frames(weather, in_memory=in_memory).batch(
        np.array([3, 7]), 2
    )
    pressure = weather[toys.PRESSURE].values[0]
    np.testing.assert_array_equal(inputs[toys.PRESSURE][1], pressure[7:9])
    np.testing.assert_array_equal(targets[toys.PRESSURE][0], pressure[5:7])
    assert (targets["time"].values / np.timedelta64(1, "h")).tolist() == [6, 12]
    assert (inputs["time"].values / np.timedelta64(1, "h")).tolist() == [-6, 0]
    assert set(forcings) == {"day_progress_sin"}
    assert targets["geopotential"].dims == ("batch", "time", "level", "lat", "lon")


def test_memory_and_disk_give_the_same_batch(tmp_path):
    toys.weather(12).to_netcdf(tmp_path / "w.nc")
    with xarray.open_dataset(tmp_path / "w.nc", decode_timedelta=True) as weather:
        lazy = _frames(weather, in_memory=False)
        assert not lazy.in_memory
        for one, two in zip(lazy.batch(np.array([2, 4])), _frames().batch([2, 4])):
            xarray.testing.assert_identical(one, two)


def test_forcings_that_the_data_hold_come_before_computed_ones():
    weather = toys.weather(12)
    held = np.full((1, 12, 8), 0.25, np.float32)
    weather["day_progress_sin"] = (("batch", "time", "lon"), held)
    _, _, forcings = _frames(weather).batch(np.array([0]))
    assert (forcings["day_progress_sin"].values == 0.25).all()


def test_starts_stay_in_their_period_with_all_their_frames():
    series = _frames(toys.weather(40))
    period = training.Period(start="2020-01-02", end="2020-01-04")
    # Eight frames from 00 UTC of the 2nd; two inputs and three targets.
    assert series.starts(period, targets=3).tolist() == [4, 5, 6, 7]
    assert len(series.starts(targets=1)) == 38
    with pytest.raises(ValueError, match=r"has 8 frames in the data .* no 9 of them"):
        series.starts(period, targets=7)


def test_samples_never_reach_over_a_gap():
    weather = toys.weather(20).isel(time=[*range(8), *range(10, 20)])
    starts = _frames(weather).starts(targets=1)
    assert starts.tolist() == [*range(6), *range(8, 16)]


def test_a_longer_step_takes_every_other_frame():
    task = toys.TASK
    series = training.Frames(
        toys.weather(12),
        task.__class__(**{**task, "input_duration": "24h"}),
        time_step="12h",
    )
    inputs, targets, _ = series.batch(np.array([1]), 1)
    values = toys.weather(12)[toys.PRESSURE].values[0]
    np.testing.assert_array_equal(inputs[toys.PRESSURE][0], values[[1, 3]])
    np.testing.assert_array_equal(targets[toys.PRESSURE][0], values[[5]])
    assert targets["time"].values / np.timedelta64(1, "h") == 12
    assert len(series.starts(targets=1)) == 8
    assert series.period(training.Period()).sizes["time"] == 6


def test_the_frames_of_a_period_come_with_forcings():
    period = _frames().period(training.Period(end="2020-01-02"))
    assert period.sizes["time"] == 4
    assert {"day_progress_sin", toys.PRESSURE} <= set(period)
    with pytest.raises(ValueError, match="has 1 frames"):
        _frames().period(training.Period(end="2020-01-01T06"))


@pytest.mark.parametrize("in_memory", [True, False])
def test_missing_values_name_file_variable_and_time(in_memory):
    weather = toys.weather(12)
    weather["geopotential"][0, 6, 1, 2, 3] = np.nan
    series = _frames(weather, in_memory=in_memory, source="archive.nc")
    with pytest.raises(
        frames_module.CorruptSampleError,
        match=r"archive.nc: geopotential has missing .* at 2020-01-02T12:00",
    ):
        series.batch(np.array([5]))
    series.batch(np.array([0]))
    allowed = _frames(weather, in_memory=in_memory, nan_allowed=["geopotential"])
    allowed.batch(np.array([5]))


def test_corrupt_samples_are_skipped_named_and_counted_only_if_asked(caplog):
    weather = toys.weather(12)
    weather[toys.PRESSURE][0, 6] = np.nan
    series = _frames(weather, skip_corrupt=True)
    inputs, _, _ = series.batch(np.array([4, 5, 6, 8]))
    expected = weather[toys.PRESSURE].values[0]
    for found, start in zip(inputs[toys.PRESSURE].values, [7, 7, 7, 8]):
        np.testing.assert_array_equal(found, expected[start : start + 2])
    series.batch(np.array([4]))
    assert sorted(series.skipped) == [
        "2020-01-02T00:00",
        "2020-01-02T06:00",
        "2020-01-02T12:00",
    ]
    assert sum("sample skipped" in r.message for r in caplog.records) == 3


@pytest.mark.parametrize("in_memory", [True, False])
def test_corrupt_samples_are_replaced_by_others_of_their_period(in_memory):
    weather = toys.weather(16)
    weather[toys.PRESSURE][0, 8:10] = np.nan
    series = _frames(weather, skip_corrupt=True, in_memory=in_memory)
    period = training.Period(start="2020-01-01T06", end="2020-01-03T12")  # 1 to 9
    expected = weather[toys.PRESSURE].values[0]
    for start in (6, 7):  # These and later ones hold frame 8 or 9.
        inputs, targets, _ = series.loader(1, period)(np.array([start]))
        np.testing.assert_array_equal(inputs[toys.PRESSURE][0], expected[1:3])
        np.testing.assert_array_equal(targets[toys.PRESSURE][0], expected[3:4])
    inputs, targets, _ = series.batch_at(np.array([5]), np.array([2]), period)
    np.testing.assert_array_equal(inputs[toys.PRESSURE][0], expected[1:3])
    np.testing.assert_array_equal(targets[toys.PRESSURE][0], expected[4:5])
    samples = leads.LeadSamples(series, [2], period)
    np.testing.assert_array_equal(
        samples(samples.numbers[-1:])[0][toys.PRESSURE][0], expected[1:3]
    )


def test_corrupt_samples_are_not_replaced_by_some_that_reach_over_a_gap():
    weather = toys.weather(16).isel(time=[*range(8), *range(11, 16)])
    weather[toys.PRESSURE][0, 5] = np.nan
    series = _frames(weather, skip_corrupt=True)
    inputs, targets, _ = series.batch(np.array([5]))
    expected = weather[toys.PRESSURE].values[0]
    np.testing.assert_array_equal(inputs[toys.PRESSURE][0], expected[8:10])
    np.testing.assert_array_equal(targets[toys.PRESSURE][0], expected[10:11])


def test_when_everything_is_corrupt_skipping_ends():
    weather = toys.weather(6)
    weather[toys.PRESSURE][:] = np.nan
    with pytest.raises(frames_module.CorruptSampleError, match="no sample can be read"):
        _frames(weather, skip_corrupt=True).batch(np.array([0]))


def test_a_shard_that_cannot_be_read_is_named(tmp_path):
    weather = toys.weather(12).chunk({"time": 2})
    weather.to_zarr(tmp_path / "w.zarr", zarr_format=2, consolidated=False)
    shard = tmp_path / "w.zarr" / toys.PRESSURE / "0.2.0.0"
    shard.write_bytes(b"no compressed data")
    opened = xarray.open_dataset(
        tmp_path / "w.zarr",
        engine="zarr",
        consolidated=False,
        decode_timedelta=True,
        chunks=None,
    )
    series = _frames(opened, in_memory=False, source="w.zarr")
    with pytest.raises(
        frames_module.CorruptSampleError,
        match=f"w.zarr: {toys.PRESSURE} cannot be read at 2020-01-01T18:00",
    ):
        series.batch(np.array([3]))
    series.batch(np.array([6]))
    with pytest.raises(frames_module.CorruptSampleError, match="damaged or cut short"):
        _frames(opened, in_memory=True)
    skipping = _frames(opened, in_memory=True, skip_corrupt=True)
    assert not skipping.in_memory
    skipping.batch(np.array([3]))
    assert len(skipping.skipped) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.drop_vars("geopotential"), "geopotential: not in the data"),
        (lambda w: xarray.concat([w, w], "batch"), "found 2 members"),
        (lambda w: w.isel(time=[0]), "needs several frames"),
        (lambda w: w.isel(time=[0, 2, 1]), "does not come after"),
    ],
)
def test_data_that_cannot_be_cut_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        _frames(change(toys.weather(6)))


def test_steps_that_do_not_fit_the_data_are_errors():
    with pytest.raises(ValueError, match="time_step 4h is no multiple"):
        _frames(time_step="4h")
    with pytest.raises(ValueError, match="input_duration 12h is no multiple"):
        _frames(time_step="24h")
