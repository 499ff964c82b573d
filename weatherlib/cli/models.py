"""A trained model with everything it needs: weights, configuration and statistics.

`load_model` and `find_statistics` follow one rule for every command: the bundled
statistics belong to the bundled checkpoint and are used with nothing else.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import xarray

from weatherlib import (
    autoregressive,
    bundled,
    casting,
    checkpoint,
    climatology_removal,
    data,
    graphcast,
    hub,
    normalization,
    predictor_base,
    task,
)
from weatherlib.cli import families, files, run_folders
from weatherlib.data_utils import harmonics

__all__ = [
    "CLIMATOLOGY_MARK",
    "DEFAULT_CHECKPOINT",
    "PRECISIONS",
    "STATISTICS_FILES",
    "Model",
    "Statistics",
    "build_network",
    "build_predictor",
    "find_checkpoint",
    "find_statistics",
    "load_model",
    "load_statistics",
    "random_model",
    "resolve_precision",
]

DEFAULT_CHECKPOINT = "./"
PRECISIONS = ("auto", "float32", "bfloat16")
STATISTICS_FILES = ("diffs_stddev_by_level", "mean_by_level", "stddev_by_level")

# Attribute of means that belong to data without the climatology in the named file.
CLIMATOLOGY_MARK = "climatology_removed"

# The demonstration model of the published walk-through of the inference script.
_DEMONSTRATION = graphcast.ModelConfig(
    resolution=0,
    mesh_size=4,
    latent_size=32,
    gnn_msg_steps=4,
    hidden_layers=1,
    radius_query_fraction_edge_length=0.6,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model as it comes out of its file.

    Attributes:
      params: Haiku parameters; None for a random model that is yet to be initialised.
      state: Haiku state, empty for all families so far.
      model_config: The architecture, of its family's class.
      task_config: What it reads and predicts.
      description: Free text of the checkpoint.
      license: Terms of the weights.
      time_step: Time between frames, as training wrote it; None where it is not said,
        as in published files.
      family: Name of the kind of model, as in training configurations.
      path: The file; None for a random model.
      digest: SHA-256 of the file; empty for a random model.
    """

    params: Any
    model_config: Any
    task_config: task.TaskConfig
    state: Any = dataclasses.field(default_factory=dict)
    description: str = ""
    license: str = ""
    time_step: str | None = None
    family: str = "graphcast"
    path: pathlib.Path | None = None
    digest: str = ""

    @property
    def frames_per_step(self) -> int:
        """How many frames one step of it predicts."""
        return getattr(self.model_config, "output_length", 1)

    @property
    def is_bundled(self) -> bool:
        """Whether this is the checkpoint inside the package, or a link to it."""
        own = bundled.checkpoint_path()
        if self.path is None or not self.path.exists() or not own.exists():
            return False
        return self.path.samefile(own)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """What the data are normalised with, each a dataset of the model's variables.

    Attributes:
      diffs_stddev_by_level: Standard deviation of differences between frames.
      mean_by_level: Mean.
      stddev_by_level: Standard deviation.
      climatology: Amplitudes of the waves that are taken away first; None where
        nothing is.
    """

    diffs_stddev_by_level: xarray.Dataset
    mean_by_level: xarray.Dataset
    stddev_by_level: xarray.Dataset
    climatology: xarray.Dataset | None = None

    @property
    def by_level(self) -> dict[str, xarray.Dataset]:
        """The three of them as arguments of `normalization.InputsAndResiduals`."""
        return {name: getattr(self, name) for name in STATISTICS_FILES}


