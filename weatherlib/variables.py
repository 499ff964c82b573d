"""The vocabulary: names, units and plausible bounds of every known variable.

Names are those of ERA5 and WeatherBench, which GraphCast, GenCast and ClimaX use. Units
are SI. Bounds are wide: a value outside them is a broken field or another unit, never
weather.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import Literal

__all__ = [
    "GRAVITY",
    "VARIABLES",
    "Kind",
    "Variable",
    "changes_sign_when_mirrored",
    "find",
    "get",
    "names",
]

# Standard gravity, m s-2: geopotential divided by it is geopotential height.
GRAVITY = 9.80665

Kind = Literal["surface", "atmospheric", "static", "forcing"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variable:
    """One quantity of the vocabulary.

    Attributes:
      name: Long name as ERA5 and WeatherBench spell it.
      units: Unit in CF spelling, "1" where there is none.
      display_name: Short title for maps and tables.
      kind: `surface` has (time, lat, lon), `atmospheric` also level, `static` only
        (lat, lon), `forcing` is known in advance and has time.
      bounds: Lowest and highest plausible value, in `units`.
      standard_name: CF standard name, None where the convention has none.
      short_names: Other names under which files hold the same quantity in the same
        meaning: GRIB short names, CDS NetCDF names and other archives' names.
      accumulation_hours: Length of the period ending at the valid time over which the
        value is summed, None for instantaneous values.
    """

    name: str
    units: str
    display_name: str
    kind: Kind
    bounds: tuple[float, float]
    standard_name: str | None = None
    short_names: tuple[str, ...] = ()
    accumulation_hours: int | None = None

    @property
    def long_name(self) -> str:
        """The name in words, as the attribute `long_name` of a file."""
        return self.name.replace("_", " ")

    @property
    def cell_methods(self) -> str | None:
        """The CF attribute that says how the value covers its period of time."""
        if self.accumulation_hours is None:
            return None
        unit = "hour" if self.accumulation_hours == 1 else "hours"
        return f"time: sum (interval: {self.accumulation_hours} {unit})"


def _variables(
    kind: Kind, rows: Mapping[str, tuple[str, str, float, float, str | None, str]]
) -> Iterator[Variable]:
    """Yields variables from rows (units, title, low, high, CF name, short names)."""
    for name, (units, title, low, high, standard_name, short_names) in rows.items():
        yield Variable(
            name=name,
            units=units,
            display_name=title,
            kind=kind,
            bounds=(low, high),
            standard_name=standard_name,
            short_names=tuple(short_names.split()),
            accumulation_hours=_ACCUMULATION_HOURS.get(name),
        )


_ACCUMULATION_HOURS = {
    "total_precipitation": 1,
    "total_precipitation_1hr": 1,
    "total_precipitation_6hr": 6,
    "total_precipitation_12hr": 12,
    "total_precipitation_24hr": 24,
    "toa_incident_solar_radiation": 1,
}

# Predicted humidities, ratios and rain dip a little below zero; so do their bounds.
# fmt: off
_ATMOSPHERIC = {
    "geopotential": (
        "m2 s-2", "Geopotential", -1.5e4, 6e5, "geopotential", "z"),
    "wind_speed": (
        "m s-1", "Wind speed", -5.0, 300.0, "wind_speed", "ws"),
    "temperature": (
        "K", "Temperature", 130.0, 360.0, "air_temperature", "t ta air_temperature"),
    "u_component_of_wind": (
        "m s-1", "Zonal wind", -250.0, 250.0, "eastward_wind", "u ua eastward_wind"),
    "v_component_of_wind": (
        "m s-1", "Meridional wind", -250.0, 250.0, "northward_wind",
        "v va northward_wind"),
    "vertical_velocity": (
        "Pa s-1", "Vertical velocity", -100.0, 100.0,
        "lagrangian_tendency_of_air_pressure", "w wap omega"),
    "specific_humidity": (
        "kg kg-1", "Specific humidity", -0.01, 0.07, "specific_humidity", "q hus"),
    "relative_humidity": (
        "%", "Relative humidity", -50.0, 250.0, "relative_humidity", "r rh hur"),
    "vorticity": (
        "s-1", "Relative vorticity", -0.1, 0.1, "atmosphere_relative_vorticity",
        "vo relative_vorticity"),
    "divergence": (
        "s-1", "Divergence", -0.1, 0.1, "divergence_of_wind", "d dv"),
    "potential_vorticity": (
        "K m2 kg-1 s-1", "Potential vorticity", -0.1, 0.1,
        "ertel_potential_vorticity", "pv"),
    "ozone_mass_mixing_ratio": (
        "kg kg-1", "Ozone", -1e-5, 1e-4, "mass_fraction_of_ozone_in_air", "o3"),
    "specific_cloud_liquid_water_content": (
        "kg kg-1", "Cloud liquid water", -0.01, 0.05,
        "mass_fraction_of_cloud_liquid_water_in_air", "clwc"),
    "specific_cloud_ice_water_content": (
        "kg kg-1", "Cloud ice", -0.01, 0.05, "mass_fraction_of_cloud_ice_in_air",
        "ciwc"),
    "specific_rain_water_content": (
        "kg kg-1", "Rain water", -0.01, 0.05, None, "crwc"),
    "specific_snow_water_content": (
        "kg kg-1", "Snow water", -0.01, 0.05, None, "cswc"),
    "fraction_of_cloud_cover": (
        "1", "Cloud fraction", -0.1, 1.1, "cloud_area_fraction_in_atmosphere_layer",
        "cc"),
    "geopotential_height": (
        "m", "Geopotential height", -1.5e3, 6e4, "geopotential_height", "gh zg"),
}
_SURFACE = {
    "2m_temperature": (
        "K", "2 m temperature", 150.0, 350.0, "air_temperature", "t2m 2t tas"),
    "2m_relative_humidity": (
        "%", "2 m relative humidity", -50.0, 250.0, "relative_humidity", "r2 2r"),
    "2m_dewpoint_temperature": (
        "K", "2 m dew point", 130.0, 330.0, "dew_point_temperature", "d2m 2d"),
    "10m_u_component_of_wind": (
        "m s-1", "10 m zonal wind", -120.0, 120.0, "eastward_wind", "u10 10u uas u10m"),
    "10m_v_component_of_wind": (
        "m s-1", "10 m meridional wind", -120.0, 120.0, "northward_wind",
        "v10 10v vas v10m"),
    "10m_wind_speed": (
        "m s-1", "10 m wind speed", -5.0, 150.0, "wind_speed",
        "si10 10si sfcWind ws10"),
    "100m_u_component_of_wind": (
        "m s-1", "100 m zonal wind", -150.0, 150.0, "eastward_wind",
        "u100 100u u100m"),
    "100m_v_component_of_wind": (
        "m s-1", "100 m meridional wind", -150.0, 150.0, "northward_wind",
        "v100 100v v100m"),
    "mean_sea_level_pressure": (
        "Pa", "Mean sea-level pressure", 8.5e4, 1.15e5,
        "air_pressure_at_mean_sea_level",
        "msl slp prmsl psl air_pressure_at_mean_sea_level"),
    "surface_pressure": (
        "Pa", "Surface pressure", 3e4, 1.15e5, "surface_air_pressure",
        "sp ps surface_air_pressure"),
    "sea_surface_temperature": (
        "K", "Sea-surface temperature", 260.0, 320.0, "sea_surface_temperature", "sst"),
    "skin_temperature": (
        "K", "Skin temperature", 150.0, 380.0, "surface_temperature", "skt"),
    "sea_ice_cover": (
        "1", "Sea ice", -0.2, 1.2, "sea_ice_area_fraction", "siconc ci sea_ice_fraction"
        ),
    "snow_depth": (
        "m", "Snow depth", -0.5, 20.0, "lwe_thickness_of_surface_snow_amount", "sd"),
    "total_cloud_cover": (
        "1", "Total cloud", -0.2, 1.2, "cloud_area_fraction", "tcc"),
    "total_column_water_vapour": (
        "kg m-2", "Column water vapour", -5.0, 150.0,
        "atmosphere_mass_content_of_water_vapor", "tcwv"),
    "total_column_water": (
        "kg m-2", "Column water", -5.0, 160.0, None, "tcw"),
    "total_precipitation": (
        "m", "Precipitation", -0.02, 1.0, "lwe_thickness_of_precipitation_amount",
        "tp"),
    "total_precipitation_1hr": (
        "m", "Precipitation, 1 h", -0.02, 1.0,
        "lwe_thickness_of_precipitation_amount", "tp1h"),
    "total_precipitation_6hr": (
        "m", "Precipitation, 6 h", -0.02, 2.0,
        "lwe_thickness_of_precipitation_amount", "tp6h tp06"),
    "total_precipitation_12hr": (
        "m", "Precipitation, 12 h", -0.02, 3.0,
        "lwe_thickness_of_precipitation_amount", "tp12h tp12"),
    "total_precipitation_24hr": (
        "m", "Precipitation, 24 h", -0.02, 4.0,
        "lwe_thickness_of_precipitation_amount", "tp24h tp24"),
}
_STATIC = {
    "geopotential_at_surface": (
        "m2 s-2", "Surface geopotential", -1.5e4, 1e5, "surface_geopotential",
        "zs phis"),
    "land_sea_mask": (
        "1", "Land-sea mask", -0.1, 1.1, "land_binary_mask", "lsm"),
    "orography": (
        "m", "Orography", -1500.0, 10000.0, "surface_altitude", "orog hsurf"),
    "soil_type": (
        "1", "Soil type", 0.0, 10.0, "soil_type", "slt"),
    "lattitude": (
        "degrees_north", "Latitude", -90.0, 90.0, "latitude", "lat2d"),
    "longitude": (
        "degrees_east", "Longitude", -180.0, 360.0, "longitude", "lon2d"),
}
_FORCING = {
    "toa_incident_solar_radiation": (
        "J m-2", "Solar radiation at the top of the atmosphere", -1.0, 4.5e7,
        "integral_wrt_time_of_toa_incoming_shortwave_flux", "tisr"),
    "year_progress": ("1", "Year progress", 0.0, 1.0, None, ""),
    "year_progress_sin": ("1", "Year progress, sine", -1.01, 1.01, None, ""),
    "year_progress_cos": ("1", "Year progress, cosine", -1.01, 1.01, None, ""),
    "day_progress": ("1", "Day progress", 0.0, 1.0, None, ""),
    "day_progress_sin": ("1", "Day progress, sine", -1.01, 1.01, None, ""),
    "day_progress_cos": ("1", "Day progress, cosine", -1.01, 1.01, None, ""),
}
# fmt: on

VARIABLES: Mapping[str, Variable] = types.MappingProxyType(
    {
        variable.name: variable
        for variable in (
            *_variables("atmospheric", _ATMOSPHERIC),
            *_variables("surface", _SURFACE),
            *_variables("static", _STATIC),
            *_variables("forcing", _FORCING),
        )
    }
)

_BY_SHORT_NAME: Mapping[str, Variable] = types.MappingProxyType(
    {
        short_name: variable
        for variable in VARIABLES.values()
        for short_name in variable.short_names
    }
)


def get(name: str) -> Variable:
    """Returns the variable of a long or short name.

    Raises:
      KeyError: The vocabulary has no such name.
    """
    variable = find(name)
    if variable is None:
        raise KeyError(f"{name!r} is not in the vocabulary of weatherlib.variables")
    return variable


def find(name: str) -> Variable | None:
    """Returns the variable of a long or short name, None where it is not known."""
    return VARIABLES.get(name) or _BY_SHORT_NAME.get(name)


def changes_sign_when_mirrored(name: str) -> bool:
    """Returns whether a quantity is reversed in a world mirrored at the equator.

    Northward components and all kinds of vorticity are. Names outside the vocabulary
    are judged by their words.
    """
    variable = find(name)
    words = f"{name} {variable.standard_name or ''}" if variable else name
    return any(w in words for w in ("northward", "v_component", "vorticity"))


def names(kind: Kind | None = None) -> tuple[str, ...]:
    """Returns the long names of one kind, or of all, in the order of the table."""
    return tuple(
        name for name, variable in VARIABLES.items() if kind in (None, variable.kind)
    )
