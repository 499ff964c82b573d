"""Whether the parameters of a checkpoint are those that its configuration needs."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import pandas as pd
import xarray

from weatherlib import predictor_base
from weatherlib.cli import families, models
from weatherlib.data_utils import times
from weatherlib.training import patterns

__all__ = ["require_parameters"]

# More frames than any family reads; only tried after a mismatch.
_MOST_FRAMES = 4

_Network = Callable[[], predictor_base.Predictor]


def require_parameters(
    model: models.Model,
    inputs: xarray.Dataset,
    template: xarray.Dataset,
    forcings: xarray.Dataset,
    *,
    graph_cache: str | os.PathLike[str] | None = None,
) -> None:
    """Checks names and shapes of the parameters; the model is traced, but not run.

    Args:
      model: With parameters.
      inputs: What one step reads.
      template: What it predicts; its values are not read.
      forcings: Of the same times.
      graph_cache: Folder that keeps the edges of graphs between processes.

    Raises:
      ValueError: A parameter is missing, spare or of another shape. The message begins
        with the file and says which, or which time step of the data would fit.
    """
    network = functools.partial(
        models.build_network,
        model.model_config,
        model.task_config,
        graph_cache=graph_cache,
    )
    found = patterns.describe(model.params)
    expected = _expected(network, inputs, template, forcings)
    if families.FAMILIES[model.family]().is_generative:
        # What only training uses, such as an encoder of targets, is not traced here.
        found = {name: shape for name, shape in found.items() if name in expected}
    differences = patterns.compare(expected, found)
    if not differences:
        return
    where = model.path or "the model"
    if expected.keys() == found.keys():
        fitting = _fitting_step(model, network, (inputs, template, forcings), found)
        if fitting is not None:
            spacing = times.as_timedelta(template["time"].values[0])
            raise ValueError(
                f"{where}: frames are {spacing} apart, and the weights fit a time step "
                f"of {fitting}; get data at this step, or start with --init from data "
                "with more frames"
            )
    lines = "\n  ".join(differences)
    raise ValueError(
        f"{where}: the parameters do not fit the configuration:\n  {lines}\n"
        "Fetch or write the file again, and check that the data have the grid that the "
        "model was trained on"
    )


def _expected(network: _Network, *example: xarray.Dataset) -> Mapping[str, Any]:
    """Returns names and shapes of the parameters that one step takes."""

    def forward(
        inputs: xarray.Dataset, template: xarray.Dataset, forcings: xarray.Dataset
    ) -> xarray.Dataset:
        with hk.custom_creator(_zeros):
            return network()(inputs, targets_template=template, forcings=forcings)

    init = hk.transform_with_state(forward).init
    return patterns.describe(jax.eval_shape(init, jax.random.PRNGKey(0), *example)[0])


def _zeros(_: Any, shape: Any, dtype: Any, __: Any, ___: Any) -> jax.Array:
    """Returns a fresh parameter; its initialiser would take longer to trace."""
    return jnp.zeros(shape, dtype)


def _fitting_step(
    model: models.Model,
    network: _Network,
    example: tuple[xarray.Dataset, ...],
    found: Mapping[str, Any],
) -> pd.Timedelta | None:
    """Returns the time step of data that the parameters suit, None without one."""
    inputs, *ahead = example
    duration = times.as_timedelta(model.task_config.input_duration)
    for frames in range(1, _MOST_FRAMES + 1):
        step = times.as_timedelta(duration / frames)
        lead = times.lead_times(step, 1, 1 + ahead[0].sizes["time"])
        past = inputs.isel(time=[-1] * frames)
        past = past.assign_coords(time=times.lead_times(step, 1 - frames, 1))
        following = [part.assign_coords(time=lead) for part in ahead]
        try:
            expected = _expected(network, past, *following)
        except ValueError:
            continue
        if not patterns.compare(expected, found):
            return step
    return None
