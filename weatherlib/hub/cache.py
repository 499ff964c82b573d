"""Where fetched files lie, and what is remembered about them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import tempfile

from weatherlib.hub.registry import Entry, File

__all__ = ["CACHE_VARIABLE", "Record", "cache_folder", "local_path", "record_of"]

CACHE_VARIABLE = "WEATHERLIB_CACHE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What was noted when a file was downloaded, beside it as `.NAME.json`.

    Attributes:
      url: Where from.
      size: Bytes.
      sha256: Hash of what was stored.
      checked: What it was checked against: "sha256 of the registry", "md5 of the
        server", ...; empty for nothing.
      etag: What the server calls this version of the file.
      date: When, UTC.
    """

    url: str
    size: int
    sha256: str
    checked: str = ""
    etag: str = ""
    date: str = ""

    @property
    def is_verified(self) -> bool:
        """Whether the hash was documented beforehand, not only sent along."""
        return "registry" in self.checked

    def save(self, file: pathlib.Path) -> None:
        """Writes the record of a file at once."""
        text = json.dumps(dataclasses.asdict(self), indent=1)
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=".record-", delete=False, encoding="utf8"
        ) as part:
            part.write(text)
        pathlib.Path(part.name).replace(_record_path(file))


def cache_folder() -> pathlib.Path:
    """Returns the folder of the cache, which may not exist yet.

    It is `$WEATHERLIB_CACHE`, or the folder that the platform has for caches.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return pathlib.Path(chosen).expanduser()
    import pooch

    return pathlib.Path(pooch.os_cache("weatherlib"))


def local_path(
    entry: Entry, file: File, folder: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """Returns where a file of an entry lies once it is fetched.

    Statistics lie in a folder `stats` beside the weights, where a model looks for them.

    Args:
      entry: What it belongs to.
      file: The file.
      folder: Takes the place of the family's folder in the cache.
    """
    base = cache_folder() / entry.family if folder is None else pathlib.Path(folder)
    return base / entry.folder / file.name


def record_of(file: pathlib.Path) -> Record | None:
    """Returns what was noted about a file; None for one that was not fetched."""
    try:
        found = json.loads(_record_path(file).read_text(encoding="utf8"))
        return Record(**found)
    except (OSError, ValueError, TypeError):
        return None


def _record_path(file: pathlib.Path) -> pathlib.Path:
    return file.with_name(f".{file.name}.json")
