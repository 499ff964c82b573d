"""The initial states of an ensemble: noise, breeding cycles, or earlier starts.

All four ways end in one form, the inputs of every member at the same time, so the
forecast that follows is the same for all and compiled once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray

from weatherlib import predictor_base
from weatherlib.geometry import sphere
from weatherlib.rollout import perturbations, window
from weatherlib.rollout.forecaster import Forecaster
from weatherlib.rollout.perturbations import PerturbationConfig
from weatherlib.task import TaskConfig

__all__ = ["State", "initial_members", "steps_before"]

State = Callable[[int], tuple[xarray.Dataset, xarray.Dataset]]
"""Takes a number of steps; returns the inputs at so many steps before the start, and
the forcings of the one step that follows."""

# Set apart from the numbers of members and steps.
_NOISE, _STEPS = 0x6E6F6973, 0x73746570


def steps_before(config: PerturbationConfig, members: int) -> int:
    """Returns how many steps before the start states are needed."""
    if config.kind != "lagged":
        return config.earlier_steps
    return members - 1 if config.control else members


def initial_members(
    forecaster: Forecaster,
    task: TaskConfig,
    state: State,
    scales: xarray.Dataset,
    config: PerturbationConfig,
    *,
    key: jax.Array,
    numbers: range,
) -> xarray.Dataset:
    """Returns the inputs of some members of an ensemble.

    Args:
      forecaster: The model, which breeds and which brings earlier states forward.
      task: Its variables.
      state: Inputs at the start and before.
      scales: Standard deviation of each variable, dimensions (level) or none.
      config: How the members differ.
      key: Of the start, from `perturbations.start_key`. Member m draws from what
        `fold_in` makes of it and m.
      numbers: The members to make. How many are made at a time changes nothing.

    Returns:
      What the model reads at the start, variables that differ with a leading `sample`.

    Raises:
      ValueError: `numbers` is empty, a state, a scale or a level is missing, or a bred
        perturbation has vanished or grown out of bounds.
    """
    if not numbers:
        raise ValueError(
            f"numbers: {numbers} holds no member; give those to make, as range(4)"
        )
    if config.kind == "lagged":
        return _lagged(forecaster, state, config, key, numbers)
    inputs = state(0)[0]
    perturbed = [m for m in numbers if not (config.control and m == 0)]
    if config.kind == "bred" and perturbed:
        change = _bred(forecaster, task, state, scales, config, key, numbers)
    else:
        drawn = [
            perturbations.noise(inputs, task, scales, _member_key(key, m), config)
            for m in numbers
        ]
        change = xarray.concat(drawn, "sample", join="override")
    if config.control and 0 in numbers:
        kept = np.array([m != 0 for m in numbers], np.float32)
        change = change * xarray.DataArray(kept, dims="sample")
    whole = perturbations.add(inputs, change)
    if config.control and 0 in numbers:
        # Clipping what cannot be negative must not touch the control either.
        whole = _with_control(whole, inputs, numbers.index(0))
    return whole


def _member_key(key: jax.Array, member: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, _NOISE), member)


def _with_control(
    members: xarray.Dataset, inputs: xarray.Dataset, place: int
) -> xarray.Dataset:
    """Returns the members with one of them replaced by the unperturbed state."""
    is_control = xarray.DataArray(
        np.arange(members.sizes["sample"]) == place, dims="sample"
    )
    replaced = {
        name: xarray.where(is_control, inputs[name], field).transpose(*field.dims)
        for name, field in members.data_vars.items()
        if "sample" in field.dims
    }
    return members.assign(replaced)


def _bred(
    forecaster: Forecaster,
    task: TaskConfig,
    state: State,
    scales: xarray.Dataset,
    config: PerturbationConfig,
    key: jax.Array,
    numbers: range,
) -> xarray.Dataset:
    """Returns perturbations grown in breeding cycles.

    Noise is added to an earlier state; perturbed and unperturbed forecasts of one step
    are compared; their difference, scaled back to the amplitude, is added to the next
    state, and so on up to the start.

    Source: Toth and Kalnay 1997, Ensemble forecasting at NCEP and the breeding method.
    """
    inputs, forcings = state(config.cycles)
    weights = sphere.latitude_weights(inputs["lat"].values)
    drawn = [
        perturbations.noise(inputs, task, scales, _member_key(key, m), config)
        for m in numbers
    ]
    change = xarray.concat(drawn, "sample", join="override")
    names = list(change.data_vars)
    for cycle in range(config.cycles, 0, -1):
        rng = jax.random.fold_in(jax.random.fold_in(key, _STEPS), cycle)
        perturbed = perturbations.add(inputs, change)
        after = _advance(forecaster, perturbed, forcings, numbers, rng)
        # The control goes through the same program, as all members of a batch.
        same = perturbations.add(inputs, change * 0.0)
        control = _advance(forecaster, same, forcings, numbers, rng)
        difference = after[names] - control[names]
        size = perturbations.scaled_norm(difference.isel(time=-1), scales, weights)
        if not (np.isfinite(size.values) & (size.values > 0)).all():
            raise ValueError(
                f"bred perturbations: their size is {size.values} after a step from "
                f"{cycle} steps before the start; use another amplitude, or spherical"
            )
        change = (difference * (config.amplitude / size)).astype(np.float32)
        inputs, forcings = state(cycle - 1)
    # Lead times of differences are those of the inputs, which `add` aligns.
    return change


def _lagged(
    forecaster: Forecaster,
    state: State,
    config: PerturbationConfig,
    key: jax.Array,
    numbers: range,
) -> xarray.Dataset:
    """Returns earlier states brought forward to the start by the model."""
    first = 0 if config.control else 1
    lags = np.array([number + first for number in numbers])
    oldest = int(lags.max())
    inputs, forcings = state(oldest)
    members = _spread(inputs, len(lags))
    for lag in range(oldest, 0, -1):
        rng = jax.random.fold_in(jax.random.fold_in(key, _STEPS), lag)
        members = _advance(forecaster, members, forcings, numbers, rng)
        inputs, forcings = state(lag - 1)
        spread = _spread(inputs, len(lags))
        # Those that have not begun yet follow the states of the source.
        begun = xarray.DataArray(lags >= lag, dims="sample")
        members = spread.assign(
            {
                name: xarray.where(begun, members[name], field).transpose(*field.dims)
                for name, field in spread.data_vars.items()
                if "sample" in field.dims
            }
        )
    return members


def _spread(inputs: xarray.Dataset, count: int) -> xarray.Dataset:
    """Returns inputs with a member axis on all that changes in time."""
    return inputs.assign(
        {
            name: field.expand_dims(sample=count)
            for name, field in inputs.data_vars.items()
            if "time" in field.dims
        }
    )


def _advance(
    forecaster: Forecaster,
    members: xarray.Dataset,
    forcings: xarray.Dataset,
    numbers: range,
    rng: Any,
) -> xarray.Dataset:
    """Returns the inputs of all members one step later."""
    predicted = forecaster.predict(
        members.drop_vars("datetime", errors="ignore"),
        forcings,
        steps=1,
        rng=rng,
        members=numbers,
        guard=None,
    )
    predicted = predicted.drop_vars(["datetime", "sample"], errors="ignore")
    if any(predicted.sizes[d] != members.sizes[d] for d in ("lat", "lon")):
        raise ValueError(
            "bred and lagged members begin with earlier steps: "
            f"{predictor_base.ONE_PART}; spherical or gaussian noise would work"
        )
    return window.next_inputs(members, predicted, forcings.compute())
