"""Everything about a forecast that is fixed when it is compiled."""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from weatherlib import predictor_base, xarray_jax
from weatherlib.rollout import window

__all__ = ["Field", "Layout", "field_of", "static_coords"]

Arrays = Mapping[str, Any]
_Coords = dict[Hashable, tuple[tuple[str, ...], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Field:
    """Dimensions, shape and type of one variable of one member.

    Attributes:
      dims: Names of the dimensions.
      shape: Their sizes.
      dtype: Name of the type on the device.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def has_time(self) -> bool:
        """Whether the variable changes with time."""
        return "time" in self.dims

    @property
    def nbytes(self) -> int:
        """Size in memory, bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * jnp.dtype(self.dtype).itemsize

    def size_of(self, dim: str) -> int:
        """Returns the size of a dimension, 1 where the variable has it not."""
        return dict(zip(self.dims, self.shape)).get(dim, 1)

    def with_frames(self, frames: int) -> "Field":
        """Returns the same field with another number of frames."""
        sizes = dict(zip(self.dims, self.shape)) | {"time": frames}
        return dataclasses.replace(self, shape=tuple(sizes[dim] for dim in self.dims))

    def struct(self, *leading: int) -> jax.ShapeDtypeStruct:
        """Returns the abstract array, behind more leading dimensions if given."""
        return jax.ShapeDtypeStruct((*leading, *self.shape), jnp.dtype(self.dtype))


@dataclasses.dataclass(frozen=True)
class _Coord:
    name: Hashable
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    values: bytes

    def variable(self) -> tuple[tuple[str, ...], np.ndarray]:
        flat = np.frombuffer(self.values, np.dtype(self.dtype))
        return self.dims, flat.reshape(self.shape).copy()


@dataclasses.dataclass(frozen=True)
class Layout:
    """The static side of one prediction step: equal layouts share an executable.

    It holds no date and no values of fields, so forecasts from other start dates have
    the same layout.

    Attributes:
      inputs: Inputs by name, sorted as after a jit boundary.
      targets: Targets of one step.
      forcings: Forcings of one step.
      coords: Static coordinates of the grid, shared by all but a part.
      part: Those of the targets where these lie on a part of the grid; else empty.
      input_times: Lead times of the input frames, nanoseconds.
      target_times: Lead times of the frames of one step, nanoseconds.
    """

    inputs: tuple[tuple[str, Field], ...]
    targets: tuple[tuple[str, Field], ...]
    forcings: tuple[tuple[str, Field], ...]
    coords: tuple[_Coord, ...]
    input_times: tuple[int, ...]
    target_times: tuple[int, ...]
    part: tuple[_Coord, ...] = ()

    @property
    def window(self) -> dict[str, Field]:
        """The inputs that change with time."""
        return {name: field for name, field in self.inputs if field.has_time}

    @property
    def static(self) -> dict[str, Field]:
        """The inputs that do not."""
        return {name: field for name, field in self.inputs if not field.has_time}

    @property
    def frames_per_step(self) -> int:
        """Frames that one step predicts."""
        return len(self.target_times)

    @property
    def time_step(self) -> np.timedelta64:
        """Time between frames."""
        return np.timedelta64(self.target_times[0], "ns")

    def coord_values(self) -> _Coords:
        """Returns the static coordinates of the targets as xarray takes them."""
        return {coord.name: coord.variable() for coord in (*self.coords, *self.part)}

    def cropped(self, array: Any, dims: tuple[str, ...]) -> Any:
        """Returns an array on the whole grid where the targets lie."""
        for coord in self.part:
            (_, whole), (dims_of, part) = self._whole()[coord.name], coord.variable()
            places = np.abs(whole - part[:, np.newaxis]).argmin(1)
            array = jnp.take(array, places, axis=dims.index(dims_of[0]))
        return array

    def inputs_dataset(self, window_arrays: Arrays, static: Arrays) -> xarray.Dataset:
        """Returns the inputs of one step, made of the given arrays."""
        arrays = {**static, **window_arrays}
        return self._dataset(self.inputs, arrays, self.input_times)

    def forcings_dataset(self, arrays: Arrays) -> xarray.Dataset:
        """Returns the forcings of one step, made of the given arrays."""
        return self._dataset(self.forcings, arrays, self.target_times)

    def template_dataset(self) -> xarray.Dataset:
        """Returns a template of one step, full of zeros."""
        arrays = {
            name: jnp.zeros(field.shape, field.dtype) for name, field in self.targets
        }
        return self._dataset(
            self.targets, arrays, self.target_times, self.coord_values()
        )

    def prediction_arrays(self, predictions: xarray.Dataset) -> dict[str, Any]:
        """Returns what a step predicted, in the dimensions and types of the targets.

        Raises:
          ValueError: A target is missing or has another shape.
        """
        arrays = {}
        for name, field in self.targets:
            if name not in predictions:
                raise ValueError(
                    f"the predictor returned no {name}; it predicts "
                    f"{', '.join(map(str, predictions))}"
                )
            variable = predictions[name].variable
            if set(variable.dims) != set(field.dims):
                raise ValueError(
                    f"the predictor returned {name} with the dimensions "
                    f"{variable.dims}, the targets have {field.dims}"
                )
            array = xarray_jax.unwrap_data(variable.transpose(*field.dims))
            if array.shape != field.shape:
                raise ValueError(
                    f"the predictor returned {name} of shape {array.shape} along "
                    f"{field.dims}, the targets of one step have {field.shape}"
                )
            arrays[name] = jnp.asarray(array, field.dtype)
        return arrays

    def next_window(
        self, window_arrays: Arrays, predicted: Arrays, forced: Arrays
    ) -> dict[str, Any]:
        """Returns the input frames of the next step.

        Inputs that nothing renews stay as they are; `check_renewal` refuses them
        wherever a next step exists. There is none after one that fills a part.
        """
        if self.part:
            return dict(window_arrays)
        fields = {name: self.window[name] for name in window_arrays}
        renewed = {**predicted, **forced}
        inputs = self._dataset(tuple(fields.items()), window_arrays, self.input_times)
        known = [name for name in fields if name in renewed]
        arrivals = xarray.Dataset(
            {
                name: xarray_jax.Variable(
                    self._arriving(name).dims,
                    jnp.asarray(renewed[name], fields[name].dtype),
                )
                for name in known
            }
        )
        moved = window.next_inputs(inputs[known], arrivals, xarray.Dataset())
        return {**window_arrays, **xarray_jax.unwrap_vars(moved)}

    def check_renewal(self) -> None:
        """Checks that each step renews every input frame of the next one.

        Raises:
          ValueError: Names the inputs that are neither predicted nor forced; or the
            targets lie on a part of the grid.
        """
        if self.part:
            raise ValueError(predictor_base.ONE_PART)
        empty = {
            label: xarray.Dataset(
                {
                    name: (field.dims, np.empty([0] * len(field.dims)))
                    for name, field in group
                }
            )
            for label, group in (
                ("inputs", self.inputs),
                ("targets", self.targets),
                ("forcings", self.forcings),
            )
        }
        window.check_next_inputs(empty["inputs"], empty["targets"], empty["forcings"])

    def _arriving(self, name: str) -> Field:
        return {**dict(self.forcings), **dict(self.targets)}[name]

    def _whole(self) -> _Coords:
        return {coord.name: coord.variable() for coord in self.coords}

    def _dataset(
        self,
        fields: tuple[tuple[str, Field], ...],
        arrays: Arrays,
        times: tuple,
        values: _Coords | None = None,
    ) -> xarray.Dataset:
        used = {dim for _, field in fields for dim in field.dims} - {"time"}
        coords: dict[Hashable, Any] = {
            name: value
            for name, value in (values or self._whole()).items()
            if used.issuperset(value[0])
        }
        coords["time"] = np.array(times, "timedelta64[ns]")
        variables: dict[Hashable, Any] = {
            name: xarray_jax.Variable(field.dims, arrays[name])
            for name, field in fields
        }
        return xarray_jax.Dataset(variables, coords)


def field_of(variable: xarray.Variable, *, drop: str | None = None) -> Field:
    """Returns the field of a variable as the device will hold it.

    Numbers shorter than 32 bits are widened, so that a step can feed its predictions
    back without a change of type.

    Args:
      variable: Numbers of any type.
      drop: A dimension to leave out.

    Raises:
      ValueError: The variable does not hold numbers.
    """
    if variable.dtype.kind not in "biuf" and str(variable.dtype) != "bfloat16":
        raise ValueError(f"expected numbers, found {variable.dtype}")
    dtype = jax.dtypes.canonicalize_dtype(variable.dtype)
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
        dtype = np.dtype(np.float32)
    sizes = {str(dim): size for dim, size in variable.sizes.items() if dim != drop}
    return Field(tuple(sizes), tuple(sizes.values()), np.dtype(dtype).name)


def static_coords(dataset: xarray.Dataset) -> tuple[_Coord, ...]:
    """Returns the coordinates of a grid: neither times, nor members, nor scalars.

    Scalars and dates tell start dates apart, and would have each compiled anew.
    """
    found = []
    for name, coord in sorted(dataset.coords.items(), key=lambda item: str(item[0])):
        values = coord.values
        dims = tuple(map(str, coord.dims))
        if (
            not dims
            or {"time", "sample"} & set(dims)
            or values.dtype.kind not in "biufU"
        ):
            continue
        data = np.ascontiguousarray(values)
        found.append(_Coord(name, dims, data.shape, data.dtype.str, data.tobytes()))
    return tuple(found)
