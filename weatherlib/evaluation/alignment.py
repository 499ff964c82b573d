"""Forecasts and truth brought together: variables, levels, grid and times in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib.data_utils import lexicon
from weatherlib.evaluation import (
    climatology,
    events,
    intake,
    periods,
    reading,
    regions,
    settings,
)

__all__ = ["Aligned", "align", "limits", "mask_values"]


@dataclasses.dataclass(kw_only=True)
class Aligned:
    """Forecasts and truth on common axes.

    Attributes:
      forecasts: By name, in the form of `intake.as_forecasts`.
      members: Of each forecast.
      truth: What happened.
      archive: What references and quantiles are fitted to; the truth, unless data of
        their own are given.
      names: Variables in common.
      levels: Levels in common, None where no variable has any.
      grid: The points.
      inits: Starts in common with some truth.
      leads: Lead times in common with some truth.
      units: Of each variable.
      notes: What was left out, and what else a reader must know.
    """

    forecasts: Mapping[str, xarray.Dataset]
    members: Mapping[str, int]
    truth: reading.TruthReader
    archive: reading.TruthReader
    names: tuple[str, ...]
    levels: np.ndarray | None
    grid: regions.Grid
    inits: np.ndarray
    leads: np.ndarray
    units: Mapping[str, str]
    notes: list[str]

    def levels_of(self, name: str) -> np.ndarray | None:
        """Returns the levels of a variable, None where it has none."""
        return self.levels if "level" in self.truth.dataset[name].dims else None


def align(
    forecasts: Mapping[str, xarray.Dataset],
    truth: xarray.Dataset,
    chosen: settings.Settings,
    reference_data: xarray.Dataset | None = None,
) -> Aligned:
    """Returns what forecasts and truth have in common; values are not read.

    Args:
      forecasts: By name.
      truth: What happened.
      chosen: What to evaluate.
      reference_data: What references are fitted to; the truth where it is None.

    Raises:
      ValueError: There is no forecast, or nothing matches; the message says what each
        has.
    """
    if not forecasts:
        raise ValueError("there is no forecast to evaluate")
    notes: list[str] = []
    known = {name: intake.as_forecasts(d, name) for name, d in forecasts.items()}
    for name, dataset in forecasts.items():
        notes += intake.guesses(dataset, name)
    happened = intake.as_truth(truth)
    names = _common_variables(known, happened, chosen.variables, notes)
    known = {name: dataset[list(names)] for name, dataset in known.items()}
    happened = happened[list(names)]
    levels, names = _common_levels({**known, "truth": happened}, names, chosen, notes)
    known = {name: dataset[list(names)] for name, dataset in known.items()}
    happened = happened[list(names)]
    grid, known, happened = _common_grid(known, happened)
    units = {
        variable: intake.common_units(dataset[variable], happened[variable], variable)
        for dataset in known.values()
        for variable in names
    }
    if reference_data is not None and levels is not None:
        # References see the same levels in both.
        happened = happened.sel(level=levels)
    reader = archive = reading.TruthReader(happened)
    if reference_data is not None:
        archive = _archive(reference_data, happened, grid)
    inits, leads = _common_times(known, reader, notes)
    return Aligned(
        forecasts=known,
        members={name: d.sizes.get("number", 1) for name, d in known.items()},
        truth=reader,
        archive=archive,
        names=names,
        levels=levels,
        grid=grid,
        inits=inits,
        leads=leads,
        units=units,
        notes=notes,
    )


def limits(
    aligned: Aligned,
    name: str,
    thresholds: Sequence[events.Threshold],
    period: periods.Period | None,
) -> tuple[tuple[events.Threshold, Any], ...]:
    """Returns each threshold with its value, or the field of its quantile.

    Quantiles are those of the truth, or of the reference data, in the period; of all
    times without one.
    """
    wanted = [t.quantile for t in thresholds if t.quantile is not None]
    tables: dict[float, np.ndarray] = {}
    if wanted:
        found = climatology.fit_quantiles(
            aligned.archive, name, wanted, aligned.levels_of(name), period
        )
        tables = dict(zip(wanted, found))
        moments = periods.period_times(aligned.archive, period)
        aligned.notes.append(
            f"quantiles of {name}: of {aligned.archive.name}, "
            f"{periods.describe_times(moments)}"
        )
    return tuple((t, t.value if t.quantile is None else tables[t.quantile])
                 for t in thresholds)  # fmt: skip


def mask_values(mask: xarray.DataArray | None, grid: regions.Grid) -> np.ndarray | None:
    """Returns the share of land at the points of the grid.

    Raises:
      ValueError: The mask is on another grid, or no share.
    """
    if mask is None:
        return None
    named = mask.rename("land_sea_mask").to_dataset()
    placed = intake.canonical(named, "the land-sea mask")
    matched = intake.match_grid(placed, grid, "the land-sea mask", "the forecast")
    values = matched["land_sea_mask"].squeeze().transpose("lat", "lon").values
    if np.nanmin(values) < -0.01 or np.nanmax(values) > 1.01:
        raise ValueError(
            "the land-sea mask runs from "
            f"{np.nanmin(values):g} to {np.nanmax(values):g}; expected the share of "
            "land, 0 to 1"
        )
    return np.asarray(values, np.float64)


def _common_variables(
    known: Mapping[str, xarray.Dataset],
    truth: xarray.Dataset,
    wanted: Sequence[str],
    notes: list[str],
) -> tuple[str, ...]:
    """Returns the variables to evaluate."""
    sets = {**known, "the truth": truth}
    shared = set.intersection(*(set(map(str, d.data_vars)) for d in sets.values()))
    for name in wanted:
        if name not in shared:
            lacking = next(n for n, d in sets.items() if name not in d)
            close = lexicon.closest(name, shared)
            hint = f"; did you mean {close}?" if close else ""
            raise ValueError(
                f"{name}: not in {lacking}, which has {_list(sets[lacking])}{hint}"
            )
    steady = {
        name: where
        for name in shared
        if (where := _without_time(sets, name)) is not None
    }
    for name in wanted:
        if name in steady:
            raise ValueError(
                f"{name}: does not change in time in {steady[name]}, so there is no "
                "forecast of it to score; leave it out of the variables"
            )
    first = next(iter(known.values()))
    held = [str(n) for n in first.data_vars if n in shared]
    names = tuple(wanted or (name for name in held if name not in steady))
    if not wanted:
        notes += [
            f"{name}: does not change in time in {steady[name]}, left out"
            for name in held
            if name in steady
        ]
    if not names:
        each = "; ".join(f"{name} has {_list(d)}" for name, d in sets.items())
        what = "no variable that changes in time" if steady else "no variable"
        raise ValueError(f"forecast and truth share {what}: {each}")
    if not wanted:
        for name, dataset in known.items():
            odd = [str(n) for n in dataset.data_vars if n not in shared]
            if odd:
                notes.append(f"{name}: {', '.join(odd)} cannot be compared, left out")
    return names


def _without_time(sets: Mapping[str, xarray.Dataset], name: str) -> str | None:
    """Returns the first dataset in which a variable has no time, None for none."""
    for source, dataset in sets.items():
        times = {"time", "init_time", "lead_time"} & set(dataset.dims)
        if not times <= set(dataset[name].dims):
            return source
    return None


def _common_levels(
    sets: Mapping[str, xarray.Dataset],
    names: tuple[str, ...],
    chosen: settings.Settings,
    notes: list[str],
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Returns the levels in common, and the variables that agree on having levels."""
    kept = []
    for name in names:
        has = {source: "level" in d[name].dims for source, d in sets.items()}
        if len(set(has.values())) == 1:
            kept.append(name)
        else:
            without = next(source for source, held in has.items() if not held)
            notes.append(f"{name}: {without} has no levels, others have; left out")
    if not kept:
        raise ValueError(
            f"{', '.join(names)}: forecast and truth differ in having levels; a single "
            "one is stated by a coordinate level in hPa"
        )
    leveled = [name for name in kept if "level" in next(iter(sets.values()))[name].dims]
    if not leveled:
        return None, tuple(kept)
    held = {source: d["level"].values.tolist() for source, d in sets.items()}
    shared = set.intersection(*(set(levels) for levels in held.values()))
    missing = [level for level in chosen.levels if level not in shared]
    if missing or not shared:
        described = "; ".join(
            f"{s} has {', '.join(f'{x:g}' for x in v)}" for s, v in held.items()
        )
        what = f"no level {missing[0]:g} hPa" if missing else "no level in common"
        raise ValueError(f"{what}: {described}")
    levels = sorted(chosen.levels or shared)
    if not chosen.levels:
        for source, own in held.items():
            odd = sorted(set(own) - shared)
            if odd and source != "truth":
                text = ", ".join(f"{x:g}" for x in odd)
                notes.append(f"{source}: levels {text} hPa are not in all, left out")
    return np.asarray(levels, np.float64), tuple(kept)


