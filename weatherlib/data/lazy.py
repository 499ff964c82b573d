"""Arrays that are worked out when their values are read, and only as far as asked.

xarray reads files lazily but computes at once; dask computes lazily but costs a graph.
The arrays here sit between: a whole archive gets other names, units, order of axes or
another grid without a value being read.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, final

import numpy as np
import xarray
from xarray import backends
from xarray.core import indexing

__all__ = ["Function", "apply", "chunk", "is_lazy", "join"]

# Takes inputs as variables in memory and returns the result as one.
Function = Callable[..., xarray.Variable]

# Errors that libraries raise where the values of a file are damaged.
_DAMAGE = (EOFError, KeyError, OSError, RuntimeError, ValueError)


def is_lazy(variable: xarray.Variable) -> bool:
    """Tells whether reading the values means reading a file or computing."""
    in_memory = getattr(variable, "_in_memory", False)
    return not in_memory


def apply(
    function: Function,
    inputs: Sequence[xarray.Variable],
    sizes: Mapping[Hashable, int],
    dtype: Any,
    *,
    whole: Sequence[str] = (),
    attrs: Mapping[str, Any] | None = None,
) -> xarray.Variable:
    """Returns a variable that follows from others, computed when it is read.

    Args:
      function: Takes the inputs in memory, cut along all dimensions but those of
        `whole`, and returns a variable with dimensions of the result.
      inputs: What it follows from: in memory, lazy, or dask arrays.
      sizes: Dimensions of the result in their order, and their lengths.
      dtype: Of the result.
      whole: Dimensions along which the function needs all of its inputs. Their lengths
        may differ in the result.
      attrs: Of the result.

    Returns:
      In memory where all inputs are, a dask array where one of them is, lazy otherwise.
    """
    dims = tuple(sizes)

    def finished(*parts: xarray.Variable) -> xarray.Variable:
        result = function(*parts).transpose(*dims)
        return result.astype(dtype, copy=False)

    if any(variable.chunks is not None for variable in inputs):
        data: Any = _blockwise(finished, inputs, sizes, dtype, whole)
    elif any(is_lazy(variable) for variable in inputs):
        array = _Computed(finished, inputs, sizes, np.dtype(dtype), tuple(whole))
        data = indexing.LazilyIndexedArray(array)
    else:
        data = finished(*inputs).values
    return xarray.Variable(dims, data, attrs, {"preferred_chunks": _preferred(inputs)})


def join(
    pieces: Sequence[xarray.Variable], dim: str, names: Sequence[str] | None = None
) -> xarray.Variable:
    """Returns pieces one after another along a dimension, read when they are needed.

    Args:
      pieces: Alike in all but their length along `dim`, which each of them has.
      dim: The dimension.
      names: Where each piece comes from, for messages.
    """
    first = pieces[0]
    pieces = [piece.transpose(*first.dims) for piece in pieces]
    if len(pieces) == 1 and names is None:
        return first
    if any(piece.chunks is not None for piece in pieces) or not any(
        is_lazy(piece) for piece in pieces
    ):
        return xarray.Variable.concat(pieces, dim)
    data = indexing.LazilyIndexedArray(_Joined(pieces, dim, names))
    preferred = {dim: tuple(piece.sizes[dim] for piece in pieces)}
    within = _preferred(pieces[:1])
    if dim in within and within[dim] == 1:
        preferred[dim] = within[dim]
    return xarray.Variable(
        first.dims, data, first.attrs, {"preferred_chunks": {**within, **preferred}}
    )


def chunk(dataset: xarray.Dataset, chunks: Any) -> xarray.Dataset:
    """Returns the dataset as dask arrays.

    Args:
      dataset: Lazy or in memory.
      chunks: Length by dimension; what it does not name is cut as it is stored. Or
        None for the dataset itself.
    """
    if chunks is None:
        return dataset
    if isinstance(chunks, str | int):
        return dataset.chunk(chunks)
    chunked = {}
    for name, array in dataset.data_vars.items():
        wanted = array.encoding.get("preferred_chunks", {})
        lengths = {
            dim: chunks.get(dim, wanted.get(dim, size))
            for dim, size in array.sizes.items()
        }
        lengths = {
            dim: length
            if not isinstance(length, tuple) or sum(length) == array.sizes[dim]
            else max(length)
            for dim, length in lengths.items()
        }
        # A name of its own: the same file may be opened twice, cut in other ways.
        variable = array.variable.chunk(lengths, name=f"{name}-{uuid.uuid4().hex}")
        chunked[name] = variable
    return dataset.assign(chunked)


def _preferred(inputs: Sequence[xarray.Variable]) -> dict[Any, Any]:
    """Returns how the first input is stored."""
    stored = inputs[0].encoding.get("preferred_chunks", {})
    return {dim: stored[dim] for dim in inputs[0].dims if dim in stored}


def _blockwise(
    function: Function,
    inputs: Sequence[xarray.Variable],
    sizes: Mapping[Hashable, int],
    dtype: Any,
    whole: Sequence[str],
) -> Any:
    """Returns the result as a dask array, one task for each chunk."""
    import dask.array  # Slow to import, and here only where it is in use.

    operands: list[Any] = []
    for variable in inputs:
        single = variable.chunk({dim: -1 for dim in whole if dim in variable.dims})
        labels = [f"in {dim}" if dim in whole else dim for dim in variable.dims]
        operands += [single.data, labels]
    labels = [f"out {dim}" if dim in whole else dim for dim in sizes]
    held = {label for part in operands[1::2] for label in part}
    new = {
        label: size
        for label, size in zip(labels, sizes.values(), strict=True)
        if label not in held
    }
    return dask.array.blockwise(
        functools.partial(_on_arrays, function, [v.dims for v in inputs]),
        labels,
        *operands,
        dtype=np.dtype(dtype),
        new_axes=new,
        concatenate=True,
        meta=np.empty((0,) * len(labels), dtype),
    )


def _on_arrays(
    function: Function, dims: Sequence[tuple[Hashable, ...]], *arrays: np.ndarray
) -> np.ndarray:
    """Returns what the function makes of plain arrays."""
    return function(*map(xarray.Variable, dims, arrays)).values


@final
class _Computed(backends.BackendArray):
    """An array that follows from variables, for xarray to index lazily."""

    def __init__(
        self,
        function: Function,
        inputs: Sequence[xarray.Variable],
        sizes: Mapping[Hashable, int],
        dtype: np.dtype,
        whole: tuple[str, ...],
    ) -> None:
        self._function = function
        self._inputs = tuple(inputs)
        self._dims = tuple(sizes)
        self._whole = whole
        self.shape = tuple(sizes.values())
        self.dtype = dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Returns the values of one outer index."""
        wanted = dict(zip(self._dims, key, strict=True))
        before = {
            dim: _kept(index) for dim, index in wanted.items() if dim not in self._whole
        }
        parts = [
            variable.isel({d: i for d, i in before.items() if d in variable.dims})
            for variable in self._inputs
        ]
        loaded = [xarray.Variable(part.dims, part.values) for part in parts]
        result = self._function(*loaded)
        # Dimensions that no input has are made in full by the function.
        made = {
            dim
            for dim in self._dims
            if dim in self._whole or not any(dim in v.dims for v in self._inputs)
        }
        after = {
            dim: index if dim in made else 0
            for dim, index in wanted.items()
            if dim in made or isinstance(index, int | np.integer)
        }
        return result.isel(after).values


