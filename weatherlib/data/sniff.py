"""What kind of file a path is, told from its first bytes."""

from __future__ import annotations

import difflib
import pathlib

__all__ = ["describe", "kind_of", "require_exists"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
# HDF5 allows a block of the user's own before its signature, of these lengths.
_HDF5_OFFSETS = (0, 512, 1024, 2048)
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata", ".zattrs", ".zarray")
_HEAD = 4096

# First bytes of files that are often taken for weather data.
_OTHERS = (
    (b"PK\x03\x04", "a zip archive (such as .npz, or a download to be unpacked)"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (
        b"version https://git-lfs",
        "a git-lfs pointer; fetch the file with `git lfs pull`",
    ),
    (b"PAR1", "a Parquet table"),
    (b"BUFR", "BUFR observations"),
    (b"\x80", "a pickle (such as an old PyTorch checkpoint)"),
)


def require_exists(path: pathlib.Path) -> None:
    """Raises a FileNotFoundError that names similar files where there is none.

    Raises:
      FileNotFoundError: There is no such file or folder.
    """
    if path.exists():
        return
    first, comma, _ = str(path).partition(",")
    if comma and pathlib.Path(first).exists():
        raise FileNotFoundError(
            f"{path}: no such file; several files are given as a pattern in quotes, "
            "such as 'era5/*.nc', or as their folder, and in settings (data.path) and "
            "Python also as a list"
        )
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: the folder {folder} does not exist")
    names = sorted(entry.name for entry in folder.iterdir())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    close = close or [n for n in names if pathlib.Path(n).suffix == path.suffix][:3]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise FileNotFoundError(f"{path}: no such file{hint}")


def kind_of(path: pathlib.Path) -> str:
    """Returns "netcdf3", "hdf5", "grib", "zarr" or "other"."""
    if path.is_dir():
        marked = any((path / mark).exists() for mark in _ZARR_MARKS)
        return "zarr" if marked else "other"
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:3] == b"CDF" and head[3:4] in (b"\x01", b"\x02", b"\x05"):
        return "netcdf3"
    if any(head[offset : offset + 8] == _HDF5 for offset in _HDF5_OFFSETS):
        return "hdf5"
    if b"GRIB" in head[:256] and not head.lstrip().startswith(b"<"):
        return "grib"
    return "other"


def describe(path: pathlib.Path) -> str:
    """Returns in words what a file of another kind looks like."""
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir())[:4]
        return f"a folder with {', '.join(inside)}" if inside else "an empty folder"
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "empty"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML); the download went wrong"
    if start.startswith(b"<?xml"):
        return "XML, such as the error message of a download"
    for signature, words in _OTHERS:
        if head.startswith(signature):
            return words
    if start.startswith((b"{", b"[")):
        return "JSON text"
    try:
        text = head.decode("utf8")
    except UnicodeDecodeError as error:
        # A character may be cut in two at the end of what was read.
        text = "" if error.start < len(head) - 4 else head[: error.start].decode("utf8")
    if text and all(
        character.isprintable() or character.isspace() for character in text
    ):
        return f"text that begins with {text[:40].strip()!r}"
    return f"of an unknown kind (first bytes {head[:8].hex(' ')})"
