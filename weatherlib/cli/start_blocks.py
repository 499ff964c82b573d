"""Several starts of a set of forecasts at once: how many, and what they start from.

A small model is done with a step sooner than xarray is with its data. Starts that are
read, checked, computed and written together share that cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib import data, data_utils
from weatherlib.cli import models, setups

__all__ = ["batch_size", "blocks", "prepare", "require_size"]

_MOST_STARTS = 64
_MOST_BYTES = 1 << 24


def batch_size(
    wanted: int | None, setup: setups.Setup, starts: int, *, parts: int = 1
) -> int:
    """Returns how many starts are computed at a time.

    Args:
      wanted: By the user; None for as many as keep the data of a block small. The
        model's own memory, many times that, grows with it as well.
      setup: Of one start.
      starts: Starts of the set.
      parts: Devices that share them; each has as many, or some are made twice.

    Raises:
      ValueError: `wanted` is not positive.
    """
    require_size(wanted)
    if wanted is not None:
        return _filled(min(wanted, starts), parts)
    step = setup.template.isel(time=[0]).nbytes + setup.forcings.isel(time=[0]).nbytes
    # Frames are held back until they fill a chunk of the file, so perhaps all are.
    fitting = _MOST_BYTES // (setup.inputs.nbytes + step + setup.template.nbytes)
    return _filled(max(1, min(fitting, _MOST_STARTS, starts)), parts)


def _filled(size: int, parts: int) -> int:
    return -(-size // parts) * parts


def require_size(wanted: int | None) -> None:
    """Checks how many starts the user wants at a time.

    Raises:
      ValueError: The number is not positive.
    """
    if wanted is not None and wanted < 1:
        raise ValueError(f"--batch-size: at least 1 is needed, found {wanted}")


def blocks(missing: Sequence[int], size: int) -> list[range]:
    """Returns runs of starts in a row, of at most a size, that hold all missing ones.

    Args:
      missing: Their places, ascending.
      size: Most starts of a block.
    """
    found: list[range] = []
    for place in missing:
        if found and found[-1].stop == place and len(found[-1]) < size:
            found[-1] = range(found[-1].start, place + 1)
        else:
            found.append(range(place, place + 1))
    return found


def prepare(
    model: models.Model,
    statistics: models.Statistics,
    states: data.InitialStates,
    starts: np.ndarray,
    *,
    steps: int,
) -> tuple[xarray.Dataset, xarray.Dataset]:
    """Returns inputs and forcings of several starts, along `sample`.

    Args:
      model: What makes the forecasts.
      statistics: What it normalises with.
      states: The data.
      starts: UTC, datetime64, shape [start].
      steps: Frames to forecast.

    Raises:
      ValueError: The data do not fit the model, as `setups.prepare_start` tells it
        of the start that does not.
    """
    try:
        return _prepare(model, statistics, states, starts, steps)
    except ValueError:
        for start in starts:
            setups.prepare_start(model, statistics, states, start, steps=steps)
        raise


def _prepare(
    model: models.Model,
    statistics: models.Statistics,
    states: data.InitialStates,
    starts: np.ndarray,
    steps: int,
) -> tuple[xarray.Dataset, xarray.Dataset]:
    task, time_step = model.task_config, states.time_step
    state = states.several(starts)
    setups.require_fit(state, model, statistics, truth=False, time_step=time_step)
    inputs = data_utils.split_initial(state, task, time_step=time_step)
    dates = state["datetime"].isel(time=slice(-inputs.sizes["time"], None))
    inputs = inputs.assign_coords(datetime=(dates.dims, dates.values))
    if any(name in state for name in task.forcing_variables):
        parts = [
            _known_forcings(model, states, state.isel(batch=[place]), start, steps)
            for place, start in enumerate(starts)
        ]
        forcings = parts[0]
        if "batch" in forcings.dims:
            forcings = xarray.concat(
                parts,
                "batch",
                data_vars="minimal",
                coords="minimal",
                compat="override",
                join="override",
            )
    else:
        forcings = setups.forcings_of(state, state, model, steps, 0, time_step)
    return _along_sample(inputs).compute(), _along_sample(forcings)


def _known_forcings(
    model: models.Model,
    states: data.InitialStates,
    state: xarray.Dataset,
    start: np.datetime64,
    steps: int,
) -> xarray.Dataset:
    """Returns the forcings of one start, from the data where these hold them."""
    after = states.following(start, steps)
    known = 0 if after is None else after.sizes["time"]
    held = state if after is None else after
    return setups.forcings_of(state, held, model, steps, known, states.time_step)


def _along_sample(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns a batch of starts as samples with a batch of one each."""
    turned = {}
    for name, variable in dataset.variables.items():
        if "batch" in variable.dims:
            rest = [dim for dim in variable.dims if dim != "batch"]
            variable = variable.transpose("batch", *rest)
            values: Any = variable.data
            variable = xarray.Variable(
                ("sample", "batch", *rest), values[:, np.newaxis], variable.attrs
            )
        turned[name] = variable
    return xarray.Dataset(turned).set_coords(list(dataset.coords))
