"""Small forecasts and truth for the tests of evaluation."""

import functools
import pathlib

import numpy as np
import pytest
import xarray

LEVELS = (500.0, 850.0)
STEP = np.timedelta64(12, "h")
_SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


def real(name):
    """Returns a file of real data, or skips the test where it is missing."""
    path = _SHARED / name
    if not path.exists():
        pytest.skip(f"real data are not here: {name}")
    return path


def truth(times=24, rows=8, columns=12, seed=0, start="2020-01-01"):
    """Returns a series that resembles itself from one time to the next."""
    generator = np.random.default_rng(seed)
    steps = generator.standard_normal((times, len(LEVELS), rows, columns))
    field = np.empty_like(steps)
    field[0] = steps[0]
    for now in range(1, times):
        field[now] = 0.8 * field[now - 1] + 0.6 * steps[now]
    edge = 90 - 90 / rows
    coords = {
        "time": np.datetime64(start, "ns") + np.arange(times) * STEP,
        "level": list(LEVELS),
        "latitude": np.linspace(-edge, edge, rows),
        "longitude": np.arange(columns) * 360 / columns,
    }
    dims = ("time", "level", "latitude", "longitude")
    surface = ("time", "latitude", "longitude")
    return xarray.Dataset(
        {
            "geopotential": (dims, 50000 + 500 * field, {"units": "m**2 s**-2"}),
            "2m_temperature": (surface, 280 + 5 * field[:, 0], {"units": "K"}),
        },
        coords,
    )


def forecasts(happened, starts=12, leads=3, members=0, noise=0.3, seed=1):
    """Returns the truth with errors as a hindcast set of WeatherBench 2."""
    generator = np.random.default_rng(seed)
    lead = (np.arange(1, leads + 1) * STEP).astype("timedelta64[ns]")
    init = happened["time"].values[:starts]
    valid = xarray.DataArray(
        init[:, None] + lead[None, :], dims=("time", "prediction_timedelta")
    )
    picked = happened.rename(time="valid").sel(valid=valid).drop_vars("valid")
    out = {}
    for name, array in picked.data_vars.items():
        scale = noise * float(happened[name].std())
        if members:
            array = array.expand_dims(number=members, axis=2)
        errors = generator.standard_normal(array.shape) * scale
        out[name] = array.copy(data=array.values + errors)
    dataset = xarray.Dataset(out).assign_coords(time=init, prediction_timedelta=lead)
    return dataset.assign_coords(number=np.arange(members)) if members else dataset


@functools.cache
def pair():
    """Returns forecasts and truth that tests do not change."""
    happened = truth()
    return forecasts(happened), happened
