"""`weatherlib train` on eight devices, and in two processes that are killed or fail."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.training import toy_runs, toys
from weatherlib.cli import main
from weatherlib.training import distributed, records

_ROOT = pathlib.Path(__file__).parents[2]
_PATIENCE = 240
_BATCHES = ("stages.0.batch_size=8", "validation.batch_size=2")
# Of numbers that were added up in another order.
_ROUNDING = 1e-5


def _start(folder, output, *changes, devices=1, processes=1, slow=0.0, words=()):
    """Starts the processes of a run."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XLA_", "JAX_", "SLURM_", "OMPI_"))
        and not name.lower().endswith("_proxy")
    }
    environment |= {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(_ROOT),
        "SLOW_BATCHES": str(slow),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    settings = [f"output={folder / output}", *_BATCHES, *changes]
    command = [sys.executable, "-m", "tests.training.toy_runs", "train"]
    command += [str(folder / "train.yaml"), *words]
    command += [word for change in settings for word in ("--set", change)]
    started = []
    for process in range(processes):
        if processes > 1:
            environment |= {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(process),
            }
        started.append(
            subprocess.Popen(
                command,
                cwd=_ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def _finish(started):
    """Returns status, output and errors of each process."""
    ended = []
    try:
        for process in started:
            output, errors = process.communicate(timeout=_PATIENCE)
            ended.append((process.returncode, output, errors))
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return ended


def _succeed(*arguments, **options):
    """Returns what each process of a run printed that ended well."""
    ended = _finish(_start(*arguments, **options))
    for status, _, errors in ended:
        assert status == 0, errors[-3000:]
    return [output for _, output, _ in ended]


def _start_slowly(folder, output, *changes):
    """Starts two processes; returns them when the first checkpoint is complete."""
    few = ("data.threads=1", "data.prefetch=1")
    started = _start(folder, output, *few, *changes, processes=2, slow=1.0)
    run = folder / output
    end = time.monotonic() + _PATIENCE
    while not (run / "last" / "4").exists():
        for process in started:
            assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    return started


def _check_same(run, expected):
    """Compares the numbers of two runs, and the weights they exported."""
    found = toys.comparable(records.read_records(run))
    wanted = toys.comparable(records.read_records(expected))
    assert [(r["kind"], r["step"]) for r in found] == [
        (r["kind"], r["step"]) for r in wanted
    ]
    for one, other in zip(map(records.flatten, found), map(records.flatten, wanted)):
        assert one == pytest.approx(other, rel=_ROUNDING)
    losses = [r["loss"] for r in wanted]
    assert losses[-1] < losses[0] * (1 - 100 * _ROUNDING)
    with (
        np.load(run / "checkpoint.npz") as ours,
        np.load(expected / "checkpoint.npz") as theirs,
    ):
        names = [name for name in theirs if name.startswith("params")]
        assert names
        for name in names:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `one`, the run of one device."""
    folder = toy_runs.write(tmp_path_factory.mktemp("scale"))
    settings = [f"output={folder / 'one'}", *_BATCHES]
    words = [word for change in settings for word in ("--set", change)]
    with toy_runs.family():
        assert main.main(["train", str(folder / "train.yaml"), *words]) == 0
    return folder


@pytest.mark.slow
def test_batch_and_space_over_eight_devices_train_as_one_device(folder):
    mesh = ("sharding.mesh={data: 2, space: 4}", "sharding.dims.output=data")
    (output,) = _succeed(folder, "both", *mesh, devices=8)
    assert "data: 2, space: 4 on 8 cpu devices" in output
    _check_same(folder / "both", folder / "one")


def test_two_processes_train_as_one_and_only_the_first_speaks(folder):
    first, second = _succeed(folder, "two", processes=2)
    assert "data: 2 on 2 cpu devices of 2 processes" in first
    assert "update 8 of 8" in first
    assert [line for line in second.splitlines() if "Gloo" not in line] == []
    _check_same(folder / "two", folder / "one")
    assert {path.name for path in (folder / "two").iterdir()} == {
        path.name for path in (folder / "one").iterdir()
    }


@pytest.mark.slow
def test_eight_devices_share_batches_without_being_told_to(folder):
    (output,) = _succeed(folder, "data", devices=8)
    assert "data: 8 on 8 cpu devices" in output
    assert "a validation.batch_size that 8 divides" in output
    _check_same(folder / "data", folder / "one")
    # Accumulated parts of four samples leave four devices without any.
    (output,) = _succeed(
        folder, "parts", "optimizer.accumulate=2", devices=8, words=["--dry-run"]
    )
    assert "data: 4 on 4 cpu devices" in output
    assert "4 of 8: the batch_size of all stages must divide" in output


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_graphcast_over_devices_and_processes_trains_as_on_one(folder, kind):
    changes = (
        f"optimizer.kind={kind}",
        "model={family: graphcast, resolution: 0, mesh_size: 1, latent_size: 8, "
        "gnn_msg_steps: 3, hidden_layers: 1, radius_query_fraction_edge_length: 0.6}",
        "stages.0.steps=4",
        "data.validation=null",
    )
    one, both, two = (f"{kind}-{name}" for name in ("one", "both", "two"))
    _succeed(folder, one, *changes)
    cut = ("sharding.mesh={data: 2, space: 4}", "sharding.dims.output=data")
    _succeed(folder, both, *changes, *cut, devices=8)
    _check_same(folder / both, folder / one)
    space = "sharding.mesh={data: 1, space: 2}"
    _succeed(folder, two, *changes, space, processes=2)
    _check_same(folder / two, folder / one)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_worker_ends_the_run_which_can_be_continued(
    folder, tmp_path, processes
):
    for name in ("weather.nc", "train.yaml"):
        (tmp_path / name).symlink_to(folder / name)
    # The two processes work on one sample, and have read the same.
    started = _start_slowly(tmp_path, "run", "sharding.mesh={data: 1, space: 2}")
    os.kill(started[1].pid, signal.SIGKILL)
    (status, _, errors), _ = _finish(started)
    assert status == distributed.EXIT_LOST_WORKER
    assert "error: process 1 of the run is lost: it closed its connection" in errors
    assert "start the same command again" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "run.lock").exists()
    output = _succeed(tmp_path, "run", processes=processes, words=["--resume"])[0]
    assert "continuing after update 4 of 8" in output
    _check_same(tmp_path / "run", folder / "one")


@pytest.mark.slow
def test_all_processes_stop_after_the_update_at_which_one_is_told_to(folder):
    started = _start_slowly(folder, "told")
    os.kill(started[1].pid, signal.SIGTERM)
    (first, _, errors), (second, _, others) = _finish(started)
    assert (first, second) == (130, 130)
    assert "stopped by a signal to another process after update" in errors
    assert "--resume" in errors
    assert others.startswith("process 1: Stopped: stopped by SIGTERM after update")
    assert "lost" not in errors + others
    _succeed(folder, "told", processes=2, words=["--resume"])
    _check_same(folder / "told", folder / "one")


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_all_processes_with_one_message(folder):
    changes = ("schedule={kind: constant, peak: 1e38}", "optimizer.clip=null")
    ended = _finish(_start(folder, "burst", *changes, processes=2))
    assert [status for status, _, _ in ended] == [2, 2]
    assert "the batch and the state before it are in" in ended[0][2]
    assert ended[1][2].startswith("process 1: NonFiniteLossError: update")
    (kept,) = (folder / "burst").glob("failed-*")
    assert {path.name for path in kept.iterdir()} == {
        "state.npz", "inputs-0.nc", "targets-0.nc", "forcings-0.nc",
    }  # fmt: skip


@pytest.mark.slow
def test_a_folder_in_use_ends_all_processes_as_a_mistake(folder):
    (folder / "used").mkdir()
    holder = json.dumps({"pid": 7, "host": "elsewhere"})
    (folder / "used" / "run.lock").write_text(holder)
    ended = _finish(_start(folder, "used", processes=2))
    assert [status for status, _, _ in ended] == [2, 2]
    assert "process 7 on elsewhere is training" in ended[0][2]
    assert "process 0 of the run is lost: it ended with BlockingIOError" in ended[1][2]
    assert "start the same command again" not in ended[1][2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sharding.mesh.data=3", "mesh: data: 3 does not divide 1 device"),
        ("sharding.mehs.data=1", "did you mean 'mesh'"),
        ("distributed.process_id=1", "process_id given without coordinator"),
        ("sharding.mesh.space=-1", None),
    ],
)
def test_mistakes_end_with_one_line(folder, tmp_path, capsys, change, message):
    words = ["--dry-run", "--set", f"output={tmp_path}/run", "--set", change]
    with toy_runs.family():
        status = main.main(["train", str(folder / "train.yaml"), *words])
    said = capsys.readouterr()
    assert status == (0 if message is None else 2)
    if message is None:
        assert "space: 1 on 1 cpu devices" in said.out
    else:
        assert message in said.err
