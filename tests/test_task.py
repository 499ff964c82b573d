"""The published tasks, and the checks on any task."""

import dataclasses

import numpy as np
import pytest

from weatherlib import task

VALID = {
    "input_variables": ("a", "b", "f"),
    "target_variables": ("a", "b"),
    "forcing_variables": ("f",),
    "pressure_levels": (500, 850),
    "input_duration": "12h",
}


def make(**changes):
    return task.TaskConfig(**(VALID | changes))


def test_the_published_tasks_have_the_published_channels():
    # 178 + 5 input and 83 output channels are those of the one-degree GraphCast.
    def channels(names):
        return sum(13 if name in task.ALL_ATMOSPHERIC_VARS else 1 for name in names)

    statics, forcings = task.STATIC_VARS, task.FORCING_VARS
    moving = [v for v in task.TASK_13.input_variables if v not in statics + forcings]
    past = 2 * channels(moving) + 2 * len(forcings) + len(statics)
    assert past + len(forcings) == 183
    assert channels(task.TASK_13.target_variables) == 83


@pytest.mark.parametrize(
    ("config", "levels", "inputs"),
    [(task.TASK, 37, 18), (task.TASK_13, 13, 18), (task.TASK_13_PRECIP_OUT, 13, 17)],
)
def test_each_task_has_its_levels_and_inputs(config, levels, inputs):
    assert config.pressure_levels == task.PRESSURE_LEVELS[levels]
    assert len(config.input_variables) == inputs
    assert len(config.target_variables) == 11
    assert config.input_duration == "12h"


def test_only_the_operational_task_does_not_read_precipitation():
    rain = "total_precipitation_6hr"
    assert rain in task.TASK.input_variables
    assert rain in task.TASK_13.input_variables
    assert rain not in task.TASK_13_PRECIP_OUT.input_variables
    assert rain in task.TASK_13_PRECIP_OUT.target_variables


def test_level_sets_are_ascending_and_named_by_their_number():
    for number, levels in task.PRESSURE_LEVELS.items():
        assert len(levels) == number
        assert list(levels) == sorted(set(levels))
        assert all(type(level) is int for level in levels)
    assert task.PRESSURE_LEVELS[37][10:14] == (100, 125, 150, 175)
    assert task.PRESSURE_LEVELS[37][-3:] == (950, 975, 1000)
    assert set(task.PRESSURE_LEVELS[13]) <= set(task.PRESSURE_LEVELS[37])
    assert set(task.PRESSURE_LEVELS[25]) <= set(task.PRESSURE_LEVELS[37])


def test_a_task_is_a_frozen_mapping():
    config = make()
    assert dict(**config) == VALID
    assert config["pressure_levels"] == (500, 850)
    assert hash(config) == hash(make())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.input_duration = "6h"


def test_lists_and_numpy_values_become_tuples_of_python_values():
    config = make(
        input_variables=["a", np.str_("b"), "f"],
        pressure_levels=np.array([500, 850], np.int32),
    )
    assert config == make()
    assert all(type(level) is int for level in config.pressure_levels)
    assert all(type(name) is str for name in config.input_variables)


def test_levels_and_forcings_may_be_absent_and_in_any_order():
    assert make(pressure_levels=(), forcing_variables=()).pressure_levels == ()
    assert make(pressure_levels=(850, 500)).pressure_levels == (850, 500)
    assert make(pressure_levels=(850.0,)).pressure_levels == (850,)


@pytest.mark.parametrize("duration", ["6h", "12h", "1D", "18 hours", "PT12H"])
def test_any_length_of_time_is_an_input_duration(duration):
    assert make(input_duration=duration).input_duration == duration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_variables": ("a", "a")}, "input_variables repeats a"),
        ({"target_variables": ("a", "b", "b")}, "target_variables repeats b"),
        ({"forcing_variables": ("f", "f")}, "forcing_variables repeats f"),
        ({"pressure_levels": (500, 850, 500)}, "pressure_levels repeats 500"),
        ({"input_variables": ()}, "input_variables is empty"),
        ({"target_variables": ()}, "target_variables is empty"),
        ({"target_variables": "a"}, "must be a tuple of names, found the text 'a'"),
        ({"input_variables": ("a", 3)}, r"must hold variable names, found \[3\]"),
        ({"input_variables": ("a", "")}, r"must hold variable names, found \[''\]"),
        ({"forcing_variables": ("f", "a")}, "a: both in forcing_variables and target"),
        ({"pressure_levels": (0, 500)}, r"positive whole numbers of hPa, found \[0\]"),
        ({"pressure_levels": (0.5,)}, r"positive whole numbers of hPa, found \[0.5\]"),
        ({"pressure_levels": ("500",)}, "positive whole numbers of hPa"),
        ({"pressure_levels": (True,)}, "positive whole numbers of hPa"),
        ({"input_duration": "twelve"}, "positive length of time.*found 'twelve'"),
        ({"input_duration": "0h"}, "positive length of time.*found '0h'"),
        ({"input_duration": "-6h"}, "positive length of time.*found '-6h'"),
        ({"input_duration": ""}, "positive length of time.*found ''"),
        ({"input_duration": 12}, "positive length of time.*found 12"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
