"""PyTorch weights of the models on grids as checkpoints, and back."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from weatherlib import checkpoint, task
from weatherlib.baselines import registry
from weatherlib.data_utils import times
from weatherlib.weights import flat, grid_models, variable_names

if TYPE_CHECKING:
    from weatherlib.cli import console, weights

__all__ = ["convert", "export", "held_model"]


def held_model(path: pathlib.Path) -> str | None:
    """Returns the name of the model whose checkpoint of ours a file is, or None."""
    name = checkpoint.read_text(path, "architecture")
    return name if name in grid_models.FAMILIES else None


def convert(
    out: console.Console,
    source: pathlib.Path,
    target: pathlib.Path,
    kind: str,
    options: weights.Options,
    grid: tuple[int, int] | None,
) -> None:
    """Writes weights of PyTorch after they have gone through the model.

    Args:
      out: Told what was done.
      source: The file.
      target: The file to write.
      kind: "weatherlib", "npz" or "safetensors".
      options: Say the model, and what shapes do not say.
      grid: Rows and columns that it was trained on; None for the published ones.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: A file cannot be read or written.
      ValueError: There is no such model, or the file does not fit it.
    """
    if kind == "weatherlib" and not options.variables:
        raise ValueError(
            "weights convert: a checkpoint says which variables the model predicts; "
            "name them with --variables, in the order of the file, such as "
            "2m_temperature geopotential_500"
        )
    known = grid_models.Known(heads=options.num_heads)
    if grid is not None:
        known = known.replace(grid=grid)
    if options.frames is not None:
        past, ahead = options.frames
        known = known.replace(input_length=past, output_length=ahead)
    loaded = grid_models.load(
        source,
        registry.name_of(registry.find(str(options.family)).config_class()),
        known,
        variables=options.variables,
        verify=not options.unchecked,
    )
    out.print(str(loaded))
    if kind == "weatherlib":
        _save(target, loaded, options)
    else:
        arrays = grid_models.export(loaded.params, loaded.config)
        flat.write(target, arrays, format=flat.as_format(kind))
    out.print(f"{target}: {loaded.name} of {loaded.channels} variable(s), as {kind}")


def _save(
    target: pathlib.Path, loaded: grid_models.Loaded, options: weights.Options
) -> None:
    """Writes a checkpoint of ours.

    Raises:
      ValueError: The variables lie on different levels, or the time step is none.
      OSError: The file cannot be written.
    """
    names, levels = variable_names.split_levels(options.variables)
    keep = "export the weights as npz or safetensors"
    step = times.as_timedelta(options.time_step or "6h").total_seconds() / 60
    predicts = task.TaskConfig(
        input_variables=names,
        target_variables=names,
        forcing_variables=(),
        pressure_levels=variable_names.shared_levels(levels, keep),
        input_duration=f"{loaded.config.input_length * step:g}min",
    )
    value = registry.checkpoint_type(loaded.name)(
        architecture=loaded.name,
        params=loaded.params,
        model_config=loaded.config,
        task_config=predicts,
        description=f"{loaded.name}, converted from {loaded.report[0]}",
        license="as the converted file",
    )
    checkpoint.save(target, value, extras={"time_step": f"{step:g}min"})


def export(
    out: console.Console,
    source: pathlib.Path,
    target: pathlib.Path,
    kind: str,
) -> None:
    """Writes a checkpoint of ours under the names of PyTorch.

    Args:
      out: Told what was done.
      source: The checkpoint.
      target: The file to write.
      kind: "npz" or "safetensors".

    Raises:
      OSError: A file cannot be read or written.
      ValueError: The model has inputs beside the frames of what it predicts.
    """
    held = checkpoint.open_checkpoint(
        source, registry.checkpoint_type(str(held_model(source)))
    )
    arrays = grid_models.export(held.params, held.model_config)
    fields = dataclasses.asdict(held.model_config).items()
    metadata = {"format": "pt", **{name: str(value) for name, value in fields}}
    flat.write(
        target,
        arrays,
        format=flat.as_format(kind),
        metadata=metadata if kind == "safetensors" else None,
    )
    names = ", ".join(sorted(held.task_config.target_variables))
    out.print(f"{target}: {len(arrays)} arrays under names of PyTorch, as {kind}")
    out.print(f"  channels: {names}, each with all its levels")
