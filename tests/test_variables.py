"""The vocabulary of variables."""

import collections
import subprocess
import sys

import pytest

from weatherlib import task, variables

_CLIMAX = (
    *("2m_temperature", "10m_u_component_of_wind", "10m_v_component_of_wind"),
    *("land_sea_mask", "orography", "lattitude", "toa_incident_solar_radiation"),
    *("geopotential", "temperature", "relative_humidity", "specific_humidity"),
    *("u_component_of_wind", "v_component_of_wind", "total_precipitation"),
)
_GENCAST = ("sea_surface_temperature", "total_precipitation_12hr", "vertical_velocity")


def test_no_name_means_two_things():
    names = collections.Counter()
    for variable in variables.VARIABLES.values():
        names.update({variable.name, *variable.short_names})
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *task.TASK.input_variables,
            *task.TASK.target_variables,
            *task.ALL_ATMOSPHERIC_VARS,
            *_CLIMAX,
            *_GENCAST,
        }
    ),
)
def test_every_variable_of_the_models_is_known(name):
    assert variables.get(name).name == name


def test_kinds_agree_with_the_lists_of_the_tasks():
    for name in task.ALL_ATMOSPHERIC_VARS:
        assert variables.get(name).kind == "atmospheric"
    for name in task.TARGET_SURFACE_VARS:
        assert variables.get(name).kind == "surface"
    for name in task.STATIC_VARS:
        assert variables.get(name).kind == "static"
    for name in task.FORCING_VARS:
        assert variables.get(name).kind == "forcing"


@pytest.mark.parametrize(
    ("short_name", "name"),
    [
        ("t2m", "2m_temperature"),
        ("msl", "mean_sea_level_pressure"),
        ("u10", "10m_u_component_of_wind"),
        ("z", "geopotential"),
        ("r", "relative_humidity"),
        ("vo", "vorticity"),
        ("tisr", "toa_incident_solar_radiation"),
        ("lsm", "land_sea_mask"),
        ("tcwv", "total_column_water_vapour"),
        ("sst", "sea_surface_temperature"),
        ("gh", "geopotential_height"),
    ],
)
def test_short_names_lead_to_long_ones(short_name, name):
    assert variables.get(short_name).name == name
    assert variables.find(short_name) is variables.VARIABLES[name]


def test_unknown_names_are_told_apart():
    assert variables.find("snowfall_of_mars") is None
    with pytest.raises(KeyError, match="snowfall_of_mars"):
        variables.get("snowfall_of_mars")


def test_names_are_listed_by_kind():
    assert "orography" in variables.names("static")
    assert "orography" not in variables.names("surface")
    assert set(variables.names()) == set(variables.VARIABLES)


@pytest.mark.parametrize("variable", variables.VARIABLES.values(), ids=lambda v: v.name)
def test_bounds_and_units_are_usable(variable):
    low, high = variable.bounds
    assert low < high
    assert variable.units == variable.units.strip() != ""
    assert variable.display_name
    assert "_" not in variable.long_name


def test_bounds_hold_the_weather_and_reject_other_units():
    bounds = variables.get("2m_temperature").bounds
    assert bounds[0] < 184 < 330 < bounds[1]
    assert not bounds[0] < -40
    low, high = variables.get("mean_sea_level_pressure").bounds
    assert low < 87000 < 108500 < high
    assert not low < 1013 < high


def test_sums_carry_their_period():
    precipitation = variables.get("total_precipitation_6hr")
    assert precipitation.accumulation_hours == 6
    assert precipitation.cell_methods == "time: sum (interval: 6 hours)"
    assert variables.get("tisr").cell_methods == "time: sum (interval: 1 hour)"
    assert variables.get("2m_temperature").cell_methods is None


def test_the_vocabulary_loads_neither_jax_nor_xarray():
    code = (
        "import sys, weatherlib.variables;"
        "sys.exit(bool({'jax', 'xarray', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
