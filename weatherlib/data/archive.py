"""Many files as one series."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray

from weatherlib import variables
from weatherlib.data import axes, fields, lazy
from weatherlib.data_utils import date_forms, lexicon, recognise
from weatherlib.data_utils.problems import listed

__all__ = ["SKIP_HINT", "OnError", "Overlap", "combine", "open_each"]

OnError = Literal["raise", "skip"]
Overlap = Literal["raise", "first", "last"]

SKIP_HINT = (
    "on_error='skip' leaves out damaged ones, as do data.skip_corrupt=true of train "
    "and --skip-corrupt of stats and evaluate"
)
"""How to go on without damaged files."""

# So many gaps are named in one warning.
_NAMED_GAPS = 3


def open_each(
    names: Sequence[str],
    opener: Callable[[str], xarray.Dataset],
    on_error: OnError = "raise",
    skipped: dict[str, str] | None = None,
) -> dict[str, xarray.Dataset]:
    """Returns each file opened, under its name.

    Args:
      names: Paths or addresses.
      opener: Opens one of them.
      on_error: "skip" leaves out damaged files, with one warning that counts and names
        them.
      skipped: Takes the name of each file that was left out, and why.

    Raises:
      OSError: A file is damaged, or all of them are.
      ValueError: A file is no weather data.
    """
    parts, failed = {}, {}
    for name in names:
        try:
            parts[name] = opener(name)
        except (OSError, ValueError) as error:
            if on_error == "raise" or isinstance(error, FileNotFoundError):
                raise _of_many(error, len(names)) from error
            failed[name] = str(error)
    if failed:
        reasons = "; ".join(list(failed.values())[:_NAMED_GAPS])
        if not parts:
            raise OSError(f"none of the {len(names)} files can be read: {reasons}")
        warnings.warn(
            f"skipped {len(failed)} of {len(names)} files: {reasons}", stacklevel=3
        )
    if skipped is not None:
        skipped.update(failed)
    return parts


def _of_many(error: Exception, count: int) -> Exception:
    """Returns the error with a way on, where there are other files."""
    if count > 1:
        error.add_note(f"one of {count} files; {SKIP_HINT}")
    return error


def combine(
    parts: Mapping[str, xarray.Dataset], overlap: Overlap = "raise"
) -> xarray.Dataset:
    """Returns the parts as one dataset: along time, and side by side.

    Files with the same variables follow each other in time. Files with different ones
    are put together on the times that all of them have; what does not change, such as
    a land-sea mask, may have a time of its own. Nothing is read but axes, and of
    constants what tells that they are.

    Args:
      parts: Data of each file, under its name.
      overlap: What counts where files hold the same time: an error, or the file that
        comes first or last by name.

    Raises:
      ValueError: Files are on different grids, or overlap, or hold no dates.
    """
    groups: dict[tuple[str, ...], dict[str, xarray.Dataset]] = {}
    if len(parts) > 1:
        parts = {name: _dated(name, part) for name, part in parts.items()}
    for name, part in parts.items():
        key = tuple(sorted(map(str, part.data_vars)))
        groups.setdefault(key, {})[name] = part
    series = {
        next(iter(group)): _along_time(group, overlap) for group in groups.values()
    }
    return _side_by_side(series)


def _dated(name: str, part: xarray.Dataset) -> xarray.Dataset:
    """Returns a part with its dates as such, whatever form they have in the file."""
    try:
        return date_forms.read_dates(part)[0]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _along_time(
    parts: Mapping[str, xarray.Dataset], overlap: Overlap
) -> xarray.Dataset:
    """Returns files of the same variables one after another, ordered by time."""
    first_name, first = next(iter(parts.items()))
    axis = lexicon.axis_names(first).get("time")
    if len(parts) == 1:
        return first
    if axis is None or axis not in first.coords:
        raise ValueError(
            f"{first_name} and {len(parts) - 1} other(s) hold the same variables "
            f"({listed(first.data_vars)}) without a time to tell them apart"
        )
    parts = {name: _with_axis(part, axis) for name, part in parts.items()}
    first = parts[first_name]
    for name, part in parts.items():
        _require_alike(first_name, first, name, part, axis)
    starts = [part[axis].values.min() for part in parts.values()]
    # Starts decide; equal ones stay in the order of their names.
    names = [list(parts)[place] for place in np.argsort(starts, kind="stable")]
    held = [parts[name][axis].values.astype("datetime64[ns]") for name in names]
    moments = np.concatenate(held)
    owners = np.repeat(np.arange(len(names)), [parts[n].sizes[axis] for n in names])
    order = _order(moments, owners, names, overlap)
    _warn_of_gaps(moments[order], owners[order], names)
    joined = {}
    for variable in first.data_vars:
        pieces = [parts[name][variable].variable for name in names]
        joined[variable] = (
            lazy.join(pieces, axis, names) if axis in pieces[0].dims else pieces[0]
        )
    rest = {n: c for n, c in first.coords.items() if axis not in c.dims}
    whole = xarray.Dataset(joined, {**rest, axis: (axis, moments)}, first.attrs)
    if (np.diff(order) == 1).all() and order.size == moments.size:
        return whole
    return axes.pick(whole, axis, order)


def _with_axis(part: xarray.Dataset, axis: str) -> xarray.Dataset:
    """Returns the part with its time as an axis, where it is a single one."""
    if axis in part.dims:
        return part
    return part.expand_dims(axis)


def _require_alike(
    first_name: str,
    first: xarray.Dataset,
    name: str,
    part: xarray.Dataset,
    axis: str,
) -> None:
    """Raises a ValueError where two files cannot follow each other."""
    if axis not in part.coords or part[axis].dtype.kind != "M":
        raise ValueError(
            f"{name}: its {axis} holds no dates; files of lead times are opened one by "
            "one"
        )
    for dim, size in first.sizes.items():
        if dim == axis:
            continue
        held = part.sizes.get(dim)
        if held is None:
            raise _missing_axis(name, dim, first_name, size)
        if held != size:
            raise ValueError(
                f"{name}: {dim} has {held} values, but {size} in {first_name}; files "
                "on different grids are opened one by one and regridded"
            )
        if dim in first.indexes and not np.array_equal(first[dim], part[dim]):
            raise ValueError(
                f"{name}: the values of {dim} differ from those of {first_name}"
            )

    for dim, size in part.sizes.items():
        if dim not in first.sizes:
            raise _missing_axis(first_name, dim, name, size)


def _missing_axis(without: str, dim: object, name: str, size: int) -> ValueError:
    return ValueError(
        f"{without}: has no axis {dim}, along which {name} has {size} values; files of "
        "different kinds are opened one by one"
    )


def _order(
    moments: np.ndarray, owners: np.ndarray, names: Sequence[str], overlap: Overlap
) -> np.ndarray:
    """Returns the places of the frames to keep, by time."""
    order = np.argsort(moments, kind="stable")
    repeats = np.flatnonzero(np.diff(moments[order]) == np.timedelta64(0, "ns"))
    if not repeats.size:
        return order
    if overlap == "raise":
        place = repeats[0]
        one, other = (names[int(owners[order[p]])] for p in (place, place + 1))
        raise ValueError(
            f"{one} and {other} both hold {_date(moments[order[place]])}, and "
            f"{repeats.size} times occur twice in all; name files that do not overlap, "
            "or open them with overlap='first' or 'last'"
        )
    # Of equal times, argsort keeps the order of the files.
    dropped = repeats + 1 if overlap == "first" else repeats
    return np.delete(order, dropped)


def _warn_of_gaps(
    moments: np.ndarray, owners: np.ndarray, names: Sequence[str]
) -> None:
    """Warns where more than a step lies between frames."""
    steps = np.diff(moments)
    if steps.size < 2:
        return
    usual = np.median(steps.astype("timedelta64[ns]").astype(np.int64))
    gaps = np.flatnonzero(steps.astype("timedelta64[ns]").astype(np.int64) > usual)
    # Monthly and other uneven steps are no gaps.
    if not gaps.size or gaps.size > 0.2 * steps.size:
        return
    words = []
    for gap in gaps[:_NAMED_GAPS]:
        before, after = names[int(owners[gap])], names[int(owners[gap + 1])]
        where = f"between {before} and {after}" if before != after else f"in {before}"
        ends = [_date(moments[place]) for place in (gap, gap + 1)]
        words.append(f"{where} ({' to '.join(ends)})")
    more = f" and {gaps.size - _NAMED_GAPS} more" if gaps.size > _NAMED_GAPS else ""
    warnings.warn(
        f"frames are missing {', '.join(words)}{more}; the usual step is "
        f"{pd.Timedelta(int(usual), 'ns')}",
        stacklevel=5,
    )


def _date(moment: Any) -> str:
    """Returns a datetime64 in words."""
    return str(pd.Timestamp(moment))


def _side_by_side(series: Mapping[str, xarray.Dataset]) -> xarray.Dataset:
    """Returns datasets of different variables as one, on the times they share."""
    if len(series) == 1:
        return next(iter(series.values()))
    series = {name: _timeless(_named(part)) for name, part in series.items()}
    series = _on_levels_of_their_own(series)
    names = {
        name: lexicon.axis_names(part).get("time") for name, part in series.items()
    }
    timed = {n: a for n, a in names.items() if a is not None and a in series[n].indexes}
    shared: Any = None
    for name, axis in timed.items():
        held = series[name].indexes[axis]
        shared = held if shared is None else shared.intersection(held)
    if shared is not None and not len(shared):
        raise ValueError(f"{listed(series)}: their variables have no time in common")
    parts = []
    for name, part in series.items():
        if shared is not None and name in timed:
            held = part.indexes[timed[name]]
            if len(held) != len(shared):
                warnings.warn(
                    f"{len(held) - len(shared)} of {len(held)} times of {name} are "
                    "left out, which not all variables have",
                    stacklevel=4,
                )
                part = axes.pick(part, timed[name], held.get_indexer(shared))
        parts.append(part)
    try:
        merged: Any = xarray.merge(
            parts, join="exact", compat="no_conflicts", combine_attrs="drop_conflicts"
        )
    except (ValueError, xarray.MergeError) as error:
        raise ValueError(
            f"{listed(series)}: their variables are on different grids or levels "
            f"({error})"
        ) from error
    return merged


def _named(part: xarray.Dataset) -> xarray.Dataset:
    """Returns the part with the geopotential of the ground, also called `z`, named."""
    ground = "geopotential_at_surface"
    found = [
        name
        for name, array in part.data_vars.items()
        if (known := variables.find(str(name))) is not None
        and known.name == "geopotential"
        and recognise.quantity(str(name), array) == ground
    ]
    if len(found) != 1 or ground in part.variables:
        return part
    return part.rename_vars({found[0]: ground})


def _timeless(part: xarray.Dataset) -> xarray.Dataset:
    """Returns the part without time where it holds nothing that changes."""
    axis = lexicon.axis_names(part).get("time")
    if axis is None or axis not in part.coords or not part.data_vars:
        return part
    for name, array in part.data_vars.items():
        quantity = recognise.quantity(str(name), array)
        if quantity is None or variables.get(quantity).kind != "static":
            return part
    if not all(fields.is_constant(array, axis) for array in part.data_vars.values()):
        return part
    part = part.isel({axis: 0}, missing_dims="ignore")
    # Labels of the frame, such as `expver`, go with its time.
    return part.drop_vars([n for n, label in part.coords.items() if not label.ndim])


def _on_levels_of_their_own(
    series: Mapping[str, xarray.Dataset],
) -> Mapping[str, xarray.Dataset]:
    """Returns datasets of single but different levels with these in their names."""
    axis = {
        name: lexicon.axis_names(part).get("level") for name, part in series.items()
    }
    single = {
        name: float(series[name][level].values.ravel()[0])
        for name, level in axis.items()
        if level is not None and series[name][level].size == 1
    }
    if len(set(single.values())) < 2:
        return series
    named = dict(series)
    for name, level in single.items():
        part = axes.without_axis(series[name], str(axis[name]))
        named[name] = part.rename_vars({v: f"{v}_{level:g}" for v in part.data_vars})
    return named
