"""The form of a set of forecasts in a file: axes, variables and chunks.

Dimensions are those of WeatherBench 2: `(time, [number,] prediction_timedelta, [level,]
latitude, longitude)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray

from weatherlib.data import layout, storage

__all__ = [
    "COMPLETE",
    "HindcastPlan",
    "arranged",
    "chunk_sizes",
    "create",
    "leads_per_chunk",
    "skeleton",
]

COMPLETE = "part_complete"
"""One flag for each part; only unfinished sets have it."""

_NAMES = {"lat": "latitude", "lon": "longitude"}
_CHUNK_BYTES = 2**22

_DATE_ATTRS = {
    "units": f"seconds since {layout.EPOCH}",
    "calendar": "proleptic_gregorian",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HindcastPlan:
    """The axes of a set.

    Attributes:
      starts: Initialisations, datetime64[ns] ascending, shape [time].
      lead_times: timedelta64[ns] ascending, shape [prediction_timedelta].
      members: Number of members; None for single forecasts, without `number`.
    """

    starts: np.ndarray
    lead_times: np.ndarray
    members: int | None = None

    def __post_init__(self) -> None:
        for label, values, kind in (
            ("starts", self.starts, "M"),
            ("lead_times", self.lead_times, "m"),
        ):
            if values.ndim != 1 or not values.size or values.dtype.kind != kind:
                raise ValueError(
                    f"{label}: expected one axis of dates or lengths of time, found "
                    f"{values.dtype} of shape {values.shape}"
                )
            if values.size > 1 and not (values[1:] > values[:-1]).all():
                raise ValueError(f"{label}: must ascend without repetition")
        if self.members is not None and self.members < 1:
            raise ValueError(f"members must be at least 1, not {self.members}")

    @property
    def parts(self) -> int:
        """Forecasts in all."""
        return self.starts.size * (self.members or 1)


def skeleton(
    plan: HindcastPlan, template: xarray.Dataset
) -> dict[str, xarray.Variable]:
    """Returns all variables of a set; the values of fields take no memory."""
    axes = _axes(plan, template)
    sizes = {name: variable.size for name, variable in axes.items()}
    found = dict(axes)
    valid = plan.starts[:, np.newaxis] + plan.lead_times
    found[layout.VALID_TIME] = xarray.Variable(
        ("time", "prediction_timedelta"),
        valid.astype("datetime64[s]").astype(np.int64),
        {"standard_name": "time", "long_name": "valid time"} | _DATE_ATTRS,
    )
    parts = ("time",) if plan.members is None else ("time", "number")
    found[COMPLETE] = xarray.Variable(
        parts, np.zeros([sizes[dim] for dim in parts], np.int8)
    )
    for name, field in template.data_vars.items():
        inner = [
            _NAMES.get(str(dim), str(dim))
            for dim in ("level", "lat", "lon")
            if dim in field.dims
        ]
        dims = (*parts, "prediction_timedelta", *inner)
        blank = np.broadcast_to(np.float32(np.nan), [sizes[dim] for dim in dims])
        attrs = layout.field_attrs(str(name), field.attrs)
        found[str(name)] = xarray.Variable(dims, blank, attrs)
    return found


def create(
    group: Any,
    plan: HindcastPlan,
    template: xarray.Dataset,
    *,
    zarr_format: int,
    level: int | None,
) -> None:
    """Makes all arrays of a set in an empty Zarr group, its fields without values.

    Args:
      group: Where.
      plan: The axes of the set.
      template: Variables and grid of one forecast.
      zarr_format: 2 or 3.
      level: Effort of compression; None for the usual one.
    """
    from weatherlib.data import zarr_groups

    leads = leads_per_chunk(plan, template)
    for name, variable in skeleton(plan, template).items():
        whole = variable.dims == (name,) or name == layout.VALID_TIME
        spec = zarr_groups.ArraySpec(
            dims=tuple(map(str, variable.dims)),
            shape=variable.shape,
            chunks=chunk_sizes(name, variable, plan, leads),
            dtype=variable.dtype,
        )
        array = zarr_groups.new_array(
            group, name, spec, zarr_format=zarr_format, level=level
        )
        listed = {} if whole else {"coordinates": layout.VALID_TIME}
        array.attrs.update(zarr_groups.plain({**variable.attrs, **listed}))
        if whole or name == COMPLETE:
            array[...] = variable.values


def leads_per_chunk(plan: HindcastPlan, template: xarray.Dataset) -> int:
    """Returns how many lead times share a chunk, by the largest variable."""
    largest = max(
        int(
            np.prod(
                [field.sizes[d] for d in ("level", "lat", "lon") if d in field.dims]
            )
        )
        for field in template.data_vars.values()
    )
    return max(1, min(plan.lead_times.size, _CHUNK_BYTES // (4 * largest)))


def chunk_sizes(
    name: str, variable: xarray.Variable, plan: HindcastPlan, leads: int
) -> tuple[int, ...]:
    """Returns the chunk of a variable of `skeleton`: some lead times of one part.

    Args:
      name: Its name.
      variable: Its dimensions and sizes.
      plan: The axes of the set.
      leads: From `leads_per_chunk`.
    """
    parts = 1 if plan.members is None else 2
    if name == COMPLETE:
        # A flag is a file of its own, which changes at once.
        return (1,) * parts
    if variable.dims == (name,) or name == layout.VALID_TIME:
        return variable.shape
    # The levels of a frame are parted where they are very large.
    frame = np.broadcast_to(np.float32(0), (1, *variable.shape[parts + 1 :]))
    dims = ("time", *variable.dims[parts + 1 :])
    inner = storage.chunk_sizes(xarray.Variable(dims, frame), small=False)[1:]
    return (*(1,) * parts, leads, *inner)


def arranged(field: xarray.DataArray, members: range | None) -> np.ndarray:
    """Returns the values of frames in the order of the file.

    Args:
      field: Frames of one part, or of several along `sample`. Dimensions time, and as
        far as it has them sample, batch, level, lat, lon.
      members: The members or starts that `sample` stands for; None where there is none.

    Returns:
      float32, shape [(member,) time, (level,) lat, lon].
    """
    if "batch" in field.dims:
        field = field.isel(batch=0, drop=True)
    lead = ("time",) if members is None else ("sample", "time")
    inner = [dim for dim in ("level", "lat", "lon") if dim in field.dims]
    values = field.transpose(*lead, *inner).values
    return np.asarray(values, np.float32)


def _axes(plan: HindcastPlan, template: xarray.Dataset) -> dict[str, xarray.Variable]:
    """Returns the coordinates as they are stored."""
    leads = plan.lead_times.astype("timedelta64[s]").astype(np.int64)
    unit = "seconds" if (leads % 3600).any() else "hours"
    axes = {
        "time": xarray.Variable(
            "time",
            plan.starts.astype("datetime64[s]").astype(np.int64),
            {
                "standard_name": layout.REFERENCE_TIME,
                "long_name": "start of forecast",
                "axis": "T",
            }
            | _DATE_ATTRS,
        ),
        "prediction_timedelta": xarray.Variable(
            "prediction_timedelta",
            leads // 3600 if unit == "hours" else leads,
            {
                "standard_name": "forecast_period",
                "long_name": "lead time",
                "units": unit,
            },
        ),
    }
    if plan.members is not None:
        attrs = layout.COORDINATE_ATTRS["sample"]
        axes["number"] = xarray.Variable("number", np.arange(plan.members), dict(attrs))
    for name in ("level", "lat", "lon"):
        if name in template.dims:
            ours = _NAMES.get(name, name)
            axes[ours] = xarray.Variable(
                ours, template[name].values, dict(layout.COORDINATE_ATTRS[name])
            )
    return axes
