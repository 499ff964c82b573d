"""Zarr groups and arrays, in either format and with either version of the library."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

__all__ = [
    "ArraySpec",
    "dimensions",
    "has_version_3",
    "new_array",
    "new_group",
    "open_group",
    "plain",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """The shape of an array that is to be made.

    Attributes:
      dims: Names of its dimensions.
      shape: Their sizes.
      chunks: Sizes of a chunk.
      dtype: Type of its values.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype


def new_array(
    group: Any, name: str, spec: ArraySpec, *, zarr_format: int, level: int | None
) -> Any:
    """Returns a new array without values yet; floats that are not written are NaN.

    Args:
      group: Where to make it.
      name: Its name.
      spec: Its shape.
      zarr_format: 2 or 3.
      level: Effort of compression, 0 for none, None for the library's default.
    """
    # Readers take the fill value of format 2 for missing data, so numbers that may be
    # anything, such as a lead time of zero, have none.
    settings: dict[str, Any] = {
        "shape": spec.shape,
        "chunks": spec.chunks,
        "dtype": spec.dtype,
        "fill_value": np.nan if spec.dtype.kind == "f" else None,
        **_compressors(zarr_format, level),
    }
    if not has_version_3():
        array = group.create(name, **settings)
    else:
        if zarr_format == 3:
            settings["dimension_names"] = spec.dims
        array = group.create_array(name, **settings)
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = list(spec.dims)
    return array


def new_group(path: pathlib.Path, zarr_format: int) -> Any:
    """Returns a new group in an empty folder."""
    version: dict[str, Any] = {}
    if has_version_3():
        version["zarr_format"] = zarr_format
    return zarr.open_group(str(path), mode="w-", **version)


def plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns attributes with NumPy's numbers as those of Python, for JSON."""
    return {
        str(key): value.tolist() if hasattr(value, "tolist") else value
        for key, value in attrs.items()
    }


def open_group(path: pathlib.Path) -> Any:
    """Returns the group for writing.

    Consolidated metadata are left aside: they would give arrays their earlier length,
    and zarr cuts what is written behind it without a word.
    """
    aside: dict[str, Any] = {}
    if has_version_3():
        aside["use_consolidated"] = False
    return zarr.open_group(str(path), mode="r+", **aside)


def require_format(zarr_format: int, what: str) -> None:
    """Checks that the installed library knows a version of the format.

    Args:
      zarr_format: The version.
      what: The store or setting, for the message.

    Raises:
      ValueError: It does not.
    """
    if zarr_format == 3 and not has_version_3():
        raise ValueError(
            f"{what}: version 3 of the Zarr format needs zarr 3, found "
            f"{zarr.__version__}; pip install 'zarr>=3' 'xarray>=2024.11'"
        )


def has_version_3() -> bool:
    """Tells whether the installed library is zarr 3, whose keywords differ."""
    return int(zarr.__version__.partition(".")[0]) >= 3


def dimensions(array: Any) -> tuple[str, ...]:
    """Returns the names of an array's dimensions, in either format."""
    named = array.attrs.get("_ARRAY_DIMENSIONS")
    if named is None:
        named = array.metadata.dimension_names
    return tuple(named or ())


def _compressors(zarr_format: int, level: int | None) -> dict[str, Any]:
    """Returns the setting that asks for the compression chosen."""
    keyword = "compressors" if has_version_3() else "compressor"
    if level is None:
        return {}
    if level == 0:
        return {keyword: None}
    if zarr_format == 3:
        from zarr import codecs

        return {keyword: (codecs.GzipCodec(level=level),)}
    from numcodecs import Zlib

    return {keyword: Zlib(level)}
