"""One time step of the simulated atmosphere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weatherlib.simulation import physics
from weatherlib.simulation import world as world_lib

__all__ = ["HUMIDITY", "make_step"]

HUMIDITY = "specific_humidity"

# Warming of the lowest tenth of the air over land by the sun above its daily mean,
# K per day for sunlight of one solar constant.
_SUN_HEATING = 12.0
_LAND_WETNESS = 0.5


def make_step(
    world: world_lib.World,
) -> Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]]:
    """Returns the function that advances the state by one time step.

    It takes a state of the dynamical core with the tracer `specific_humidity`, the time
    of day at Greenwich in days and the declination of the sun in radians, and returns
    the next state and the rain that fell, kg m-2, shape [lon, lat].
    """
    seconds = world.resolution.minutes * 60.0
    dynamics = _dynamics(world)

    def step(
        state: Any, day_fraction: jax.Array, declination: jax.Array
    ) -> tuple[Any, jax.Array]:
        state = dynamics(state)
        state, rain = _physics(world, state, day_fraction, declination)
        return _keep_mass(world, _friction(world, state, seconds)), rain

    return step


def _dynamics(world: world_lib.World) -> Callable[[Any], Any]:
    """Returns the step of the dry primitive equations with diffusion."""
    time_integration = world_lib.dinosaur("time_integration")
    equations = world_lib.dinosaur("primitive_equations").PrimitiveEquations(
        np.full(world.resolution.layers, world_lib.REFERENCE_TEMPERATURE),
        world.orography,
        world.coords,
        world.specs,
    )
    step = world.resolution.minutes * 60.0 / world.units.seconds
    diffusion = time_integration.horizontal_diffusion_step_filter(
        world.coords.horizontal,
        dt=step,
        tau=world.resolution.diffusion_hours * 3600.0 / world.units.seconds,
        order=2,
    )
    return time_integration.step_with_filters(
        time_integration.imex_rk_sil3(equations, step), [diffusion]
    )


def _physics(
    world: world_lib.World,
    state: Any,
    day_fraction: jax.Array,
    declination: jax.Array,
) -> tuple[Any, jax.Array]:
    """Returns the state after heating, evaporation and rain, and the rain, kg m-2."""
    seconds = world.resolution.minutes * 60.0
    grid = world.coords.horizontal
    before = grid.to_nodal(state.temperature_variation)
    temperature = before + world_lib.REFERENCE_TEMPERATURE
    surface_pressure = (
        jnp.exp(grid.to_nodal(state.log_surface_pressure)) * world.units.pressure
    )
    pressure = world.sigma[:, None, None] * surface_pressure
    rate = physics.relaxation_rate(world.sigma, world.sin_lat) * seconds
    equilibrium = physics.equilibrium_temperature(pressure, world.sin_lat)
    temperature = (temperature + rate * equilibrium) / (1 + rate)
    sun = physics.sun_anomaly(world.sin_lat, world.longitude, day_fraction, declination)
    low = np.maximum(0.0, (world.sigma - 0.8) / 0.2)[:, None, None]
    temperature += low * world.land * sun * (_SUN_HEATING * seconds / 86400.0)

    humidity = jnp.maximum(grid.to_nodal(state.tracers[HUMIDITY]), 0.0)
    humidity = humidity.at[-1].set(
        _evaporated(world, state, humidity[-1], temperature[-1], surface_pressure[0])
    )
    humidity = physics.mix_humidity(humidity, world.sigma, world.thickness, seconds)
    temperature, humidity, rain = physics.condense(temperature, humidity, pressure)
    mass = world.thickness[:, None, None] * surface_pressure / physics.GRAVITY
    after = temperature - world_lib.REFERENCE_TEMPERATURE
    state = state.replace(
        temperature_variation=state.temperature_variation
        + grid.clip_wavenumbers(grid.to_modal(after - before)),
        tracers={HUMIDITY: grid.clip_wavenumbers(grid.to_modal(humidity))},
    )
    return state, (rain * mass).sum(axis=0)


def _evaporated(
    world: world_lib.World,
    state: Any,
    humidity: jax.Array,
    temperature: jax.Array,
    surface_pressure: jax.Array,
) -> jax.Array:
    """Returns the humidity of the lowest layer after evaporation, kg kg-1."""
    harmonics = world_lib.dinosaur("spherical_harmonic")
    grid = world.coords.horizontal
    u, v = harmonics.vor_div_to_uv_nodal(
        grid, state.vorticity[-1], state.divergence[-1], clip=False
    )
    speed = jnp.hypot(u, v) * world.units.speed
    sea = physics.saturation_humidity(
        physics.sea_surface_temperature(world.sin_lat), surface_pressure
    )
    ground = physics.saturation_humidity(temperature, surface_pressure) * _LAND_WETNESS
    depth = (
        physics.GAS_CONSTANT
        * temperature
        * (world.thickness[-1] / world.sigma[-1] / physics.GRAVITY)
    )
    surface_humidity = world.land * ground + (1 - world.land) * sea
    return physics.evaporate(
        humidity,
        surface_humidity,
        speed,
        depth,
        world.resolution.minutes * 60.0,
    )


def _friction(world: world_lib.World, state: Any, seconds: float) -> Any:
    """Returns the state with wind near the ground slowed down."""
    factor = 1 / (1 + physics.friction_rate(world.sigma) * seconds)
    factor = factor[:, None, None].astype(np.float32)
    return state.replace(
        vorticity=state.vorticity * factor, divergence=state.divergence * factor
    )


def _keep_mass(world: world_lib.World, state: Any) -> Any:
    """Returns the state with the mean surface pressure set back to that of the world.

    The equations carry the logarithm of pressure, which does not conserve mass: over
    mountains the mean falls by some hPa a week.
    """
    grid = world.coords.horizontal
    pressure = jnp.exp(grid.to_nodal(state.log_surface_pressure)) * world.units.pressure
    mean = (pressure * world.area).sum()
    add_constant = world_lib.dinosaur("spherical_harmonic").add_constant
    correction = jnp.log(world.mean_surface_pressure / mean)
    return state.replace(
        log_surface_pressure=add_constant(state.log_surface_pressure, correction)
    )
