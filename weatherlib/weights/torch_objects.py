"""What a torch file may make: containers, tensors, and stand-ins that do nothing.

Names fall into four groups. The few that state dictionaries need are rebuilt by code of
our own. Plain records, such as the settings that Lightning and OmegaConf store, become
a `StandIn` that holds what was stored and does nothing. Names by which a file can run
something are refused where they are met. Any other name becomes a stand-in too, but a
call of it is refused. Source of names and arguments: `torch/_utils.py` and
`torch/storage.py` of torch 2.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol, final

import ml_dtypes
import numpy as np

from weatherlib.weights import errors, opcodes, torch_names

__all__ = ["ELEMENT_TYPES", "StandIn", "Storage", "TorchObjects"]

ELEMENT_TYPES: dict[str, np.dtype] = {
    "double": np.dtype(np.float64),
    "float": np.dtype(np.float32),
    "half": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "long": np.dtype(np.int64),
    "int": np.dtype(np.int32),
    "short": np.dtype(np.int16),
    "char": np.dtype(np.int8),
    "byte": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
    "complexfloat": np.dtype(np.complex64),
    "complexdouble": np.dtype(np.complex128),
}
"""NumPy's type for torch's names of storages, in lower case without "Storage"."""

# Types that only storages of untyped bytes have, and the newer names of the others.
_DTYPES: dict[str, np.dtype] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int16": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
    "complex64": np.dtype(np.complex64),
    "complex128": np.dtype(np.complex128),
}

_MOST_AXES = 32
# A view may repeat its elements by strides of 0, up to so many bytes.
_LARGEST_REPEATED = 2**30


@dataclasses.dataclass(eq=False)
class StandIn:
    """Something of the file that is described and never made.

    Attributes:
      name: Its full name in Python, such as "argparse.Namespace".
      arguments: What it was stored with; None for the name alone.
      state: Further contents as they were stored.
      values: What was appended to it.
      pairs: Items that were set.
    """

    name: str
    arguments: tuple[Any, ...] | None = None
    state: Any = None
    values: list[Any] = dataclasses.field(default_factory=list)
    pairs: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def fields(self) -> dict[Any, Any]:
        """What it was stored with by name, as far as that is plain."""
        named = dict(self.pairs)
        return named | self.state if isinstance(self.state, dict) else named


@dataclasses.dataclass(frozen=True, eq=False)
class _Known:
    """A name for which there is code of our own."""

    name: str
    make: Callable[..., Any]


class Storage(Protocol):
    """Numbers in the file."""

    @property
    def elements(self) -> int:
        """How many there are."""
        ...

    def array(self, dtype: np.dtype | None = None) -> np.ndarray:
        """Returns them in one row; as another type if one is given."""
        ...


@final
class TorchObjects:
    """Decides what a torch file may make; see the module.

    Args:
      storage: Returns a storage from the lower-case name of its type (empty for plain
        bytes), its key and its number of elements.
    """

    def __init__(self, storage: Callable[[str, str, int], Storage]) -> None:
        self._storage = storage
        self._known = _known()
        self.stand_ins: set[str] = set()

    def find(self, module: str, name: str) -> Any:
        """Returns what stands for a name.

        Raises:
          CarriesCodeError: It can run something.
        """
        full = f"{module}.{name}"
        if full in self._known:
            return self._known[full]
        if module in torch_names.BUILTINS and name in torch_names.PLAIN_BUILTINS:
            return StandIn(f"builtins.{name}")
        if module in torch_names.COPYREG and name == "_reconstructor":
            return _Known(full, self._reconstruct)
        if full not in torch_names.RECORDS and torch_names.can_run_something(full):
            raise errors.CarriesCodeError(
                f"it carries code: it names {torch_names.shown(full)}, which could run "
                "something; nothing of it was run, do not load it elsewhere either"
            )
        if not _is_of_tensors(full):
            self.stand_ins.add(full)
        return StandIn(full)

    def persistent(self, key: Any) -> Storage:
        """Returns the storage that an identifier stands for.

        Raises:
          DamagedError: The identifier is malformed.
        """
        if not isinstance(key, tuple) or len(key) not in (5, 6) or key[0] != "storage":
            opcodes.refuse("an identifier is none of a storage")
        kind, name, count = key[1], key[2], key[4]
        if not isinstance(kind, StandIn) or not isinstance(name, str):
            opcodes.refuse("a storage has no type or key")
        package, _, type_name = kind.name.rpartition(".")
        if not package.startswith("torch") or not type_name.endswith("Storage"):
            opcodes.refuse(f"{torch_names.shown(kind.name)} is no storage")
        return self._storage(
            type_name.removesuffix("Storage").lower().replace("untyped", ""),
            name,
            _whole(count, "a length"),
        )

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Returns what a call stands for.

        Raises:
          CarriesCodeError: It is of something that we neither know nor take for a
            plain record.
        """
        if isinstance(function, _Known):
            return function.make(*arguments)
        if not isinstance(function, StandIn) or function.arguments is not None:
            opcodes.refuse("something is called that is no function")
        name = function.name
        if name in _PLAIN_CALLS:
            return _PLAIN_CALLS[name](*arguments)
        if (
            name in torch_names.RECORDS
            or name.partition(".")[0] in torch_names.RECORD_PACKAGES
        ):
            return StandIn(name, arguments)
        raise errors.CarriesCodeError(
            f"it carries code: it calls {torch_names.shown(name)}, which is unknown; "
            "nothing of it was run"
        )

    def create(self, kind: Any, arguments: tuple[Any, ...]) -> Any:
        """Returns what stands for an instance."""
        if isinstance(kind, _Known) and kind.name == "collections.OrderedDict":
            return {}
        if not isinstance(kind, StandIn) or kind.arguments is not None:
            opcodes.refuse("an instance of what is no class")
        if kind.name in _PLAIN_CALLS:
            return _PLAIN_CALLS[kind.name](*arguments)
        return StandIn(kind.name, arguments)

    def build(self, instance: Any, state: Any) -> None:
        """Gives a stand-in its state; that of others, such as versions, is dropped."""
        if isinstance(instance, StandIn):
            instance.state = state

    def extend(self, instance: Any, values: list[Any]) -> None:
        """Appends to a stand-in."""
        if not isinstance(instance, StandIn):
            opcodes.refuse("values are appended to what is no list")
        instance.values.extend(values)

    def update(self, instance: Any, pairs: list[tuple[Any, Any]]) -> None:
        """Sets items of a stand-in."""
        if not isinstance(instance, StandIn):
            opcodes.refuse("items are set of what is no dictionary")
        instance.pairs.extend(pairs)

    def _reconstruct(self, kind: Any, base: Any, state: Any) -> Any:
        """Returns what stands for an instance in the manner of protocols 0 and 1."""
        del base
        arguments = () if state is None else (state,)
        return self.create(kind, arguments)


