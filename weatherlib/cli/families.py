"""The model families that `weatherlib train` knows, by name.

A new family is one function that returns a `Family`, and one line in `FAMILIES`.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weatherlib import config
from weatherlib.task import TaskConfig

__all__ = [
    "FAMILIES",
    "NO_LICENSE",
    "Family",
    "Grid",
    "family_of",
    "find_family",
    "recognise",
    "saver",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Where the fields of a run lie in space and time.

    Attributes:
      lat: Degrees north, shape [lat].
      lon: Degrees east, shape [lon].
      step: Time between frames.
    """

    lat: np.ndarray
    lon: np.ndarray
    step: np.timedelta64

    @classmethod
    def of(cls, frames: Any) -> Grid:
        """Returns that of a series, `training.Frames`."""
        lat, lon = (frames.dataset[name].values for name in ("lat", "lon"))
        return cls(lat=lat, lon=lon, step=frames.step)

    @property
    def extras(self) -> dict[str, Any]:
        """What every published file keeps beside what its family does."""
        return {"time_step": f"{self.step / np.timedelta64(1, 'm'):g}min"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What training needs to know of a kind of model.

    Attributes:
      title: What files and pictures call it.
      config_class: Dataclass of the architecture; the fields of `model` in a
        configuration. Its `resolution`, in degrees and 0 for any, is what the data of
        training and forecasts are checked with.
      network: Returns the predictor of one step on normalised data, from the
        configuration, the task, and whether to compute activations again. Called
        inside a Haiku transformation.
      save: Writes the published file from path, parameters, configuration, task, grid,
        and the texts `description` and `license`.
      load: Returns the parameters of a published file.
      read: Returns a published file with `params`, `model_config`, `task_config`,
        `description` and `license`, for forecasts; None where it cannot be forecast
        with.
      mark: A name that only the published files of this family hold.
      layers: Patterns of parameters from input to output, for layer-wise rates; or what
        returns them for a configuration.
      any_lead: Whether a model of this configuration, which reads a single frame,
        predicts any lead time in one step.
      crop: Returns the part of a dataset on the whole grid that a model of this
        configuration predicts.
      parameter_axes: Expressions on paths and names of the axes of parameters, by which
        weights can be cut; see `training.ShardingConfig`.
      takes_lead_time: Whether the network reads the forcing `lead_time`, and so can be
        trained at any.
      start: Reads weights to start from, also those of another architecture: from path,
        configuration, fresh parameters and `training.InitConfig` to parameters and
        lines that say what was changed. None takes files as `load` gives them.
      closed_form: Whether training without stages finds the weights in one pass, by
        `baselines.linear_fit`.
      weightless: Whether there is nothing to find.
      complete: Fills in what a configuration takes from other files or from the data:
        from configuration, and `training_samples.TrainingSamples`, a function of target
        frames and number of samples that returns a batch, to the whole configuration,
        and parameters that stay as they are, or to begin with; see `frozen`.
      frozen: Whether the parameters of a module, by path, are never trained in a model
        of this configuration. None: all that `complete` returns are not.
      check_data: Looks at weather, in its own units, that a forecast starts from: from
        configuration, task, statistics and dataset.
      own_loss: Whether only its own loss, on single steps, trains it.
      counts_updates: Whether the loss takes the number of updates as `update`.
      forecasts: Whether it makes forecasts, or is a part of what does.
      is_generative: Whether forecasts are drawn, so that members need no perturbations.
    """

    title: str
    config_class: type
    network: Callable[[Any, TaskConfig, bool], Any]
    save: Callable[..., None]
    load: Callable[[pathlib.Path], Any]
    read: Callable[[pathlib.Path], Any] | None = None
    mark: str = ""
    layers: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = ()
    any_lead: Callable[[Any], bool] = lambda model_config: False
    crop: Callable[[Any, Any], Any] = lambda model_config, dataset: dataset
    parameter_axes: Sequence[tuple[str, tuple[str | None, ...]]] = ()
    takes_lead_time: bool = False
    start: Callable[..., tuple[Any, list[str]]] | None = None
    closed_form: bool = False
    weightless: bool = False
    complete: Callable[..., tuple[Any, dict[str, Any]]] | None = None
    frozen: Callable[[Any, str], bool] | None = None
    check_data: Callable[..., None] | None = None
    own_loss: bool = False
    counts_updates: bool = False
    forecasts: bool = True
    is_generative: bool = False

    def layers_of(self, model_config: Any) -> tuple[str, ...]:
        """Returns patterns of the parameters of a model from input to output."""
        return self.layers(model_config) if callable(self.layers) else self.layers


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


def family_of(model_config: Any) -> Family:
    """Returns the family whose configuration this is.

    Raises:
      ValueError: There is none.
    """
    for make in FAMILIES.values():
        family = make()
        if type(model_config) is family.config_class:
            return family
    raise ValueError(f"{type(model_config).__name__}: no family has this configuration")


def recognise(path: pathlib.Path) -> str:
    """Returns the name of the family that a published file belongs to.

    A file that no other family claims is taken for GraphCast, whose reader says what is
    wrong with it.
    """
    from weatherlib import checkpoint

    said = checkpoint.read_text(path, "architecture")
    if said in FAMILIES:
        return said
    for name, make in FAMILIES.items():
        family = make()
        if family.read and family.mark and checkpoint.holds(path, family.mark):
            return name
    return "graphcast"


def _graphcast(*, reads_slopes: bool = False) -> Family:
    from weatherlib import checkpoint, graphcast
    from weatherlib.graphcast import message_graph

    kind: type = graphcast.CheckPoint
    networks = ("grid2mesh_gnn/*", "mesh_gnn/*", "mesh2grid_gnn/*")
    config_class, title = graphcast.ModelConfig, "GraphCast"
    if reads_slopes:
        kind = graphcast.SlopesCheckPoint
        config_class, title = graphcast.SlopesModelConfig, "GraphCast with slopes"
        # Those of several members have a prefix.
        networks = tuple(f"*{pattern}" for pattern in networks)

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
        value = kind(
            params=params, model_config=model_config, task_config=task_config, **texts
        )
        extras = {**grid.extras, "topology": geometry.topology.to_arrays()}
        checkpoint.save(path, value, extras=extras)

    def read(path: pathlib.Path) -> Any:
        return checkpoint.open_checkpoint(path, kind)

    return Family(
        title=title,
        config_class=config_class,
        network=network,
        save=save,
        load=lambda path: read(path).params,
        read=read,
        mark="model_config:slope_length" if reads_slopes else "model_config:mesh_size",
        layers=networks,
        parameter_axes=graphcast.PARAMETER_AXES,
    )


def saver(kind: Any, architecture: str) -> Callable[..., None]:
    """Returns how a family is saved whose files hold weights, sizes and task only.

    Args:
      kind: The dataclass of its checkpoints.
      architecture: Name of the family.
    """
    from weatherlib import checkpoint

    def save(
        path: pathlib.Path,
        params: Any,
        model_config: Any,
        task_config: TaskConfig,
        grid: Grid,
        **texts: str,
    ) -> None:
        value = kind(
            architecture=architecture,
            params=params,
            model_config=model_config,
            task_config=task_config,
            **texts,
        )
        checkpoint.save(path, value, extras=grid.extras)

    return save


def _residual_cnn() -> Family:
    from weatherlib import baselines, checkpoint

    def network(
        model_config: baselines.ResidualCnnConfig, task_config: TaskConfig, remat: bool
    ) -> Any:
        del remat  # One step is small; rollouts compute steps again by themselves.
        return baselines.ResidualCnn(model_config, task_config)

    def read(path: pathlib.Path) -> Any:
        return checkpoint.open_checkpoint(path, baselines.CheckPoint)

    return Family(
        title="residual CNN",
        config_class=baselines.ResidualCnnConfig,
        network=network,
        save=saver(baselines.CheckPoint, baselines.RESIDUAL_CNN),
        load=lambda path: read(path).params,
        read=read,
        mark="model_config:dilations:0",
    )


def _climax() -> Family:
    from weatherlib import checkpoint, climax
    from weatherlib.climax import regions

    def read(path: pathlib.Path) -> Any:
        return checkpoint.open_checkpoint(path, climax.CheckPoint)

    def layers(model_config: climax.ClimaXConfig) -> tuple[str, ...]:
        blocks = (f"climax/block_{i}/*" for i in range(model_config.depth))
        return ("climax/[vptl]*", *blocks, "climax/[hn]*")

    def start(
        path: pathlib.Path, model_config: climax.ClimaXConfig, params: Any, init: Any
    ) -> tuple[Any, list[str]]:
        from weatherlib.weights import climax_start

        options = {"adapt": init.adapt, "variables": init.variables}
        return climax_start.start(path, model_config, params, **options)

    return Family(
        title="ClimaX",
        config_class=climax.ClimaXConfig,
        network=lambda model_config, task_config, remat: climax.make_predictor(
            model_config, task_config, remat=remat
        ),
        save=saver(climax.CheckPoint, climax.CLIMAX),
        load=lambda path: read(path).params,
        read=read,
        mark="model_config:patch_size",
        layers=layers,
        any_lead=lambda model_config: model_config.time_history == 1,
        crop=regions.crop,
        parameter_axes=climax.PARAMETER_AXES,
        takes_lead_time=True,
        start=start,
    )


def _frame_model(name: str) -> Family:
    """Returns a model of several frames."""
    from weatherlib import baselines, checkpoint
    from weatherlib.baselines import registry

    model, kind = registry.find(name), registry.checkpoint_type(name)

    def network(model_config: Any, task_config: TaskConfig, remat: bool) -> Any:
        return baselines.create(name, model_config, task_config, remat=remat)

    def read(path: pathlib.Path) -> Any:
        return checkpoint.open_checkpoint(path, kind)

    return Family(
        title=model.title,
        config_class=model.config_class,
        network=network,
        save=saver(kind, name),
        load=lambda path: read(path).params,
        read=read,
        closed_form=model.closed_form,
        weightless=model.weightless,
    )


def _frame_models() -> dict[str, Callable[[], Family]]:
    from weatherlib.baselines import registry

    names = (*registry.MODELS, *registry.REFERENCES)
    return {name: functools.partial(_frame_model, name) for name in names}


def _prediff(stage: str) -> Family:
    """Returns a stage of PreDiff."""
    from weatherlib.cli import prediff_families

    return getattr(prediff_families, stage)()


def _latent_stage(stage: str) -> Family:
    """Returns a stage of models on vision encoders."""
    from weatherlib.cli import latent_stages

    return getattr(latent_stages, stage)()


def _latent(name: str) -> Family:
    """Returns a forecast model in a latent space."""
    from weatherlib.cli import latent_families

    return getattr(latent_families, name)()


# What files say of weights whose terms nobody has given.
NO_LICENSE = "not stated"

FAMILIES: dict[str, Callable[[], Family]] = {
    # Before plain GraphCast, whose mark its files hold as well.
    "graphcast_slopes": functools.partial(_graphcast, reads_slopes=True),
    "graphcast": _graphcast,
    "residual_cnn": _residual_cnn,
    "climax": _climax,
    "prediff_autoencoder": functools.partial(_prediff, "autoencoder"),
    "prediff": functools.partial(_prediff, "denoiser"),
    "prediff_alignment": functools.partial(_prediff, "alignment"),
    "latent_autoencoder": functools.partial(_latent_stage, "autoencoder"),
    "stage1_direct": functools.partial(_latent_stage, "direct"),
    "latent_unet": functools.partial(_latent, "unet"),
    "latent_diffusion": functools.partial(_latent, "diffusion"),
    **_frame_models(),
}
