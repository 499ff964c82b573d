"""What is fitted to a series before anything is scored: climatology and references."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import xarray

from weatherlib.evaluation import (
    alignment,
    climatology,
    intake,
    metrics,
    periods,
    reading,
    references,
    settings,
)

__all__ = ["normal", "sources", "training_period"]

_TRAINED = ("damped-persistence", "ridge")
_ELSEWHERE = (
    "name an archive that holds it with --reference-data (in Python reference_data)"
)


def training_period(
    aligned: alignment.Aligned,
    chosen: settings.Settings,
    given: xarray.Dataset | None,
    wanted: tuple[metrics.Metric, ...],
) -> periods.Period | None:
    """Returns the period that anything is fitted to; None where none is chosen.

    Of reference data that is all of them. A period of which the data hold a part only
    is warned of and noted, if anything is fitted to it.

    Args:
      aligned: Forecasts, truth and reference data.
      chosen: What to evaluate.
      given: The climatology of a file.
      wanted: The metrics.

    Raises:
      ValueError: The data have no time in the period.
    """
    period = chosen.dates()
    if period is None:
        return None if aligned.archive is aligned.truth else periods.OPEN_PERIOD
    is_fitted = given is None and _needs_normal(chosen, wanted)
    is_fitted |= any(name in chosen.references for name in _TRAINED)
    limits = [limit for each in chosen.thresholds.values() for limit in each]
    is_fitted |= any(limit.quantile is not None for limit in limits)
    if not is_fitted:
        return period
    way_on = "choose a period among them"
    if aligned.archive is aligned.truth:
        way_on = _ELSEWHERE
    try:
        missing = periods.shortfall(aligned.archive, period)
    except ValueError as error:
        raise ValueError(f"{error}; {way_on}") from error
    if missing:
        aligned.notes.append(missing)
        warnings.warn(f"{missing}; {way_on}", stacklevel=3)
    return period


def normal(
    aligned: alignment.Aligned,
    chosen: settings.Settings,
    given: xarray.Dataset | None,
    wanted: tuple[metrics.Metric, ...],
    period: periods.Period | None,
) -> climatology.Climatology | None:
    """Returns what is normal, None where nothing asks for it.

    Args:
      aligned: Forecasts, truth and reference data.
      chosen: What to evaluate.
      given: The climatology of a file.
      wanted: The metrics.
      period: From `training_period`.

    Raises:
      ValueError: The file does not fit, or the period is too short.
    """
    if not _needs_normal(chosen, wanted):
        return None
    if given is not None:
        table = climatology.open_climatology(given, aligned.grid)
        for name in aligned.names:
            if name not in table.dataset:
                continue
            happened = aligned.truth.dataset[name]
            stated = happened.assign_attrs(units=aligned.units[name])
            own = table.dataset[name]
            intake.common_units(own, stated, name, "the climatology")
        return dataclasses.replace(table, description="from the file given")
    if period is not None:
        return climatology.fit_climatology(
            aligned.archive,
            aligned.names,
            period,
            harmonics=chosen.harmonics,
            by_hour=chosen.by_hour,
        )
    # Only what is verified, so that the note can say so.
    valid = np.unique(aligned.inits[:, None] + aligned.leads[None, :])
    part = aligned.truth.dataset.sel(time=valid[aligned.truth.holds(valid)])
    fitted = climatology.fit_climatology(
        reading.TruthReader(part), aligned.names, harmonics=0
    )
    return dataclasses.replace(
        fitted,
        description=f"{fitted.description} (the verified times themselves, since none "
        "was given: this flatters climatology)",
    )


def sources(
    aligned: alignment.Aligned,
    chosen: settings.Settings,
    normal: climatology.Climatology | None,
    period: periods.Period | None,
) -> dict[str, tuple[reading.Source, int]]:
    """Returns forecasts and references by name, each with its number of members.

    Args:
      aligned: Forecasts, truth and reference data.
      chosen: What to evaluate.
      normal: From `normal`.
      period: From `training_period`.

    Raises:
      ValueError: A reference has the name of a forecast, or cannot be fitted.
    """
    found: dict[str, tuple[reading.Source, int]] = {
        name: (reading.ForecastReader(dataset), aligned.members[name])
        for name, dataset in aligned.forecasts.items()
    }
    for name in chosen.references:
        if name in found:
            raise ValueError(
                f"a forecast is called {name}, as a reference is; give it another name"
            )
        found[name] = (_reference(name, aligned, chosen, normal, period), 1)
    return found


def _needs_normal(
    chosen: settings.Settings, wanted: tuple[metrics.Metric, ...]
) -> bool:
    """Whether a reference or a metric asks for what is normal."""
    if {"climatology", *_TRAINED} & set(chosen.references):
        return True
    return any("climatology" in metric.needs for metric in wanted)


def _reference(
    name: str,
    aligned: alignment.Aligned,
    chosen: settings.Settings,
    normal: climatology.Climatology | None,
    period: periods.Period | None,
) -> reading.Source:
    """Returns one reference, which starts from the truth, whatever it is fitted to."""
    if name == "persistence":
        return references.Persistence(aligned.truth)
    assert normal is not None
    if name == "climatology":
        return references.ClimatologyForecast(normal)
    first = aligned.inits[0]
    if period is None:
        raise ValueError(
            f"the reference {name} is fitted to a period: give one that ends before "
            f"the first start, {periods.describe_time(first)}, as --period START:END "
            f"(in Python period), and where the truth does not hold it, {_ELSEWHERE}"
        )
    if periods.period_times(aligned.archive, period)[-1] >= first:
        aligned.notes.append(
            f"{name}: its training period reaches into the starts that are evaluated, "
            "which flatters it"
        )
    data = (aligned.archive, normal, aligned.names, aligned.leads, period)
    if name == "ridge":
        fitted = references.fit_ridge(*data, penalty=chosen.penalty)
    else:
        fitted = references.fit_damping(*data)
    return dataclasses.replace(fitted, truth=aligned.truth)
