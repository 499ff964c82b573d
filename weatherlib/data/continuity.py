"""Tells whether frames belong to the forecast that a file holds."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib.data import layout, storage

__all__ = [
    "require_frames",
    "require_order",
    "require_same_forecast",
    "require_same_start",
]

# These may differ between the parts of one forecast.
_FREE_ATTRS = ("history", "date_created", storage.FRAMES)


def require_order(chunk: xarray.Dataset, last: np.timedelta64 | None) -> None:
    """Raises a ValueError where frames do not follow the last one written."""
    times = chunk["time"].values if "time" in chunk.coords else np.empty(0)
    if not times.size:
        raise ValueError("time: the chunk has no frames with lead times")
    found = times if last is None else np.concatenate([[last], times])
    if (np.diff(found) <= np.timedelta64(0, "ns")).any():
        before = "none" if last is None else np.timedelta64(last, "h")
        raise ValueError(
            f"time: frames must follow each other; last written {before}, then "
            f"{', '.join(str(t.astype('timedelta64[m]')) for t in times[:4])}"
        )


def require_frames(wanted: int, found: int) -> None:
    """Raises a ValueError where fewer frames were written than are wanted."""
    if not 0 < wanted <= found:
        raise ValueError(f"{wanted} frames wanted, {found} written")


def require_same_start(
    partial: pathlib.Path,
    header: xarray.Dataset,
    attrs: Mapping[str, Any],
    reference_time: np.ndarray | None,
) -> None:
    """Raises a ValueError where an unfinished file holds another forecast."""
    differences = []
    held_keys = set(header.attrs) | set(attrs)
    for key in sorted(held_keys - set(_FREE_ATTRS)):
        held, now = header.attrs.get(key), attrs.get(key)
        if not np.array_equal(np.asarray(held), np.asarray(now)):
            differences.append(f"{key} is {held!r}, now {now!r}")
    if reference_time is not None:
        now = reference_time.astype("datetime64[s]")
        if layout.REFERENCE_TIME in header:
            held = header[layout.REFERENCE_TIME].values.astype("datetime64[s]")
        else:
            held = np.asarray("NaT", "datetime64[s]")
        if not np.array_equal(held, now):
            differences.append(f"it starts at {held}, now {now}")
    if differences:
        raise _other_forecast(partial, differences)


def require_same_forecast(
    partial: pathlib.Path, header: xarray.Dataset, encoded: xarray.Dataset
) -> None:
    """Raises a ValueError where a chunk does not fit the frames in the file."""
    differences = []
    for name in sorted({*map(str, header.variables), *map(str, encoded.variables)}):
        if name not in header.variables or name not in encoded.variables:
            where = "the file" if name in header.variables else "the chunk"
            differences.append(f"{name} is only in {where}")
            continue
        held, now = header[name].variable, encoded[name].variable
        if held.dims != now.dims or held.shape[1:] != now.shape[1:]:
            differences.append(f"{name} has {dict(held.sizes)}, now {dict(now.sizes)}")
        elif held.dtype != now.dtype:
            differences.append(f"{name} is {held.dtype}, now {now.dtype}")
        elif "time" not in held.dims and not np.array_equal(held.values, now.values):
            differences.append(f"{name} has other values")
    if differences:
        raise _other_forecast(partial, differences)


def _other_forecast(partial: pathlib.Path, differences: Sequence[str]) -> ValueError:
    """Returns the error for an unfinished file that holds another forecast."""
    return ValueError(
        f"{partial}: holds another forecast: {'; '.join(differences)}. Delete it, "
        "choose another name, or start afresh with resume=False"
    )
