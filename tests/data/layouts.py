"""One small state in the layout of every archive."""

import numpy as np
import pandas as pd
import pytest
import xarray
import zarr

from tests.weather_samples import weather

CDS = {
    "2m_temperature": "t2m",
    "mean_sea_level_pressure": "msl",
    "geopotential": "z",
    "temperature": "t",
    "specific_humidity": "q",
    "land_sea_mask": "lsm",
}


def series(frames=4, **options):
    """Returns the state as every source has to give it: dates, no batch."""
    state = weather(frames, **options).isel(batch=0)
    dates = state["datetime"].values
    return state.drop_vars("datetime").assign_coords(time=dates)


def cds(state):
    """Returns a download of the Climate Data Store since 2024."""
    state = state.isel(lat=slice(None, None, -1), level=slice(None, None, -1))
    axes = {"time": "valid_time", "lat": "latitude", "lon": "longitude"}
    state = state.rename({**CDS, **axes, "level": "pressure_level"})
    versions = ["0001"] * (state.sizes["valid_time"] - 1) + ["0005"]
    return state.assign_coords(number=0, expver=("valid_time", versions))


def cds_before_2024(state, final):
    """Returns a download whose final and preliminary times lie along `expver`."""
    parts = []
    for version, frames in ((1, slice(0, final)), (5, slice(final, None))):
        part = state[["2m_temperature", "mean_sea_level_pressure"]]
        inside = xarray.zeros_like(part["time"], dtype=bool)
        inside[frames] = True
        parts.append(part.where(inside).expand_dims(expver=[version], axis=1))
    # The preliminary ones come first, to show that the numbers decide.
    both = xarray.concat(parts[::-1], dim="expver")
    names = {"2m_temperature": "t2m", "mean_sea_level_pressure": "msl"}
    return both.rename({**names, "lat": "latitude", "lon": "longitude"})


def weatherbench2(state):
    """Returns the layout of WeatherBench 2: longitude first."""
    state = state.transpose("time", "level", "lon", "lat")
    return state.rename(lat="latitude", lon="longitude")


def arco(state, before=2, after=3):
    """Returns the layout of ARCO-ERA5, with NaN where there is no data yet."""
    state = state.isel(lat=slice(None, None, -1))
    time = pd.DatetimeIndex(state["time"].values)
    step = time[1] - time[0]
    whole = pd.date_range(time[0] - before * step, time[-1] + after * step, freq=step)
    # Static fields have times of their own there.
    state = state.assign(
        land_sea_mask=state["land_sea_mask"].expand_dims(time=state["time"])
    )
    padded = state.reindex(time=whole).rename(lat="latitude", lon="longitude")
    padded.attrs = {"valid_time_start": str(time[0]), "valid_time_stop": str(time[-1])}
    return padded


def require_zarr(version):
    """Skips a test of what the installed zarr does not know."""
    if version == 3 and int(zarr.__version__.partition(".")[0]) < 3:
        pytest.skip("version 3 of the Zarr format needs zarr 3")


def write_zarr(dataset, path, version=3):
    """Writes a store as xarray does."""
    require_zarr(version)
    dataset.drop_encoding().to_zarr(
        path, zarr_format=version, consolidated=version == 2
    )
    return path


def write_shards(folder, frames=8760, per_shard=2190, year=2000, keys=None):
    """Writes ClimaX shards of a field that is the number of the frame; returns it."""
    folder.mkdir(parents=True)
    np.save(folder.parent / "lat.npy", np.array([-45.0, 0.0, 45.0]))
    np.save(folder.parent / "lon.npy", np.arange(4) * 90.0)
    hours = np.arange(frames, dtype=np.float32)[:, None, None, None]
    field = np.broadcast_to(hours, (frames, 1, 3, 4))
    keys = keys or ["2m_temperature", "geopotential_500", "geopotential_850"]
    for number, first in enumerate(range(0, frames, per_shard)):
        part = field[first : first + per_shard]
        np.savez(
            folder / f"{year}_{number}.npz",
            **{key: part + place for place, key in enumerate(keys)},
        )
    return field


def write_weatherbench1(root, state):
    """Writes folders of WeatherBench 1: by variable, then by year."""
    names = {"lat": "lat", "lon": "lon"}
    for folder, variable, short, level in (
        ("geopotential_500", "geopotential", "z", 500),
        ("temperature_850", "temperature", "t", 850),
        ("2m_temperature", "2m_temperature", "t2m", None),
    ):
        (root / folder).mkdir(parents=True)
        field = state[variable]
        if level is not None:
            field = field.sel(level=level)
            # Only one of the two has kept its level.
            field = field if level == 500 else field.drop_vars("level")
        for half, frames in enumerate((slice(0, 2), slice(2, None))):
            part = field.isel(time=frames).rename(short).to_dataset().rename(names)
            part.to_netcdf(root / folder / f"{folder}_{2000 + half}_5.625deg.nc")
    constants = root / "constants"
    constants.mkdir()
    state[["land_sea_mask"]].rename(land_sea_mask="lsm").to_netcdf(
        constants / "constants_5.625deg.nc"
    )
    return root
