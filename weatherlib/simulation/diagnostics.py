"""Weather on pressure levels and at the ground from a state of the core."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weatherlib.simulation import physics, stepping, surface
from weatherlib.simulation import world as world_lib

__all__ = ["Diagnostics", "interpolate"]

# Roughness lengths for the fall of wind from the lowest layer to 10 m, m.
_ROUGHNESS_SEA, _ROUGHNESS_LAND = 2e-4, 0.1
# Range of 2 m temperature over land by the sun, K for sunlight of one solar constant,
# and its delay behind the sun.
_SUN_RANGE = 9.0
_SUN_DELAY = 2.0 / 24.0
_LAPSE_EXPONENT = physics.GAS_CONSTANT * physics.LAPSE_RATE / physics.GRAVITY


def interpolate(values: jax.Array, nodes: np.ndarray, position: jax.Array) -> jax.Array:
    """Returns values between nodes by straight lines, constant beyond the ends.

    Args:
      values: At the nodes, shape [node, lon, lat].
      nodes: Increasing, shape [node].
      position: Where to read, shape [level, lon, lat].

    Returns:
      Shape [level, lon, lat].
    """
    place = jnp.interp(position, nodes, np.arange(len(nodes)))
    steps = np.arange(len(nodes))[:, None, None, None]
    weights = jnp.maximum(0.0, 1 - jnp.abs(place - steps))
    return jnp.einsum("nlxy,nxy->lxy", weights, values)


class Diagnostics:
    """Turns states of the core into fields in SI units on the output grid.

    Attributes:
      latitude: Rows from south to north, degrees, shape [lat].
      longitude: Columns, degrees east from 0, shape [lon].
    """

    def __init__(
        self, world: world_lib.World, latitudes: int, pressure_levels: tuple[int, ...]
    ) -> None:
        """Prepares the output grid.

        Args:
          world: The simulated planet.
          latitudes: Rows of the output grid.
          pressure_levels: hPa, increasing.
        """
        self._world = world
        wavenumber = min(world.resolution.wavenumber, latitudes - 1)
        grid = world_lib.make_grid(wavenumber, latitudes, "equiangular")
        system = world_lib.dinosaur("coordinate_systems").CoordinateSystem
        self._coords = system(grid, world.coords.vertical)
        longitude, sin_lat = grid.nodal_axes
        self._sin_lat, self._longitude = np.asarray(sin_lat), np.asarray(longitude)
        self.latitude = (np.arange(latitudes) + 0.5) * 180 / latitudes - 90
        self.longitude = np.arange(2 * latitudes) * 180 / latitudes
        self._pressure = np.asarray(pressure_levels, np.float32) * 100
        self._land = surface.land_fraction(self.latitude, self.longitude).T
        self._height = self._nodal_height()
        self._rain_weights = self._row_weights()

    @property
    def static(self) -> dict[str, np.ndarray]:
        """Fields that never change, shape [lat, lon]."""
        return {
            "geopotential_at_surface": (self._height * physics.GRAVITY).T.astype("f4"),
            "land_sea_mask": self._land.T.astype("f4"),
        }

    def __call__(
        self,
        state: Any,
        rain: jax.Array,
        day_fraction: jax.Array,
        declination: jax.Array,
    ) -> dict[str, jax.Array]:
        """Returns fields of shape [level, lat, lon] and [lat, lon].

        Args:
          state: Of the dynamical core.
          rain: Since the last frame on the grid of the core, kg m-2, shape [lon, lat].
          day_fraction: Time of day at Greenwich in days.
          declination: Of the sun, radians.
        """
        layers = self._on_layers(state)
        fields = self._on_levels(layers)
        fields |= self._near_surface(layers, day_fraction, declination)
        # Summed on Gaussian rows; a thousand kg m-2 are one metre of water.
        fields["total_precipitation"] = self._regrid_rain(rain) / 1000.0
        return {name: jnp.swapaxes(value, -1, -2) for name, value in fields.items()}

    def _truncate(self, modal: jax.Array) -> jax.Array:
        """Returns the coefficients that the output grid can hold."""
        rows, columns = self._coords.horizontal.modal_shape
        return modal[..., :rows, :columns]

    def _nodal_height(self) -> np.ndarray:
        grid = self._coords.horizontal
        modal = self._truncate(jnp.asarray(self._world.orography))
        return np.asarray(grid.to_nodal(modal)) * self._world.units.length

    def _row_weights(self) -> np.ndarray:
        """Returns how rows of the core's grid contribute to the output's rows."""
        core = np.arcsin(self._world.sin_lat)
        edges = np.sin(surface.cell_edges(core, -np.pi / 2, np.pi / 2))
        target = np.sin(np.deg2rad(np.linspace(-90, 90, len(self.latitude) + 1)))
        return surface.overlaps(edges, target)

    def _regrid_rain(self, rain: jax.Array) -> jax.Array:
        """Returns the rain on the output grid; its mean stays what it was."""
        columns = len(self._world.longitude)
        half, target_half = 0.5 / columns, 0.5 / len(self.longitude)
        source = np.arange(-columns, 2 * columns + 1) / columns - half
        target = np.arange(len(self.longitude) + 1) / len(self.longitude) - target_half
        weights = surface.overlaps(source, target)
        around = jnp.concatenate([rain, rain, rain])
        return jnp.asarray(weights, "f4") @ around @ self._rain_weights.T.astype("f4")

    def _on_layers(self, state: Any) -> dict[str, jax.Array]:
        """Returns fields on the layers of the core, output columns, SI units."""
        world, grid = self._world, self._coords.horizontal
        equations = world_lib.dinosaur("primitive_equations")
        state = jax.tree.map(self._truncate, state)
        diagnosed = equations.compute_diagnostic_state_sigma(state, self._coords)
        surface_pressure = jnp.exp(grid.to_nodal(state.log_surface_pressure))
        temperature = diagnosed.temperature_variation + world_lib.REFERENCE_TEMPERATURE
        u, v = (part / grid.cos_lat for part in diagnosed.cos_lat_u)
        height = self._height / world.units.length
        geopotential = equations.get_geopotential_on_sigma(
            temperature,
            nodal_orography=height[np.newaxis].astype(np.float32),
            sigma=world.coords.vertical,
            gravity_acceleration=world.specs.g,
            ideal_gas_constant=world.specs.R,
        )
        return {
            "temperature": temperature,
            "u": u * world.units.speed,
            "v": v * world.units.speed,
            "humidity": jnp.maximum(diagnosed.tracers[stepping.HUMIDITY], 0.0),
            "geopotential": geopotential * world.units.geopotential,
            "omega": _vertical_velocity(world, diagnosed, surface_pressure),
            "surface_pressure": surface_pressure[0] * world.units.pressure,
        }

    def _on_levels(self, layers: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns the fields on pressure levels."""
        sigma = self._world.sigma
        nodes = np.log(sigma).astype(np.float32)
        ratio = self._pressure[:, None, None] / layers["surface_pressure"]
        position = jnp.log(ratio)
        between = {
            name: interpolate(layers[name], nodes, position)
            for name in ("temperature", "u", "v", "humidity", "omega", "geopotential")
        }
        # Below the lowest layer, the ground included, the air warms downward at the
        # standard rate; above the highest it keeps its temperature and its vertical
        # wind fades.
        below = jnp.maximum(ratio / sigma[-1], 1.0)
        above = jnp.minimum(ratio / sigma[0], 1.0)
        warming = below**_LAPSE_EXPONENT
        bottom = layers["temperature"][-1] * physics.GAS_CONSTANT
        geopotential = (
            between["geopotential"]
            + self._curvature(layers["temperature"], nodes, position)
            - bottom / _LAPSE_EXPONENT * (warming - 1)
            - layers["temperature"][0] * physics.GAS_CONSTANT * jnp.log(above)
        )
        return {
            "temperature": between["temperature"] * warming,
            "geopotential": geopotential,
            "u_component_of_wind": between["u"],
            "v_component_of_wind": between["v"],
            "vertical_velocity": between["omega"] * above,
            "specific_humidity": between["humidity"],
        }

    def _curvature(
        self, temperature: jax.Array, nodes: np.ndarray, position: jax.Array
    ) -> jax.Array:
        """Returns what geopotential between layers has beyond a straight line.

        Temperature is linear in the logarithm of pressure between layers, as the core
        has it, so geopotential is quadratic.
        """
        inside = jnp.clip(position, nodes[0], nodes[-1])
        index = jnp.clip(jnp.searchsorted(nodes, inside) - 1, 0, len(nodes) - 2)
        low, high = jnp.asarray(nodes)[index], jnp.asarray(nodes)[index + 1]
        upper = jnp.take_along_axis(temperature, index, axis=0)
        lower = jnp.take_along_axis(temperature, index + 1, axis=0)
        slope = (lower - upper) / (high - low)
        return physics.GAS_CONSTANT / 2 * slope * (inside - low) * (high - inside)

    def _near_surface(
        self,
        layers: dict[str, jax.Array],
        day_fraction: jax.Array,
        declination: jax.Array,
    ) -> dict[str, jax.Array]:
        """Returns the fields at the ground and at sea level."""
        sigma = float(self._world.sigma[-1])
        lowest = layers["temperature"][-1]
        ground = lowest * (1 / sigma) ** _LAPSE_EXPONENT
        sun = physics.sun_anomaly(
            self._sin_lat, self._longitude, day_fraction - _SUN_DELAY, declination
        )
        sea_level = ground + physics.LAPSE_RATE * self._height
        pressure = layers["surface_pressure"] * (sea_level / ground) ** (
            1 / _LAPSE_EXPONENT
        )
        depth = physics.GAS_CONSTANT / physics.GRAVITY * lowest * np.log(1 / sigma)
        roughness = jnp.exp(
            self._land * np.log(_ROUGHNESS_LAND)
            + (1 - self._land) * np.log(_ROUGHNESS_SEA)
        )
        slowing = jnp.log(10 / roughness) / jnp.log(depth / roughness)
        return {
            "2m_temperature": ground + _SUN_RANGE * self._land * sun,
            "mean_sea_level_pressure": pressure,
            "10m_u_component_of_wind": layers["u"][-1] * slowing,
            "10m_v_component_of_wind": layers["v"][-1] * slowing,
        }


def _vertical_velocity(
    world: world_lib.World, diagnosed: Any, surface_pressure: jax.Array
) -> jax.Array:
    """Returns the rate of pressure change of moving air at the layers, Pa s-1.

    It is the surface pressure times the motion through the coordinate, and the
    coordinate times the change of surface pressure along the flow.
    """
    thickness = world.thickness[:, None, None]
    carried = diagnosed.u_dot_grad_log_sp
    tendency = -((diagnosed.divergence + carried) * thickness).sum(axis=0)
    through = jnp.pad(diagnosed.sigma_dot_full, [(1, 1), (0, 0), (0, 0)])
    through = (through[1:] + through[:-1]) / 2
    along = world.sigma[:, None, None] * (tendency + carried)
    rate = world.units.pressure / world.units.seconds
    return surface_pressure * (through + along) * rate
