"""The script behind `make test-published`."""

import pathlib
import subprocess
import sys

import pytest

_SCRIPT = pathlib.Path(__file__).parent.parent / "scripts" / "test_published.py"

_PASSING = """
from graphcast import task
import graphcast.task as same_task

def test_one():
    assert task.TaskConfig is same_task.TaskConfig, "graphcast stays in other text"

def test_two():
    assert task.__name__ == "weatherlib.task"
"""


def _run(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(_SCRIPT), str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("folder", ["graphcast", "."])
def test_passing_tests_are_counted(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "task_test.py").write_text(_PASSING)
    result = _run(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 published tests passed, from 1 files" in result.stdout
    assert (tmp_path / folder / "task_test.py").read_text() == _PASSING


def test_a_failing_test_fails_the_run(tmp_path):
    (tmp_path / "a_test.py").write_text("def test(): assert False")
    (tmp_path / "b_test.py").write_text("def test(): pass")
    result = _run(tmp_path)
    assert result.returncode == 1
    assert "1 published tests passed" in result.stdout


def test_a_test_that_cannot_be_imported_fails_the_run(tmp_path):
    (tmp_path / "a_test.py").write_text("from graphcast import nothing_like_this")
    assert _run(tmp_path).returncode != 0


def test_finding_no_tests_fails_the_run(tmp_path):
    result = _run(tmp_path)
    assert result.returncode == 2
    assert "no *_test.py under" in result.stderr
    (tmp_path / "a_test.py").write_text("")
    assert _run(tmp_path).returncode != 0


def test_a_folder_must_exist(tmp_path):
    result = _run(tmp_path / "missing")
    assert result.returncode == 2
    assert "no such folder" in result.stderr
