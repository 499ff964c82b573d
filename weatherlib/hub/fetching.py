"""Fetching an entry of the registry into the cache or a folder."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

from weatherlib.hub import cache, registry, transfer
from weatherlib.hub.registry import Entry, File

__all__ = ["fetch", "files_of", "is_fetched", "path_of"]

FileProgress = Callable[[File, int, int, float], None]


def files_of(entry: Entry) -> list[tuple[Entry, File]]:
    """Returns the files of an entry, and those of what it needs."""
    found = [(entry, file) for file in entry.files]
    for need in entry.needs:
        found += files_of(registry.find(need))
    return found


def path_of(entry: Entry, folder: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns where an entry lies once it is fetched: its file, or its folder.

    Args:
      entry: Of the registry.
      folder: Takes the place of the family's folder in the cache.
    """
    first = cache.local_path(entry, entry.files[0], folder)
    return first if len(entry.files) == 1 else first.parent


def is_fetched(entry: Entry, folder: str | os.PathLike[str] | None = None) -> bool:
    """Whether all files of an entry itself are there."""
    return all(cache.local_path(entry, f, folder).is_file() for f in entry.files)


def fetch(
    entry: Entry,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: FileProgress | None = None,
) -> list[pathlib.Path]:
    """Downloads what is missing of an entry and what it needs; checks what is there.

    Args:
      entry: Of the registry.
      folder: Takes the place of the family's folder in the cache.
      progress: Is told the file, the bytes there are, of all, and the seconds.

    Returns:
      All its files.

    Raises:
      ValueError: The entry has files that cannot be downloaded; its note says why.
      OSError: A download failed, or a file has changed since it was fetched.
    """
    found = files_of(entry)
    for owner, file in found:
        if not file.url:
            raise ValueError(f"{owner.name}: cannot be downloaded. {owner.note}")
    paths = []
    for owner, file in found:
        path = cache.local_path(owner, file, folder)
        if path.is_file():
            _require_unchanged(file, path)
        else:
            transfer.download(file, path, progress=_for_file(file, progress))
        paths.append(path)
    return paths


def _for_file(file: File, progress: FileProgress | None) -> transfer.Progress | None:
    if progress is None:
        return None
    return lambda done, total, seconds: progress(file, done, total, seconds)


def _require_unchanged(file: File, path: pathlib.Path) -> None:
    """Checks a file that is there against what is known about it.

    Raises:
      OSError: It is another one.
    """
    record = cache.record_of(path)
    wanted = file.sha256 or (record.sha256 if record else None)
    if wanted is None:
        return
    found = transfer.sha256_of(path)
    if found != wanted:
        source = "the registry" if file.sha256 else "the record of its download"
        raise OSError(
            f"{path}: its sha256 is {found}, {source} says {wanted}; it was changed or "
            "damaged, delete it and fetch it again"
        )
