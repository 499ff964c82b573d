"""A small predictor and small data, for tests of what is wrapped around a predictor."""

import haiku as hk
import jax
import numpy as np
import xarray as xr

from weatherlib import losses, predictor_base, xarray_jax

LEVELS = (500, 850)
HOURS_PER_FRAME = 6


class ToyPredictor(predictor_base.Predictor):
    """Predicts smooth functions of all inputs, with three parameters a variable."""

    def __init__(self, frames_per_step=1):
        self.frames_per_step = frames_per_step

    def __call__(self, inputs, targets_template, forcings, scale=1.0):
        static = inputs["land_sea_mask"]
        forced = sum(
            forcing.mean("time", skipna=False) for forcing in forcings.values()
        )
        predictions = {}
        for name, target in targets_template.items():
            past = inputs[name if name in inputs else "2m_temperature"]
            weights = hk.get_parameter(
                f"weights_{name}",
                (3,),
                target.dtype,
                hk.initializers.RandomNormal(0.5),
            )
            weight = [xarray_jax.DataArray(weights[i], dims=()) for i in range(3)]
            first, last = past.isel(time=0, drop=True), past.isel(time=-1, drop=True)
            scaled = xarray_jax.DataArray(np.asarray(scale, target.dtype))
            frame = last * weight[0] + first * weight[1] * scaled
            frame = frame + (forced + static) * weight[2]
            frame = xarray_jax.apply_ufunc(jax.numpy.tanh, frame)
            growth = xr.DataArray(
                np.arange(1, self.frames_per_step + 1).astype(target.dtype),
                dims="time",
                coords={"time": target["time"]} if "time" in target.coords else None,
            )
            predictions[name] = (frame * growth).transpose(*target.dims)
        return xr.Dataset(predictions)

    def loss(self, inputs, targets, forcings, **kwargs):
        return self.loss_and_predictions(inputs, targets, forcings, **kwargs)[0]

    def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
        predictions = self(inputs, targets, forcings, **kwargs)
        weights = {"2m_temperature": 0.1}
        loss = losses.weighted_mse_per_level(predictions, targets, weights)
        return loss, predictions


class LossOnlyPredictor(ToyPredictor):
    """A predictor as one trained on single steps may be."""

    def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
        raise NotImplementedError

    def loss(self, inputs, targets, forcings, **kwargs):
        predictions = self(inputs, targets, forcings, **kwargs)
        return losses.weighted_mse_per_level(predictions, targets, {})


def frames(count, *, start=0, batch=2, seed=0):
    """Returns all time-dependent variables at `count` times from `start` frames on."""
    rng = np.random.default_rng(seed)
    sizes = {"batch": batch, "time": count, "level": len(LEVELS), "lat": 3, "lon": 4}

    def field(*dims):
        values = rng.standard_normal([sizes[dim] for dim in dims])
        return dims, values.astype(np.float32)

    hours = HOURS_PER_FRAME * np.arange(start, start + count)
    lead = hours.astype("timedelta64[h]").astype("timedelta64[ns]")
    dates = np.datetime64("2022-01-01", "ns") + np.stack([lead] * batch)
    return xr.Dataset(
        {
            "geopotential": field("batch", "time", "level", "lat", "lon"),
            "2m_temperature": field("batch", "time", "lat", "lon"),
            "total_precipitation_6hr": field("batch", "time", "lat", "lon"),
            "toa_incident_solar_radiation": field("batch", "time", "lat", "lon"),
        },
        coords={
            "time": lead,
            "level": np.array(LEVELS, np.int32),
            "lat": np.array([-90, 0, 90], np.float32),
            "lon": np.array([0, 90, 180, 270], np.float32),
            "datetime": (("batch", "time"), dates),
        },
    )


def example(steps, *, past=2, batch=2, seed=0):
    """Returns inputs, targets and forcings of a forecast of `steps` frames."""
    everything = frames(past + steps, start=1 - past, batch=batch, seed=seed)
    before, after = slice(None, past), slice(past, None)
    inputs = everything.isel(time=before).drop_vars("total_precipitation_6hr")
    mask = np.random.default_rng(seed + 1).random((3, 4)).astype(np.float32)
    inputs["land_sea_mask"] = (("lat", "lon"), mask)
    radiation = "toa_incident_solar_radiation"
    targets = everything.isel(time=after).drop_vars(radiation)
    return inputs, targets, everything.isel(time=after)[[radiation]]


def statistics(factor=1.0):
    """Returns statistics with more levels than the data, in another order."""
    levels = np.array([1000, 850, 500, 1], np.int32)
    values = np.linspace(0.5, 1.5, len(levels))
    return xr.Dataset(
        {
            "geopotential": ("level", values * factor),
            "2m_temperature": 0.7 * factor,
            "total_precipitation_6hr": 0.4 * factor,
            "toa_incident_solar_radiation": 1.3 * factor,
            "land_sea_mask": 0.9 * factor,
        },
        coords={"level": levels},
    )


def transformed(make, method="__call__"):
    """Returns a method of the predictor that `make` makes as a Haiku function."""

    def function(inputs, targets, forcings, **kwargs):
        return getattr(make(), method)(inputs, targets, forcings, **kwargs)

    return hk.transform(function)


def parameters():
    """Returns parameters of the toy predictor, without compiling an initialisation."""
    rng = np.random.default_rng(7)
    names = ("geopotential", "2m_temperature", "total_precipitation_6hr")
    return {
        "~": {
            f"weights_{name}": (rng.standard_normal(3) / 2).astype(np.float32)
            for name in names
        }
    }


def run(make, data, *, method="__call__", seed=0, params=None, **kwargs):
    """Returns the jitted result for `data` with the parameters given, or the above."""
    function = transformed(make, method)
    apply = jax.jit(lambda *args: function.apply(*args, **kwargs))
    return apply(params or parameters(), jax.random.PRNGKey(seed), *data)


def initialised(make, data, method="__call__"):
    """Returns fresh parameters."""
    function = transformed(make, method)
    return jax.jit(function.init)(jax.random.PRNGKey(0), *data)
