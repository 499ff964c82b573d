"""Reads files of `torch.save` without torch, and without running anything of theirs.

Such a file is a zip archive: `ROOT/data.pkl` describes what was saved in pickle's
opcodes, which `opcodes` interprets, and `ROOT/data/KEY` holds the numbers of each
storage. These are mapped into memory, so that a file of any size is read as its arrays
are used, and is never copied as a whole. Source of the layout: the file format notes in
`torch/csrc/jit/serialization` of torch 2.
"""

from __future__ import annotations

import dataclasses
import mmap
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from weatherlib.checkpoint import npz
from weatherlib.typing import PathLike
from weatherlib.weights import errors, opcodes, torch_objects

__all__ = ["TorchFile", "is_torch_zip", "read"]

# The opcodes of a number that every file of torch before 1.6 begins with.
_OLD_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
# What describes a model: the largest known is below a megabyte, and each byte can make
# an object of sixty.
_LARGEST_DESCRIPTION = 2**24
_MOST_MEMBERS = 10**6
_BLOCK = 2**24
_LOCAL_HEADER = "<4s5H3L2H"
# What zipfile raises for archives that are damaged: names that are no text, places that
# are negative or too far, methods that it does not know.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchFile:
    """What a torch file holds.

    Attributes:
      path: The file.
      contents: What was saved, as dicts, lists, tuples, texts and numbers. Tensors are
        read-only arrays on the mapped file; bfloat16 and float8 are types of
        `ml_dtypes`. Objects of other kinds are `torch_objects.StandIn`.
      stand_ins: Full names of the kinds of objects that were stood in for, sorted.
      root: Folder of the archive that holds it.
      big_endian: Whether it was written on a machine of the other byte order.
    """

    path: pathlib.Path
    contents: Any
    stand_ins: tuple[str, ...]
    root: str
    big_endian: bool


