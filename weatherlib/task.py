"""What a model reads and predicts: variables, levels and input duration.

The constants and the three tasks carry the names and values of the published
GraphCast package (version 0.2, module `graphcast`).
"""

from __future__ import annotations

import collections
import dataclasses
import numbers
from collections.abc import Iterable
from typing import Any

from weatherlib import config

__all__ = [
    "ALL_ATMOSPHERIC_VARS",
    "EXTERNAL_FORCING_VARS",
    "FORCING_VARS",
    "GENERATED_FORCING_VARS",
    "PRESSURE_LEVELS",
    "PRESSURE_LEVELS_ERA5_37",
    "PRESSURE_LEVELS_HRES_25",
    "PRESSURE_LEVELS_WEATHERBENCH_13",
    "STATIC_VARS",
    "TARGET_ATMOSPHERIC_NO_W_VARS",
    "TARGET_ATMOSPHERIC_VARS",
    "TARGET_SURFACE_NO_PRECIP_VARS",
    "TARGET_SURFACE_VARS",
    "TASK",
    "TASK_13",
    "TASK_13_PRECIP_OUT",
    "TaskConfig",
]

# All levels in hPa. ERA5 on pressure levels.
PRESSURE_LEVELS_ERA5_37 = (
    1, 2, 3, 5, 7, 10, 20, 30, 50, 70, *range(100, 251, 25), *range(300, 701, 50),
    *range(750, 1001, 25),
)  # fmt: skip

# ECMWF high-resolution forecast, set I.
PRESSURE_LEVELS_HRES_25 = (
    1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 150, 200, 250, 300, *range(400, 801, 100),
    850, 900, 925, 950, 1000,
)  # fmt: skip

# WeatherBench, doi:10.1029/2020MS002203.
PRESSURE_LEVELS_WEATHERBENCH_13 = (
    50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000,
)  # fmt: skip

PRESSURE_LEVELS = {
    len(levels): levels
    for levels in (
        PRESSURE_LEVELS_WEATHERBENCH_13,
        PRESSURE_LEVELS_HRES_25,
        PRESSURE_LEVELS_ERA5_37,
    )
}

# Every variable that ERA5 has on pressure levels.
ALL_ATMOSPHERIC_VARS = (
    "potential_vorticity",
    "specific_rain_water_content",
    "specific_snow_water_content",
    "geopotential",
    "temperature",
    "u_component_of_wind",
    "v_component_of_wind",
    "specific_humidity",
    "vertical_velocity",
    "vorticity",
    "divergence",
    "relative_humidity",
    "ozone_mass_mixing_ratio",
    "specific_cloud_liquid_water_content",
    "specific_cloud_ice_water_content",
    "fraction_of_cloud_cover",
)

