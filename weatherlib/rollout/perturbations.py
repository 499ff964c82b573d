"""Noise for the initial state of an ensemble.

`gaussian` noise is drawn for each grid point on its own; `spherical` noise is smooth,
with a correlation length, and looks the same everywhere on the globe. Both have the
standard deviation of each variable on each level, times an amplitude. The noise is the
same in all input frames, so that it makes no false tendency.

Every draw follows from a key, the member and the name of the variable: a run that was
interrupted repeats itself, and so does a member among more or fewer others.
"""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any, Literal, get_args

import jax
import numpy as np
import xarray

from weatherlib.geometry import random_fields
from weatherlib.task import TaskConfig

__all__ = [
    "Kind",
    "PerturbationConfig",
    "add",
    "is_non_negative",
    "noise",
    "perturbed_names",
    "scaled_norm",
    "start_key",
    "start_keys",
]

Kind = Literal["gaussian", "spherical", "bred", "lagged"]

_NEVER_NEGATIVE = (
    "humidity",
    "precipitation",
    "mixing_ratio",
    "water_content",
    "ice_content",
    "column_water",
    "cloud_cover",
    "snow",
    "rain",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerturbationConfig:
    """How the members of an ensemble differ at the start.

    Attributes:
      kind: "gaussian" and "spherical" add noise; "bred" adds what has grown from noise
        in breeding cycles of the model; "lagged" starts members earlier.
      amplitude: Standard deviation of the noise, or root-mean-square of bred
        perturbations, in units of the scales: by default 0.085 of the standard
        deviation of six-hour differences, about the error of an analysis.
      correlation_length: Of spherical noise, km: where the correlation is 0.61.
      cycles: Breeding cycles, of one step each.
      control: Whether member 0 starts from the unperturbed state.

    Raises:
      ValueError: A number is out of range or the kind is unknown.
    """

    kind: Kind = "spherical"
    amplitude: float = 0.085
    correlation_length: float = 1200.0
    cycles: int = 4
    control: bool = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"perturbation {self.kind!r} is unknown; use "
                f"{', '.join(get_args(Kind))}"
            )
        for name in ("amplitude", "correlation_length"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise ValueError(f"{name} must be positive, not {value}")
        if self.cycles < 1:
            raise ValueError(f"cycles must be at least 1, not {self.cycles}")

    @property
    def earlier_steps(self) -> int:
        """Steps before the start from which states are needed, lagged ones aside."""
        return self.cycles if self.kind == "bred" else 0

    def describe(self, members: int) -> str:
        """Returns the perturbation in a line, for the attributes of a file."""
        first = "member 0 unperturbed" if self.control else "all members perturbed"
        if self.kind == "lagged":
            first = "member k starts k steps earlier"
            if not self.control:
                first = "member k starts k + 1 steps earlier"
            return f"lagged, {members} members, {first}"
        parts = [self.kind, f"{members} members", f"amplitude {self.amplitude:g}"]
        if self.kind != "gaussian":
            parts.append(f"correlation length {self.correlation_length:g} km")
        if self.kind == "bred":
            parts.append(f"{self.cycles} cycles")
        return ", ".join([*parts, first])


def start_key(seed: int, start: np.datetime64 | None) -> jax.Array:
    """Returns the key of one start, which does not depend on the others of a set.

    Args:
      seed: Of the whole set.
      start: UTC; None where it is unknown.
    """
    key = jax.random.PRNGKey(seed)
    if start is None:
        return key
    minutes = np.datetime64(start, "m").astype(np.int64)
    return jax.random.fold_in(key, int(minutes) % 2**32)


def start_keys(seed: int, starts: np.ndarray) -> jax.Array:
    """Returns the keys of several starts, as `start_key` has them. Shape [start, ...].

    Args:
      seed: Of the whole set.
      starts: UTC, datetime64, shape [start].
    """
    minutes = starts.astype("datetime64[m]").astype(np.int64) % 2**32
    key = jax.random.PRNGKey(seed)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, minutes.astype(np.uint32))


def perturbed_names(inputs: xarray.Dataset, task: TaskConfig) -> list[str]:
    """Returns the inputs that are perturbed: those that are predicted as well."""
    return [
        name
        for name in task.target_variables
        if name in inputs and "time" in inputs[name].dims
    ]


def is_non_negative(name: str) -> bool:
    """Whether a variable, such as humidity or rain, cannot be below zero."""
    return any(part in name for part in _NEVER_NEGATIVE)


