"""Say what a checkpoint or a weather file contains, and whether they fit.

A weather file is listed with its grid, times, levels and variables; a checkpoint with
its architecture, its variables, its licence and its hash; a file of torch or
safetensors with its arrays, without running anything of it; a folder of a vision
encoder or an autoencoder after comparing its weights with its config.json. A run of
`weatherlib train` is listed with its updates and its checkpoint, a folder of statistics
with their source and period. Weather and checkpoint named together are compared, and
every problem is listed with its remedy.
Where the checkpoint stores the edges between grid and mesh that it was trained with,
they are compared with those that this version finds.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import xarray

    from weatherlib.cli import console, models

__all__ = ["EXAMPLES", "Options", "print_contents", "run"]

_TITLES = {
    "checkpoint": "a checkpoint",
    "weights": "published weights",
    "model": "the folder of a published model",
    "run": "a training run",
    "statistics": "a folder of statistics",
    "state": "the state of a training run",
    "settings": "a file of settings",
}

EXAMPLES = (
    "weatherlib info",
    "weatherlib info era5.nc",
    "weatherlib info era5.nc --checkpoint graphcast.npz",
    "weatherlib info 5.625deg.ckpt",
    "weatherlib info dinov2_folder",
    "weatherlib info runs/era5",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to describe; the bundled sample and checkpoint by default."""

    path: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = (
        None
    )
    """A weather file (.nc, .zarr, .grib), a checkpoint (.npz) or a folder with one,
    published weights (.ckpt, .pt, .pth, .safetensors, or a folder with config.json), or
    the folder of a training run or of statistics."""

    checkpoint: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """A checkpoint to compare the weather file with."""


def run(options: Options) -> None:
    """Prints what the files contain.

    Raises:
      FileNotFoundError: A file is missing.
      OSError: A file is damaged.
      ValueError: A file is of another kind.
    """
    if options.path is None:
        print_contents(None, options.checkpoint or "./")
        return
    path = pathlib.Path(options.path)
    kind = _kind_of(path)
    if kind == "weather":
        print_contents(options.path, options.checkpoint)
    elif options.checkpoint is not None:
        raise ValueError(
            f"{path}: is {_TITLES[kind]}; name a weather file to compare with "
            f"{options.checkpoint}"
        )
    else:
        _describe(path, kind)


def _kind_of(path: pathlib.Path) -> str:
    """Returns what a path is: a key of `_TITLES`, or weather."""
    from weatherlib.cli import conversion, run_folders, vision_conversion

    if conversion.is_weights(path):
        return "weights"
    if vision_conversion.is_folder(path):
        return "model"
    if path.suffix in run_folders.CHECKPOINT_SUFFIXES:
        return "checkpoint"
    return run_folders.kind_of(path) or "weather"


def _describe(path: pathlib.Path, kind: str) -> None:
    """Prints what something other than weather holds."""
    from weatherlib.cli import console, conversion, run_folders, vision_conversion

    out = console.Console()
    if kind == "weights":
        conversion.describe(out, path)
    elif kind == "model":
        vision_conversion.describe(out, path)
    elif kind == "checkpoint":
        print_contents(None, str(path), dataset=False)
    else:
        run_folders.describe(out, path, kind)
        found = run_folders.checkpoint_of(path) if kind == "run" else None
        if found is not None:
            print_contents(None, str(found), dataset=False)


def print_contents(
    weather: str | None, checkpoint: str | None, *, dataset: bool = True
) -> None:
    """Prints a weather file, a checkpoint, and what stands between them.

    Args:
      weather: The file; None for the bundled sample.
      checkpoint: Checkpoint or its folder, "./" for the bundled one; None for none.
      dataset: Whether to describe the weather at all.

    Raises:
      FileNotFoundError: As `run`.
      OSError: As `run`.
      ValueError: As `run`.
    """
    from weatherlib.cli import console, describe, files

    out = console.Console()
    opened = None
    if dataset:
        opened = files.open_weather(weather)
        out.heading(f"Data: {weather or 'the bundled sample'}")
        out.facts(describe.dataset_facts(opened))
        out.print()
        out.table(*describe.variables_table(opened))
    if checkpoint is None:
        return
    # The checkpoint's schema lies in a package that loads JAX; data alone do without.
    from weatherlib.cli import models

    path = models.find_checkpoint(checkpoint)
    model = models.load_model(path)
    out.heading(f"Checkpoint: {path}")
    out.facts(describe.model_facts(model))
    if opened is not None:
        _compare(out, opened, model)


def _compare(
    out: console.Console, dataset: xarray.Dataset, model: models.Model
) -> None:
    """Prints whether weather suits a model, and what a forecast from it needs."""
    from weatherlib.cli import data_fit

    fit = data_fit.judge(dataset, model)
    out.heading("Do they fit?")
    for line in [*fit.lines, fit.verdict]:
        out.print(f"  {line}")
    if fit.weather is not None and model.family == "graphcast":
        out.print(f"  edges between grid and mesh: {_edges(fit.weather, model)}")


def _edges(dataset: xarray.Dataset, model: models.Model) -> str:
    """Returns how the edges stored with a checkpoint differ from those found here."""
    from weatherlib import checkpoint
    from weatherlib.geometry import topology
    from weatherlib.graphcast import message_graph

    assert model.path is not None, "it was read from a file"
    with model.path.open("rb") as file:
        stored = checkpoint.load_extras(file).get("topology")
    if stored is None:
        return "not stored in the checkpoint, so found anew"
    here = message_graph.build_geometry(
        dataset["lat"].values, dataset["lon"].values, model.model_config
    ).topology
    return str(topology.compare(topology.Topology.from_arrays(stored), here))
