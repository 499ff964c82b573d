"""Weights that resize an image along one axis, with the numbers of PyTorch.

Pixels are squares whose corners are aligned (`align_corners=False` there). With
antialiasing the kernel is as wide as the step between new pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float

__all__ = ["METHODS", "Method", "resize_weights"]

Method = Literal[
    "bilinear", "bicubic", "bilinear_antialias", "bicubic_antialias", "nearest"
]

METHODS: tuple[Method, ...] = (
    "bilinear",
    "bicubic",
    "bilinear_antialias",
    "bicubic_antialias",
    "nearest",
)

# PyTorch has one cubic kernel without antialiasing and, as Pillow, another one with.
_CUBIC, _CUBIC_ANTIALIAS = -0.75, -0.5


def resize_weights(
    source: int, target: int, method: Method
) -> Float[np.ndarray, "target source"]:
    """Returns the share of each old pixel in each new one.

    Args:
      source: Pixels along the axis.
      target: Pixels wanted.
      method: Kernel.

    Returns:
      float64, shape [target, source]; every row adds up to 1.

    Raises:
      ValueError: A length is not positive or `method` is unknown.

    Source: `torch.nn.functional.interpolate` of PyTorch 2.
    """
    if source < 1 or target < 1:
        raise ValueError(f"cannot resize {source} pixels to {target}")
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    scale = source / target
    centres = scale * (np.arange(target) + 0.5)
    if method == "nearest":
        return np.eye(source)[
            np.minimum((scale * np.arange(target)).astype(int), source - 1)
        ]
    if method == "bilinear_antialias":
        return _wide(centres, source, scale, 1.0, _triangle)
    if method == "bicubic_antialias":
        return _wide(centres, source, scale, 2.0, lambda x: _cubic(x, _CUBIC_ANTIALIAS))
    places = centres - 0.5
    if method == "bilinear":
        return _narrow(np.maximum(places, 0), source, (0, 1), _triangle)
    return _narrow(places, source, (-1, 0, 1, 2), lambda x: _cubic(x, _CUBIC))


def _narrow(
    places: np.ndarray,
    source: int,
    offsets: tuple[int, ...],
    kernel: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Returns weights of the nearest pixels; those beyond the edge are its pixel."""
    weights = np.zeros((places.size, source))
    first = np.floor(places).astype(int)
    for offset in offsets:
        index = np.clip(first + offset, 0, source - 1)
        share = kernel(places - (first + offset))
        np.add.at(weights, (np.arange(places.size), index), share)
    return weights


def _wide(
    centres: np.ndarray,
    source: int,
    scale: float,
    support: float,
    kernel: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Returns weights of all pixels below the kernel; none is beyond the edge."""
    width = max(scale, 1.0)
    reach = support * width
    low = np.maximum((centres - reach + 0.5).astype(int), 0)[:, np.newaxis]
    high = np.minimum((centres + reach + 0.5).astype(int), source)[:, np.newaxis]
    pixel = np.arange(source)[np.newaxis]
    weights = kernel((pixel + 0.5 - centres[:, np.newaxis]) / width)
    weights = np.where((pixel >= low) & (pixel < high), weights, 0.0)
    return weights / weights.sum(1, keepdims=True)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Returns the cubic convolution kernel of Keys (1981) with slope `a` at 1."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
