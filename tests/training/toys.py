"""A predictor that compiles in no time, weather for it, and a run made of both."""

import haiku as hk
import jax
import numpy as np
import optax
import xarray

from weatherlib import losses, normalization, predictor_base, task, training, xarray_jax

PRESSURE = "mean_sea_level_pressure"
TASK = task.TaskConfig(
    input_variables=(PRESSURE, "geopotential", "day_progress_sin"),
    target_variables=(PRESSURE, "geopotential"),
    forcing_variables=("day_progress_sin",),
    pressure_levels=(500, 850),
    input_duration="12h",
)
LENIENT = {
    "learning_rate": None,
    "steps_per_second": None,
    "data_wait": None,
    "seconds_left": None,
    "seconds": None,
}


class Linear(predictor_base.Predictor):
    """Predicts a weighted sum of both frames, with noise where it is trained."""

    def __init__(self, noise=0.1):
        self._noise = noise

    def __call__(self, inputs, targets_template, forcings, is_training=False):
        del forcings
        found = {}
        for name, target in targets_template.items():
            zero, dtype = hk.initializers.Constant(0), target.dtype
            weight = hk.get_parameter(f"w_{name}", (2, 1), dtype, zero)
            bias = hk.get_parameter(f"b_{name}", (), dtype, zero)
            past = inputs[name]
            frame = sum(
                past.isel(time=i, drop=True)
                * xarray_jax.DataArray(weight[i, 0], dims=())
                for i in range(2)
            )
            frame = frame + xarray_jax.DataArray(bias, dims=())
            if is_training:
                shape = frame.shape
                draw = self._noise * jax.random.normal(hk.next_rng_key(), shape, dtype)
                frame = frame + xarray_jax.DataArray(draw, dims=frame.dims)
            found[name] = frame.expand_dims(time=target["time"]).transpose(*target.dims)
        return xarray.Dataset(found)

    def loss(self, inputs, targets, forcings):
        return self.loss_and_predictions(inputs, targets, forcings)[0]

    def loss_and_predictions(self, inputs, targets, forcings):
        found = self(inputs, targets, forcings, is_training=True)
        return losses.weighted_mse_per_level(found, targets, {}), found


def weather(frames=60, *, start="2020-01-01", lat=4, lon=8, seed=0):
    """Returns travelling waves on two levels and at the surface, canonical."""
    rng = np.random.default_rng(seed)
    lats = np.linspace(-67.5, 67.5, lat)
    lons = np.arange(lon) * 360 / lon
    hours = 6 * np.arange(frames)
    phase = np.deg2rad(lons)[None, None, :] - hours[:, None, None] / 20
    wave = np.cos(phase) * np.cos(np.deg2rad(lats))[None, :, None]
    noise = rng.standard_normal((frames, lat, lon))
    pressure = 101325 + 1000 * wave + 30 * noise
    heights = np.array([54000.0, 14000.0])[:, None, None]
    geopotential = heights + 800 * wave[:, None] + 30 * noise[:, None]
    lead = hours.astype("timedelta64[h]").astype("timedelta64[ns]")
    return xarray.Dataset(
        {
            PRESSURE: (
                ("batch", "time", "lat", "lon"),
                pressure[None].astype(np.float32),
                {"units": "Pa"},
            ),
            "geopotential": (
                ("batch", "time", "level", "lat", "lon"),
                geopotential[None].astype(np.float32),
                {"units": "m**2 s**-2"},
            ),
        },
        coords={
            "time": lead,
            "lat": lats.astype(np.float32),
            "lon": lons.astype(np.float32),
            "level": np.array([500, 850], np.int32),
            "datetime": (
                ("batch", "time"),
                (np.datetime64(start, "ns") + lead)[None],
            ),
        },
    )


def statistics():
    """Returns statistics that suit `weather`."""
    levels = {"level": np.array([500, 850], np.int32)}

    def both(pressure, geopotential, progress):
        return xarray.Dataset(
            {
                PRESSURE: np.float32(pressure),
                "geopotential": ("level", np.asarray(geopotential, np.float32)),
                "day_progress_sin": np.float32(progress),
            },
            coords=levels,
        )

    return {
        "mean_by_level": both(101325, [54000, 14000], 0),
        "stddev_by_level": both(500, [400, 400], 0.7),
        "diffs_stddev_by_level": both(150, [120, 120], 1),
    }


def make_predictor(noise=0.1):
    """Returns the predictor in its normalisation."""
    return normalization.InputsAndResiduals(Linear(noise), **statistics())


class Slow:
    """A loader that takes its time, so that a run can be met in its middle."""

    def __init__(self, load, seconds):
        self._load, self._seconds = load, seconds

    def __call__(self, starts):
        import time

        time.sleep(self._seconds)
        return self._load(starts)


def trainer(folder, *, slow=0.0, stages=((20, 1), (14, 2)), batch=4, **changes):
    """Returns a trainer of two stages with validation, and what it exported."""
    frames = training.Frames(weather(), TASK)
    objective = training.Objective(make_predictor)
    accumulate = changes.pop("accumulate", 1)
    optimizer = changes.pop("optimizer", None) or optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(3e-2)
    )
    train = training.Period(end="2020-01-12")
    made = []
    for index, (steps, rollout) in enumerate(stages):
        load = frames.loader(rollout)
        feed = training.Feed(
            Slow(load, slow) if slow else load,
            frames.starts(train, targets=rollout),
            batch_size=batch,
            seed=index,
            accumulate=accumulate,
        )
        made.append(
            training.Stage(
                steps=steps, batches=feed, optimizer=optimizer, rollout=rollout
            )
        )
    settings = {"checkpoint_every": 7, "log_every": 3, "validate_every": 10}
    settings |= {"ema": 0.9, **changes.pop("settings", {})}
    leads = changes.pop("leads", (1, 2))
    if "validate" not in changes:
        changes["validate"] = training.Validator(
            training.Objective(lambda: make_predictor(0.0)),
            frames.loader,
            frames.starts(training.Period(start="2020-01-12"), targets=2),
            training.ValidationConfig(samples=3, leads=leads),
        )
    return training.Trainer(
        objective, made, training.LoopConfig(**settings), folder=folder, **changes
    )


def brief_trainer(folder, **changes):
    """Returns a trainer with less to compile."""
    return trainer(folder, stages=((34, 1),), leads=(), **changes)


def comparable(records):
    """Returns records without what depends on the clock."""
    return [{k: v for k, v in record.items() if k not in LENIENT} for record in records]
