"""Checkpoints on a disk are whole or not there."""

import hashlib
import os

import numpy as np
import pytest

from tests.checkpoint import cases
from weatherlib import checkpoint


def test_save_replaces_a_file_only_when_all_is_written(tmp_path):
    path = tmp_path / "file.npz"
    checkpoint.save(path, {"a": np.zeros(2)}, extras={"note": "first"})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="cannot be stored"):
        checkpoint.save(path, {"a": np.zeros(2), "b": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    checkpoint.save(os.fspath(path), {"a": np.ones(2)})
    assert checkpoint.open_checkpoint(path, dict[str, np.ndarray])["a"].sum() == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    checkpoint.save(path, {"a": np.zeros(2)})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"a": np.ones(2)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_or_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        checkpoint.open_checkpoint(tmp_path / "absent.npz", cases.Whole)
    with pytest.raises(IsADirectoryError):
        checkpoint.open_checkpoint(tmp_path, cases.Whole)
    with pytest.raises(FileNotFoundError):
        checkpoint.save(tmp_path / "absent" / "file.npz", {"a": 1})


def test_messages_of_open_begin_with_the_path(tmp_path):
    path = tmp_path / "file.npz"
    path.write_bytes(b"CDF")
    with pytest.raises(ValueError, match=r"file\.npz: not an npz checkpoint"):
        checkpoint.open_checkpoint(path, cases.Whole)


def test_the_hash_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"weather")
    expected = hashlib.sha256(b"weather").hexdigest()
    assert checkpoint.file_sha256(path) == expected
