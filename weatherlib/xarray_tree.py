"""Maps functions over nested structures with DataArrays as their leaves.

`jax.tree.map` goes down to the arrays; this stops at the DataArrays of a Dataset and
puts the results back into a Dataset where they fit into one.
"""

from collections.abc import Callable
from typing import Any, cast

import xarray

__all__ = ["map_structure"]


def map_structure(func: Callable[..., Any], *structures: Any) -> Any:
    """Returns the structure of the first argument, with results as its leaves.

    Datasets, dicts, lists, tuples and sets are walked through. Variables and keys are
    matched by name, items by position.

    Args:
      func: Takes one leaf of each structure. Where it returns None for a variable of a
        Dataset, the variable is left out.
      *structures: At least one.

    Returns:
      A Dataset in place of a Dataset, provided all results are DataArrays or None and
      their coordinates agree; otherwise a dict of the results.

    Raises:
      TypeError: `func` cannot be called.
      ValueError: There is no structure.
    """
    if not callable(func):
        raise TypeError(f"func must be callable, got: {func}")
    if not structures:
        raise ValueError("Must provide at least one structure")
    first = structures[0]
    if isinstance(first, xarray.Dataset):
        return _merged(
            {name: func(*(s[name] for s in structures)) for name in first.data_vars}
        )
    if isinstance(first, dict):
        return {
            key: map_structure(func, *(s[key] for s in structures)) for key in first
        }
    if isinstance(first, list | tuple | set):
        items = [map_structure(func, *group) for group in zip(*structures)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    return func(*structures)


def _merged(results: dict[Any, Any]) -> xarray.Dataset | dict[Any, Any]:
    """Returns results by name as a Dataset, or as they are where that cannot be."""
    if not all(isinstance(r, xarray.DataArray | None) for r in results.values()):
        return results
    arrays = [r.rename(name) for name, r in results.items() if r is not None]
    try:
        merged = xarray.merge(arrays, join="exact", compat="no_conflicts")
    except ValueError:
        return results
    return cast(xarray.Dataset, merged)
