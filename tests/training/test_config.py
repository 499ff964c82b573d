import math

import pytest

from weatherlib import config, task, training

BASE = {
    "output": "runs/x",
    "data": {"path": "x.nc", "task": "TASK_13"},
    "model": {"family": "graphcast"},
    "stages": [{"steps": 3, "schedule": {"peak": 1e-3}}],
}


def _read(**changes):
    return config.from_dict(training.TrainConfig, {**BASE, **changes})


def test_a_minimal_configuration_has_defaults():
    settings = _read()
    assert settings.data.task_config() == task.TASK_13
    assert settings.optimizer.weight_decay == 0.1
    assert settings.stages[0].rollouts == (1,)
    assert settings.loss.is_own


def test_a_path_as_init_takes_the_whole_checkpoint():
    settings = _read(init_from="a.npz")
    assert str(settings.init_from.path) == "a.npz"
    assert settings.init_from.skip == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": {}}, "unknown key 'optimiser'.*did you mean 'optimizer'"),
        (
            {"optimizer": {"weight_deca": 1}},
            "optimizer: unknown key 'weight_deca'.*'weight_decay'",
        ),
        ({"stages": [{"steps": 1}]}, "schedule: missing"),
        (
            {"stages": [{"schedule": {}}]},
            r"stages\[0\]: give one of steps and epochs",
        ),
        (
            {"stages": [{"steps": 1, "epochs": 1, "schedule": {}}]},
            "give one of steps and epochs",
        ),
        (
            {"stages": [{"steps": 1, "rollout": 0, "schedule": {}}]},
            "rollout must be at least 1",
        ),
        (
            {"data": {"path": "x", "task": "TASK_14"}},
            "no task 'TASK_14'.*did you mean 'TASK_13'",
        ),
        (
            {"data": {"path": "x", "task": "TASK", "train": {"end": "soon"}}},
            "data.train: end: expected a time such as .* found 'soon'",
        ),
        (
            {
                "data": {
                    "path": "x",
                    "task": "TASK",
                    "train": {"start": "2020-02-01", "end": "2020-01-01"},
                }
            },
            "start 2020-02-01 is not before end 2020-01-01",
        ),
        ({"optimizer": {"ema": 1.0}}, r"ema must be in \[0, 1\)"),
        ({"optimizer": {"accumulate": 2}}, "batch_size 1 is not a multiple of"),
        ({"schedule": {"kind": "cosin"}}, "schedule.kind: expected one of"),
        ({"loss": {"variables": {"a": -1.0}}}, "loss: variables: .* from 0 on"),
        ({"loss": {"levels": {500: math.inf}}}, "loss: levels: .* from 0 on"),
        ({"loss": {"huber_delta": math.inf}}, "huber_delta must be positive"),
        ({"optimizer": {"scales": {"*": -1}}}, "scales: .* from 0 on"),
        ({"optimizer": {"weight_decay": math.nan}}, "weight_decay must be a number"),
        ({"schedule": {"peak": math.inf}}, "schedule: peak must be a number from 0 on"),
        ({"schedule": {"warmup_epochs": -1}}, "warmup_epochs must be a number from 0"),
        ({"wrappers": {"noise_level": -0.1}}, "noise_level must be a number from 0 on"),
        ({"validation": {"min_change": math.nan}}, "min_change must be a number from"),
        ({"validation": {"lead": "foo"}}, "validation: lead: expected a length"),
        ({"stages": [{"epochs": math.inf, "schedule": {}}]}, "epochs must be positive"),
        ({"stages": [{"steps": 2**31, "schedule": {}}]}, "steps can be 2147483647 at"),
        ({"seed": -1}, "seed must lie in 0 to"),
        ({"output": ""}, "output is empty"),
        ({"init_from": ""}, "init_from is empty"),
        ({"data": {"path": "", "task": "TASK"}}, "data: path is empty"),
        (
            {"data": {"path": "x", "task": "TASK", "time_step": "6"}},
            "data: time_step: '6' has no unit",
        ),
        (
            {"data": {"path": "x", "task": "TASK", "nan_allowed": ["geopotental"]}},
            "data.nan_allowed: 'geopotental' .*did you mean 'geopotential'",
        ),
        (
            {"data": {"path": "x", "sources": [{"path": "y", "weight": math.inf}]}},
            r"sources\[0\]: weight must be positive",
        ),
        (
            {"sharding": {"dims": {"latt": None}}},
            "dims: unknown dimension 'latt' .did you mean 'lat'",
        ),
        ({"precision": "float16"}, "precision: expected one of"),
        ({"validation": {"leads": [0]}}, "leads count from 1"),
        ({"validation": {"metric": "rmse", "leads": []}}, "metric rmse needs leads"),
        ({"checkpoint_every": 0}, "checkpoint_every must be positive"),
    ],
)
def test_wrong_settings_say_what_and_where(changes, message):
    with pytest.raises(ValueError, match=message):
        _read(**changes)


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ((None, "2020"), ("2020", None), False),
        ((None, "2020-02"), ("2020", None), True),
        (("2019", "2020"), ("2021", "2022"), False),
        ((None, None), ("2021", "2022"), True),
        (("2019", "2022"), ("2020", "2021"), True),
    ],
)
def test_periods_that_share_a_time_overlap(first, second, overlap):
    one = training.Period(start=first[0], end=first[1])
    two = training.Period(start=second[0], end=second[1])
    assert one.overlaps(two) is overlap
    assert two.overlaps(one) is overlap
