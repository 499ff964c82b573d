"""Forecasts of `weatherlib predict` over several devices and processes."""

import json

import numpy as np
import pytest
import xarray

from tests import processes
from tests.cli import grid_runs
from weatherlib import data
from weatherlib.cli import main, spreading, start_blocks
from weatherlib.training import distributed

SET = ("--init", "2020-01-12T00:2020-01-13T00:12h", "--steps", "2")
MEMBERS = ("--init", "2020-01-12T00", "--steps", "1", "--members", "3")
ONE = ("--init", "2020-01-12T00", "--steps", "2")
EIGHT = "--xla_force_host_platform_device_count=8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return grid_runs.make(tmp_path_factory.mktemp("spread"))


def command(folder, name, *more):
    """Returns the words that make a forecast of a name."""
    return [
        "predict", "--model", str(folder / "run" / "checkpoint.npz"), "--conform",
        "--data", str(folder / "weather.nc"), "--out-dir", str(folder / name),
        "--output", str(folder / f"{name}.zarr"), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def spread(folder):
    """What eight devices printed, and made with and without --sharding."""
    words = [
        command(folder, "set", *SET),
        command(folder, "set_8", *SET, "--sharding", "data=4,space=2"),
        command(folder, "members", *MEMBERS),
        command(folder, "members_8", *MEMBERS, "--sharding", "data=-1,lat=2"),
        command(folder, "one", *ONE),
        command(folder, "one_8", *ONE, "--sharding", "space=8"),
    ]
    started = processes.launch(
        "tests.cli.spread_worker", json.dumps(words), XLA_FLAGS=EIGHT
    )
    (output,) = processes.outputs([started])
    assert json.loads(output.strip().splitlines()[-1]) == [0] * 6
    return output


def _same(folder, name, other):
    with (
        data.open_dataset(folder / f"{name}.zarr", canonical=False) as expected,
        data.open_dataset(folder / f"{other}.zarr", canonical=False) as found,
    ):
        assert dict(found.sizes) == dict(expected.sizes)
        for variable, field in expected.data_vars.items():
            np.testing.assert_allclose(found[variable], field, rtol=1e-6)
        xarray.testing.assert_equal(
            found.coords.to_dataset(), expected.coords.to_dataset()
        )


@pytest.mark.parametrize("name", ["set", "members", "one"])
def test_eight_devices_make_the_forecasts_of_one(folder, spread, name):
    _same(folder, name, f"{name}_8")


def test_what_shares_the_work_is_printed(spread):
    assert "layout    data: 4, space: 2 on 8 cpu devices" in spread
    assert "layout    space: 8 on 8 cpu devices" in spread


def test_two_processes_make_the_set_of_one_and_the_first_writes_it(folder, spread):
    words = command(folder, "set_2", *SET)
    started = processes.launch_together(2, "weatherlib", *words)
    first, second = processes.outputs(started)
    assert "data: 2 on 2 cpu devices of 2 processes" in first
    assert "Forecast" not in second and "layout" not in second
    _same(folder, "set", "set_2")


@pytest.mark.slow
def test_two_processes_make_the_forecast_of_one(folder, spread):
    words = command(folder, "one_2", *ONE, "--sharding", "space=2")
    first, _ = processes.outputs(processes.launch_together(2, "weatherlib", *words))
    assert "space: 2 on 2 cpu devices of 2 processes" in first
    _same(folder, "one", "one_2")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((*SET, "--sharding", "data"), "expected axes and sizes, such as --sharding"),
        ((*SET, "--sharding", "data=two"), "found 'data=two'"),
        ((*SET, "--sharding", "data=1,data=1"), "expected axes and sizes"),
        ((*SET, "--sharding", "spce=2"), "'spce' (did you mean 'space'?)"),
        ((*SET, "--sharding", "data=0"), "--sharding: mesh: expected axes with"),
        ((*SET, "--sharding", "data=3,space=5"), "--sharding: mesh: data: 3, space: 5"),
    ],
)
def test_a_sharding_that_makes_no_sense_is_refused(folder, capsys, more, message):
    assert main.main(command(folder, "bad", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "bad.zarr").exists()


def test_one_forecast_has_no_members_to_share(folder):
    words = command(folder, "bad", *ONE, "--sharding", "data=8")
    started = processes.launch("weatherlib", *words, XLA_FLAGS=EIGHT)
    _, errors = started.communicate(timeout=processes.TIME_LIMIT)
    assert started.returncode == 2
    assert "this is one forecast; use space=8, or several starts" in errors


def test_a_follower_knows_what_is_complete():
    plan = data.HindcastPlan(
        starts=np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]"),
        lead_times=np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]"),
        members=3,
    )
    complete = np.array([[1, 1, 0], [0, 1, 1]], bool)
    follower = spreading.Follower(plan, complete)
    assert follower.is_complete(0, range(2))
    assert not follower.is_complete(0)
    assert follower.is_complete(1, range(1, 3))
    assert follower.slot(0, range(2)) is None


def test_one_process_agrees_with_itself():
    spreading.require_same(distributed.Run(), "anything")


@pytest.mark.parametrize(("starts", "parts", "size"), [(5, 4, 8), (3, 1, 3), (8, 4, 8)])
def test_a_block_of_starts_gives_each_device_as_many(starts, parts, size):
    assert start_blocks.batch_size(100, None, starts, parts=parts) == size


def test_processes_with_other_commands_are_refused(monkeypatch):
    run = distributed.Run()
    run.num_processes = 2
    monkeypatch.setattr(spreading, "_shared", lambda array: array)
    spreading.require_same(run, "steps 4")
    monkeypatch.setattr(spreading, "_shared", lambda array: array + np.uint8(1))
    with pytest.raises(ValueError, match="this one differs from the first"):
        spreading.require_same(run, "steps 4")
