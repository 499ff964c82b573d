"""How work is spread over devices, as a configuration that names no device.

Nothing here imports JAX.
"""

import dataclasses
import math
import re
from collections.abc import Mapping

from weatherlib import config

__all__ = ["DEFAULT_DIMS", "ParameterRule", "ShardingConfig", "indivisible"]

_FILL = -1

# Axes of weights, as the rules of the families name them, and dimensions of fields that
# stay whole by default.
_OTHER_DIMS = ("input", "output", "variable", "pixel", "level", "time")

DEFAULT_DIMS: Mapping[str, str | None] = {
    "sample": "data",
    "batch": "data",
    "lat": "space",
    "lon": "space",
    "row": "space",
    "channel": "space",
}
"""Mesh axis of each dimension. Of two dimensions with the same axis, the first in this
order that divides evenly is cut: latitude bands where the rows divide, else longitude.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterRule(config.Mapping):
    """How the parameters with a matching path are cut.

    Attributes:
      path: Regular expression, searched for in `module/path/name`.
      axes: For each axis of the array a dimension name, a mesh axis or None (whole);
        missing trailing axes are whole.

    Raises:
      ValueError: The expression is invalid.
    """

    path: str
    axes: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(
                f"path: {self.path!r} is no regular expression: {error}"
            ) from error

    def matches(self, path: str) -> bool:
        """Returns whether the rule is about a parameter."""
        return re.search(self.path, path) is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardingConfig(config.Mapping):
    """The device mesh, and which dimension lies along which of its axes.

    Attributes:
      mesh: Mesh axis to size, slowest first; one size may be -1, which takes all
        devices left. `data` splits the batch, `space` splits grid, mesh and edges.
      dims: Dimension to mesh axis, or None to keep it whole; added to `DEFAULT_DIMS`.
      parameters: The first rule that matches a parameter decides. Those of the model
        family come last; they name axes `input` and `output`, which `dims` may cut
        (`output: data` spreads weights and the state of the optimiser). A parameter
        without a rule is whole on every device.

    Raises:
      ValueError: A size is neither positive nor the only -1, or a rule names an unknown
        axis.
    """

    mesh: dict[str, int] = dataclasses.field(default_factory=lambda: {"data": _FILL})
    dims: dict[str, str | None] = dataclasses.field(default_factory=dict)
    parameters: tuple[ParameterRule, ...] = ()

    def __post_init__(self) -> None:
        sizes = list(self.mesh.values())
        bad = {
            name: size for name, size in self.mesh.items() if size < 1 and size != _FILL
        }
        if not sizes or bad or sizes.count(_FILL) > 1:
            raise ValueError(
                "mesh: expected axes with positive sizes, at most one of them -1 for "
                f"all devices left, such as {{data: 4, space: 2}}, found {self.mesh}"
            )
        named = {str(a) for rule in self.parameters for a in rule.axes} - {"None"}
        dims = (*DEFAULT_DIMS, *_OTHER_DIMS, *sorted(named))
        for dim, axis in self.dims.items():
            if dim not in dims:
                hint = config.closest_hint(dim, dims)
                raise ValueError(f"dims: unknown dimension {dim!r}{hint}")
            self._check_axis(f"dims.{dim}", axis, self.mesh)
        for rule in self.parameters:
            for axis in rule.axes:
                known = [*self.mesh, *self.dim_axes()]
                self._check_axis(f"parameters: {rule.path!r}", axis, known)

    def dim_axes(self) -> dict[str, str | None]:
        """Returns the mesh axis of every dimension with a rule, in order."""
        return {**DEFAULT_DIMS, **self.dims}

    def sizes(self, devices: int) -> dict[str, int]:
        """Returns the size of each mesh axis on so many devices.

        Raises:
          ValueError: They do not make up the devices.
        """
        fixed = math.prod(size for size in self.mesh.values() if size != _FILL)
        filled = _FILL in self.mesh.values()
        if devices % fixed or (not filled and fixed != devices):
            raise ValueError(
                f"mesh: {_text(self.mesh)} does not divide {devices} device(s); "
                f"{_suggestion(self.mesh, devices)} would"
            )
        return {
            name: devices // fixed if size == _FILL else size
            for name, size in self.mesh.items()
        }

    def _check_axis(
        self, label: str, axis: str | None, known: Mapping[str, object] | list[str]
    ) -> None:
        if axis is not None and axis not in known:
            raise ValueError(
                f"{label}: unknown axis {axis!r}{config.closest_hint(axis, known)}"
            )


def indivisible(label: str, dim: str, size: int, axis: str, parts: int) -> ValueError:
    """Returns the error about a dimension that a mesh axis cannot cut.

    Args:
      label: What has the dimension; may be empty.
      dim: The dimension.
      size: Its length.
      axis: The mesh axis.
      parts: Its size.
    """
    near = sorted({max(size // parts, 1) * parts, -(-size // parts) * parts})
    divisors = [n for n in range(1, min(size, parts) + 1) if size % n == 0]
    where = f"{label}: " if label else ""
    return ValueError(
        f"{where}the mesh axis {axis!r} of size {parts} does not divide the dimension "
        f"{dim!r} of length {size}; use {' or '.join(map(str, near))} along {dim!r}, "
        f"or {axis}: {' or '.join(map(str, divisors))}"
    )


def _text(mesh: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {size}" for name, size in mesh.items())


def _suggestion(mesh: Mapping[str, int], devices: int) -> str:
    """Returns a mesh that fits, close to the one asked for from the last axis on."""
    left, fitting = devices, {}
    for name, size in list(mesh.items())[:0:-1]:
        fitting[name] = math.gcd(left, size) if size != _FILL else 1
        left //= fitting[name]
    first = next(iter(mesh))
    return _text({first: left, **dict(reversed(fitting.items()))})
