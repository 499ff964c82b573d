"""Learning rates over the updates of a run, as functions for optax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from weatherlib.training.config import Schedule

__all__ = ["join", "make_schedule", "warmup_updates"]

Rate = Callable[[Any], Any]


def warmup_updates(schedule: Schedule, updates_per_epoch: float) -> int:
    """Returns the length of the warm-up in updates."""
    if schedule.warmup_epochs is None:
        return schedule.warmup
    return round(schedule.warmup_epochs * updates_per_epoch)


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
            f"schedule: a warm-up of {warmup} updates does not fit into {updates}"
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