def noise(
    inputs: xarray.Dataset,
    task: TaskConfig,
    scales: xarray.Dataset,
    key: Any,
    config: PerturbationConfig,
) -> xarray.Dataset:
    """Returns the noise of one member.

    Args:
      inputs: What the model reads, dimensions (batch, time, level, lat, lon).
      task: Names the variables that are perturbed.
      scales: Standard deviation of each variable, dimensions (level) or none.
      key: Key of the member.
      config: "gaussian" noise; any other kind gives spherical noise.

    Returns:
      float32 variables without `time`, in the order of the inputs' other dimensions.

    Raises:
      ValueError: A scale or level is missing, or the correlation length is too short.
    """
    found = {}
    for name in perturbed_names(inputs, task):
        field = inputs[name].isel(time=0, drop=True)
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        if config.kind == "gaussian":
            values = np.asarray(jax.random.normal(own, field.shape))
        else:
            values = _smooth(field, own, config.correlation_length)
        scale = _scale(scales, name, field) * config.amplitude
        drawn = xarray.DataArray(values, field.coords, field.dims)
        found[name] = (drawn * scale).transpose(*field.dims).astype(np.float32)
    return xarray.Dataset(found)


def add(inputs: xarray.Dataset, change: xarray.Dataset) -> xarray.Dataset:
    """Returns inputs with a perturbation added; what cannot be negative stays so.

    Args:
      inputs: What the model reads. Not changed.
      change: Perturbations of some variables, with or without `time` and `sample`.
    """
    changed = {}
    for name, difference in change.data_vars.items():
        field = inputs[name]
        whole = field + difference
        if is_non_negative(str(name)):
            whole = whole.clip(min=0.0)
        lead = [dim for dim in whole.dims if dim not in field.dims]
        changed[name] = whole.transpose(*lead, *field.dims).astype(field.dtype)
    return inputs.assign(changed)


def scaled_norm(
    difference: xarray.Dataset, scales: xarray.Dataset, weights: np.ndarray
) -> xarray.DataArray:
    """Returns the root of the mean square of a difference in units of the scales.

    Every variable counts the same, and so does every level; grid points count by area.

    Args:
      difference: Dimensions (level, lat, lon) and others, all of which are averaged
        over but `sample`.
      scales: Standard deviation of each variable.
      weights: Area of each row, mean 1, shape [lat].
    """
    area = xarray.DataArray(weights, dims="lat")
    squares = []
    for name, field in difference.data_vars.items():
        scaled = field / _scale(scales, str(name), field)
        over = [dim for dim in scaled.dims if dim != "sample"]
        squares.append((scaled.astype(np.float64) ** 2 * area).mean(over))
    return np.sqrt(sum(squares) / len(squares))  # type: ignore[return-value]


def _smooth(field: xarray.DataArray, key: Any, length: float) -> np.ndarray:
    """Returns spherical noise of variance 1 in the shape of a field."""
    lead = [dim for dim in field.dims if dim not in ("lat", "lon")]
    spectrum = random_fields.spectrum_of_length(length)
    shape = (*(field.sizes[dim] for dim in lead), 2, spectrum.size, spectrum.size)
    normals = np.asarray(jax.random.normal(key, shape), np.float64)
    values = random_fields.isotropic_field(
        normals, spectrum, field["lat"].values, field["lon"].values
    )
    drawn = xarray.DataArray(values, dims=(*lead, "lat", "lon"))
    return drawn.transpose(*field.dims).values


def _scale(
    scales: xarray.Dataset, name: str, field: xarray.DataArray
) -> xarray.DataArray:
    """Returns the scale of a variable at the levels of a field.

    Raises:
      ValueError: It is missing.
    """
    if name not in scales:
        raise ValueError(
            f"{name}: the statistics hold no standard deviation to scale its "
            f"perturbation with; they have {', '.join(map(str, scales.data_vars))}"
        )
    scale = scales[name]
    if "level" not in scale.dims:
        return scale
    if "level" not in field.dims:
        raise ValueError(f"{name}: has levels in the statistics but not in the state")
    held = set(scale["level"].values.tolist())
    missing = [level for level in field["level"].values.tolist() if level not in held]
    if missing:
        raise ValueError(
            f"{name}: the statistics lack the levels "
            f"{', '.join(f'{level:g}' for level in missing)} hPa"
        )
    return scale.sel(level=field["level"].values)
