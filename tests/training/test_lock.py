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
    (tmp_path / "run.lock").write_text('{"pid": 12')
    with lock.locked(tmp_path):
        pass
