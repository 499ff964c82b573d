"""States to start from: at rest, or the shipped one after a long run."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weatherlib import bundled
from weatherlib.simulation import physics, stepping
from weatherlib.simulation import world as world_lib

__all__ = ["at_rest", "load", "perturb", "save"]

_FIELDS = ("vorticity", "divergence", "temperature", stepping.HUMIDITY)
# Of the random change that sets the runs of different seeds apart, K.
_PERTURBATION = 0.5


def at_rest(world: world_lib.World) -> Any:
    """Returns still, half-moist air in the equilibrium of radiation."""
    grid = world.coords.horizontal
    height = np.asarray(grid.to_nodal(world.orography)) * world.units.length
    scale = physics.GAS_CONSTANT * 270.0 / physics.GRAVITY
    surface_pressure = 1.01e5 * np.exp(-height / scale)
    pressure = world.sigma[:, None, None] * surface_pressure
    temperature = physics.equilibrium_temperature(pressure, world.sin_lat)
    humidity = 0.5 * physics.saturation_humidity(temperature, pressure)
    zeros = jnp.zeros(world.coords.modal_shape, jnp.float32)
    log_pressure = np.log(surface_pressure / world.units.pressure)[np.newaxis]
    return world_lib.dinosaur("primitive_equations").State(
        vorticity=zeros,
        divergence=zeros,
        temperature_variation=_modal(
            grid, temperature - world_lib.REFERENCE_TEMPERATURE
        ),
        log_surface_pressure=_modal(grid, log_pressure),
        tracers={stepping.HUMIDITY: _modal(grid, humidity)},
    )


def perturb(world: world_lib.World, state: Any, seed: int) -> Any:
    """Returns the state with large random waves added to its temperature.

    Args:
      world: The simulated planet.
      state: Of the dynamical core.
      seed: The same seed gives the same waves.
    """
    grid = world.coords.horizontal
    _, total = grid.modal_axes
    noise = jax.random.normal(jax.random.key(seed), grid.modal_shape)
    waves = noise * grid.mask * ((total > 0) & (total < 12)) * _PERTURBATION
    return dataclasses.replace(
        state,
        temperature_variation=state.temperature_variation + waves.astype(jnp.float32),
    )


def save(path: str | pathlib.Path, world: world_lib.World, state: Any) -> None:
    """Writes a state as float32 coefficients, for any resolution to start from.

    Args:
      path: A file ending in .npz.
      world: The simulated planet.
      state: Of the dynamical core.
    """
    temperature = np.asarray(state.temperature_variation)
    np.savez_compressed(
        path,
        vorticity=np.asarray(state.vorticity),
        divergence=np.asarray(state.divergence),
        temperature=temperature,
        specific_humidity=np.asarray(state.tracers[stepping.HUMIDITY]),
        log_surface_pressure=np.asarray(state.log_surface_pressure),
        wavenumber=np.int32(world.resolution.wavenumber),
    )


def load(world: world_lib.World, path: str | pathlib.Path | None = None) -> Any:
    """Returns a saved state, brought to the resolution of the world.

    Waves that were not resolved start at zero; layers are read in between.

    Args:
      world: The simulated planet.
      path: Written by `save`; the shipped file if None.

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: The file is no saved state.
    """
    path = bundled.simulation_start_path() if path is None else path
    with np.load(path, allow_pickle=False) as arrays:
        wanted = {*_FIELDS, "log_surface_pressure", "wavenumber"}
        if wanted - set(arrays):
            missing = ", ".join(sorted(wanted - set(arrays)))
            raise ValueError(f"{path}: no saved simulation, it lacks {missing}")
        fields = {name: arrays[name] for name in sorted(wanted)}
    shape = world.coords.horizontal.modal_shape
    fields = {
        name: _resize(value, shape) for name, value in fields.items() if value.ndim == 3
    }
    layers = len(fields["vorticity"])
    source = (np.arange(layers) + 0.5) / layers
    values = {name: _between(fields[name], source, world.sigma) for name in _FIELDS}
    return world_lib.dinosaur("primitive_equations").State(
        vorticity=values["vorticity"],
        divergence=values["divergence"],
        temperature_variation=values["temperature"],
        log_surface_pressure=jnp.asarray(fields["log_surface_pressure"]),
        tracers={stepping.HUMIDITY: values[stepping.HUMIDITY]},
    )


def _modal(grid: Any, nodal: Any) -> jax.Array:
    return grid.clip_wavenumbers(grid.to_modal(jnp.asarray(nodal, jnp.float32)))


def _resize(modal: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns coefficients cut, or filled with zeros, to another truncation.

    Rows alternate between cosine and sine of rising wavenumbers, columns are total
    wavenumbers, so low ones stay where they are.
    """
    rows, columns = (min(have, want) for have, want in zip(modal.shape[1:], shape))
    resized = np.zeros((len(modal), *shape), np.float32)
    resized[:, :rows, :columns] = modal[:, :rows, :columns]
    # The last column is a margin that the core keeps at zero.
    resized[:, :, -1] = 0
    return resized


def _between(values: np.ndarray, source: np.ndarray, target: np.ndarray) -> jax.Array:
    """Returns values of layers read at other layers by straight lines."""
    place = np.interp(target, source, np.arange(len(source)))
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(len(source))))
    return jnp.asarray(np.tensordot(weights, values, axes=1), jnp.float32)