def _common_grid(
    known: Mapping[str, xarray.Dataset], truth: xarray.Dataset
) -> tuple[regions.Grid, dict[str, xarray.Dataset], xarray.Dataset]:
    """Returns all data on the grid of the smallest domain.

    Raises:
      ValueError: The grids do not hold the same points.
    """
    label, first = next(iter(known.items()))
    grid = min(
        (intake.grid_of(d) for d in (first, *known.values(), truth)),
        key=lambda g: g.shape[0] * g.shape[1],
    )
    of = "the other" if grid.shape != intake.grid_of(first).shape else label
    matched = {n: intake.match_grid(d, grid, n, of) for n, d in known.items()}
    return grid, matched, intake.match_grid(truth, grid, "the truth", of)


def _archive(
    dataset: xarray.Dataset, truth: xarray.Dataset, grid: regions.Grid
) -> reading.TruthReader:
    """Returns the reference data in the form of the truth, on the common grid.

    Raises:
      ValueError: They lack a variable, a level or a point of it.
    """
    name = "the reference data"
    held = intake.as_truth(dataset, name)
    for label, array in truth.data_vars.items():
        if label not in held:
            raise ValueError(
                f"{label}: not in {name}, which has {_list(held)}; give data that have "
                "it, or choose the variables to evaluate"
            )
        if ("level" in array.dims) != ("level" in held[label].dims):
            has = "levels" if "level" in held[label].dims else "no levels"
            raise ValueError(f"{label}: {name} has {has}, the truth differs in that")
        intake.common_units(held[label], array, str(label), name)
    held = held[list(truth.data_vars)]
    if "level" in truth.dims:
        own = held["level"].values
        for level in truth["level"].values:
            if level not in own:
                listed = ", ".join(f"{x:g}" for x in own)
                raise ValueError(f"no level {level:g} hPa: {name} has {listed}")
        held = held.sel(level=truth["level"].values)
    return reading.TruthReader(intake.match_grid(held, grid, name, "the truth"), name)


