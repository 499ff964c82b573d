"""Learning rates over the updates of a run, as functions for optax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from weatherlib.training.config import Schedule, TeacherForcing

__all__ = ["join", "make_forcing", "make_schedule", "warmup_updates"]

Rate = Callable[[Any], Any]


def warmup_updates(schedule: Schedule, updates_per_epoch: float) -> int:
    """Returns the length of the warm-up in updates."""
    if schedule.warmup_epochs is None:
        return schedule.warmup
    if not schedule.warmup_epochs:
        return 0
    # No schedule has as many, so one that begins so late is refused as too short.
    return round(min(schedule.warmup_epochs * updates_per_epoch, 2**31))


def make_schedule(
    schedule: Schedule, updates: int, updates_per_epoch: float = math.inf
) -> Rate:
    """Returns the learning rate as a function of the number of updates made before.

    Args:
      schedule: Its shape.
      updates: How many the schedule is for.
      updates_per_epoch: Turns `warmup_epochs` into updates.

    Raises:
      ValueError: The warm-up is longer than the schedule.

    Source: for "graphcast" the supplement of doi:10.1126/science.adi2336, section 4.5
    (1,000 updates of linear rise, 299,000 of half-cosine, then 3e-7); for "climax"
    LinearWarmupCosineAnnealingLR in the closed form, as in arXiv:2301.10343.
    """
    warmup = warmup_updates(schedule, updates_per_epoch)
    if warmup > updates:
        raise ValueError(
            f"schedule: a warm-up of {warmup} updates does not fit into {updates}; "
            "make warmup of that stage's schedule shorter or its steps more"
        )
    decay = schedule.decay or max(updates - warmup, 1)
    fall = {
        "warmup_cosine": lambda: _cosine(schedule.peak, schedule.end, decay),
        "climax": lambda: _cosine(schedule.peak, schedule.end, decay),
        "graphcast": lambda: _cosine_then(schedule.peak, schedule.end, decay),
        "polynomial": lambda: optax.polynomial_schedule(
            schedule.peak, schedule.end, schedule.power, decay
        ),
        "constant": lambda: optax.constant_schedule(schedule.peak),
    }[schedule.kind]()
    if not warmup:
        return fall
    rise = warmup
    if schedule.kind == "climax":
        rise = max(warmup - 1, 1)
    linear = optax.linear_schedule(schedule.start, schedule.peak, rise)
    return optax.join_schedules([linear, fall], [warmup])


def make_forcing(forcing: TeacherForcing, updates: int) -> Rate:
    """Returns how likely true frames are read, by the number of updates made before.

    Args:
      forcing: Its shape.
      updates: Of the stage.

    Source: the three decays of Bengio et al. (2015), arXiv:1506.03099, section 2.4.
    """
    last = max((forcing.updates or updates) - 1, 1)
    factor = 0.01 ** (1 / last)
    spread = _half_way(last / 2)
    fall = {
        "linear": lambda count: 1 - count / last,
        "exponential": lambda count: factor**count,
        "inverse_sigmoid": lambda count: jax.nn.sigmoid(
            math.log(spread) - count / spread
        ),
    }[forcing.kind]

    def ratio(count: Any) -> Any:
        left = fall(jnp.clip(jnp.asarray(count, jnp.float32), 0, last))
        return forcing.end + (forcing.start - forcing.end) * left

    return ratio


def _half_way(count: float) -> float:
    """Returns the k, from 1 on, of which k / (k + exp(count / k)) is one half."""
    k = max(count, 1.0)
    for _ in range(50):
        # Newton's method for k log k = count.
        k = max((count + k) / (1 + math.log(k)), 1.0)
    return k


def join(schedules: Sequence[Rate], lengths: Sequence[int]) -> Rate:
    """Returns schedules one after the other, each counting from its own start."""
    if len(schedules) == 1:
        return schedules[0]
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths) - 1)]
    return optax.join_schedules(list(schedules), ends)


def _cosine(peak: float, end: float, decay: int) -> Rate:
    def rate(count: Any) -> Any:
        part = jnp.clip(count / decay, 0, 1)
        return end + (peak - end) * 0.5 * (1 + jnp.cos(jnp.pi * part))

    return rate


def _cosine_then(peak: float, end: float, decay: int) -> Rate:
    """Half a cosine to zero, then constant."""
    cosine = _cosine(peak, 0.0, decay)
    return lambda count: jnp.where(count < decay, cosine(count), end)
