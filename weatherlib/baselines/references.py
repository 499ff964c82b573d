"""Forecasts without a model, under the contract of the models: what these must beat.

They see and return fields in their own units, without normalisation around them:

    def make_predictor():
        return references.Persistence(frames_per_step=4)

    forecaster = rollout.Forecaster(make_predictor, params={}, task=task)

`evaluation.references` has the same for the scores of forecasts that are there already.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import haiku as hk
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weatherlib import losses, predictor_base, xarray_jax
from weatherlib.data_utils import calendar, climatology, harmonics, places, progress

__all__ = ["Climatology", "Persistence"]

_TABLE = ("hour", "dayofyear")
_DATES = tuple(
    f"{name}_{part}"
    for name in (progress.YEAR_PROGRESS, progress.DAY_PROGRESS)
    for part in ("sin", "cos")
)
_MODULE = "climatology"
_DAYS = 366
# Minutes.
_DAY = 24 * 60


class _Reference(predictor_base.Predictor):
    """Predicts without learning, with a loss to be compared with that of models."""

    predicts_changes = False

    def __init__(self, frames_per_step: int) -> None:
        if frames_per_step < 1:
            raise ValueError(
                f"frames_per_step must be at least 1, found {frames_per_step!r}"
            )
        self.frames_per_step = frames_per_step

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> xr.Dataset:
        """Returns the forecast for all times of the template.

        Raises:
          ValueError: The data do not have what it is made of; the message names it.
        """
        del kwargs
        return xr.Dataset(
            {
                name: self._field(target, inputs, forcings)
                for name, target in targets_template.items()
            }
        )

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the squared error of each batch member, by area and level."""
        return self.loss_and_predictions(inputs, targets, forcings, **kwargs)[0]

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns `loss` and the predictions that it judges."""
        predictions = self(inputs, targets, forcings, **kwargs)
        return losses.weighted_mse_per_level(predictions, targets, {}), predictions

    @abc.abstractmethod
    def _field(
        self, target: xr.DataArray, inputs: xr.Dataset, forcings: xr.Dataset
    ) -> xr.DataArray:
        """Returns one variable, with dimensions and coordinates of the target."""


class Persistence(_Reference):
    """Predicts that the weather stays as it is in the last input frame.

    It has no parameters. Inside of normalisation that predicts states, as models of
    this kind are wrapped, it predicts the same.
    """

    def __init__(
        self, *, frames_per_step: int = 1, fill: Mapping[str, float] | None = None
    ) -> None:
        """Takes the settings.

        Args:
          frames_per_step: Frames of a step, for wrappers and rollouts.
          fill: Values of targets that are no inputs, in the units of the data, such as
            0 for precipitation: the dry forecast.

        Raises:
          ValueError: `frames_per_step` is not positive.
        """
        super().__init__(frames_per_step)
        self._fill = dict(fill or {})

    def _field(
        self, target: xr.DataArray, inputs: xr.Dataset, forcings: xr.Dataset
    ) -> xr.DataArray:
        del forcings
        name = str(target.name)
        if name in inputs and "time" in inputs[name].dims:
            chosen = places.on_levels(inputs[[name]], target, "the input")
            return _filled(chosen[name].isel(time=-1), target)
        if name not in self._fill:
            raise ValueError(
                f"{name}: persistence needs its past, and it is no input with a time; "
                "add it to the input_variables of the task, or give fill a value for it"
            )
        return _filled(xr.DataArray(np.float32(self._fill[name])), target)


class Climatology(_Reference):
    """Predicts what is usual at the date.

    The date comes in through the forcings of `date_names`, so that a compiled program
    serves every start, or else through the coordinate `datetime` of the template.

    The fields are Haiku parameters, because large ones cannot be a part of compiled
    programs; `parameters` returns them.
    """

    def __init__(
        self,
        usual: xr.Dataset,
        mean: xr.Dataset | None = None,
        *,
        frames_per_step: int = 1,
    ) -> None:
        """Takes the climatology.

        Args:
          usual: A table by hour and day of the year, as `weatherlib stats
            --climatology` writes it and WeatherBench 2 has it, which is interpolated
            in time between its hours. Or amplitudes of waves, as
            `data_utils.harmonics.fit_departures` returns them.
          mean: With waves, the means that they depart from, such as `mean_by_level`.
          frames_per_step: Frames of a step, for wrappers and rollouts.

        Raises:
          ValueError: It is neither, days or a mean are missing, or a number is out of
            range.
        """
        super().__init__(frames_per_step)
        kind = _table(usual) or _waves(usual, mean)
        if kind is None:
            raise ValueError(
                f"a climatology has the dimensions {' and '.join(_TABLE)}, or else "
                f"{' and '.join(harmonics.DIMS)}; this one has "
                f"{', '.join(map(str, usual.dims)) or 'none'}"
            )
        self._kind = kind

    @property
    def date_names(self) -> tuple[str, ...]:
        """The forcings that hold the date, which a task has to have."""
        return self._kind.date_names

    def parameters(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns the Haiku parameters: the fields of each variable."""
        fields = self._kind.fields
        return {_MODULE: {str(n): _values(field) for n, field in fields.items()}}

    def _field(
        self, target: xr.DataArray, inputs: xr.Dataset, forcings: xr.Dataset
    ) -> xr.DataArray:
        del inputs
        name, fields = str(target.name), self._kind.fields
        if name not in fields:
            raise ValueError(
                f"{name}: not in the climatology, which has "
                f"{', '.join(map(str, fields)) or 'nothing'}"
            )
        places.require_same_grid(
            fields,
            target.coords.to_dataset(),
            "the climatology is",
            "use one on the grid of the data",
        )
        # One name for all calls: a module of its own would get a number each time.
        held = _Held(name=hk.force_name(_MODULE))(name, fields[name])
        found = self._kind.at(held, _when(self.date_names, target, forcings))
        if "level" in held.dims:
            found = found.assign_coords(level=held["level"])
        found = found.to_dataset(name=name)
        chosen = places.on_levels(found, target, "the climatology")
        return _filled(chosen[name], target)


