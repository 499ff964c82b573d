"""How far decoded fields are from real ones, beyond the error at each point.

Errors at points punish detail that is a little misplaced twice, so that autoencoders
learn to blur. These compare what a field looks like, and need no trained network.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["gradient_difference", "radial_power", "spectral_difference"]

_FLOOR = 1e-6


def gradient_difference(
    decoded: Float[Array, "batch lat lon channel"],
    real: Float[Array, "batch lat lon channel"],
    scales: int = 3,
) -> Float[Array, " batch"]:
    """Returns the mean difference of slopes along rows and columns, at several scales.

    Args:
      decoded: Fields.
      real: Fields to compare with.
      scales: How many, each of half the resolution of the one before. Fields that are
        down to a single row or column have no further one.

    Raises:
      ValueError: `scales` is not positive, or there is no slope to compare.

    Source: Mathieu et al. (2016), arXiv 1511.05440, section 3.2.
    """
    if scales < 1 or min(decoded.shape[1:3]) < 2:
        raise ValueError(
            "slopes need at least one scale and 2x2 points, found "
            f"{scales} and {decoded.shape[1]}x{decoded.shape[2]}"
        )
    error = (decoded - real).astype(jnp.float32)
    total, used = jnp.zeros(error.shape[:1], jnp.float32), 0
    for _ in range(scales):
        if min(error.shape[1:3]) < 2:
            break
        down, across = error[:, 1:] - error[:, :-1], error[:, :, 1:] - error[:, :, :-1]
        for slope in (down, across):
            total = total + jnp.abs(slope).mean((1, 2, 3))
        used += 1
        error = _halved(error)
    return total / jnp.float32(2 * used)


def _halved(x: Array) -> Array:
    """Returns means of squares of four points, without an odd last row or column."""
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * rows, : 2 * columns]
    return x.reshape(x.shape[0], rows, 2, columns, 2, -1).mean((2, 4))


def radial_power(
    fields: Float[Array, "batch lat lon channel"],
) -> Float[Array, "batch number channel"]:
    """Returns the mean power of waves by their length.

    Args:
      fields: Not periodic; a taper removes the step between opposite edges.

    Returns:
      Power at wave numbers 1, 2, ... per side of the field, up to that of waves of two
      points along the shorter side.
    """
    rows, columns = fields.shape[1:3]
    taper, shares = _waves(rows, columns)
    window = jnp.asarray(taper, jnp.float32)[None, :, :, None]
    fields = fields.astype(jnp.float32)
    fields = fields - fields.mean((1, 2), keepdims=True)
    waves = jnp.fft.rfft2(fields * window, axes=(1, 2))
    power = jnp.square(waves.real) + jnp.square(waves.imag)
    power = power.reshape(power.shape[0], -1, power.shape[-1])
    return jnp.einsum("nw,bwc->bnc", jnp.asarray(shares, jnp.float32), power)


@functools.lru_cache(maxsize=16)
def _waves(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a taper, and the share of each wave in the mean of its wave number."""
    taper = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1])
    taper /= np.sqrt((taper**2).mean()) * rows * columns
    shorter = min(rows, columns)
    along_rows = np.fft.fftfreq(rows)[:, None] * shorter
    number = np.hypot(along_rows, np.fft.rfftfreq(columns)[None] * shorter)
    place = np.round(number).astype(int).reshape(-1)
    shares = place[None] == np.arange(1, shorter // 2 + 1)[:, None]
    return taper, shares / np.maximum(shares.sum(1, keepdims=True), 1)


def spectral_difference(
    decoded: Float[Array, "batch lat lon channel"],
    real: Float[Array, "batch lat lon channel"],
) -> Float[Array, " batch"]:
    """Returns the mean squared difference of the logarithms of radial power spectra.

    Waves of less than a millionth of the power of the real field count as that much.

    Args:
      decoded: Fields.
      real: Fields to compare with.

    Raises:
      ValueError: Fields are smaller than 2x2 points.
    """
    if min(decoded.shape[1:3]) < 2:
        raise ValueError(
            f"a spectrum needs at least 2x2 points, found {decoded.shape[1]}x"
            f"{decoded.shape[2]}"
        )
    of_decoded, of_real = radial_power(decoded), radial_power(real)
    floor = jnp.float32(_FLOOR) * of_real.mean(1, keepdims=True) + jnp.float32(1e-12)
    ratio = jnp.log(of_decoded + floor) - jnp.log(of_real + floor)
    return jnp.square(ratio).mean((1, 2))
