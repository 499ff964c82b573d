"""Forecasts without weights, on arrays, under the contract of networks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.baselines.fields import Fields
from weatherlib.baselines.weightless_config import ClimatologyConfig, PersistenceConfig

__all__ = ["ClimatologyNetwork", "PersistenceNetwork"]


class PersistenceNetwork:
    """Repeats the last past frame, or says that nothing changes."""

    def __init__(self, config: PersistenceConfig, *, remat: bool = False) -> None:
        """Takes the settings; there is nothing to compute again."""
        del remat
        self._config = config

    def __call__(
        self, fields: Fields, edges: Any, output_size: int, is_training: bool = False
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the predicted frames; edges and training make no difference."""
        del edges, is_training
        last = fields.frames[:, -1:, ..., :output_size]
        if self._config.predicts == "change":
            last = jnp.zeros_like(last)
        return jnp.repeat(last, self._config.output_length, axis=1)


class ClimatologyNetwork:
    """Says that fields are as usual: zero, once they are normalised."""

    def __init__(self, config: ClimatologyConfig, *, remat: bool = False) -> None:
        """Takes the settings; there is nothing to compute again."""
        del remat
        self._steps = config.output_length

    def __call__(
        self, fields: Fields, edges: Any, output_size: int, is_training: bool = False
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the predicted frames; edges and training make no difference."""
        del edges, is_training
        batch, _, lat, lon, _ = fields.frames.shape
        shape = (batch, self._steps, lat, lon, output_size)
        return jnp.zeros(shape, fields.frames.dtype)