@final
class _Joined(backends.BackendArray):
    """Variables one after another, for xarray to index lazily."""

    def __init__(
        self,
        pieces: Sequence[xarray.Variable],
        dim: str,
        names: Sequence[str] | None,
    ) -> None:
        self._pieces = tuple(pieces)
        self._names = names
        self._axis = pieces[0].dims.index(dim)
        lengths = [piece.sizes[dim] for piece in pieces]
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        shape = list(pieces[0].shape)
        shape[self._axis] = int(self._starts[-1])
        self.shape = tuple(shape)
        self.dtype = np.result_type(*(piece.dtype for piece in pieces))

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Returns the values of one outer index, from the pieces that it meets."""
        index = key[self._axis]
        places = np.atleast_1d(np.arange(self.shape[self._axis])[index])
        owners = np.searchsorted(self._starts, places, side="right") - 1
        rest = [_kept(k) for k in key]
        parts, order = [], []
        for owner in np.unique(owners):
            mine = np.flatnonzero(owners == owner)
            rest[self._axis] = _as_slice(places[mine] - self._starts[owner])
            parts.append(self._values(int(owner), tuple(rest)))
            order.append(mine)
        if parts:
            joined = np.concatenate(parts, axis=self._axis)
        else:
            rest[self._axis] = slice(0, 0)
            joined = self._values(0, tuple(rest))
        if len(order) > 1:
            back = np.argsort(np.concatenate(order))
            if not (np.diff(back) == 1).all():
                joined = np.take(joined, back, axis=self._axis)
        single = tuple(
            0 if isinstance(k, int | np.integer) else slice(None) for k in key
        )
        return joined.astype(self.dtype, copy=False)[single]

    def _values(self, owner: int, key: tuple[Any, ...]) -> np.ndarray:
        """Returns values of one piece, with its name in the error where it has one."""
        try:
            return self._pieces[owner][key].values
        except _DAMAGE as error:
            if self._names is None:
                raise
            raise OSError(
                f"{self._names[owner]}: damaged or cut short ({error})"
            ) from error


def _kept(index: Any) -> Any:
    """Returns the index as one that keeps its dimension."""
    if isinstance(index, int | np.integer):
        return slice(int(index), int(index) + 1)
    return index


def _as_slice(places: np.ndarray) -> Any:
    """Returns consecutive places as a slice, others as they are."""
    if places.size and (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return places
