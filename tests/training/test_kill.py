"""A run in a process of its own that is killed, stopped and continued."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.training import toys
from weatherlib.training import records

_ROOT = pathlib.Path(__file__).parents[2]
_PATIENCE = 120


def _start(folder, slow):
    command = [sys.executable, "-m", "tests.training.worker", str(folder), str(slow)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    return subprocess.Popen(
        command, cwd=_ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )


def _wait(process, condition):
    """Returns when a condition holds; fails if the process ends before."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.002)


def _last_step(folder):
    found = records.read_records(folder)
    return found[-1]["step"] if found else 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    toys.brief_trainer(folder).run()
    return toys.comparable(records.read_records(folder))


@pytest.mark.filterwarnings("default")
def test_a_kill_and_a_stop_leave_the_loss_curve_of_an_unbroken_run(tmp_path, unbroken):
    # Killed in the middle of updates, while a checkpoint is being written.
    last = tmp_path / "last"
    process = _start(tmp_path, 0.05)
    _wait(process, lambda: last.exists() and len(list(last.iterdir())) == 1)
    before = {path.name for path in last.iterdir()}
    _wait(process, lambda: {path.name for path in last.iterdir()} - before)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "run.lock").exists()
    assert _last_step(tmp_path) < 22

    # SIGTERM keeps the state of the very update it met.
    process = _start(tmp_path, 0.05)
    _wait(process, lambda: _last_step(tmp_path) >= 22)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=_PATIENCE)
    assert "Stopped: stopped by SIGTERM after update" in errors
    step = int(errors.rsplit("after update ", 1)[1].split()[0])
    assert (last / str(step) / "_CHECKPOINT_METADATA").exists()
    assert not (tmp_path / "run.lock").exists()

    toys.brief_trainer(tmp_path).run(resume=True)
    assert toys.comparable(records.read_records(tmp_path)) == unbroken
