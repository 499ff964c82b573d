"""Runs of the simulated atmosphere as datasets in the layout of GraphCast's files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from weatherlib import data_utils, variables
from weatherlib.simulation import config, diagnostics, start, stepping
from weatherlib.simulation import world as world_lib

__all__ = ["ATTRIBUTES", "Writer", "run", "simulate", "spin_up"]

ATTRIBUTES = {
    "title": "Simulated weather",
    "source": (
        "weatherlib.simulation: dry primitive equations with idealised heating, "
        "friction and water cycle (after Held and Suarez 1994, Thatcher and "
        "Jablonowski 2016), the Earth's coastlines and smooth mountains"
    ),
    "comment": (
        "Not observed and not a reanalysis. Perpetual equinox with a daily cycle over "
        "land. Fields near the ground, at sea level and below the ground are diagnosed "
        "from the lowest layer."
    ),
    "license": "CC0-1.0",
}
_HOUR = np.timedelta64(3_600_000_000_000, "ns")
_DAY = 24 * _HOUR
_DIAGNOSED = {
    "2m_temperature": "lowest layer, standard lapse rate, daily cycle over land",
    "10m_u_component_of_wind": "lowest layer, logarithmic profile",
    "10m_v_component_of_wind": "lowest layer, logarithmic profile",
    "mean_sea_level_pressure": "surface pressure, standard lapse rate",
    "total_precipitation": "large-scale condensation only",
    "land_sea_mask": "share of land in the cell, Natural Earth 1:110m",
    "geopotential_at_surface": "smooth idealised mountains",
}


class Writer(Protocol):
    """What takes the chunks of a run, such as a writer of `weatherlib.data`."""

    @property
    def frames_written(self) -> int:
        """How many frames are there already, from an earlier run that stopped."""
        ...

    def write(self, chunk: xarray.Dataset) -> Any:
        """Appends frames along time."""
        ...


def run(
    settings: config.SimulationConfig,
    writer: Writer,
    *,
    progress: Callable[[int, int], Any] | None = None,
) -> None:
    """Simulates weather and writes it chunk by chunk, in constant memory.

    A run that stopped is repeated, without writing, up to where it was, and continued:
    the same settings give the same weather.

    Args:
      settings: What to simulate.
      writer: Where frames go. Its frames must stem from the same settings.
      progress: Called with the frames done and the frames in all after each chunk.

    Raises:
      ImportError: The package `dinosaur` is not installed.
      FloatingPointError: The run became unstable.
    """
    for chunk in simulate(settings, skip=writer.frames_written, progress=progress):
        writer.write(chunk)


def simulate(
    settings: config.SimulationConfig,
    *,
    skip: int = 0,
    state: Any = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Iterator[xarray.Dataset]:
    """Yields simulated weather in chunks of frames.

    Args:
      settings: What to simulate.
      skip: Frames at the start that are simulated and not yielded.
      state: Of the dynamical core, to start from instead of the shipped one.
      progress: Called with the frames done and the frames in all after each chunk.

    Yields:
      float32 fields with dimensions (batch, time, level, lat, lon), latitude from south
      to north, `time` as lead from the first frame, and the coordinate `datetime`.

    Raises:
      ImportError: The package `dinosaur` is not installed.
      FloatingPointError: The run became unstable.
    """
    machine = _Machine(settings)
    state = machine.first_state() if state is None else state
    state, rain = machine.spun_up(state)
    done = 0
    while done < settings.frames:
        count = min(settings.frames_per_chunk, settings.frames - done)
        if 0 < skip - done < count:
            count = skip - done
        state, rain, fields = machine.advance(state, rain, done, count)
        if not all(np.isfinite(value).all() for value in fields.values()):
            time = settings.start_time + settings.hours * done * _HOUR
            raise FloatingPointError(
                f"the simulation became unstable after {time}; use a smaller "
                "resolution or another seed"
            )
        if done >= skip:
            yield machine.dataset(fields, done)
        done += count
        if progress is not None:
            progress(done, settings.frames)


def spin_up(
    resolution: config.Resolution,
    days: int,
    progress: Callable[[int, int], Any] | None = None,
) -> tuple[world_lib.World, Any]:
    """Returns the planet and its state after a run from rest.

    Args:
      resolution: Truncation, layers and step.
      days: Length of the run. Some 200 are needed to forget the start.
      progress: Called with days done and days in all.
    """
    world = world_lib.world(resolution)
    state = start.perturb(world, start.at_rest(world), seed=0)
    advance = jax.jit(_steps(world, 24))
    rain = jnp.zeros(world.land.shape, jnp.float32)
    noon = _declination(np.datetime64("2001-03-20"))
    for day in range(days):
        state, _ = advance(state, rain, jnp.float32(0), noon)
        if progress is not None:
            progress(day + 1, days)
    return world, state


class _Machine:
    """The run of one configuration."""

    def __init__(self, settings: config.SimulationConfig) -> None:
        self._settings = settings
        self._compiled = _compiled(
            settings.resolution,
            settings.hours,
            settings.latitudes,
            settings.pressure_levels,
        )
        self._world = self._compiled.world
        self._diagnostics = self._compiled.diagnostics

    def first_state(self) -> Any:
        """Returns the shipped state, changed by the seed."""
        return start.perturb(self._world, start.load(self._world), self._settings.seed)

    def spun_up(self, state: Any) -> tuple[Any, jax.Array]:
        """Returns the state at the first frame, and the rain of the step before it."""
        frames = max(1, round(self._settings.spin_up_days * 24 / self._settings.hours))
        rain = jnp.zeros(self._world.land.shape, jnp.float32)
        for frame in range(-frames, 0):
            fraction, declination = self._sun(frame)
            state, rain = self._compiled.steps(state, rain, fraction, declination)
        return state, rain

    def advance(
        self, state: Any, rain: jax.Array, first: int, count: int
    ) -> tuple[Any, jax.Array, dict[str, np.ndarray]]:
        """Returns the state after `count` frames from `first`, and their fields.

        Args:
          state: At the time of frame `first`.
          rain: That fell before that frame, kg m-2.
          first: Index of the first frame.
          count: Number of frames.
        """
        sun = [self._sun(frame) for frame in range(first, first + count)]
        fractions, declinations = (jnp.stack(part) for part in zip(*sun))
        state, rain, fields = self._compiled.frames(
            state, rain, fractions, declinations
        )
        return state, rain, {name: np.asarray(v) for name, v in fields.items()}

    def _sun(self, frame: int) -> tuple[jax.Array, jax.Array]:
        time = self._settings.start_time + frame * self._settings.hours * _HOUR
        fraction = (time - time.astype("datetime64[D]")) / _DAY
        return jnp.float32(fraction), _declination(time)

    def dataset(self, fields: dict[str, np.ndarray], first: int) -> xarray.Dataset:
        """Returns fields of frames, the first of index `first`, as a dataset."""
        settings = self._settings
        count = len(fields["2m_temperature"])
        lead = np.arange(first, first + count) * settings.hours * _HOUR
        fields = dict(fields)
        rain = fields.pop("total_precipitation")
        fields[f"total_precipitation_{settings.hours}hr"] = np.maximum(rain, 0)
        dims = ("batch", "time", "level", "lat", "lon")
        flat = ("batch", "time", "lat", "lon")
        data = {
            name: (dims if value.ndim == 4 else flat, value[np.newaxis])
            for name, value in fields.items()
        }
        data |= {n: (("lat", "lon"), v) for n, v in self._diagnostics.static.items()}
        dataset = xarray.Dataset(
            data,
            coords={
                "lat": self._diagnostics.latitude.astype(np.float32),
                "lon": self._diagnostics.longitude.astype(np.float32),
                "level": np.asarray(settings.pressure_levels, np.int32),
                "time": lead,
                "datetime": (
                    ("batch", "time"),
                    [settings.start_time + lead],
                ),
            },
            attrs=self._attributes(),
        )
        data_utils.add_tisr_var(dataset)
        for name in dataset.data_vars:
            dataset[name].attrs = _variable_attributes(str(name))
        return dataset

    def _attributes(self) -> dict[str, Any]:
        settings = self._settings
        spectral = f"{settings.resolution} L{self._world.resolution.layers}"
        return {
            **ATTRIBUTES,
            "simulated": "true",
            "simulation_resolution": spectral,
            "simulation_seed": settings.seed,
            "simulation_spin_up_days": settings.spin_up_days,
        }


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """What runs of the same planet and output share, whatever their seed and length.

    Attributes:
      world: The planet.
      diagnostics: Makes fields of states.
      steps: Advances a state to the next frame.
      frames: Advances a state by several frames and returns their fields.
    """

    world: world_lib.World
    diagnostics: diagnostics.Diagnostics
    steps: Callable[..., tuple[Any, jax.Array]]
    frames: Callable[..., tuple[Any, jax.Array, dict[str, jax.Array]]]


@functools.lru_cache(maxsize=2)
def _compiled(
    resolution: str, hours: int, latitudes: int, pressure_levels: tuple[int, ...]
) -> _Compiled:
    """Returns the compiled parts of runs, the same for the same arguments."""
    world = world_lib.world(config.RESOLUTIONS[resolution])
    diagnose = diagnostics.Diagnostics(world, latitudes, pressure_levels)
    steps = _steps(world, hours)

    def frame(carry: Any, sun: Any) -> Any:
        state, rain = carry
        return steps(state, rain, *sun), diagnose(state, rain, *sun)

    def frames(state: Any, rain: Any, fractions: Any, declinations: Any) -> Any:
        carry, fields = jax.lax.scan(frame, (state, rain), (fractions, declinations))
        return *carry, fields

    return _Compiled(world, diagnose, jax.jit(steps), jax.jit(frames))


def _steps(world: world_lib.World, hours: int) -> Callable[..., tuple[Any, jax.Array]]:
    """Returns the function that advances a state by some hours and sums the rain."""
    step = stepping.make_step(world)
    minutes = world.resolution.minutes
    offsets = np.arange(hours * 60 // minutes) * (minutes / 1440.0)

    def steps(
        state: Any, rain: jax.Array, fraction: jax.Array, declination: jax.Array
    ) -> tuple[Any, jax.Array]:
        def body(carry: Any, offset: jax.Array) -> Any:
            state, total = carry
            state, fallen = step(state, fraction + offset, declination)
            return (state, total + fallen), None

        carry, _ = jax.lax.scan(
            body, (state, jnp.zeros_like(rain)), jnp.asarray(offsets, jnp.float32)
        )
        return carry

    return steps


def _declination(time: np.datetime64) -> jax.Array:
    """Returns the declination of the sun, radians, within a degree."""
    days = (time - np.datetime64("2000-03-20")) / _DAY
    return jnp.float32(np.deg2rad(23.44) * np.sin(2 * np.pi * days / 365.2422))


def _variable_attributes(name: str) -> dict[str, str]:
    """Returns units, names, and how the field was made."""
    variable = variables.get(name)
    attributes = {
        "units": variable.units,
        "long_name": variable.long_name,
        "simulated": "true",
    }
    if variable.standard_name:
        attributes["standard_name"] = variable.standard_name
    if variable.cell_methods:
        attributes["cell_methods"] = variable.cell_methods
    for key, made in _DIAGNOSED.items():
        if name.startswith(key):
            attributes["comment"] = f"simulated; diagnosed: {made}"
    return attributes
