"""Which cuboids the layers of an attention block work on, by published name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from weatherlib import config

__all__ = ["PATTERNS", "Cuboid", "Triple", "cuboids_from_lists", "pattern"]

Triple = tuple[int, int, int]

PATTERNS = (
    "full",
    "axial",
    "divided_st",
    "divided_space_time",
    "video_swin",
    "video_swin_PxM",
    "spatial_lg_v1",
    "spatial_lg_M",
    "axial_space_dilate_K",
)
"""Names of patterns; capital letters stand for whole numbers."""


@dataclasses.dataclass(frozen=True)
class Cuboid:
    """How one attention layer cuts a block of [time, lat, lon] into cuboids.

    Attributes:
      size: Points of a cuboid along each axis.
      strategy: Along each axis, "l" for local: neighbouring points; "d" for dilated:
        points at equal distances all over the axis.
      shift: How far the cuboids are moved along each axis.

    Raises:
      ValueError: A size is not positive, a shift is negative, or a strategy unknown.
    """

    size: Triple
    strategy: tuple[str, str, str] = ("l", "l", "l")
    shift: Triple = (0, 0, 0)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"a cuboid size must be at least 1, found {self.size}")
        if min(self.shift) < 0:
            raise ValueError(f"a shift must not be negative, found {self.shift}")
        if not set(self.strategy) <= {"l", "d"}:
            raise ValueError(
                f"a strategy is 'l' (local) or 'd' (dilated), found {self.strategy}"
            )


def pattern(name: str, shape: Triple) -> tuple[Cuboid, ...]:
    """Returns the cuboids of the layers of a block, first to last.

    Args:
      name: One of `PATTERNS`, with numbers for the capital letters.
      shape: Points of the data in time, rows and columns.

    Raises:
      ValueError: There is no such pattern, or the data has no points.

    Source: Gao et al. (2022), arXiv 2207.05833, and the published Earthformer code.
    """
    if min(shape) < 1:
        raise ValueError(f"data of shape {shape} has no points to attend to")
    for expression, make in _MAKERS.items():
        match = re.fullmatch(expression, name)
        if match is not None:
            numbers = [int(group) for group in match.groups() if group is not None]
            if not all(numbers):
                raise ValueError(f"attention pattern {name!r}: 0 is no size")
            return make(shape, *numbers)
    raise ValueError(
        f"unknown attention pattern {name!r}{config.closest_hint(name, PATTERNS)}"
    )


def cuboids_from_lists(
    sizes: Sequence[Sequence[int]],
    strategies: Sequence[Sequence[str]],
    shifts: Sequence[Sequence[int]],
) -> tuple[Cuboid, ...]:
    """Returns the cuboids of a block from one list each, as configurations have them.

    Raises:
      ValueError: The lists are empty or of different lengths, or a cuboid is bad.
    """
    for given in (*sizes, *strategies, *shifts):
        if len(given) != 3:
            raise ValueError(
                "a cuboid has a size, a strategy and a shift for each of time, rows "
                f"and columns, found {given}"
            )
    if not sizes or not len(sizes) == len(strategies) == len(shifts):
        raise ValueError(
            "a block needs as many cuboid sizes as strategies and shifts, found "
            f"{len(sizes)}, {len(strategies)} and {len(shifts)}"
        )
    return tuple(
        Cuboid(tuple(size), tuple(strategy), tuple(shift))  # pyright: ignore
        for size, strategy, shift in zip(sizes, strategies, shifts)
    )


def _full(shape: Triple) -> tuple[Cuboid, ...]:
    return (Cuboid(shape),)


def _axial(shape: Triple) -> tuple[Cuboid, ...]:
    times, rows, columns = shape
    return Cuboid((times, 1, 1)), Cuboid((1, rows, 1)), Cuboid((1, 1, columns))


def _divided(shape: Triple) -> tuple[Cuboid, ...]:
    times, rows, columns = shape
    return Cuboid((times, 1, 1)), Cuboid((1, rows, columns))


def _video_swin(shape: Triple, period: int = 2, side: int = 4) -> tuple[Cuboid, ...]:
    period, side = min(period, shape[0]), min(side, *shape[1:])
    size = (period, side, side)
    shift = (period // 2, side // 2, side // 2)
    return Cuboid(size), Cuboid(size, shift=shift)


def _spatial(shape: Triple, side: int = 4) -> tuple[Cuboid, ...]:
    if max(shape[1:]) <= side:
        return _divided(shape)
    size = (1, side, side)
    return Cuboid((shape[0], 1, 1)), Cuboid(size), Cuboid(size, ("d", "d", "d"))


def _axial_dilated(shape: Triple, parts: int) -> tuple[Cuboid, ...]:
    times, rows, columns = shape
    parts = min(parts, rows, columns)
    dilated = ("d", "d", "d")
    of_rows, of_columns = (1, rows // parts, 1), (1, 1, columns // parts)
    return (
        Cuboid((times, 1, 1)),
        Cuboid(of_rows, dilated),
        Cuboid(of_rows),
        Cuboid(of_columns, dilated),
        Cuboid(of_columns),
    )


_MAKERS: dict[str, Callable[..., tuple[Cuboid, ...]]] = {
    "full": _full,
    "axial": _axial,
    "divided_st|divided_space_time": _divided,
    r"video_swin(?:_(\d+)x(\d+))?": _video_swin,
    "spatial_lg_v1": _spatial,
    r"spatial_lg_(\d+)": _spatial,
    r"axial_space_dilate_(\d+)": _axial_dilated,
}
