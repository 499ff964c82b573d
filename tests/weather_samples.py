"""Small datasets that look like weather, for the tests of data handling."""

import numpy as np
import pandas as pd
import xarray

from weatherlib import task

LEVELS = (300, 500, 850)

TASK = task.TaskConfig(
    input_variables=(
        "2m_temperature",
        "mean_sea_level_pressure",
        "geopotential",
        "temperature",
        "specific_humidity",
        *task.FORCING_VARS,
        "geopotential_at_surface",
        "land_sea_mask",
    ),
    target_variables=(
        "2m_temperature",
        "mean_sea_level_pressure",
        "total_precipitation_6hr",
        "geopotential",
        "temperature",
        "specific_humidity",
    ),
    forcing_variables=task.FORCING_VARS,
    pressure_levels=LEVELS,
    input_duration="12h",
)

_MEANS = {
    "2m_temperature": 285.0,
    "mean_sea_level_pressure": 101325.0,
    "total_precipitation_6hr": 0.001,
    "geopotential": np.array([90000.0, 55000.0, 14300.0]),
    "temperature": np.array([228.0, 253.0, 281.0]),
    "specific_humidity": np.array([0.0002, 0.001, 0.006]),
    "geopotential_at_surface": 12000.0,
    "land_sea_mask": 0.3,
}


def weather(
    frames: int = 4,
    *,
    batch: int = 1,
    rows: int = 7,
    columns: int = 12,
    step: str = "6h",
    start: str = "2022-01-01",
    levels: tuple[int, ...] = LEVELS,
) -> xarray.Dataset:
    """Returns a dataset in the form of the published examples, for `TASK`."""
    rng = np.random.default_rng(7)
    time = pd.to_timedelta(np.arange(frames) * pd.Timedelta(step))
    members = pd.Timestamp(start) + pd.to_timedelta(np.arange(batch) * 30, unit="D")
    dates = np.stack([(member + time).to_numpy() for member in members])
    coords = {
        "time": time.to_numpy().astype("timedelta64[ns]"),
        "level": np.array(levels, np.int32),
        "lat": np.linspace(-90, 90, rows).astype(np.float32),
        "lon": (np.arange(columns) * 360 / columns).astype(np.float32),
        "datetime": (("batch", "time"), dates.astype("datetime64[ns]")),
    }
    sizes = {
        "batch": batch,
        "time": frames,
        "level": len(levels),
        "lat": rows,
        "lon": columns,
    }
    data = {}
    for name, mean in _MEANS.items():
        if name in task.STATIC_VARS:
            dims = ("lat", "lon")
        elif np.ndim(mean):
            dims = ("batch", "time", "level", "lat", "lon")
            mean = np.interp(levels, LEVELS, mean)[:, None, None]
        else:
            dims = ("batch", "time", "lat", "lon")
        noise = rng.uniform(0.98, 1.02, [sizes[dim] for dim in dims])
        data[name] = (dims, (mean * noise).astype(np.float32))
    return xarray.Dataset(data, coords=coords)
