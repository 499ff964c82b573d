"""Files that appear only when they are complete."""

import os
import resource
import signal
import threading

import pytest

from weatherlib import writing


@pytest.fixture
def full_disk():
    """Lets no file grow while it is entered."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_gets_its_name_when_it_is_complete(tmp_path, shared):
    path = tmp_path / "table.csv"
    path.write_text("old")
    number = f".{os.getpid()}-{threading.get_ident()}" if shared else ""
    with writing.replacing(path, shared=shared) as partial:
        assert partial == tmp_path / f"table.csv{number}.partial"
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert not partial.exists()


def test_an_error_leaves_the_older_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), writing.replacing(path) as partial:
        partial.write_text("new")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_text() == "old"


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, full_disk):
    path = tmp_path / "table.csv"
    with pytest.raises(OSError) as found, writing.replacing(path) as partial:
        partial.write_text("new")
    assert found.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_the_name_in_an_error_is_kept(tmp_path):
    with (
        pytest.raises(FileNotFoundError) as found,
        writing.naming(tmp_path / "other"),
    ):
        (tmp_path / "missing").read_text()
    assert found.value.filename == str(tmp_path / "missing")


def test_an_error_without_a_system_message_stays_as_it_is():
    with pytest.raises(OSError, match="no server") as found, writing.naming("file"):
        raise OSError("no server")
    assert found.value.filename is None
