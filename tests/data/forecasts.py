"""Forecasts and files of them, for the tests of writers."""

import numpy as np

from tests.weather_samples import weather
from weatherlib import data

START = np.array(["2022-01-01T06"], "datetime64[ns]")

ATTRS = {
    "title": "Forecast of a test",
    "source": "GraphCast",
    "checkpoint_sha256": "abc123",
    "licence": "CC BY 4.0",
}

NAMES = ["forecast.nc", "forecast.zarr"]

TARGETS = ["2m_temperature", "geopotential", "total_precipitation_6hr"]


def forecast(frames=4, batch=1):
    """Returns frames as a rollout gives them, the first 6 h after the start."""
    frames_of = weather(frames + 1, batch=batch)[TARGETS].isel(time=slice(1, None))
    rng = np.random.default_rng(1)
    frames_of = frames_of.map(
        lambda v: v + rng.normal(size=v.shape).astype(np.float32), keep_attrs=True
    )
    return frames_of.drop_vars("datetime").transpose("time", "batch", ...)


def frame(forecast, *frames):
    return forecast.isel(time=list(frames))


def writer(path, **options):
    options = {"attrs": ATTRS, "reference_time": START, **options}
    return data.open_writer(path, **options)


def assert_same_values(found, expected):
    assert set(found.data_vars) == set(expected.data_vars)
    for name in expected.data_vars:
        dims = expected[name].dims
        np.testing.assert_array_equal(found[name].transpose(*dims), expected[name])
    np.testing.assert_array_equal(found["time"], expected["time"])


def read(path):
    with data.open_dataset(path, canonical=False) as dataset:
        return dataset.load()


def partial(path):
    return path.with_name(path.name + ".partial")


def set_mark(partial, frames):
    """Makes a file look as if it had been cut off while a frame was written."""
    if partial.is_dir():
        import zarr

        zarr.open_group(str(partial), mode="r+").attrs["frames_written"] = frames
        return
    import netCDF4

    with netCDF4.Dataset(partial, "a") as file:
        file.setncattr("frames_written", np.int64(frames))