def find_checkpoint(path: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns the checkpoint file that a user means.

    Args:
      path: A file, a folder that holds exactly one checkpoint (.npz or .ckpt), or the
        name of published weights that were fetched. None and "./" mean the bundled one.

    Raises:
      FileNotFoundError: There is nothing of that name.
      ValueError: The folder holds no checkpoint, or several.
    """
    if path is None or os.fspath(path) == DEFAULT_CHECKPOINT:
        return files.existing(bundled.checkpoint_path(), "the bundled checkpoint")
    if not pathlib.Path(path).exists() and os.fspath(path) in hub.entries():
        return _fetched(hub.find(os.fspath(path)))
    path = files.existing(path, "the checkpoint")
    if not path.is_dir():
        return path
    endings = run_folders.CHECKPOINT_SUFFIXES
    found = sorted(p for p in path.iterdir() if p.suffix in endings)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise ValueError(
            f"{path}: a folder given as checkpoint must hold exactly one file ending "
            f"in {' or '.join(endings)}, found {names}; name the file"
        )
    return found[0]


def _fetched(entry: hub.Entry) -> pathlib.Path:
    """Returns the file of published weights.

    Raises:
      FileNotFoundError: They were not fetched.
      ValueError: They are no single checkpoint.
    """
    if entry.kind != "weights" or len(entry.files) != 1:
        raise ValueError(
            f"{entry.name}: stands for {len(entry.files)} file(s) of {entry.kind}, not "
            "for one checkpoint; name a file"
        )
    path = hub.path_of(entry)
    if not hub.is_fetched(entry):
        fetch = f"run: weatherlib weights fetch {entry.name} --yes"
        how = fetch if entry.can_be_fetched else entry.note
        raise FileNotFoundError(f"{entry.name}: not fetched yet; {how}")
    return path


def load_model(path: str | os.PathLike[str] | None = None) -> Model:
    """Returns a model from its checkpoint, of any family that training knows.

    Args:
      path: As for `find_checkpoint`.

    Raises:
      FileNotFoundError: There is nothing of that name.
      ValueError: The file is not a checkpoint of a known family, or a folder does not
        hold exactly one.
      OSError: The file is damaged or cannot be read.
    """
    file = find_checkpoint(path)
    family = families.recognise(file)
    read = families.FAMILIES[family]().read
    assert read is not None, "recognise names families that can be read"
    loaded = read(file)
    return Model(
        params=loaded.params,
        model_config=loaded.model_config,
        task_config=loaded.task_config,
        description=loaded.description,
        license=loaded.license,
        time_step=_time_step(file),
        family=family,
        path=file,
        digest=checkpoint.file_sha256(file),
    )


def _time_step(file: pathlib.Path) -> str | None:
    with file.open("rb") as opened:
        step = checkpoint.load_extras(opened).get("time_step")
    return None if step is None else str(step)


def random_model() -> Model:
    """Returns a small model whose parameters are yet to be drawn, to try the path."""
    return Model(
        params=None,
        model_config=_DEMONSTRATION,
        task_config=task.TASK_13,
        description="Random weights, to try the path; the forecast means nothing.",
    )


def load_statistics(folder: str | os.PathLike[str] = "./stats") -> Statistics:
    """Returns the statistics of a folder.

    Args:
      folder: Holds `stats_<name>.nc` or `<name>.nc` for the three names of
        `STATISTICS_FILES`.

    Raises:
      FileNotFoundError: The folder, one of the three, or the climatology that belongs
        to them is missing.
      OSError: One of them is damaged or no NetCDF.
    """
    folder = pathlib.Path(folder)
    found = {name: _statistics_file(folder, name) for name in STATISTICS_FILES}
    missing = [f"stats_{name}.nc" for name, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"{folder}: no statistics, {_join(missing)} missing (the same names "
            "without 'stats_' do as well); name the folder of the three with --stats"
        )
    loaded = {n: files.load(data.open_dataset(p), p) for n, p in found.items() if p}
    climatology = None
    if loaded["mean_by_level"].attrs.get(CLIMATOLOGY_MARK):
        path = folder / harmonics.FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: missing; the statistics beside it describe data without this "
                "climatology, so copy the whole folder that training wrote"
            )
        climatology = harmonics.read(path)
    return Statistics(**loaded, climatology=climatology)


def find_statistics(
    model: Model,
    folder: str | os.PathLike[str] | None = None,
    *,
    bundled_data: bool = False,
) -> Statistics:
    """Returns the statistics that go with a model.

    Args:
      model: The model. The bundled one comes with its own; for another the folder
        `stats` beside its file is read.
      folder: Where the user says they are; comes before any other place.
      bundled_data: Whether the data are the bundled sample, so that a random model may
        be tried with the sample's statistics.

    Models that take data in their own units need none, and get those of the range that
    they were made for.

    Raises:
      FileNotFoundError: There are none, naming the three files.
      OSError: One of them is damaged or no NetCDF.
      ValueError: They belong to another model.
    """
    if folder is not None:
        statistics = load_statistics(folder)
    elif model.is_bundled or (model.path is None and bundled_data):
        statistics = load_statistics(bundled.statistics_path())
    elif model.path is None:
        statistics = load_statistics()
    elif _needs_none(model):
        statistics = _range_statistics(model)
    else:
        statistics = load_statistics(model.path.parent / "stats")
    normalization.check_statistics(model.task_config, **statistics.by_level)
    return statistics


def resolve_precision(precision: str) -> str:
    """Returns "float32" or "bfloat16".

    Args:
      precision: One of `PRECISIONS`. "auto" is bfloat16 on an accelerator and float32
        on a CPU, where bfloat16 is slower and less exact.

    Raises:
      ValueError: Another name.
    """
    import jax

    if precision not in PRECISIONS:
        raise ValueError(
            f"precision {precision!r} is not known; use {', '.join(PRECISIONS)}"
        )
    if precision == "auto":
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return precision


def build_network(
    model_config: Any,
    task_config: task.TaskConfig,
    *,
    graph_cache: str | os.PathLike[str] | None = None,
) -> predictor_base.Predictor:
    """Returns a model of one step on normalised data, without wrappers.

    Args:
      model_config: As for `build_predictor`.
      task_config: As for `build_predictor`.
      graph_cache: As for `build_predictor`.
    """
    if isinstance(model_config, graphcast.ModelConfig):
        return graphcast.GraphCast(model_config, task_config, graph_cache=graph_cache)
    return families.family_of(model_config).network(model_config, task_config, False)


def build_predictor(
    model_config: Any,
    task_config: task.TaskConfig,
    statistics: Statistics,
    *,
    precision: str = "auto",
    autoregressive_steps: bool = False,
    graph_cache: str | os.PathLike[str] | None = None,
) -> predictor_base.Predictor:
    """Returns a model in its wrappers, to be called inside a Haiku transform.

    From the inside out: the network, the cast, normalisation (with residuals, unless
    the network predicts states), the removal of the climatology where the statistics
    have one and, where asked for, the repetition of the step.

    Args:
      model_config: The architecture; its class says which family.
      task_config: What it reads and predicts.
      statistics: What to normalise with.
      precision: As for `resolve_precision`.
      autoregressive_steps: Whether to add `autoregressive.Predictor` with gradient
        checkpointing, which makes several steps at once, as training needs.
      graph_cache: Folder that keeps the edges of graphs between processes.

    Raises:
      ValueError: `precision` is not known.
    """
    predictor = build_network(model_config, task_config, graph_cache=graph_cache)
    residuals, own_units = predictor.predicts_changes, predictor.normalizes_itself
    if resolve_precision(precision) == "bfloat16":
        predictor = casting.Bfloat16Cast(predictor)
    if not own_units:
        predictor = normalization.InputsAndResiduals(
            predictor,
            **statistics.by_level,
            residuals=residuals,
        )
    if statistics.climatology is not None:
        predictor = climatology_removal.WithoutClimatology(
            predictor, statistics.climatology
        )
    if autoregressive_steps:
        predictor = autoregressive.Predictor(predictor, gradient_checkpointing=True)
    return predictor


def _statistics_file(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns the file of one statistic, None where the folder lacks it."""
    candidates = (folder / f"stats_{name}.nc", folder / f"{name}.nc")
    return next((path for path in candidates if path.is_file()), None)


def _needs_none(model: Model) -> bool:
    """Whether a model takes data in their own units, and no statistics lie beside."""
    if not getattr(model.model_config, "normalizes_itself", False):
        return False
    assert model.path is not None
    return not (model.path.parent / "stats").is_dir()


def _range_statistics(model: Model) -> Statistics:
    """Returns statistics of which the values of a model are up to one deviation off."""
    low, high = model.model_config.value_range
    task_config = model.task_config
    names = dict.fromkeys((*task_config.input_variables, *task_config.target_variables))
    half = np.float32((high - low) / 2)
    spread = xarray.Dataset(dict.fromkeys(names, half))
    return Statistics(
        diffs_stddev_by_level=spread,
        mean_by_level=spread + np.float32(low),
        stddev_by_level=spread,
    )


def _join(names: list[str]) -> str:
    """Returns 'a', 'a and b' or 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