def is_torch_zip(path: PathLike) -> bool:
    """Returns whether a file is a zip archive with a description as torch writes it.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(_is_description(name) for name in archive.namelist())
    except _DAMAGE:
        return False


def read(path: PathLike, *, verify: bool = True) -> TorchFile:
    """Returns what a `.ckpt`, `.pt` or `.pth` file holds.

    Args:
      path: A file that torch 1.6 or newer has saved.
      verify: Whether to compare all numbers with their checksums, which reads the
        whole file once. Torch can be told not to write true ones.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      WeightsFileError: It is of another format, is damaged, would run something, or
        holds what is not read. The message is one line that begins with the path.
    """
    path = pathlib.Path(path)
    try:
        return _read(path, verify=verify)
    except errors.WeightsFileError as error:
        raise type(error)(f"{path}: {errors.printable(str(error))}") from error
    except _DAMAGE as error:
        raise errors.DamagedError(
            f"{path}: cut short or damaged ({errors.printable(str(error))}); fetch it "
            "again"
        ) from error


def _read(path: pathlib.Path, *, verify: bool) -> TorchFile:
    _require_zip(path)
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        members = _members(archive)
        root = _root(members)
        mapped = np.frombuffer(
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8
        )
        file = _Archive(mapped, members, root, verify=verify)
        description = file.small("data.pkl")
        order = file.small("byteorder") if f"{root}byteorder" in members else b"little"
        if order not in (b"little", b"big"):
            raise errors.UnsupportedError(f"its byte order is {order[:16]!r}")
        file.big_endian = order == b"big"
        objects = torch_objects.TorchObjects(file.storage)
        contents = opcodes.interpret(description, objects)
    return TorchFile(
        path=path,
        contents=contents,
        stand_ins=tuple(sorted(objects.stand_ins)),
        root=root.rstrip("/"),
        big_endian=file.big_endian,
    )


def _require_zip(path: pathlib.Path) -> None:
    """Refuses a file that is no zip archive, by what it is instead.

    Raises:
      WeightsFileError: It is none.
    """
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(b"PK\x03\x04"):
        return
    if head.startswith(_OLD_MAGIC):
        raise errors.LegacyTorchError(
            "in the format of torch before 1.6, which is a pickle and is never read; "
            "load it with torch where you trust it, and save its state_dict again"
        )
    if head[257:262] == b"ustar":
        raise errors.LegacyTorchError(
            "a tar archive, as torch before 0.2 wrote, which holds pickles and is "
            "never read; load it with torch where you trust it, and save it again"
        )
    raise errors.WrongFormatError(f"no torch file but {npz.foreign_format(head[:32])}")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise errors.TooLargeError(f"it has {len(infos):,} members")
    members = {info.filename: info for info in infos}
    if len(members) < len(infos):
        raise errors.DamagedError("a name occurs twice in the archive")
    return members


def _is_description(name: str) -> bool:
    return name.count("/") == 1 and name.endswith("/data.pkl")


def _root(members: Mapping[str, zipfile.ZipInfo]) -> str:
    """Returns the folder of the description, with its slash.

    Raises:
      WeightsFileError: There is none, or it is that of a compiled program.
    """
    found = [name for name in members if _is_description(name)]
    if not found:
        if members and all(name.endswith(".npy") for name in members):
            raise errors.WrongFormatError("an npz archive of NumPy, no torch file")
        raise errors.WrongFormatError(
            "a zip archive without data.pkl, so not one that torch has saved; it holds "
            f"{npz.listed(members, 4)}"
        )
    if len(found) > 1:
        raise errors.DamagedError(f"holds several descriptions: {npz.listed(found)}")
    root = found[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in members or any(
        name.startswith(f"{root}code/") for name in members
    ):
        raise errors.CarriesCodeError(
            "it carries code: a program compiled by torch.jit; save its state_dict() "
            "instead"
        )
    return root


@final
class _Archive:
    """Finds the bytes of members in the mapped file."""

    def __init__(
        self,
        mapped: np.ndarray,
        members: Mapping[str, zipfile.ZipInfo],
        root: str,
        *,
        verify: bool,
    ) -> None:
        self._mapped = mapped
        self._members = members
        self._root = root
        self._verify = verify
        self._storages: dict[str, _Storage] = {}
        self.big_endian = False

    def small(self, name: str) -> bytes:
        """Returns a member that is read at once."""
        info = self._members[f"{self._root}{name}"]
        if info.file_size > _LARGEST_DESCRIPTION:
            raise errors.TooLargeError(f"its {name} claims {info.file_size:,} bytes")
        return self._content(info).tobytes()

    def storage(self, kind: str, key: str, count: int) -> _Storage:
        """Returns the storage of a key, whose numbers are not read yet."""
        if key not in self._storages:
            self._storages[key] = self._new_storage(kind, key, count)
        storage = self._storages[key]
        if (storage.kind, storage.elements) != (kind, count):
            opcodes.refuse(f"storage {key} is described in two ways")
        return storage

    def _new_storage(self, kind: str, key: str, count: int) -> _Storage:
        name = f"{self._root}data/{key}"
        if name not in self._members:
            raise errors.DamagedError(
                f"the numbers of storage {key[:40]!r} are lacking"
            )
        if kind and kind not in torch_objects.ELEMENT_TYPES:
            raise errors.UnsupportedError(
                f"storages of type {kind[:40]!r} are not read"
            )
        dtype = torch_objects.ELEMENT_TYPES.get(kind, np.dtype(np.uint8))
        content = self._content(self._members[name])
        if len(content) != count * dtype.itemsize:
            raise errors.DamagedError(
                f"storage {key} has {len(content):,} bytes, {count:,} numbers of "
                f"{dtype} need {count * dtype.itemsize:,}"
            )
        return _Storage(kind, content, dtype, count, swapped=self.big_endian)

    def _content(self, info: zipfile.ZipInfo) -> np.ndarray:
        """Returns the bytes of a stored member on the mapped file.

        Raises:
          WeightsFileError: It is compressed, or not where the archive says.
        """
        name = info.filename
        if info.compress_type != zipfile.ZIP_STORED:
            raise errors.UnsupportedError(
                f"{name} is compressed, which torch never does; unpack the archive and "
                "pack it again without compression (zip -0 -r)"
            )
        if info.flag_bits & 1 or info.compress_size != info.file_size:
            raise errors.DamagedError(f"{name} is encrypted or misses its length")
        size = struct.calcsize(_LOCAL_HEADER)
        begin = info.header_offset
        header = self._mapped[begin : begin + size].tobytes()
        if begin < 0 or len(header) < size or not header.startswith(b"PK\x03\x04"):
            raise errors.DamagedError(f"{name} is not where the archive says")
        name_length, extra_length = struct.unpack(_LOCAL_HEADER, header)[-2:]
        begin += size
        found = self._mapped[begin : begin + name_length].tobytes()
        if found != name.encode("utf8"):
            raise errors.DamagedError(f"another member is where {name} should be")
        begin += name_length + extra_length
        content = self._mapped[begin : begin + info.file_size]
        if len(content) != info.file_size:
            raise errors.DamagedError(f"{name} is cut short")
        if self._verify and _checksum(content) != info.CRC:
            raise errors.DamagedError(
                f"the checksum of {name} is wrong; fetch the file again, or read it "
                "without checking where torch was told to write none"
            )
        return content


def _checksum(content: np.ndarray) -> int:
    value = 0
    for start in range(0, len(content), _BLOCK):
        value = zlib.crc32(content[start : start + _BLOCK], value)
    return value


@final
class _Storage:
    """The numbers of one storage."""

    def __init__(
        self,
        kind: str,
        content: np.ndarray,
        dtype: np.dtype,
        count: int,
        *,
        swapped: bool,
    ) -> None:
        self.kind = kind
        self.elements = count
        self._content = content
        self._dtype = dtype
        self._swapped = swapped

    def array(self, dtype: np.dtype | None = None) -> np.ndarray:
        """Returns the numbers in one row, on the mapped file where that can be."""
        if dtype is None:
            if not self.kind:
                raise errors.UnsupportedError("plain bytes without a type of numbers")
            dtype = self._dtype
        if len(self._content) % dtype.itemsize:
            opcodes.refuse(f"{len(self._content)} bytes are no numbers of {dtype}")
        if not self._swapped or dtype.itemsize == 1:
            return self._content.view(dtype)
        # A complex number is two numbers, each in its own order.
        width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        swapped = self._content.view(f"u{width}").byteswap()
        return swapped.view(dtype)
