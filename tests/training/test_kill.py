"""A run in a process of its own that is killed, stopped and continued."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.training import toy_runs, toys
from weatherlib import checkpoint
from weatherlib.cli import main
from weatherlib.training import records

_ROOT = pathlib.Path(__file__).parents[2]
_PATIENCE = 120


def _start(*words, module="worker", **changes):
    command = [sys.executable, "-m", f"tests.training.{module}", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), **changes}
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
    result = toys.brief_trainer(folder).run()
    return toys.comparable(records.read_records(folder)), result.state


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
    assert toys.comparable(records.read_records(tmp_path)) == unbroken[0]


def _killed(*words, at, module="worker"):
    """Runs a process that kills itself."""
    process = _start(*words, module=module, KILL_AT=at)
    _, errors = process.communicate(timeout=_PATIENCE)
    assert process.returncode == -signal.SIGKILL, errors


def _assert_like_unbroken(folder, unbroken):
    result = toys.brief_trainer(folder).run(resume=True)
    curve, state = unbroken
    assert toys.comparable(records.read_records(folder)) == curve
    for found, expected in zip(
        jax.tree.leaves(result.state), jax.tree.leaves(state), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("default")
def test_a_run_killed_at_one_moment_after_another_ends_like_an_unbroken_one(
    tmp_path, unbroken
):
    last = tmp_path / "last"
    # Checkpoints are of updates 7, 14, 21, ...; validations of 10, 20, ...
    _killed(tmp_path, 0, at="before:2")
    steps = {path.name for path in last.iterdir()}
    assert "7" in steps and any("tmp" in name for name in steps)
    assert "14" not in steps
    _killed(tmp_path, 0, at="after:1")
    steps = {path.name for path in last.iterdir()}
    assert "14" in steps
    _assert_like_unbroken(tmp_path, unbroken)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "at",
    ["update:1", "update:8", "update:30", "before:1", "before:3", "after:1", "after:3",
     "validation:1", "validation:3", "record:1", "record:6"],
)  # fmt: skip
def test_a_run_killed_at_any_moment_ends_like_an_unbroken_one(at, tmp_path, unbroken):
    _killed(tmp_path, 0, at=at)
    _assert_like_unbroken(tmp_path, unbroken)


@pytest.mark.filterwarnings("default")
def test_a_killed_command_goes_on_to_the_same_weights(tmp_path):
    whole, broken = (toy_runs.write(tmp_path / name) for name in _made(tmp_path))
    with toy_runs.family():
        muon = ["--set", "optimizer.kind=muon"]
        assert main.main(["train", str(whole / "train.yaml"), *muon]) == 0
        words = ["train", str(broken / "train.yaml"), *muon]
        _killed(*words, at="record:4", module="toy_runs")
        assert not (broken / "run" / "report.html").exists()
        assert main.main([*words, "--resume"]) == 0
    curves = [
        toys.comparable(records.read_records(folder / "run"))
        for folder in (whole, broken)
    ]
    assert curves[0] == curves[1]
    found = [
        checkpoint.open_checkpoint(folder / "run" / "checkpoint.npz", dict)["params"]
        for folder in (whole, broken)
    ]
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("full_at", [2, 4])
def test_a_command_on_a_full_disk_goes_on_when_there_is_room(tmp_path, full_at):
    # Records are of updates 2, 4, 4 (validation), 6, 8, 8.
    folder = toy_runs.write(tmp_path)
    words = ["train", str(folder / "train.yaml")]
    process = _start(*words, module="toy_runs", FULL_AT=str(full_at))
    _, errors = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    where = "metrics.jsonl: " if full_at == 4 else "room."
    assert f"weatherlib: error: {folder}/run" in errors
    assert where in errors and "File too large" in errors
    assert f"continue with: weatherlib {' '.join(words)} --resume" in errors
    assert (folder / "run" / "last" / "4").exists() == (full_at == 4)
    with toy_runs.family():
        assert main.main([*words, "--resume"]) == 0
    assert _last_step(folder / "run") == 8
    assert (folder / "run" / "report.html").exists()


def _made(folder):
    """Makes two folders, and returns their names."""
    names = ("whole", "broken")
    for name in names:
        (folder / name).mkdir()
    return names