TARGET_SURFACE_NO_PRECIP_VARS = (
    "2m_temperature",
    "mean_sea_level_pressure",
    "10m_v_component_of_wind",
    "10m_u_component_of_wind",
)
TARGET_SURFACE_VARS = (*TARGET_SURFACE_NO_PRECIP_VARS, "total_precipitation_6hr")
TARGET_ATMOSPHERIC_VARS = (
    "temperature",
    "geopotential",
    "u_component_of_wind",
    "v_component_of_wind",
    "vertical_velocity",
    "specific_humidity",
)
TARGET_ATMOSPHERIC_NO_W_VARS = tuple(
    name for name in TARGET_ATMOSPHERIC_VARS if name != "vertical_velocity"
)
EXTERNAL_FORCING_VARS = ("toa_incident_solar_radiation",)
GENERATED_FORCING_VARS = (
    "year_progress_sin",
    "year_progress_cos",
    "day_progress_sin",
    "day_progress_cos",
)
FORCING_VARS = EXTERNAL_FORCING_VARS + GENERATED_FORCING_VARS
STATIC_VARS = ("geopotential_at_surface", "land_sea_mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig(config.Mapping):
    """The variables and levels on which a model is trained and evaluated.

    Attributes:
      input_variables: Names of everything the model reads at past times, forcings and
        static fields included.
      target_variables: Names of what it predicts.
      forcing_variables: Names of what is known at the predicted times. May be empty.
      pressure_levels: Levels of the atmospheric variables in their order in the data,
        hPa. May be empty where all variables lie on one level.
      input_duration: Length of the past that the model reads, such as "12h" for two
        frames six hours apart.

    Raises:
      ValueError: A name or level is repeated or of the wrong type, there are no inputs
        or no targets, a forcing is also a target, or `input_duration` is not a
        positive length of time.
    """

    input_variables: tuple[str, ...]
    target_variables: tuple[str, ...]
    forcing_variables: tuple[str, ...]
    pressure_levels: tuple[int, ...]
    input_duration: str

    def __post_init__(self) -> None:
        for field in ("input_variables", "target_variables", "forcing_variables"):
            object.__setattr__(self, field, _names(field, getattr(self, field)))
        object.__setattr__(self, "pressure_levels", _levels(self.pressure_levels))
        for field in ("input_variables", "target_variables"):
            if not getattr(self, field):
                raise ValueError(f"{field} is empty; a task needs at least one")
        both = [v for v in self.forcing_variables if v in self.target_variables]
        if both:
            raise ValueError(
                f"{', '.join(both)}: both in forcing_variables and target_variables; "
                "a forcing is known in advance and cannot be predicted"
            )
        _check_duration(self.input_duration)


def _names(field: str, values: Any) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ValueError(f"{field} must be a tuple of names, found the text {values!r}")
    names = tuple(values)
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise ValueError(f"{field} must hold variable names, found {wrong}")
    _check_distinct(field, names)
    # A NumPy string would not survive a comparison of types later.
    return tuple(map(str, names))


def _levels(values: Any) -> tuple[int, ...]:
    levels = tuple(values)
    wrong = [
        level
        for level in levels
        if isinstance(level, bool)
        or not isinstance(level, numbers.Real)
        or not float(level).is_integer()
        or level <= 0
    ]
    if wrong:
        raise ValueError(
            f"pressure_levels must be positive whole numbers of hPa, found {wrong}"
        )
    whole = tuple(int(level) for level in levels)
    _check_distinct("pressure_levels", whole)
    return whole


def _check_distinct(field: str, values: Iterable[Any]) -> None:
    repeated = [value for value, n in collections.Counter(values).items() if n > 1]
    if repeated:
        raise ValueError(f"{field} repeats {', '.join(map(str, repeated))}")


def _check_duration(duration: Any) -> None:
    import pandas as pd

    message = (
        "input_duration must be a positive length of time such as '12h', "
        f"found {duration!r}"
    )
    if not isinstance(duration, str):
        raise ValueError(message)
    try:
        parsed = pd.Timedelta(duration)
    except ValueError as error:
        raise ValueError(message) from error
    # `not >` rather than `<=`: pandas reads an empty text as not-a-time.
    if not parsed > pd.Timedelta(0):
        raise ValueError(message)


TASK = TaskConfig(
    input_variables=(
        TARGET_SURFACE_VARS + TARGET_ATMOSPHERIC_VARS + FORCING_VARS + STATIC_VARS
    ),
    target_variables=TARGET_SURFACE_VARS + TARGET_ATMOSPHERIC_VARS,
    forcing_variables=FORCING_VARS,
    pressure_levels=PRESSURE_LEVELS_ERA5_37,
    input_duration="12h",
)
TASK_13 = dataclasses.replace(TASK, pressure_levels=PRESSURE_LEVELS_WEATHERBENCH_13)
TASK_13_PRECIP_OUT = dataclasses.replace(
    TASK_13,
    input_variables=tuple(
        name for name in TASK_13.input_variables if name != "total_precipitation_6hr"
    ),
)
