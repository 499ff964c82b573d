"""Writes files as `torch.save` does, and hostile ones, without torch or pickle."""

import dataclasses
import struct
import zipfile
from typing import Any

import numpy as np

KINDS = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}


@dataclasses.dataclass(frozen=True)
class Name:
    """A global."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a global."""

    function: Name
    arguments: tuple


@dataclasses.dataclass(frozen=True)
class Instance:
    """An instance of a class with a state and items."""

    kind: Name
    state: Any = None
    pairs: tuple = ()


@dataclasses.dataclass(frozen=True)
class Persistent:
    """A persistent identifier."""

    key: Any


def storage(kind, key, count):
    """Returns the identifier of a storage."""
    return Persistent(
        ("storage", Name("torch", f"{kind}Storage"), key, "cuda:0", count)
    )


def tensor(kind, key, count, size, stride, offset=0):
    """Returns a tensor on a storage."""
    empty = Call(Name("collections", "OrderedDict"), ())
    return Call(
        Name("torch._utils", "_rebuild_tensor_v2"),
        (storage(kind, key, count), offset, size, stride, False, empty),
    )


def encode(value):
    """Returns a stream of protocol 2 that makes a value."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value):
    plain = {None: b"N", True: b"\x88", False: b"\x89"}
    if value is None or isinstance(value, bool):
        return plain[value]
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode("utf8")
        return b"X" + struct.pack("<I", len(data)) + data
    if isinstance(value, bytes):
        return b"C" + bytes([len(value)]) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_opcodes, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, dict):
        items = b"".join(_opcodes(k) + _opcodes(v) for k, v in value.items())
        return b"}(" + items + b"u"
    return _made(value)


def _made(value):
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return _opcodes(value.function) + _opcodes(value.arguments) + b"R"
    if isinstance(value, Persistent):
        return _opcodes(value.key) + b"Q"
    made = _opcodes(value.kind) + b")\x81"
    if value.pairs:
        items = b"".join(_opcodes(k) + _opcodes(v) for k, v in value.pairs)
        made += b"(" + items + b"u"
    return made + (_opcodes(value.state) + b"b" if value.state is not None else b"")


def write_members(path, members, compression=zipfile.ZIP_STORED, root="archive"):
    """Writes an archive from contents by name below its root."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)


def save(path, contents, storages=None, byteorder="little", root="archive"):
    """Writes what `torch.save` would.

    Args:
      path: Where to.
      contents: Of dicts, lists, tuples, texts, numbers, arrays, and the classes here.
      storages: Numbers of further storages by key.
      byteorder: Of the numbers.
      root: Folder in the archive.
    """
    held = {key: np.asarray(array) for key, array in (storages or {}).items()}

    def placed(value):
        if isinstance(value, np.ndarray):
            key = str(len(held))
            held[key] = np.array(value, order="C")
            kind = KINDS[value.dtype.name]
            strides = tuple(s // value.itemsize for s in held[key].strides)
            return tensor(kind, key, value.size, value.shape, strides)
        if isinstance(value, dict):
            return {k: placed(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(placed(v) for v in value)
        return value

    stream = encode(placed(contents))
    members = {"data.pkl": stream, "byteorder": byteorder.encode()}
    for key, array in held.items():
        if byteorder == "big" and array.dtype.kind == "V":
            content = array.view("u2").byteswap().tobytes()
        elif byteorder == "big":
            content = array.astype(array.dtype.newbyteorder(">")).tobytes()
        else:
            content = array.tobytes()
        members[f"data/{key}"] = content
    write_members(path, members, root=root)
