import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from weatherlib.training import lock

_HOLD = """
import pathlib, sys
from weatherlib.training import lock
with lock.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_in_a_folder_is_refused_and_told_who_holds_it(tmp_path, holder):
    with (
        pytest.raises(BlockingIOError, match=f"process {holder.pid} on .*is training"),
        lock.locked(tmp_path),
    ):
        pass
    assert holder.poll() is None


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.communicate()
    assert (tmp_path / "run.lock").exists()
    with lock.locked(tmp_path):
        held = json.loads((tmp_path / "run.lock").read_text())
    assert held["pid"] == os.getpid()


def test_a_lock_is_gone_after_the_run_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with lock.locked(tmp_path):
            assert (tmp_path / "run.lock").exists()
            with lock.locked(tmp_path):
                pass
            assert (tmp_path / "run.lock").exists()
        assert not (tmp_path / "run.lock").exists()


def test_a_lock_from_another_host_counts_as_held(tmp_path):
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"pid": 1, "host": "far" + socket.gethostname()}))
    with pytest.raises(BlockingIOError, match="if it is dead, delete"):
        lock.locked(tmp_path).__enter__()
    path.unlink()
    with lock.locked(tmp_path):
        pass


def test_a_lock_file_cut_short_is_taken_over(tmp_path):
    path = tmp_path / "run.lock"
    path.write_text('{"pid": 12')
    with lock.locked(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


@pytest.mark.parametrize(
    ("held", "ours", "taken"),
    [
        (("12", 0), ("12", "1"), True),
        (("12", 1), ("12", "1"), False),
        (("11", 0), ("12", "1"), False),
        (("12", 0), (None, None), False),
    ],
)
def test_the_lock_of_an_earlier_start_of_a_slurm_job_is_taken_over(
    tmp_path, monkeypatch, held, ours, taken
):
    holder = {"pid": 1, "host": "far" + socket.gethostname()}
    holder |= {"job": held[0], "restarts": held[1]}
    (tmp_path / "run.lock").write_text(json.dumps(holder))
    for name, value in zip(("SLURM_JOB_ID", "SLURM_RESTART_COUNT"), ours):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    if not taken:
        with pytest.raises(BlockingIOError), lock.locked(tmp_path):
            pass
        return
    with lock.locked(tmp_path):
        found = json.loads((tmp_path / "run.lock").read_text())
    assert (found["job"], found["restarts"]) == ("12", 1)


def test_a_process_that_ends_at_once_leaves_no_lock(tmp_path):
    with lock.locked(tmp_path):
        lock.abandon()
        assert not (tmp_path / "run.lock").exists()
    lock.abandon()
