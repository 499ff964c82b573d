"""Small GraphCasts and random data that fit them."""

import dataclasses

import haiku as hk
import jax
import numpy as np
import xarray as xr

from weatherlib import graphcast, task, xarray_jax

CONFIG = graphcast.ModelConfig(
    resolution=30,
    mesh_size=1,
    latent_size=8,
    gnn_msg_steps=2,
    hidden_layers=1,
    radius_query_fraction_edge_length=0.6,
)
TASK = graphcast.TaskConfig(
    input_variables=("2m_temperature", "temperature", "land_sea_mask", "day"),
    target_variables=("2m_temperature", "temperature", "total_precipitation_6hr"),
    forcing_variables=("day",),
    pressure_levels=(500, 850),
    input_duration="12h",
)
LAT = np.arange(-90, 91, 30).astype(np.float32)
LON = np.arange(0, 360, 30).astype(np.float32)


def make_data(task_config=TASK, lat=LAT, lon=LON, frames=2, batch=1, seed=0):
    """Returns inputs, targets and forcings of standard normal numbers."""
    rng = np.random.default_rng(seed)
    hours = np.arange(1 - frames, 2) * np.timedelta64(6, "h")

    def make(names, times):
        variables = {}
        for name in names:
            sizes = {"batch": batch, "time": len(times)}
            if name in task.ALL_ATMOSPHERIC_VARS:
                sizes["level"] = len(task_config.pressure_levels)
            sizes |= {"lat": len(lat), "lon": len(lon)}
            if name in task.STATIC_VARS:
                sizes = {"lat": len(lat), "lon": len(lon)}
            values = rng.normal(size=list(sizes.values())).astype(np.float32)
            variables[name] = (tuple(sizes), values)
        coords = {"lat": lat, "lon": lon, "time": times.astype("timedelta64[ns]")}
        if task_config.pressure_levels:
            coords["level"] = list(task_config.pressure_levels)
        return xr.Dataset(variables, coords)

    return (
        make(task_config.input_variables, hours[:-1]),
        make(task_config.target_variables, hours[-1:]),
        make(task_config.forcing_variables, hours[-1:]),
    )


def transform(model_config=CONFIG, task_config=TASK, method="__call__", **kwargs):
    """Returns a method of GraphCast as a transformed function of datasets."""

    def run(inputs, targets, forcings):
        predictor = graphcast.GraphCast(model_config, task_config, **kwargs)
        return getattr(predictor, method)(inputs, targets, forcings)

    return hk.without_apply_rng(hk.transform(run))


def init(data, *args, **kwargs):
    """Returns parameters whose biases and norms are not the trivial initial ones."""
    params = jax.jit(transform(*args, **kwargs).init)(jax.random.PRNGKey(0), *data)
    return noisy(params)


def noisy(params):
    """Returns parameters with small random numbers added to each."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda p: jax.device_put(
            np.asarray(p) + np.float32(0.1) * rng.standard_normal(p.shape, np.float32)
        ),
        params,
    )


def values(dataset):
    """Returns the arrays of a dataset by name."""
    return {name: np.asarray(xarray_jax.unwrap_data(dataset[name])) for name in dataset}


def replace(config, **changes):
    """Returns a copy of a config with changes."""
    return dataclasses.replace(config, **changes)
