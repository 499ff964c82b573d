import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests import processes
from tests.processes import ROOT, TIME_LIMIT, finished, free_port, survivor
from weatherlib import config
from weatherlib.training import distributed


def start_run(folder, count, **settings):
    """Starts the processes of a run; returns them."""
    port = free_port()
    return [
        processes.launch(
            "tests.training.distributed_worker",
            json.dumps(
                {
                    "processes": count,
                    "process": process,
                    "port": port,
                    "state": str(folder / "state.npz"),
                    **settings,
                }
            ),
        )
        for process in range(count)
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The losses of a run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    (result,) = finished(start_run(folder, 1))
    assert result["losses"][-1] < result["losses"][0]
    return result["losses"]


def test_two_processes_have_the_losses_of_one(tmp_path, alone):
    results = finished(start_run(tmp_path, 2))
    for process, result in enumerate(results):
        np.testing.assert_allclose(result["losses"], alone, rtol=1e-5)
        assert result["shard"] == [process, 2]
        assert result["devices"] == 2


def test_a_killed_worker_is_reported_and_the_run_goes_on_from_what_it_saved(
    tmp_path, alone
):
    started = start_run(tmp_path, 2, dies=[1, 2], signal="SIGKILL")
    status, errors = survivor(started, dead=1)
    assert status == distributed.EXIT_LOST_WORKER
    assert "error: process 1 of the run is lost" in errors
    assert "start the same command again" in errors
    assert "Traceback" not in errors
    (result,) = finished(start_run(tmp_path, 1))
    np.testing.assert_allclose(result["losses"], alone[2:], rtol=1e-5)


@pytest.mark.slow
def test_the_loss_of_the_first_process_is_reported_too(tmp_path):
    started = start_run(tmp_path, 2, dies=[0, 2], signal="SIGKILL")
    status, errors = survivor(started, dead=0)
    assert status == distributed.EXIT_LOST_WORKER
    assert "error: process 0 of the run is lost" in errors


@pytest.mark.slow
def test_a_process_that_hangs_does_not_hold_up_the_other_for_ever(tmp_path):
    started = start_run(
        tmp_path, 2, dies=[1, 2], signal="SIGSTOP", lost_after=5.0, grace=2.0
    )
    status, errors = survivor(started, dead=1)
    assert status == distributed.EXIT_LOST_WORKER
    assert "process 1 of the run is lost: it has been silent for 5 s" in errors


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_fails_shows_its_error_and_the_others_name_it(tmp_path, failing):
    started = start_run(tmp_path, 2, fails=[failing, 2])
    status, errors = survivor(started, dead=failing)
    assert status == distributed.EXIT_LOST_WORKER
    assert f"process {failing} of the run is lost: it ended with ValueError" in errors
    assert started[failing].returncode == 1


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (ValueError("wrong"), 1, "ValueError: wrong"),
        (KeyboardInterrupt(), 130, "KeyboardInterrupt"),
        (SystemExit(2), 2, ""),
        (SystemExit("bad flag"), 1, "bad flag"),
        (SystemExit(), 0, ""),
    ],
)
def test_errors_are_reported_as_python_does(error, status, shown, capsys):
    assert distributed.report_error(error) == status
    assert shown in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "shards"),
    [({"data": 2}, [[0, 2], [1, 2]]), ({"space": 2}, [[0, 1], [0, 1]])],
)
def test_two_processes_train_a_graphcast_like_one(tmp_path, mesh, shards):
    (one,) = finished(start_run(tmp_path, 1, model="graphcast"))
    (tmp_path / "state.npz").unlink()
    results = finished(start_run(tmp_path, 2, model="graphcast", mesh=mesh))
    for result in results:
        np.testing.assert_allclose(result["losses"], one["losses"], rtol=1e-5)
    assert [result["shard"] for result in results] == shards


@pytest.mark.slow
def test_all_processes_stop_at_the_step_at_which_one_is_told_to(tmp_path):
    results = finished(start_run(tmp_path, 2, stops=1))
    assert [len(result["losses"]) for result in results] == [3, 3]


def test_a_single_process_starts_nothing(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("JAX_", "SLURM_", "OMPI_", "TPU_")):
            monkeypatch.delenv(name)
    with distributed.start() as run:
        assert (run.process_id, run.num_processes, run.is_main) == (0, 1, True)
        run.check()
        run.barrier()
        assert run.any_of(True)
        with pytest.raises(ZeroDivisionError), run.guard():
            _ = 1 / 0


def test_addresses_come_from_the_environment():
    found = distributed.DistributedConfig().with_environment(
        {
            "JAX_COORDINATOR_ADDRESS": "node001:1234",
            "JAX_NUM_PROCESSES": "4",
            "JAX_PROCESS_ID": "3",
        }
    )
    assert (found.coordinator, found.num_processes, found.process_id) == (
        "node001:1234",
        4,
        3,
    )


def test_arguments_go_before_the_environment():
    given = distributed.DistributedConfig(
        coordinator="a:1", num_processes=2, process_id=1
    )
    environment = {"JAX_NUM_PROCESSES": "8", "JAX_PROCESS_ID": "7"}
    assert given.with_environment(environment) == given
    shared = distributed.DistributedConfig(coordinator="a:1", num_processes=2)
    found = shared.with_environment({"JAX_PROCESS_ID": "1"})
    assert found == given
    with pytest.raises(ValueError, match="given without process_id"):
        shared.with_environment({})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_PROCESS_ID": "1"}, "process_id given without coordinator"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES: expected a number"),
    ],
)
def test_half_an_environment_is_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        distributed.DistributedConfig().with_environment(environment)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"num_processes": 0}, "process_id None of num_processes 0"),
        ({"process_id": -1}, "process_id -1 of num_processes None"),
        (
            {"coordinator": "node", "num_processes": 2, "process_id": 0},
            "expected host:port",
        ),
        (
            {"coordinator": "a:1", "num_processes": 2, "process_id": 2},
            "process_id 2 of num_processes 2",
        ),
        ({"lost_after": 0}, "lost_after must be positive"),
        ({"lost_afer": 1}, "did you mean 'lost_after'"),
    ],
)
def test_bad_settings_are_named(mapping, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(distributed.DistributedConfig, mapping)


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, False),
        (
            {
                "SLURM_NTASKS": "4",
                "SLURM_PROCID": "0",
                "SLURM_STEP_NODELIST": "node[1-4]",
            },
            True,
        ),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "t1,t2"}, True),
    ],
)
def test_launchers_are_recognised(environment, several):
    assert distributed._in_cluster(environment) is several


def test_a_worker_that_never_starts_is_a_clear_error():
    script = (
        "from weatherlib.training import distributed as d\n"
        f"d.start(d.DistributedConfig(coordinator='127.0.0.1:{free_port()}', "
        "num_processes=2, process_id=0, start_timeout=2))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert "error: not all processes of the run started within 2 s" in done.stderr
    assert done.returncode == distributed.EXIT_LOST_WORKER
