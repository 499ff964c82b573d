"""The period over which accumulated fields of a GRIB file are summed."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import xarray

from weatherlib import optional

__all__ = ["FROM_START", "with_windows"]

# In `cell_methods`, of sums that grow from the start of a forecast.
FROM_START = "time: sum (comment: from the start of the forecast)"


def with_windows(path: pathlib.Path, dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns fields with the period of their sums in the attribute `cell_methods`.

    Args:
      path: The file.
      dataset: What was read of it. The headers of the file are read again only where
        it has sums.
    """
    sums = [
        str(name)
        for name, array in dataset.data_vars.items()
        if array.attrs.get("GRIB_stepType") == "accum"
    ]
    if not sums:
        return dataset
    steps: dict[str, set[tuple[int, int]]] = {}
    for short_name, start, end in _steps(path):
        steps.setdefault(short_name, set()).add((start, end))
    dataset = dataset.copy()
    for name in sums:
        array = dataset[name]
        held = steps.get(str(array.attrs.get("GRIB_shortName", name)), set())
        lengths = {end - start for start, end in held}
        if len(lengths) == 1:
            hours = lengths.pop()
            unit = "hour" if hours == 1 else "hours"
            method = f"time: sum (interval: {hours} {unit})"
        elif held and {start for start, _ in held} == {0}:
            method = FROM_START
        else:
            continue
        dataset[name] = array.assign_attrs(cell_methods=method)
    return dataset


def _steps(path: pathlib.Path) -> Iterator[tuple[str, int, int]]:
    """Yields short name, start and end of the period of each sum, in hours."""
    eccodes = optional.require("eccodes", extra="grib")
    with path.open("rb") as file:
        while (handle := eccodes.codes_grib_new_from_file(file, True)) is not None:
            try:
                if eccodes.codes_get(handle, "stepType") != "accum":
                    continue
                eccodes.codes_set(handle, "stepUnits", 1)
                yield (
                    eccodes.codes_get(handle, "shortName"),
                    eccodes.codes_get(handle, "startStep", int),
                    eccodes.codes_get(handle, "endStep", int),
                )
            finally:
                eccodes.codes_release(handle)