class _Held(hk.Module):
    """Fields as parameters."""

    def __call__(self, name: str, field: xr.DataArray) -> xr.DataArray:
        """Returns a field whose values are those of the parameter of this name."""
        found = hk.get_parameter(
            name, field.shape, jnp.float32, lambda *_: jnp.asarray(_values(field))
        )
        return xarray_jax.DataArray(jnp.asarray(found), field.coords, field.dims, name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Table:
    """A climatology by hour and day of the year.

    Attributes:
      fields: Dimensions (hour, dayofyear, [level,] lat, lon), hours ascending.
    """

    fields: xr.Dataset
    date_names: tuple[str, ...] = _DATES

    def at(self, field: xr.DataArray, when: xr.Dataset) -> xr.DataArray:
        """Returns the field at the times of `when`."""
        values = xarray_jax.unwrap_data(field, require_jax=True)
        dims, moment = _moment(when)
        starts = np.round(self.fields["hour"].values * 60).astype(np.int32)
        # Of the last hour of the day before, the day, and the first one of the next.
        edges = np.concatenate([starts[-1:] - _DAY, starts, starts[:1] + _DAY])
        place = jnp.searchsorted(jnp.asarray(edges), moment.minute, side="right") - 1

        if len(starts) == 1:
            # A mean of days serves every hour.
            place = jnp.ones_like(place)

        def entry(at: Any) -> Any:
            day = moment.later((at - 1) // len(starts))
            return values[(at - 1) % len(starts), calendar.dayofyear(jnp, day) - 1]

        found = entry(place)
        if len(starts) > 1:
            since = moment.minute - jnp.asarray(edges)[place]
            share = (since / jnp.asarray(np.diff(edges))[place]).astype(found.dtype)
            share = share.reshape(share.shape + (1,) * (found.ndim - share.ndim))
            between = found + share * (entry(place + 1) - found)
            # At its own hours nothing comes from others, not even a gap.
            found = jnp.where(share > 0, between, found)
        inner = field.isel(dict.fromkeys(_TABLE, 0), drop=True)
        return xarray_jax.DataArray(found, dims=(*dims, *inner.dims))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Waves:
    """A mean, and waves of the year and the day around it.

    Attributes:
      fields: Dimensions (year_wave, day_wave, [level,] lat, lon).
      mean: Dimensions ([level]).
    """

    fields: xr.Dataset
    mean: xr.Dataset

    @property
    def date_names(self) -> tuple[str, ...]:
        """The forcings that hold the date."""
        return harmonics.progress_names(harmonics.settings_of(self.fields))

    def at(self, field: xr.DataArray, when: xr.Dataset) -> xr.DataArray:
        """Returns the field at the times of `when`."""
        name = str(field.name)
        mean = places.on_levels(self.mean[[name]], field, "the mean")[name]
        amplitudes = field.to_dataset().assign_attrs(self.fields.attrs)
        departure = harmonics.departure(amplitudes, name, when)
        return departure + mean.drop_vars(list(mean.coords)).astype(np.float32)


def _table(usual: xr.Dataset) -> _Table | None:
    """Returns a table; None where the dimensions are others.

    Raises:
      ValueError: Days are missing.
    """
    if "day_of_year" in usual.dims:
        usual = usual.rename(day_of_year="dayofyear")
    if not set(_TABLE) <= set(usual.dims):
        return None
    spreads = [n for n in usual if str(n).endswith(climatology.DEVIATION)]
    usual = usual.drop_vars(spreads).sortby(list(_TABLE))
    days = usual["dayofyear"].values
    if not np.array_equal(days, np.arange(1, _DAYS + 1)):
        raise ValueError(
            f"dayofyear: a climatology has the days 1 to {_DAYS}, this one has "
            f"{days.size} from {days[0]} to {days[-1]}"
        )
    order = (*_TABLE, "level", "lat", "lon")
    return _Table(fields=usual.transpose(*order, missing_dims="ignore"))


def _waves(usual: xr.Dataset, mean: xr.Dataset | None) -> _Waves | None:
    """Returns waves; None where the dimensions are others.

    Raises:
      ValueError: A mean is missing.
    """
    if not set(harmonics.DIMS) <= set(usual.dims):
        return None
    mean = xr.Dataset() if mean is None else mean
    lacking = [str(name) for name in usual if name not in mean]
    if lacking:
        raise ValueError(
            f"{', '.join(lacking)}: the waves are departures from a mean, which is not "
            "given; pass mean_by_level, which lies beside them, as mean"
        )
    return _Waves(fields=usual, mean=mean)


def _when(
    names: tuple[str, ...], target: xr.DataArray, forcings: xr.Dataset
) -> xr.Dataset:
    """Returns the variables that hold the date.

    Raises:
      ValueError: They are neither forcings nor follow from a coordinate.
    """
    missing = [name for name in names if name not in forcings]
    if not missing:
        return forcings[list(names)]
    if "datetime" not in target.coords:
        raise ValueError(
            f"forcings lack {', '.join(missing)}, which hold the date that the "
            "climatology needs; add them to the forcing_variables of the task"
        )
    found = progress.compute_forcings(
        names, target["datetime"], target["lat"], target["lon"]
    )
    return xr.Dataset(found, coords={"lon": target["lon"]})


def _moment(when: xr.Dataset) -> tuple[tuple[str, ...], calendar.Moment]:
    """Returns the times that forcings stand for, and their dimensions."""
    first = when[_DATES[0]]
    dims = tuple(dim for dim in ("batch", "time") if dim in first.dims)

    def array(name: str) -> Any:
        field = when[name]
        field = field.isel(lon=0, drop=True) if "lon" in field.dims else field
        return jnp.asarray(xarray_jax.unwrap_data(field.transpose(*dims)))

    sines = [array(name) for name in _DATES]
    lon = float(when["lon"].values[0]) if "lon" in when.dims else 0.0
    year, day = (sines[0], sines[1]), (sines[2], sines[3])
    return dims, calendar.moment(jnp, year, day, lon)


def _filled(field: xr.DataArray, target: xr.DataArray) -> xr.DataArray:
    """Returns a field, repeated along the dimensions of the target that it lacks."""
    dims = [dim for dim in target.dims if dim in field.dims]
    data = jnp.asarray(xarray_jax.unwrap_data(field.transpose(*dims)))
    shape = [target.sizes[dim] if dim in dims else 1 for dim in target.dims]
    data = jnp.broadcast_to(data.reshape(shape), target.shape)
    data = data.astype(target.dtype)
    return xarray_jax.DataArray(data, target.coords, target.dims, target.name)


def _values(field: xr.DataArray) -> np.ndarray:
    return np.asarray(field.values, np.float32)