def _common_times(
    known: Mapping[str, xarray.Dataset], truth: reading.TruthReader, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns starts and lead times that all forecasts and the truth allow."""
    axes = {}
    for dim in ("init_time", "lead_time"):
        held = {name: d[dim].values for name, d in known.items()}
        shared = set.intersection(*(set(v.tolist()) for v in held.values()))
        first = next(iter(held.values()))
        axes[dim] = np.array([v for v in first if v.item() in shared], first.dtype)
        if not axes[dim].size:
            raise ValueError(
                f"the forecasts have no {dim} in common: "
                + "; ".join(f"{n} has {_span(v)}" for n, v in held.items())
            )
        for name, own in held.items():
            if len(own) > len(axes[dim]):
                notes.append(
                    f"{name}: {len(own) - len(axes[dim])} of {len(own)} values of "
                    f"{dim} are not in all forecasts, left out"
                )
    inits, leads = axes["init_time"], axes["lead_time"]
    held = truth.holds(inits[:, None] + leads[None, :])
    if not held.any():
        valid = np.unique(inits[:, None] + leads[None, :])
        raise ValueError(
            "no valid time of the forecasts is in the truth: forecasts are valid "
            f"{periods.describe_times(valid)}, the truth has "
            f"{periods.describe_times(truth.times)}"
        )
    starts, steps = held.any(1), held.any(0)
    notes.append(
        f"{int(held.sum())} of {held.size} pairs of start and lead time have truth "
        f"({int(starts.sum())} of {len(inits)} starts, {int(steps.sum())} of "
        f"{len(leads)} lead times)"
    )
    inits, leads = inits[starts], leads[steps]
    unknown = int((~truth.holds(inits)).sum())
    if unknown:
        notes.append(
            f"the truth lacks {unknown} of {len(inits)} starts, for which there is no "
            "persistence"
        )
    return inits, leads


def _list(dataset: xarray.Dataset) -> str:
    return ", ".join(map(str, dataset.data_vars)) or "no field on a grid"


def _span(array: np.ndarray) -> str:
    if array.dtype.kind == "M":
        return periods.describe_times(array)
    hours = array.astype("timedelta64[ns]") / np.timedelta64(1, "h")
    return f"{hours.min():g} to {hours.max():g} h"
