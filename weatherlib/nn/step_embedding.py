"""Steps of noise told to a network, as sines and cosines."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

__all__ = ["timestep_embedding"]


def timestep_embedding(
    t: Real[Array, " batch"],
    width: int,
    *,
    cosines_first: bool = False,
    longest_period: float = 10000.0,
    last_included: bool = False,
) -> Float[Array, "batch width"]:
    """Returns sines, then cosines, of steps of noise at `width // 2` frequencies.

    The frequencies fall geometrically from 1 radian per step. An odd width ends in a
    zero. It is computed in float32, in which steps up to 16 million are exact.

    Args:
      t: Steps, not scaled.
      width: Channels, at least 2; at least 4 with `last_included`.
      cosines_first: Whether cosines come first, as in PreDiff.
      longest_period: Ratio of the frequencies, 10000 in every published model.
      last_included: Whether the last frequency is `1 / longest_period`, as in the first
        diffusion models, or the one after the last would be.

    Raises:
      ValueError: There is no room for a frequency.

    Source: Vaswani et al. (2017), arXiv 1706.03762; Ho et al. (2020), arXiv 2006.11239.
    """
    half = width // 2
    gaps = half - 1 if last_included else half
    if gaps < 1:
        raise ValueError(f"a width of {width} has no room for sines and cosines")
    # A frequency of another rounding moves the angle of a late step by 1e-4, so the
    # exponent is rounded to float32 as in published code.
    exponents = np.float32(-math.log(longest_period)) * np.arange(half, dtype="f4")
    exponents = (exponents / np.float32(gaps)).astype(np.float64)
    frequencies = jnp.asarray(np.exp(exponents).astype(np.float32))
    angles = t.astype(jnp.float32)[:, None] * frequencies[None]
    parts = [jnp.sin(angles), jnp.cos(angles)]
    if cosines_first:
        parts.reverse()
    table = jnp.concatenate(parts, axis=1)
    return jnp.pad(table, ((0, 0), (0, width % 2)))
