"""Forecasts by several processes together."""

import dataclasses
import json

import numpy as np
import pytest
import xarray

from tests import processes
from tests.rollout import processes_worker
from weatherlib import rollout
from weatherlib.training import distributed, sharding

MODULE = "tests.rollout.processes_worker"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The forecasts of two processes, each with those it has got."""
    folder = tmp_path_factory.mktemp("processes")
    settings = json.dumps({"folder": str(folder)})
    processes.outputs(processes.launch_together(2, MODULE, settings))
    return folder


@pytest.fixture(scope="module")
def alone():
    return processes_worker.make()


def _same(found, expected):
    assert set(found) == set(expected)
    for name, field in expected.items():
        np.testing.assert_allclose(found[name].values, field.values, atol=1e-6)


@pytest.mark.parametrize("name", ["single", "members", "starts"])
@pytest.mark.parametrize("process", [0, 1])
def test_each_process_has_the_whole_forecast_of_one(folder, alone, name, process):
    with xarray.open_dataset(folder / f"{name}_{process}.nc") as found:
        _same(found, alone[name])


def test_a_forecast_is_continued_where_only_the_first_process_has_its_file(
    folder, alone
):
    with xarray.open_dataset(folder / "resumed_0.nc") as found:
        _same(found, alone["single"])
    _same(alone["resumed"], alone["single"])
    assert not (folder / "resumed_1.nc").exists()


def test_a_lost_process_ends_the_forecast_of_the_other_with_an_error(tmp_path):
    settings = json.dumps({"folder": str(tmp_path), "dies": 1})
    started = processes.launch_together(2, MODULE, settings)
    status, errors = processes.survivor(started, dead=1)
    assert status == distributed.EXIT_LOST_WORKER
    assert "error: process 1 of the run is lost" in errors
    assert "start the same command again" in errors
    assert "Traceback" not in errors


@dataclasses.dataclass(frozen=True)
class _Device:
    id: int
    process_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"


def test_devices_of_processes_that_are_not_there_are_refused():
    layout = sharding.Layout(devices=[_Device(0, 0), _Device(1, 1)])
    with pytest.raises(ValueError, match=r"found those of process\(es\) \[0, 1\]"):
        rollout.Forecaster(lambda: None, {}, sharding=layout)


def test_the_process_that_writes_needs_a_writer():
    inputs, targets, forcings = processes_worker.parts()
    with pytest.raises(ValueError, match="writer: None"):
        processes_worker.forecaster().run(
            inputs, None, forcings, targets_template=targets
        )