def _is_of_tensors(name: str) -> bool:
    """Whether a name is that of a storage or of a type of numbers."""
    package, _, last = name.rpartition(".")
    return package in ("torch", "torch.storage") and (
        last.endswith("Storage") or last in _DTYPES
    )


def _known() -> dict[str, _Known]:
    table: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": _dictionary,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor_of_type,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch._tensor._rebuild_from_type_v2": _of_type,
        "torch.Size": lambda sizes=(): _wholes(sizes, "a size"),
        "_codecs.encode": _encoded,
    }
    return {name: _Known(name, make) for name, make in table.items()}


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *rest: Any
) -> np.ndarray:
    """Returns a view of a storage; what gradients and hooks were is dropped."""
    del rest
    return _view(_require_storage(storage).array(), offset, size, stride)


def _tensor_of_type(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    grad: Any,
    hooks: Any,
    dtype: Any,
    *rest: Any,
) -> np.ndarray:
    """Returns a view of plain bytes as numbers of a type."""
    del grad, hooks, rest
    name = dtype.name if isinstance(dtype, StandIn) else ""
    known = _DTYPES.get(name.removeprefix("torch."))
    if known is None:
        raise errors.UnsupportedError(
            f"numbers of type {torch_names.shown(name)} are not read"
        )
    return _view(_require_storage(storage).array(known), offset, size, stride)


