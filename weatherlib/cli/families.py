"""The model families that `weatherlib train` knows, by name.

A new family is one function that returns a `Family`, and one line in `FAMILIES`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weatherlib import config
from weatherlib.task import TaskConfig

__all__ = ["FAMILIES", "Family", "Grid", "find_family"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Where the fields of a run lie.

    Attributes:
      lat: Degrees north, shape [lat].
      lon: Degrees east, shape [lon].
    """

    lat: np.ndarray
    lon: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What training needs to know of a kind of model.

    Attributes:
      config_class: Dataclass of the architecture; the fields of `model` in a
        configuration.
      network: Returns the predictor of one step on normalised data, from the
        configuration, the task, and whether to compute activations again. Called
        inside a Haiku transformation.
      save: Writes the published file from path, parameters, configuration, task, grid,
        and the texts `description` and `license`.
      load: Returns the parameters of a published file.
      layers: Patterns of parameters from input to output, for layer-wise rates.
      parameter_axes: Expressions on paths and names of the axes of parameters, by which
        weights can be cut; see `training.ShardingConfig`.
    """

    config_class: type
    network: Callable[[Any, TaskConfig, bool], Any]
    save: Callable[..., None]
    load: Callable[[pathlib.Path], Any]
    layers: tuple[str, ...] = ()
    parameter_axes: Sequence[tuple[str, tuple[str | None, ...]]] = ()


def find_family(model: Mapping[str, Any]) -> tuple[Family, Any]:
    """Returns the family that a configuration names, and its own configuration.

    Args:
      model: `family` and the fields of the family's configuration.

    Raises:
      ValueError: `family` is missing or unknown, or a field is wrong.
    """
    fields = dict(model)
    if "family" not in fields:
        raise ValueError(f"model: missing family; one of {', '.join(FAMILIES)}")
    name = fields.pop("family")
    if name not in FAMILIES:
        hint = config.closest_hint(name, FAMILIES)
        raise ValueError(f"model.family: there is no family {name!r}{hint}")
    family = FAMILIES[name]()
    try:
        return family, config.from_dict(family.config_class, fields)
    except ValueError as error:
        raise ValueError(f"model: {error}") from error


def _graphcast() -> Family:
    from weatherlib import checkpoint, graphcast
    from weatherlib.graphcast import message_graph

    def network(
        model_config: graphcast.ModelConfig, task_config: TaskConfig, remat: bool
    ) -> Any:
        # None lets the network choose by size.
        memory = graphcast.MemoryConfig(remat=True) if remat else None
        return graphcast.GraphCast(model_config, task_config, memory=memory)

    def save(
        path: pathlib.Path,
        params: Any,
        model_config: graphcast.ModelConfig,
        task_config: TaskConfig,
        grid: Grid,
        **texts: str,
    ) -> None:
        geometry = message_graph.build_geometry(grid.lat, grid.lon, model_config)
        value = graphcast.CheckPoint(
            params=params, model_config=model_config, task_config=task_config, **texts
        )
        extras = {"topology": geometry.topology.to_arrays()}
        checkpoint.save(path, value, extras=extras)

    def load(path: pathlib.Path) -> Any:
        return checkpoint.open_checkpoint(path, graphcast.CheckPoint).params

    return Family(
        config_class=graphcast.ModelConfig,
        network=network,
        save=save,
        load=load,
        layers=("grid2mesh_gnn/*", "mesh_gnn/*", "mesh2grid_gnn/*"),
        parameter_axes=graphcast.PARAMETER_AXES,
    )


FAMILIES: dict[str, Callable[[], Family]] = {"graphcast": _graphcast}
