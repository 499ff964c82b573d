"""GraphCast as a predictor: datasets in, datasets out."""

from __future__ import annotations

import functools
import os

import haiku as hk
import numpy as np
import xarray as xr

from weatherlib import hemispheres, losses, predictor_base, slopes, stacking
from weatherlib.data_utils import check_call
from weatherlib.graphcast import config, message_graph, network
from weatherlib.nn import members
from weatherlib.task import TaskConfig
from weatherlib.typing import PathLike

__all__ = ["GraphCast"]

# Single-level variables that would otherwise count as much as a whole profile;
# whatever is not named counts as 1.
_LOSS_WEIGHTS = {
    "10m_u_component_of_wind": 0.1,
    "10m_v_component_of_wind": 0.1,
    "mean_sea_level_pressure": 0.1,
    "total_precipitation_6hr": 0.1,
}


class GraphCast(predictor_base.Predictor):
    """Predicts one step with the GraphCast network.

    Built inside the function given to `hk.transform`, like any Haiku module. Inputs are
    expected normalised; wrap it in `normalization.InputsAndResiduals`, and for more
    than one step in `autoregressive.Predictor`.
    """

    def __init__(
        self,
        model_config: config.ModelConfig,
        task_config: TaskConfig,
        *,
        memory: config.MemoryConfig | None = None,
        graph_cache: PathLike | None = None,
    ) -> None:
        """Creates the graph networks.

        Args:
          model_config: The architecture.
          task_config: What is read and predicted.
          memory: What to keep and what to compute again; by default chosen by size.
          graph_cache: Folder that keeps the edges of graphs between processes.
        """
        self._model_config = model_config
        self._task_config = task_config
        self._graph_cache = None if graph_cache is None else os.fspath(graph_cache)
        self._networks = _make_networks(model_config, memory)

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
          is_training: Makes a difference only to a model of several members, each of
            which sees its own share of a batch then.

        Raises:
          ValueError: The datasets do not fit the task or the architecture.
        """
        check_call.check_call(
            inputs,
            targets_template,
            forcings,
            self._task_config,
            self._model_config.resolution,
        )
        sizes = {dim: inputs.sizes[dim] for dim in ("batch", "lat", "lon")}
        graph = _message_graph(
            _frozen(inputs["lat"]),
            _frozen(inputs["lon"]),
            self._model_config,
            self._graph_cache,
        )
        if isinstance(self._model_config, config.SlopesModelConfig):
            inputs = slopes.add_slopes(
                inputs, self._model_config.slopes, self._model_config.slope_length
            )
        mirrors, latitude = _mirrors(self._model_config), inputs["lat"].values
        if mirrors:
            inputs = hemispheres.face_poles(inputs, latitude)
            forcings = hemispheres.face_poles(forcings, latitude)
        channels = stacking.stack((inputs, forcings), sizes)
        output_size = stacking.plan_channels(targets_template)[-1].stop
        outputs = members.apply(
            [lambda x, run=run: run(graph, x, output_size) for run in self._networks],
            channels,
            axis=1,
            is_training=is_training,
        )
        found = stacking.unstack(outputs, targets_template, sizes)
        return hemispheres.face_poles(found, latitude) if mirrors else found

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns `loss` and the predictions that it judges."""
        predictions = self(inputs, targets, forcings, is_training=is_training)
        weights = {k: w for k, w in _LOSS_WEIGHTS.items() if k in targets}
        loss = losses.weighted_mse_per_level(
            predictions, targets, per_variable_weights=weights
        )
        return loss, predictions

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the weighted squared error of each batch member, and of variables."""
        return self.loss_and_predictions(inputs, targets, forcings, is_training)[0]


def _make_networks(
    model_config: config.ModelConfig, memory: config.MemoryConfig | None
) -> list[network.GraphCastNetwork]:
    """Returns the members; the parameters of a single one have no prefix."""
    count = 1
    if isinstance(model_config, config.SlopesModelConfig):
        count = model_config.members
    if count == 1:
        return [network.GraphCastNetwork(model_config, memory)]
    networks = []
    for i in range(count):
        label = f"member_{i}"
        with hk.name_scope(label):
            made = network.GraphCastNetwork(model_config, memory, f"/{label}")
        networks.append(made)
    return networks


def _mirrors(model_config: config.ModelConfig) -> bool:
    return isinstance(model_config, config.SlopesModelConfig) and model_config.mirror


def _frozen(coordinate: xr.DataArray) -> tuple[float, ...]:
    return tuple(np.asarray(coordinate.values, np.float64).tolist())


@functools.lru_cache(maxsize=8)
def _message_graph(
    latitude: tuple[float, ...],
    longitude: tuple[float, ...],
    model_config: config.ModelConfig,
    graph_cache: str | None,
) -> message_graph.MessageGraph:
    geometry = message_graph.build_geometry(
        np.array(latitude),
        np.array(longitude),
        model_config,
        cache_dir=graph_cache,
    )
    return message_graph.make_message_graph(geometry, mirror=_mirrors(model_config))
