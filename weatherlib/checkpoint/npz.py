"""Reads and writes npz files without trusting them.

Nothing is ever unpickled, an array is not made before its length has been checked, and
the same arrays give the same bytes.
"""

from __future__ import annotations

import io
import math
import os
import typing
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import numpy as np

__all__ = ["foreign_format", "listed", "read", "write"]

# How files that are taken for checkpoints begin.
_FOREIGN_FORMATS = {
    b"\x89HDF": "an HDF5 or NetCDF-4 file",
    b"CDF": "a NetCDF file",
    b"GRIB": "a GRIB file",
    b"\x93NUMPY": "a single NumPy array",
    b"\x80": "a Python pickle, which is never read",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"version https://git-lfs": "a Git LFS pointer instead of the file it stands for",
    b"<": "a web page or XML text; the download failed",
}

# What zipfile raises for members that are damaged, encrypted or oddly compressed.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Returns names in quotes for a message, and how many more there are."""
    names = [repr(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + more


def write(dest: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under their names, in the layout of `numpy.savez`.

    Args:
      dest: A file object that is open for writing bytes. It need not seek.
      arrays: Arrays of plain dtypes.
    """
    with zipfile.ZipFile(dest, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A ZipInfo of its own has a fixed date, so that hashes repeat.
            info = zipfile.ZipInfo(f"{name}.npy")
            info.external_attr = 0o600 << 16
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read(source: BinaryIO) -> dict[str, np.ndarray]:
    """Returns all arrays of an npz file by name.

    Args:
      source: A file object that is open for reading bytes.

    Raises:
      ValueError: It is no npz file, is cut short or damaged, or holds objects that
        only pickle could read.
    """
    if not source.seekable():
        source = io.BytesIO(source.read())
    head = source.read(32)
    source.seek(0)
    if not head.startswith(b"PK"):
        raise ValueError(f"not an npz checkpoint but {foreign_format(head)}")
    try:
        archive = zipfile.ZipFile(source)
    except _DAMAGE as error:
        raise ValueError(f"the file is cut short or damaged: {error}") from error
    with archive:
        names = archive.namelist()
        strange = [name for name in names if not name.endswith(".npy")]
        if any(name.endswith("data.pkl") for name in strange):
            raise ValueError(
                "not an npz checkpoint but a PyTorch file; weatherlib weights convert "
                "makes a checkpoint of published weights, of ClimaX, and of PreDiff "
                "with --family prediff --autoencoder FILE"
            )
        if strange:
            raise ValueError(f"not an npz checkpoint: it holds {listed(strange)}")
        if len(set(names)) < len(names):
            raise ValueError("the file is damaged: a name occurs twice")
        return {
            info.filename.removesuffix(".npy"): _read_member(archive, info)
            for info in archive.infolist()
        }


def read_member(path: str | os.PathLike[str], name: str) -> np.ndarray | None:
    """Returns one array of an npz file, None where it holds none of that name.

    Args:
      path: Any file.
      name: Of the array.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: The array is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return None
            return _read_member(archive, archive.getinfo(f"{name}.npy"))
    except zipfile.BadZipFile:
        return None


def foreign_format(head: bytes) -> str:
    """Returns what a file seems to be, for a message, from its first 32 bytes."""
    if not head:
        return "an empty file"
    for start, name in _FOREIGN_FORMATS.items():
        if head.lstrip().startswith(start):
            return name
    return f"something that begins with {head[:8]!r}"


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Returns one array, after making sure that it is as long as it claims."""
    try:
        with archive.open(info) as member:
            shape, fortran_order, dtype = _read_header(member)
            count = math.prod(shape)
            if info.file_size - member.tell() != count * dtype.itemsize:
                raise ValueError(f"its length does not fit {dtype} of shape {shape}")
            data = bytearray(member.read())
    except (*_DAMAGE, ValueError) as error:
        raise ValueError(f"{info.filename} cannot be read: {error}") from error
    if not dtype.itemsize or not count:
        return np.zeros(shape, dtype)
    order = "F" if fortran_order else "C"
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _read_header(member: typing.IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(member)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(member)
    else:
        raise ValueError(f"array format {version} is not supported")
    if header[2].hasobject:
        raise ValueError("it holds pickled Python objects, which are never read")
    return header
