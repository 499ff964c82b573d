"""Says where the arrays of a network may be cut into parts, without naming a device.

Networks mark their large arrays as [row, ..., batch, channel], where rows are nodes or
edges. Outside of `use` the marks do nothing. Inside, a partitioner (such as
`weatherlib.training.sharding.Layout`) turns them into constraints for the compiler:

* Perceptrons treat each row on its own, so they are cut by rows (`by_row`).
* Gathers and sums over edges mix rows, but treat each channel on its own, so they are
  cut by channels (`by_channel`, `take`), and every device needs a share only.
* Small arrays that every row reads are kept whole (`whole`).
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax

__all__ = [
    "BATCH",
    "CHANNEL",
    "LAT",
    "LON",
    "ROW",
    "Partitioner",
    "by_channel",
    "by_row",
    "constrain",
    "parts",
    "take",
    "use",
    "whole",
]

ROW, BATCH, CHANNEL, LAT, LON = "row", "batch", "channel", "lat", "lon"


@runtime_checkable
class Partitioner(Protocol):
    """Decides how an array with named axes is laid out."""

    def constrain(self, array: Any, axes: tuple[str | None, ...]) -> Any:
        """Returns the array, to be laid out by its axes; None is not cut."""
        ...

    def parts(self, axis: str) -> int:
        """Returns into how many parts an axis of this name is cut."""
        ...


_partitioner: contextvars.ContextVar[Partitioner | None] = contextvars.ContextVar(
    "weatherlib_partitioner", default=None
)


@contextlib.contextmanager
def use(partitioner: Partitioner | None) -> Iterator[None]:
    """Lets a partitioner lay out what is traced inside the context."""
    token = _partitioner.set(partitioner)
    try:
        yield
    finally:
        _partitioner.reset(token)


def parts(axis: str) -> int:
    """Returns into how many parts an axis is cut, 1 without a partitioner."""
    partitioner = _partitioner.get()
    return 1 if partitioner is None else partitioner.parts(axis)


def constrain(array: jax.Array, *axes: str | None) -> jax.Array:
    """Returns the array, laid out by its axes.

    Args:
      array: Of any shape.
      axes: Name of each axis, None for one that stays whole.
    """
    partitioner = _partitioner.get()
    return array if partitioner is None else partitioner.constrain(array, axes)


def by_row(array: jax.Array) -> jax.Array:
    """Returns an array [row, ..., batch, channel] cut by rows."""
    middle = [None] * (array.ndim - 3)
    return constrain(array, ROW, *middle, BATCH, None)


def by_channel(array: jax.Array) -> jax.Array:
    """Returns an array [row, ..., batch, channel], made by rows, cut by channels.

    What made it is laid out by rows first, or the compiler would carry the channels
    back into its perceptrons, which then have to add up parts over the devices.
    """
    middle = [None] * (array.ndim - 2)
    return constrain(by_row(array), *middle, BATCH, CHANNEL)


def whole(array: jax.Array) -> jax.Array:
    """Returns an array [row, ..., batch, channel] with all rows on every device."""
    return constrain(array, *[None] * (array.ndim - 2), BATCH, None)


def take(array: jax.Array, indices: jax.Array) -> jax.Array:
    """Returns `array[indices]` cut by rows, for an array too large to keep whole.

    Args:
      array: Shape [row, batch, channel].
      indices: Rows to take. Shape [edge].
    """
    if parts(ROW) == 1:
        return array[indices]
    taken = by_channel(array)[indices]
    return by_row(constrain(taken, None, BATCH, CHANNEL))
