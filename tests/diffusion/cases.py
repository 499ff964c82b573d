"""Published tables and trajectories, and a denoiser that is right by construction."""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np

from weatherlib import diffusion
from weatherlib.diffusion import forward

_FOLDER = pathlib.Path(__file__).parent.parent / "goldens" / "diffusion"


@functools.cache
def arrays(name):
    """Returns the arrays of a golden file."""
    with np.load(_FOLDER / f"{name}.npz") as file:
        return dict(file)


def linear():
    """Returns the schedule of the published trajectories."""
    return diffusion.make_schedule(diffusion.ScheduleConfig())


def prediff(**changes):
    """Returns the schedule of PreDiff, or one like it."""
    settings = diffusion.PREDIFF.schedule.replace(**changes)
    return diffusion.make_schedule(settings)


def gaussian_denoiser(schedule, mean, spread, prediction="epsilon"):
    """Returns the best denoiser of independent numbers from one normal distribution."""

    def denoise(x, t):
        left = forward.lookup(schedule.alphas_cumprod, t, x)
        kept = jnp.sqrt(left)
        gain = kept * spread**2 / (left * spread**2 + 1 - left)
        x0 = mean + gain * (x - kept * mean)
        if prediction == "x0":
            return x0
        noise = forward.to_noise(schedule, x0, x, t, "x0")
        if prediction == "epsilon":
            return noise
        return forward.velocity(schedule, x0, t, noise)

    return denoise
