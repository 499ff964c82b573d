"""The table of published files, `weatherlib/resources/hub.yaml`."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.resources
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import Any

__all__ = ["Entry", "File", "entries", "find", "parse"]

_KINDS = ("weights", "statistics", "data")


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """One published file.

    Attributes:
      url: Where it is, quoted; empty where there is no direct download.
      name: Its name on disk, as published.
      size: Bytes; None where nobody has documented it.
      sha256: Hash; None where nobody has documented it.
    """

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name in (".", ".."):
            raise ValueError(f"file name {self.name!r} is no plain name")
        if self.url and urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"{self.name}: {self.url!r} is no http or https address")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing to fetch: a model, its statistics, or a sample.

    Attributes:
      name: Short name, to be typed.
      family: Model family; the folder of the cache in which the files lie.
      kind: "weights", "statistics" or "data".
      title: One line for people.
      licence: Terms, as far as they are known.
      files: What it consists of.
      folder: Folder below that of the family; empty for itself.
      needs: Entries that are fetched with it.
      note: What else to know; for files without a download, how to get them.
    """

    name: str
    family: str
    kind: str
    title: str
    licence: str
    files: tuple[File, ...]
    folder: str = ""
    needs: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"{self.name}: kind {self.kind!r} is none of {_KINDS}")
        if not self.files:
            raise ValueError(f"{self.name}: has no files")

    @property
    def can_be_fetched(self) -> bool:
        """Whether all its files have an address."""
        return all(file.url for file in self.files)

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where one is unknown."""
        sizes = [file.size for file in self.files]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Returns every entry by its name, in the order of the table."""
    table = importlib.resources.files("weatherlib") / "resources" / "hub.yaml"
    return parse(table.read_text(encoding="utf8"))


def find(name: str) -> Entry:
    """Returns the entry of a name.

    Raises:
      ValueError: There is none; the message names similar ones.
    """
    known = entries()
    if name in known:
        return known[name]
    # A part of a name stands for all that have it; what is like none names none.
    close = [other for other in known if name and name in other][:3]
    close = close or difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    raise ValueError(
        f"there are no published files called {name!r}; {hint}weatherlib weights list "
        "shows all"
    )


def parse(text: str) -> Mapping[str, Entry]:
    """Returns the entries of a table in YAML.

    Each family has a base address, a licence and entries; a file is named as it is
    published, and the quoted name is added to the base, unless it has an address of
    its own.

    Raises:
      ValueError: The table is malformed.
    """
    import yaml

    found: dict[str, Entry] = {}
    for family, group in yaml.safe_load(text).items():
        for name, row in group["entries"].items():
            if name in found:
                raise ValueError(f"{name}: occurs twice")
            files = tuple(_file(item, group.get("base", "")) for item in row["files"])
            found[name] = Entry(
                name=name,
                family=family,
                kind=row["kind"],
                title=row["title"],
                licence=row.get("licence", group.get("licence", "unknown")),
                files=files,
                folder=row.get("folder", ""),
                needs=tuple(row.get("needs", ())),
                note=row.get("note", ""),
            )
    unknown = [need for e in found.values() for need in e.needs if need not in found]
    if unknown:
        raise ValueError(f"needs {', '.join(unknown)}, which the table lacks")
    return found


def _file(item: str | Mapping[str, Any], base: str) -> File:
    """Returns a file of the table: a path below the base, or a mapping."""
    row: Mapping[str, Any] = {"path": item} if isinstance(item, str) else item
    if "path" in row:
        url = base + urllib.parse.quote(row["path"])
        name = pathlib.PurePosixPath(row["path"]).name
    else:
        url, name = row.get("url", ""), row["name"]
    return File(url=url, name=name, size=row.get("size"), sha256=row.get("sha256"))
