"""Grid networks as predictors: datasets in, datasets out."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import xarray as xr

from weatherlib import losses, predictor_base, stacking, variables
from weatherlib.baselines import advection, config, network
from weatherlib.data_utils import check_call
from weatherlib.geometry import grids
from weatherlib.nn.edges import Edges, find_edges
from weatherlib.task import TaskConfig

__all__ = ["ResidualCnn"]


class ResidualCnn(predictor_base.Predictor):
    """Predicts one step with residual blocks of dilated convolutions.

    Built inside the function given to `hk.transform`, like any Haiku module. Inputs are
    expected normalised; wrap it in `normalization.InputsAndResiduals`, and for more
    than one step in `autoregressive.Predictor`.
    """

    def __init__(
        self, model_config: config.ResidualCnnConfig, task_config: TaskConfig
    ) -> None:
        """Creates the network.

        Args:
          model_config: Its sizes.
          task_config: What is read and predicted.
        """
        self._model_config = model_config
        self._task_config = task_config
        self._network = network.ResidualCnnNetwork(model_config)
        self.estimates_error = model_config.estimates_error

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
    ) -> xr.Dataset:
        """Returns the prediction for the one target time.

        Args:
          inputs: Normalised past frames and static fields.
          targets_template: Variables and coordinates to predict; values are not read.
          forcings: Normalised forcings at the target time.
          is_training: Whether dropout is on; it needs a Haiku key.

        Raises:
          ValueError: The datasets do not fit the task or the architecture.
        """
        return self._outputs(inputs, targets_template, forcings, is_training)[0]

    def predictions_and_log_variances(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
    ) -> tuple[xr.Dataset, xr.Dataset]:
        """Returns the prediction, and the log variance of its error.

        Raises:
          ValueError: As for `__call__`.
          NotImplementedError: The model does not estimate its errors.
        """
        if not self.estimates_error:
            return super().predictions_and_log_variances(
                inputs, targets_template, forcings
            )
        outputs = self._outputs(inputs, targets_template, forcings, is_training)
        return outputs[0], outputs[1]

    def _outputs(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool,
    ) -> list[xr.Dataset]:
        """Returns all that the network tells of the target: one dataset, or two."""
        check_call.check_call(
            inputs,
            targets_template,
            forcings,
            self._task_config,
            self._model_config.resolution,
        )
        sizes = {dim: inputs.sizes[dim] for dim in ("batch", "lat", "lon")}
        positions, edges = _grid(
            _frozen(inputs["lat"]), _frozen(inputs["lon"]), self._model_config.edges
        )
        parity, carrying = None, None
        if self._model_config.carriers:
            carrying = advection.find_places(
                inputs, self._model_config.carriers, tuple(targets_template)
            )
        if self._model_config.mirror:
            parity = _parity(inputs, forcings, targets_template, carrying)
            _require_mirrored_rows(inputs["lat"], edges)
        channels = stacking.stack((inputs, forcings), sizes)
        shape = (sizes["lat"], sizes["lon"])
        field = channels.reshape(*shape, *channels.shape[1:]).transpose(2, 0, 1, 3)
        extras = None
        if carrying is not None:
            lat, lon = inputs["lat"].values, inputs["lon"].values
            extras = advection.Advection()(field, carrying, lat, lon)
        output_size = stacking.plan_channels(targets_template)[-1].stop
        outputs = self._network(
            field, positions, edges, output_size, is_training, parity, extras
        )
        outputs = outputs.transpose(1, 2, 0, 3)
        outputs = outputs.reshape(shape[0] * shape[1], *outputs.shape[2:])
        return [
            stacking.unstack(part, targets_template, sizes)
            for part in jnp.split(outputs, outputs.shape[-1] // output_size, axis=-1)
        ]

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns `loss` and the predictions that it judges."""
        predictions = self(inputs, targets, forcings, is_training=is_training)
        return losses.weighted_mse_per_level(predictions, targets, {}), predictions

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the squared error of each batch member, weighted by area and level.

        Args:
          inputs: As for `__call__`.
          targets: Normalised truth.
          forcings: As for `__call__`.
          is_training: As for `__call__`.
        """
        return self.loss_and_predictions(inputs, targets, forcings, is_training)[0]


def _parity(
    inputs: xr.Dataset,
    forcings: xr.Dataset,
    template: xr.Dataset,
    carrying: advection.Places | None = None,
) -> network.Parity:
    """Returns the signs of all channels in a mirrored world."""

    def signs(*datasets: xr.Dataset) -> np.ndarray:
        parts = [
            np.full(variable.stop - variable.start, -1.0 if odd else 1.0)
            for dataset in datasets
            for variable in stacking.plan_channels(dataset)
            for odd in [variables.changes_sign_when_mirrored(str(variable.name))]
        ]
        return np.concatenate(parts)

    seen, extras = signs(inputs, forcings), np.ones(0)
    if carrying is not None:
        extras = advection.mirrored_signs(seen, carrying)
    return network.Parity(inputs=seen, outputs=signs(template), extras=extras)


def _require_mirrored_rows(lat: xr.DataArray, edges: Edges) -> None:
    rows = lat.values
    if edges.columns != "around" or not grids.is_symmetric(rows):
        raise ValueError(
            f"mirror: needs a global grid with the same rows in both hemispheres, "
            f"found latitudes {rows[0]:g} to {rows[-1]:g}; set mirror to false"
        )


def _frozen(coordinate: xr.DataArray) -> tuple[float, ...]:
    return tuple(np.asarray(coordinate.values, np.float64).tolist())


@functools.lru_cache(maxsize=8)
def _grid(
    lat: tuple[float, ...], lon: tuple[float, ...], kind: str
) -> tuple[np.ndarray, Edges]:
    """Returns sines and cosines of the places, shape [lat, lon, 4], and the edges."""
    rows, columns = np.deg2rad(lat)[:, np.newaxis], np.deg2rad(lon)[np.newaxis]
    parts = (np.sin(rows), np.cos(rows), np.sin(columns), np.cos(columns))
    positions = np.stack(np.broadcast_arrays(*parts), axis=-1).astype(np.float32)
    return positions, find_edges(lat, lon, kind)