def _parameter(data: Any, *rest: Any) -> np.ndarray:
    del rest
    if not isinstance(data, np.ndarray):
        opcodes.refuse("a parameter is no tensor")
    return data


def _of_type(function: Any, kind: Any, arguments: Any, *rest: Any) -> Any:
    """Returns the tensor inside an instance of a kind of tensor."""
    del kind, rest
    if not isinstance(function, _Known) or not isinstance(arguments, tuple):
        raise errors.CarriesCodeError("it carries code: a tensor made by the unknown")
    return function.make(*arguments)


def _require_storage(value: Any) -> Storage:
    if not hasattr(value, "array") or isinstance(value, np.ndarray):
        opcodes.refuse("a tensor has no storage")
    return value


def _view(row: np.ndarray, offset: Any, size: Any, stride: Any) -> np.ndarray:
    """Returns a read-only view of a row of numbers.

    Raises:
      DamagedError: It reaches beyond the row.
      TooLargeError: It repeats elements beyond all measure.
    """
    first = _whole(offset, "an offset")
    sizes, strides = _wholes(size, "a size"), _wholes(stride, "a stride")
    if len(sizes) != len(strides) or len(sizes) > _MOST_AXES:
        opcodes.refuse(f"a tensor of size {sizes} has strides {strides}")
    count = math.prod(sizes)
    if not count:
        return np.zeros(sizes, row.dtype)
    last = first + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if last >= len(row):
        opcodes.refuse(
            f"a tensor of size {sizes} ends at element {last} of a storage of "
            f"{len(row)}"
        )
    if count > len(row) and count * row.itemsize > _LARGEST_REPEATED:
        raise errors.TooLargeError(
            f"a tensor of size {sizes} repeats a storage of {len(row)} elements"
        )
    return np.lib.stride_tricks.as_strided(
        row[first:], sizes, [n * row.itemsize for n in strides], writeable=False
    )


def _whole(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        opcodes.refuse(f"{what} is {str(value)[:40]!r}")
    return value


def _wholes(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, tuple | list):
        opcodes.refuse(f"{what} is {type(values).__name__}")
    return tuple(_whole(value, what) for value in values)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Returns the bytes that protocol 2 writes as a text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        opcodes.refuse("bytes in an unknown encoding")
    return text.encode("latin1")


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    if isinstance(pairs, dict):
        return dict(pairs)
    _require_container(pairs)
    return {opcodes.require_key(key): value for key, value in pairs}


def _container(make: Callable[[Any], Any]) -> Callable[..., Any]:
    def made(values: Any = ()) -> Any:
        _require_container(values)
        return make(opcodes.require_key(value) for value in values)

    return made


def _require_container(values: Any) -> None:
    if not isinstance(values, list | tuple | set | frozenset):
        opcodes.refuse("a container is made of something else")


def _byte_array(values: Any = b"", encoding: Any = "latin1") -> bytearray:
    # A number would ask for that many bytes.
    if isinstance(values, bytes | bytearray):
        return bytearray(values)
    return bytearray(_encoded(values, encoding))


def _numbers(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*parts: Any) -> Any:
        if not all(isinstance(part, int | float) for part in parts):
            opcodes.refuse("a number is made of something else")
        return make(*parts)

    return made


_PLAIN_CALLS: dict[str, Callable[..., Any]] = {
    "builtins.dict": _dictionary,
    "builtins.list": lambda values=(): _require_container(values) or list(values),
    "builtins.tuple": lambda values=(): _require_container(values) or tuple(values),
    "builtins.set": _container(set),
    "builtins.frozenset": _container(frozenset),
    "builtins.bytearray": _byte_array,
    "builtins.complex": _numbers(complex),
    "builtins.slice": lambda *parts: StandIn("builtins.slice", parts),
    "builtins.bytes": lambda values=b"": bytes(_byte_array(values)),
}
