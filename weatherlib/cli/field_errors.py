"""Errors of fields in their own units, by variable, level and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.geometry import sphere

__all__ = ["FieldErrors", "table"]


class FieldErrors:
    """Sums of errors, weighted by area. Missing values of the truth are left out."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self._sums: dict[str, dict[str, np.ndarray]] = {}
        self._units: dict[str, str] = {}
        self._leads: list[str] = []

    def add(self, made: Mapping[Any, xarray.DataArray], truth: xarray.Dataset) -> None:
        """Adds the errors of some fields.

        Args:
          made: By variable, on the grid of the truth; may lack dimensions, such as
            `time`.
          truth: Variables [batch, time, level, lat, lon], some dimensions perhaps
            lacking. Times are lead times.
        """
        lat = np.asarray(truth["lat"].values, np.float64)
        weights = xarray.DataArray(sphere.latitude_weights(lat), dims="lat")
        if "time" in truth.coords and not self._leads:
            hours = np.atleast_1d(truth["time"].values) / np.timedelta64(1, "h")
            self._leads = [f"{hour:g}h" for hour in hours]
        for name, field in truth.items():
            error = made[name].astype(np.float64) - field
            error = error.drop_vars([c for c in error.coords if c not in error.dims])
            self._note_units(str(name), field)
            for label, sums in _by_level(str(name), field, error, weights):
                held = self._sums.setdefault(label, {})
                for kind, value in sums.items():
                    held[kind] = held.get(kind, 0.0) + value

    def results(self) -> dict[str, dict[str, Any]]:
        """Returns `units`, `rmse`, `mae` and `bias` by variable, and by lead time.

        Variables on levels appear as `name@level`. Those by lead time are called
        `rmse_by_lead` and so on, where there are several times.
        """
        found = {}
        for label, sums in self._sums.items():
            row: dict[str, Any] = {"units": self._units[label.partition("@")[0]]}
            row |= _errors({kind: value.sum() for kind, value in sums.items()})
            if len(self._leads) > 1:
                for place, lead in enumerate(self._leads):
                    one = _errors({kind: value[place] for kind, value in sums.items()})
                    for kind, value in one.items():
                        row.setdefault(f"{kind}_by_lead", {})[lead] = value
            found[label] = row
        return found

    def _note_units(self, name: str, field: xarray.DataArray) -> None:
        known = variables.find(name)
        units = field.attrs.get("units") or (known.units if known else "")
        self._units.setdefault(name, str(units))


def table(
    results: Mapping[str, Mapping[str, Any]],
    references: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of a table of errors.

    Args:
      results: From `FieldErrors.results`.
      references: Those of others by name, whose RMSE is shown beside.
    """
    others = references or {}
    columns = ["variable", "unit", "RMSE", "MAE", "bias"]
    columns += [f"RMSE of {name}" for name in others]
    rows = []
    for label, row in results.items():
        words = [label, row["units"]]
        words += [f"{row[kind]:.4g}" for kind in ("rmse", "mae", "bias")]
        words += [f"{found[label]['rmse']:.4g}" for found in others.values()]
        rows.append(words)
    return columns, rows


def _by_level(
    name: str, field: xarray.DataArray, error: xarray.DataArray, weights: Any
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields sums by time, for each level."""
    around: Sequence[Any] = [d for d in error.dims if d not in ("time", "level")]
    there = xarray.where(error.notnull(), weights, 0.0)
    error = error.fillna(0.0)
    parts = {
        "weight": there,
        "square": there * error**2,
        "absolute": there * abs(error),
        "signed": there * error,
    }
    sums = {kind: part.sum(around) for kind, part in parts.items()}
    if "level" not in error.dims:
        label = name
        if "level" in field.coords and field["level"].size == 1:
            label = f"{name}@{field['level'].item():g}"
        yield label, {kind: np.atleast_1d(part.values) for kind, part in sums.items()}
        return
    for level in field["level"].values:
        one = {kind: part.sel(level=level) for kind, part in sums.items()}
        label = f"{name}@{level:g}"
        yield label, {kind: np.atleast_1d(part.values) for kind, part in one.items()}


def _errors(sums: Mapping[str, Any]) -> dict[str, float]:
    weight = max(float(sums["weight"]), 1e-30)
    return {
        "rmse": float(np.sqrt(sums["square"] / weight)),
        "mae": float(sums["absolute"] / weight),
        "bias": float(sums["signed"] / weight),
    }
