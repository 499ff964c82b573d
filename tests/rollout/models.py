"""Tiny predictors and states for the rollout tests."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import xarray

from weatherlib import predictor_base, xarray_jax

STEP = np.timedelta64(6, "h").astype("timedelta64[ns]")
START = np.datetime64("2020-01-01T00", "ns")
LEVELS = np.array([500, 850], np.int32)


class Persistence(predictor_base.Predictor):
    """Repeats the last input frame."""

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        frames = targets_template.sizes["time"]
        last = inputs[list(targets_template)].isel(time=[-1] * frames)
        return last.assign_coords(time=targets_template.coords["time"])


class Linear(predictor_base.Predictor):
    """Mixes the input frames with weights, adds the sun, and noise on request."""

    def __init__(self, noise=0.0, frames_per_step=1, forcing="sun"):
        self.noise = noise
        self.frames_per_step = frames_per_step
        self.forcing = forcing

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        frames = inputs.sizes["time"]
        weights = hk.get_parameter("w", [frames], init=hk.initializers.Constant(0.4))
        weights = xarray_jax.DataArray(weights, dims=("time",))
        mask = inputs.get("mask", 1.0)
        predictions = {}
        for name in targets_template:
            if name not in inputs:
                predictions[name] = targets_template[name] + forcings[self.forcing]
                continue
            mean = (inputs[name] * weights.assign_coords(time=inputs.time)).sum(
                "time", skipna=False
            )
            frames_out = [
                mean * (1 + 0.1 * number) + 0.01 * mask
                for number in range(targets_template.sizes["time"])
            ]
            out = xarray.concat(frames_out, "time").assign_coords(
                time=targets_template.coords["time"]
            )
            if self.forcing in forcings:
                out = out + forcings[self.forcing]
            if self.noise:
                draw = number_of(hk.next_rng_key())
                out = out + self.noise * xarray_jax.DataArray(draw, dims=())
            predictions[name] = out
        return xarray.Dataset(predictions).transpose("time", "batch", ...)


def number_of(key):
    """A number in [0, 1) told by a key, quicker to compile than a random one."""
    return jax.random.key_data(key)[-1].astype(jnp.float32) / 2.0**32


def params(frames=2, value=0.45):
    return {"~": {"w": jnp.full([frames], value, jnp.float32)}}


def initial(frames=2, batch=1, start=START, seed=0, lat=3, lon=4):
    """Inputs with two predicted variables, a forced one and a static one."""
    random = np.random.default_rng(seed)
    times = STEP * np.arange(1 - frames, 1)
    shape = (batch, frames, lat, lon)

    def draw(*dims):
        return random.normal(size=dims).astype(np.float32)

    return xarray.Dataset(
        {
            "heat": (
                ("batch", "time", "level", "lat", "lon"),
                draw(batch, frames, len(LEVELS), lat, lon),
                {"units": "K"},
            ),
            "wind": (("batch", "time", "lat", "lon"), draw(*shape)),
            "sun": (("batch", "time"), draw(batch, frames)),
            "mask": (("lat", "lon"), draw(lat, lon)),
        },
        coords={
            "time": times,
            "level": LEVELS,
            "lat": np.linspace(-60, 60, lat).astype(np.float32),
            "lon": (360 / lon * np.arange(lon)).astype(np.float32),
            "datetime": (("batch", "time"), np.stack([start + times] * batch)),
        },
    )


def targets(steps, inputs):
    """A template for the two predicted variables."""
    times = STEP * np.arange(1, steps + 1)
    template = inputs[["heat", "wind"]].isel(time=[-1] * steps) * np.nan
    dates = inputs.datetime.values[:, -1:] + times
    return template.drop_vars("datetime").assign_coords(
        time=times, datetime=(("batch", "time"), dates)
    )


def forcings(steps, inputs, seed=1):
    """Values of the sun at the target times."""
    values = np.random.default_rng(seed).normal(size=(inputs.sizes["batch"], steps))
    return xarray.Dataset(
        {"sun": (("batch", "time"), values.astype(np.float32))},
        coords={"time": STEP * np.arange(1, steps + 1)},
    )


def transformed(predictor):
    return hk.transform(lambda i, t, f: predictor(i, targets_template=t, forcings=f))


def predictor_fn(predictor, parameters):
    """The predictor as a jitted function of its key."""
    apply = transformed(predictor).apply
    jitted = jax.jit(lambda rng, i, t, f: apply(parameters, rng, i, t, f))

    def predict(rng, inputs, targets_template, forcings):
        return jitted(rng, inputs, targets_template, forcings)

    return predict


class ListWriter:
    """Keeps chunks in a list; `fail_after` frames it raises an OSError."""

    def __init__(self, fail_after=None):
        self.chunks = []
        self.fail_after = fail_after

    @property
    def frames_written(self):
        return sum(chunk.sizes["time"] for chunk in self.chunks)

    def write(self, chunk):
        if self.fail_after is not None and self.frames_written >= self.fail_after:
            raise OSError("disk full")
        self.chunks.append(chunk.copy(deep=True))

    @property
    def dataset(self):
        return xarray.concat(
            self.chunks, "time", data_vars="all", coords="minimal", compat="override"
        )

    def last_frames(self, n):
        return self.dataset.isel(time=slice(self.frames_written - n, None))
