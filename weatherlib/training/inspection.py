"""What is kept of an update that failed."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import xarray

from weatherlib import checkpoint
from weatherlib.training import patterns
from weatherlib.training.mixing import Mark
from weatherlib.training.step import TrainState

__all__ = ["folder_of", "keep"]

_SAMPLE = ("inputs", "targets", "forcings")


def folder_of(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Returns where `keep` writes."""
    return folder / f"failed-{step}"


def keep(
    folder: pathlib.Path, step: int, state: TrainState, parts: Sequence[Any]
) -> pathlib.Path:
    """Writes the batch and the state before a failed update, and returns the folder.

    `state.npz` is read by `checkpoint.open_checkpoint(path, dict[str, Any])`. Datasets
    become NetCDF files, anything else arrays in `batch-N.npz`.

    Args:
      folder: Of the run.
      step: The update.
      state: As it was before.
      parts: The batch.
    """
    target = folder_of(folder, step)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    host = jax.device_get(state)
    leaves = {
        name: np.asarray(leaf)
        for name, leaf in zip(patterns.names(host.optimizer), jax.tree.leaves(host[2]))
    }
    kept = {
        "params": host.params,
        "model_state": host.model_state,
        "average": host.average if jax.tree.leaves(host.average) else {},
        "optimizer": leaves,
        "step": host.step,
        "key": host.key,
    }
    checkpoint.save(target / "state.npz", kept)
    for number, part in enumerate(parts):
        part = jax.device_get(part)
        if isinstance(part, tuple) and isinstance(part[-1], Mark):
            part = part[:-1]
        if isinstance(part, tuple) and all(isinstance(p, xarray.Dataset) for p in part):
            for index, dataset in enumerate(part):
                label = _SAMPLE[index] if len(part) == len(_SAMPLE) else f"{index}"
                dataset.to_netcdf(target / f"{label}-{number}.nc", engine="netcdf4")
        else:
            arrays = dict(zip(patterns.names(part), jax.tree.leaves(part)))
            np.savez(target / f"batch-{number}.npz", **arrays)
    return target
