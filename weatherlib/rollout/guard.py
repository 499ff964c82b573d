"""Notices fields that become NaN or leave their physical bounds."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weatherlib import variables
from weatherlib.rollout.layout import Field, Layout

__all__ = [
    "Guard",
    "GuardError",
    "GuardWarning",
    "Readings",
    "Violation",
    "measure",
    "reading_structs",
]


# A model gone wrong breaks the bounds of all fields at once; so many are described.
_TOLD = 3


class GuardWarning(UserWarning):
    """A forecast field is not finite or outside its physical bounds."""


class GuardError(FloatingPointError):
    """As `GuardWarning`, where `Guard(on_violation="raise")` asked for an error."""


class Readings(NamedTuple):
    """What the device reports of one variable, per frame and level.

    Attributes:
      low: Lowest finite value.
      high: Highest finite value.
      lost: Number of values that are not finite and were not NaN one step before.
      outside: Number of finite values outside the bounds.
      where: A grid point of one of either, as an index into the other dimensions.
    """

    low: Any
    high: Any
    lost: Any
    outside: Any
    where: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Violation:
    """One variable on one level that broke its bounds at one step.

    Attributes:
      variable: Name.
      level: Pressure in hPa, None for a surface variable.
      step: Number of the step, from 1.
      lead_time: Lead time of the frame.
      member: Ensemble member, None without members.
      low: Lowest finite value of the field.
      high: Highest finite value of the field.
      lost: Number of values that are not finite.
      outside: Number of finite values outside the bounds.
      bounds: Lowest and highest plausible value.
      point: Coordinates of one such value by name, such as lat and lon.
      start: Of the forecast, where several are made at once.
    """

    variable: str
    level: float | None
    step: int
    lead_time: np.timedelta64
    member: int | None
    low: float
    high: float
    lost: int
    outside: int
    bounds: tuple[float, float]
    point: Mapping[str, float]
    start: np.datetime64 | None = None

    def __str__(self) -> str:
        known = variables.find(self.variable)
        units = f" {known.units}" if known is not None and known.units != "1" else ""
        where = f" at {self.level:g} hPa" if self.level is not None else ""
        member = f", member {self.member}" if self.member is not None else ""
        if self.start is not None:
            member += f", start {np.datetime_as_string(self.start, unit='m')}"
        hours = self.lead_time / np.timedelta64(1, "h")
        found = []
        if self.lost:
            found.append(f"{self.lost} values are NaN or infinite")
        if self.outside:
            low, high = self.bounds
            found.append(
                f"{self.outside} values are outside {low:g} to {high:g}{units}"
            )
        span = f"min {self.low:g}, max {self.high:g}{units}"
        if not np.isfinite([self.low, self.high]).all():
            span = "no finite value left"
        point = ", ".join(f"{name} {value:g}" for name, value in self.point.items())
        return (
            f"{self.variable}{where}, step {self.step} (lead time {hours:g} h"
            f"{member}): {' and '.join(found)} ({span}), for instance at {point}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guard:
    """Watches a forecast for values that are no weather.

    Minimum, maximum and counts are computed on the device inside the compiled step, so
    watching costs next to nothing. NaNs that a field already had at the same points,
    such as sea-surface temperature over land, are expected.

    Attributes:
      bounds: Lowest and highest plausible value by variable, in the units of the data;
        these go before those of `weatherlib.variables`. A variable in neither is
        checked for NaN and infinity only.
      on_violation: `"warn"` warns (`GuardWarning`) when a variable on a level breaks
        its bounds for the first time, in one warning for all that do so together;
        `"raise"` stops the forecast (`GuardError`), `"ignore"` only collects.
      check_every: Looks at every so many steps only, and at the last one.
    """

    bounds: Mapping[str, tuple[float, float]] | None = None
    on_violation: Literal["warn", "raise", "ignore"] = "warn"
    check_every: int = 1

    def __post_init__(self) -> None:
        if self.on_violation not in ("warn", "raise", "ignore"):
            raise ValueError(
                "on_violation must be 'warn', 'raise' or 'ignore', not "
                f"{self.on_violation!r}"
            )
        if self.check_every < 1:
            raise ValueError(f"check_every must be at least 1, not {self.check_every}")
        for name, (low, high) in (self.bounds or {}).items():
            if not low <= high:
                raise ValueError(f"bounds of {name} must ascend, found {low}, {high}")

    def bounds_of(self, name: str) -> tuple[float, float]:
        """Returns the lowest and highest plausible value of a variable."""
        if self.bounds and name in self.bounds:
            low, high = self.bounds[name]
            return float(low), float(high)
        known = variables.VARIABLES.get(name)
        return known.bounds if known is not None else (-np.inf, np.inf)

    def inspect(
        self,
        readings: Mapping[str, Readings],
        layout: Layout,
        *,
        first_step: int,
        steps: int,
        last_step: int,
        first_member: int | None = None,
        members: int = 1,
    ) -> list[Violation]:
        """Returns what broke the bounds in one chunk, in the order of steps.

        Args:
          readings: From the device; axes [(member), step, frame, level].
          layout: Of the forecast.
          first_step: Number of steps before the chunk.
          steps: Steps of the chunk that count.
          last_step: Number of steps of the whole forecast.
          first_member: Number of the first member, None without members.
          members: Members that count.
        """
        found = []
        for name, reading in readings.items():
            if first_member is None:
                reading = Readings(*(np.asarray(part)[None] for part in reading))
            broken = (np.asarray(reading.lost) + np.asarray(reading.outside)) > 0
            for member, step, frame, level in np.argwhere(broken[:members, :steps]):
                number = first_step + int(step) + 1
                if number % self.check_every and number != last_step:
                    continue
                index = (member, step, frame, level)
                found.append(
                    _violation(
                        name,
                        Readings(*(np.asarray(part)[index] for part in reading)),
                        layout,
                        self.bounds_of(name),
                        step=number,
                        frame=int(frame),
                        level=int(level),
                        member=None if first_member is None else first_member + member,
                    )
                )
        return sorted(found, key=lambda violation: violation.step)

    def report(self, violations: Sequence[Violation], known: set[Any]) -> None:
        """Warns or raises as `on_violation` says.

        Args:
          violations: New ones.
          known: Variables and levels already warned of; this adds to it.

        Raises:
          GuardError: `on_violation` is "raise" and there are violations.
        """
        if self.on_violation == "raise" and violations:
            more = len(violations) - 1
            rest = f" (and {more} more fields)" if more else ""
            raise GuardError(f"{violations[0]}{rest}")
        if self.on_violation == "ignore":
            return
        fresh = []
        for violation in violations:
            label = (violation.variable, violation.level)
            if label not in known:
                known.add(label)
                fresh.append(str(violation))
        if fresh:
            more = len(fresh) - _TOLD
            told = "; ".join(fresh[:_TOLD])
            rest = f"; and {more} more fields" if more > 0 else ""
            warnings.warn(f"{told}{rest}", GuardWarning, stacklevel=3)


def measure(
    predicted: Mapping[str, jax.Array],
    before: Mapping[str, jax.Array],
    bounds: Mapping[str, jax.Array],
    layout: Layout,
) -> dict[str, Readings]:
    """Returns the readings of one step, to be traced into the compiled chunk.

    Args:
      predicted: Targets of the step by name.
      before: Input frames of the step by name.
      bounds: Lowest and highest value by name, shape [2].
      layout: Of the forecast.
    """
    window, fields = layout.window, dict(layout.targets)
    readings = {}
    for name, array in predicted.items():
        rest = _point_dims(fields[name])
        values = _by_frame_and_level(array, fields[name], rest)
        past = None
        if name in before and set(window[name].dims) == set(fields[name].dims):
            whole = layout.cropped(before[name], window[name].dims)
            past = _by_frame_and_level(whole, window[name], rest)
        readings[name] = _measure(values, past, bounds[name])
    return readings


def reading_structs(field: Field, steps: int) -> Readings:
    """Returns the abstract readings of one variable over several steps."""
    sizes = dict(zip(field.dims, field.shape))
    shape = (steps, sizes["time"], sizes.get("level", 1))
    real = jax.ShapeDtypeStruct(shape, jnp.float32)
    whole = jax.ShapeDtypeStruct(shape, jnp.int32)
    return Readings(low=real, high=real, lost=whole, outside=whole, where=whole)


def _measure(values: jax.Array, past: jax.Array | None, bounds: jax.Array) -> Readings:
    """Returns readings of shape [frame, level] of values [frame, level, point]."""
    finite = jnp.isfinite(values)
    lost = ~finite
    if past is not None:
        lost &= ~(jnp.isnan(values) & jnp.isnan(past).any(axis=0, keepdims=True))
    outside = finite & ((values < bounds[0]) | (values > bounds[1]))
    return Readings(
        low=jnp.min(values, axis=2, where=finite, initial=jnp.inf),
        high=jnp.max(values, axis=2, where=finite, initial=-jnp.inf),
        lost=jnp.sum(lost, axis=2, dtype=jnp.int32),
        outside=jnp.sum(outside, axis=2, dtype=jnp.int32),
        where=jnp.argmax(lost | outside, axis=2).astype(jnp.int32),
    )


def _point_dims(field: Field) -> tuple[str, ...]:
    return tuple(dim for dim in field.dims if dim not in ("time", "level"))


def _by_frame_and_level(
    array: jax.Array, field: Field, rest: tuple[str, ...]
) -> jax.Array:
    """Returns float32 values [frame, level, point]; one level for a surface field."""
    leading = ("time", "level") if "level" in field.dims else ("time",)
    order = [field.dims.index(dim) for dim in (*leading, *rest)]
    moved = jnp.transpose(array, order).astype(jnp.float32)
    levels = moved.shape[1] if len(leading) == 2 else 1
    return moved.reshape(moved.shape[0], levels, -1)


def _violation(
    name: str,
    reading: Readings,
    layout: Layout,
    bounds: tuple[float, float],
    *,
    step: int,
    frame: int,
    level: int,
    member: int | None,
) -> Violation:
    field = dict(layout.targets)[name]
    sizes = dict(zip(field.dims, field.shape))
    coords = {
        str(dim): values
        for dim, (dims, values) in layout.coord_values().items()
        if dims == (dim,)
    }
    rest = _point_dims(field)
    place = np.unravel_index(int(reading.where), [sizes[dim] for dim in rest])
    point = {
        dim: float(coords[dim][index]) if dim in coords else float(index)
        for dim, index in zip(rest, place)
        if dim != "batch" or sizes[dim] > 1
    }
    pressure = None
    if "level" in sizes:
        pressure = float(coords["level"][level]) if "level" in coords else float(level)
    frames = (step - 1) * layout.frames_per_step + frame + 1
    return Violation(
        variable=name,
        level=pressure,
        step=step,
        lead_time=layout.time_step * frames,
        member=member,
        low=float(reading.low),
        high=float(reading.high),
        lost=int(reading.lost),
        outside=int(reading.outside),
        bounds=bounds,
        point=point,
    )
