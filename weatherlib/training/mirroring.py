"""Samples of training that are seen upside down, against learning few by heart.

Below the equator the Earth turns the other way round: weather reversed from north to
south, with northward winds and vorticities of the opposite sign and the season of the
other half of the year, obeys the same laws.
"""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr

from weatherlib import hemispheres, predictor_base, xarray_jax
from weatherlib.geometry import grids

__all__ = ["Mirrored", "mirror"]


class Mirrored(predictor_base.Predictor):
    """Shows the wrapped predictor each sample of a loss mirrored, or not, by chance.

    Forecasts are made as they are. It goes around normalisation, since values change
    their sign, and inside the removal of a climatology, which belongs to places.
    """

    def __init__(self, predictor: predictor_base.Predictor) -> None:
        """Wraps a predictor."""
        self._predictor = predictor
        self.frames_per_step = predictor.frames_per_step
        self.crop = predictor.crop

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> xr.Dataset:
        """Returns the predictions of the wrapped predictor."""
        return self._predictor(inputs, targets_template, forcings, **kwargs)

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the loss on samples half of which are mirrored, drawn anew.

        Raises:
          ValueError: The rows of a hemisphere are not those of the other.
        """
        chosen = _draw(inputs)
        seen = [mirror(part, chosen) for part in (inputs, targets, forcings)]
        return self._predictor.loss(*seen, **kwargs)

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns `loss`, and predictions that are the right way up again.

        Raises:
          ValueError: As for `loss`.
        """
        chosen = _draw(inputs)
        seen = [mirror(part, chosen) for part in (inputs, targets, forcings)]
        loss, predictions = self._predictor.loss_and_predictions(*seen, **kwargs)
        return loss, mirror(predictions, chosen)


def mirror(dataset: xr.Dataset, chosen: jax.Array) -> xr.Dataset:
    """Returns a dataset some members of which are mirrored at the equator.

    Args:
      dataset: In its own units. A variable of rows without batch gets one.
      chosen: Which members are, shape [batch].

    Raises:
      ValueError: The rows of a hemisphere are not those of the other.
    """
    if "lat" in dataset.coords:
        rows = dataset["lat"].values
        if not grids.is_symmetric(rows):
            raise ValueError(
                f"wrappers.mirror: needs the same rows in both hemispheres, found "
                f"latitudes {rows[0]:g} to {rows[-1]:g}; set it to false"
            )
    return dataset.map(lambda field: _mirrored(field, chosen))


def _mirrored(field: xr.DataArray, chosen: jax.Array) -> xr.DataArray:
    sign = -1 if hemispheres.changes_sign(str(field.name)) else 1
    if "lat" not in field.dims and sign == 1:
        return field
    if "batch" not in field.dims:
        field = field.expand_dims(batch=len(chosen))
    values = jnp.asarray(xarray_jax.unwrap_data(field))
    other = sign * values
    if "lat" in field.dims:
        other = jnp.flip(other, field.dims.index("lat"))
    shape = [-1 if dim == "batch" else 1 for dim in field.dims]
    mixed = jnp.where(chosen.reshape(shape), other, values)
    return field.copy(data=xarray_jax.wrap(mixed))


def _draw(inputs: xr.Dataset) -> jax.Array:
    return jax.random.bernoulli(hk.next_rng_key(), shape=(inputs.sizes["batch"],))
