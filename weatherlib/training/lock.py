"""One run per folder: a lock that a killed process does not leave behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator

__all__ = ["abandon", "locked"]

_NAME = "run.lock"

# Folders this process holds; inner uses of the same folder do nothing.
_held: set[pathlib.Path] = set()


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from writing into a folder.

    The operating system releases the lock with the process, so that of a killed run is
    taken over. A lock that a run on another host has left counts as held: there is no
    way to see whether that process is alive, unless it belonged to an earlier start of
    the same SLURM job.

    Args:
      folder: Exists. `run.lock` in it names the holder.

    Raises:
      BlockingIOError: Another run holds the folder; the message names it.
    """
    path = folder.resolve() / _NAME
    if path in _held:
        yield
        return
    descriptor = _acquire(path)
    _held.add(path)
    try:
        os.ftruncate(descriptor, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), **_job()}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        _held.discard(path)
        path.unlink(missing_ok=True)
        os.close(descriptor)


def abandon() -> None:
    """Removes the locks of this process just before it ends without unwinding."""
    for path in list(_held):
        path.unlink(missing_ok=True)


def _acquire(path: pathlib.Path) -> int:
    """Returns the open and locked file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        holder = _holder(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BlockingIOError(_refusal(path, holder)) from None
        # The holder may have removed the file between our opening and locking it.
        try:
            if path.stat().st_ino != os.fstat(descriptor).st_ino:
                os.close(descriptor)
                continue
        except FileNotFoundError:
            os.close(descriptor)
            continue
        # Locks may not reach over a network file system.
        elsewhere = holder and holder.get("host") != socket.gethostname()
        if elsewhere and not _is_earlier_start(holder):
            os.close(descriptor)
            raise BlockingIOError(
                f"{_refusal(path, holder)}; if it is dead, delete {path}"
            )
        return descriptor


def _holder(descriptor: int) -> dict[str, object]:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _job() -> dict[str, object]:
    """Returns the SLURM job of this process and how often it was started before."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return {}
    return {"job": job, "restarts": int(os.environ.get("SLURM_RESTART_COUNT", "0"))}


def _is_earlier_start(holder: dict[str, object]) -> bool:
    """Whether SLURM has ended the holder before it started this process's job again."""
    here, before = _job(), holder.get("restarts")
    same = bool(here) and holder.get("job") == here["job"]
    return same and isinstance(before, int) and before < int(str(here["restarts"]))


def _refusal(path: pathlib.Path, holder: dict[str, object]) -> str:
    return (
        f"{path.parent}: process {holder.get('pid', 'unknown')} on "
        f"{holder.get('host', 'this host')} is training in this folder; wait for it, "
        "or choose another output"
    )
