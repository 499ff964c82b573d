"""Scores of forecasts against what happened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from weatherlib.evaluation import (
    alignment,
    climatology,
    fitting,
    metrics,
    periods,
    reading,
    regions,
    results,
    running,
    settings,
    spectra,
    statistics,
    totals,
)

__all__ = ["Accumulated", "accumulate", "evaluate"]

Forecasts = xarray.Dataset | Mapping[str, xarray.Dataset]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accumulated:
    """Sums from which any of the chosen scores follow.

    Attributes:
      totals: Of each model and reference.
      settings: What was evaluated.
      metrics: The scores.
      baseline: The model that others are compared with.
      units: Of each variable.
      notes: What a reader of the scores must know.
      facts: Attributes of the result.
    """

    totals: Mapping[str, totals.Totals]
    settings: settings.Settings
    metrics: tuple[metrics.Metric, ...]
    baseline: str
    units: Mapping[str, str]
    notes: tuple[str, ...]
    facts: Mapping[str, str]

    def merge(self, other: Accumulated) -> Accumulated:
        """Returns the sums of both, such as of two years.

        Raises:
          ValueError: They are of different models, scores or regions.
        """
        if list(self.totals) != list(other.totals):
            raise ValueError(
                f"sums of {list(self.totals)} and of {list(other.totals)} do not merge"
            )
        merged = {n: t.merge(other.totals[n]) for n, t in self.totals.items()}
        notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        facts = dict(self.facts)
        for each in merged.values():
            if "init_time" in each.dataset.sizes:
                facts["starts"] = str(each.dataset.sizes["init_time"])
        return dataclasses.replace(self, totals=merged, notes=notes, facts=facts)

    def results(self) -> xarray.Dataset:
        """Returns the scores, see `evaluate`."""
        return results.assemble(
            self.totals,
            self.metrics,
            self.settings,
            baseline=self.baseline,
            units=self.units,
            attrs={**self.facts, "notes": "\n".join(self.notes)},
        )


def evaluate(
    forecasts: Forecasts,
    truth: xarray.Dataset,
    *,
    climatology: xarray.Dataset | None = None,
    reference_data: xarray.Dataset | None = None,
    land_sea_mask: xarray.DataArray | None = None,
    execution: settings.Execution | None = None,
    **options: Any,
) -> xarray.Dataset:
    """Returns the scores of one or several sets of forecasts and of references.

    Starts and lead times are those that all forecasts share. Work is done in blocks, so
    that neither forecasts nor truth need to fit into memory.

    Args:
      forecasts: One set, or several by name. Layouts of WeatherBench 2 and X, our
        forecast files, ensembles; see `intake.as_forecasts`.
      truth: Any dataset with dates that holds the same variables on the same grid.
      climatology: In the form of WeatherBench 2, (hour, dayofyear, ...). Default:
        fitted to the reference data or the truth, as `options` say, else the mean of
        the truth over the valid times.
      reference_data: Any dataset with dates, such as the archive before the truth, that
        references, climatology and quantiles are fitted to: to the `period` of
        `options`, else to all of it. Default: the truth.
      land_sea_mask: Share of land, for the regions "land" and "sea".
      execution: Memory, threads or dask cluster.
      **options: Fields of `Settings`, such as metrics=("rmse", "acc").

    Returns:
      For each variable the single-valued scores with the dimensions (metric, model,
      region, lead_time[, level]), and as `lower.VARIABLE` and `upper.VARIABLE` their
      confidence interval. Comparisons with the first forecast are `difference.VARIABLE`
      with `difference_lower`, `difference_upper` and `p_value`. Scores with more
      dimensions are METRIC.VARIABLE. Notes are in the attribute `notes`.

    Raises:
      ValueError: The data do not go together, or an option is wrong.
    """
    chosen = settings.Settings(**options)
    return accumulate(
        forecasts,
        truth,
        chosen,
        climatology=climatology,
        reference_data=reference_data,
        land_sea_mask=land_sea_mask,
        execution=execution,
    ).results()


def accumulate(
    forecasts: Forecasts,
    truth: xarray.Dataset,
    chosen: settings.Settings,
    *,
    climatology: xarray.Dataset | None = None,
    reference_data: xarray.Dataset | None = None,
    land_sea_mask: xarray.DataArray | None = None,
    execution: settings.Execution | None = None,
) -> Accumulated:
    """Returns the sums that scores are made of, to be merged with those of other data.

    Args:
      forecasts: As for `evaluate`.
      truth: As for `evaluate`.
      chosen: What to evaluate.
      climatology: As for `evaluate`.
      reference_data: As for `evaluate`.
      land_sea_mask: As for `evaluate`.
      execution: As for `evaluate`.

    Raises:
      ValueError: As `evaluate`.
    """
    execution = execution or settings.Execution()
    if isinstance(forecasts, xarray.Dataset):
        forecasts = {"forecast": forecasts}
    aligned = alignment.align(forecasts, truth, chosen, reference_data)
    masks = regions.region_masks(
        aligned.grid,
        chosen.regions,
        chosen.boxes,
        alignment.mask_values(land_sea_mask, aligned.grid),
    )
    wanted = _wanted_metrics(chosen, aligned, climatology is not None)
    period = fitting.training_period(aligned, chosen, climatology, wanted)
    normal = fitting.normal(aligned, chosen, climatology, wanted, period)
    sources = fitting.sources(aligned, chosen, normal, period)
    plan = _plan(aligned, chosen, masks, sources, normal, wanted, period)
    empty = {
        name: totals.empty_totals(
            _coords(aligned, list(masks)),
            {v: (plan.levels[v] is not None, s) for v, s in model.wanted.items()},
            {v: _sizes(plan, v, model.members) for v in model.wanted},
            model.members,
        )
        for name, model in plan.models.items()
    }
    missing = running.run(plan, empty, execution)
    notes = [*aligned.notes, *_notes(aligned, normal, missing, empty)]
    return Accumulated(
        totals=empty,
        settings=chosen,
        metrics=wanted,
        baseline=next(iter(aligned.forecasts)),
        units=aligned.units,
        notes=tuple(notes),
        facts={
            "title": "Scores of weather forecasts",
            "weighting": chosen.weighting if aligned.grid.lat is not None else "none",
            "starts": str(len(aligned.inits)),
            **_shorter_side(aligned.grid, wanted),
        },
    )


def _notes(
    aligned: alignment.Aligned,
    normal: climatology.Climatology | None,
    missing: Mapping[str, int],
    summed: Mapping[str, totals.Totals],
) -> list[str]:
    """Returns what the reader of scores has to know of climatology and gaps."""
    notes = [] if normal is None else [f"climatology: {normal.description}"]
    notes += [
        f"{name}: {count} values are missing or infinite where the truth is known; "
        "they are left out"
        for name, count in missing.items()
        if count
    ]
    valid = aligned.inits[:, None] + aligned.leads[None, :]
    pairs = int(aligned.truth.holds(valid).sum())
    return notes + totals.incomplete_fields(summed, pairs)


def _shorter_side(
    grid: regions.Grid, wanted: tuple[metrics.Metric, ...]
) -> dict[str, str]:
    """Returns the length that waves of radial spectra are counted along, if known."""
    if grid.cell_km is None or not any("plane" in m.needs for m in wanted):
        return {}
    lengths = (n * km for n, km in zip(grid.shape, grid.cell_km))
    return {"shorter_side_km": f"{min(lengths):.6g}"}


def _wanted_metrics(
    chosen: settings.Settings, aligned: alignment.Aligned, has_climatology: bool
) -> tuple[metrics.Metric, ...]:
    """Returns the metrics to compute.

    Raises:
      ValueError: One was asked for that the data do not allow.
    """
    is_ensemble = max(aligned.members.values()) > 1
    is_fitted = chosen.period is not None or aligned.archive is not aligned.truth
    names = chosen.metrics or metrics.default_metrics(
        climatology=has_climatology or is_fitted,
        members=is_ensemble,
        thresholds=bool(chosen.thresholds),
    )
    found = metrics.find_metrics(names)
    lacking = {
        "members": (is_ensemble, "an ensemble"),
        "thresholds": (bool(chosen.thresholds), "thresholds"),
        "global": (aligned.grid.is_global, "a global grid"),
        "periodic": (aligned.grid.is_periodic, "a grid around the globe"),
        "plane": (
            aligned.grid.lat is None or aligned.grid.cell_km is not None,
            "a plane, or an evenly spaced grid of a part of the globe",
        ),
    }
    for metric in found:
        for need in metric.needs:
            is_there, what = lacking.get(need, (True, ""))
            if not is_there:
                raise ValueError(f"{metric.name} needs {what}")
    return found


def _plan(
    aligned: alignment.Aligned,
    chosen: settings.Settings,
    masks: Mapping[str, np.ndarray],
    sources: Mapping[str, tuple[reading.Source, int]],
    normal: climatology.Climatology | None,
    wanted: tuple[metrics.Metric, ...],
    period: periods.Period | None,
) -> running.Plan:
    """Returns the work to do."""
    area = regions.point_weights(aligned.grid, chosen.weighting)
    levels = {name: aligned.levels_of(name) for name in aligned.names}
    unknown = [name for name in chosen.thresholds if name not in aligned.names]
    if unknown:
        raise ValueError(
            f"thresholds of {unknown[0]}, which is not evaluated; variables are "
            f"{', '.join(aligned.names)}"
        )
    models = {
        name: running.Model(
            source,
            members,
            {v: _statistics(wanted, v, members, chosen) for v in aligned.names},
        )
        for name, (source, members) in sources.items()
    }
    rows, columns = aligned.grid.shape
    return running.Plan(
        models=models,
        truth=aligned.truth,
        climatology=normal,
        limits={
            name: alignment.limits(aligned, name, thresholds, period)
            for name, thresholds in chosen.thresholds.items()
        },
        inits=aligned.inits,
        leads=aligned.leads,
        levels=levels,
        weights=np.stack([area * mask for mask in masks.values()]),
        grid=aligned.grid,
        neighbourhoods=chosen.neighbourhoods,
        truncation=chosen.truncation
        or max(1, min((rows - 1) // 2, (columns - 1) // 2)),
        seed=chosen.seed,
        stored_starts=max(
            reading.stored_starts(dataset) for dataset in aligned.forecasts.values()
        ),
    )


def _statistics(
    wanted: tuple[metrics.Metric, ...],
    variable: str,
    members: int,
    chosen: settings.Settings,
) -> tuple[str, ...]:
    """Returns the statistics of a variable that a model allows, each once."""
    found: dict[str, None] = {}
    for metric in wanted:
        if "members" in metric.needs and members < 2:
            continue
        if "thresholds" in metric.needs and not chosen.thresholds.get(variable):
            continue
        found |= dict.fromkeys(metric.statistics)
    return tuple(found)


def _coords(aligned: alignment.Aligned, names: list[str]) -> dict[str, Any]:
    coords: dict[str, Any] = {"init_time": aligned.inits, "lead_time": aligned.leads}
    coords["region"] = names
    if aligned.levels is not None:
        coords["level"] = aligned.levels
    return coords


def _sizes(plan: running.Plan, variable: str, members: int) -> dict[str, Any]:
    """Returns the coordinates of dimensions that some statistics add."""
    return {
        "rank": statistics.ranks_of(members),
        "threshold": [t.label for t, _ in plan.limits.get(variable, ())],
        "neighbourhood": list(plan.neighbourhoods),
        "probability": statistics.probabilities(),
        "total_wavenumber": np.arange(plan.truncation + 1),
        "zonal_wavenumber": np.arange(plan.grid.shape[1] // 2 + 1),
        "radial_wavenumber": spectra.radial_wavenumbers(
            *plan.grid.shape, plan.grid.cell_km or (1.0, 1.0)
        ),
    }
