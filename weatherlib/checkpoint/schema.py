"""Turns trees of dataclasses, dicts, lists and tuples into named arrays and back.

The names are those of the published GraphCast package (version 0.2, module
`checkpoint`): the path of each leaf with `:` between its parts. What they cannot say is
noted under `weatherlib:`, which the published loader passes over.
"""

from __future__ import annotations

import dataclasses
import logging
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from weatherlib.checkpoint.npz import listed

__all__ = ["OWN", "convert", "flatten", "unflatten"]

_logger = logging.getLogger(__name__)

OWN = "weatherlib"
"""First part of the names that are not part of the tree."""

_SEPARATOR = ":"
# Notes under OWN: paths of empty containers, and of arrays that are stored as float32.
_EMPTY = "empty"
_BFLOAT16 = "bfloat16"
_NOTES = (_EMPTY, _BFLOAT16)

_CONTAINERS = (Mapping, list, tuple)
_SCALARS = (bool, int, float, str)

_BFLOAT16_DTYPE = np.dtype(ml_dtypes.bfloat16)
# What bfloat16 becomes in a file that NumPy wrote by itself.
_UNNAMED_BFLOAT16 = np.dtype("V2")


def flatten(value: Any, extras: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns all leaves of a tree and of extras by name.

    Raises:
      ValueError: A key holds `:` or is taken, or a leaf is not a plain array.
    """
    leaves: dict[str, np.ndarray] = {}
    notes: dict[str, list[str]] = {name: [] for name in _NOTES}
    for key, entry in _children(value, "the checkpoint"):
        if key == OWN:
            raise ValueError(f"the key {OWN!r} is kept for extras")
        _add_leaves(entry, key, leaves, notes)
    for key, entry in _children(extras, "extras"):
        if key in _NOTES:
            raise ValueError(f"extras cannot be named {key!r}")
        _add_leaves(entry, f"{OWN}{_SEPARATOR}{key}", leaves, notes)
    for name, paths in notes.items():
        if paths:
            leaves[f"{OWN}{_SEPARATOR}{name}"] = np.array(paths)
    return leaves


def unflatten(
    leaves: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the tree, and the extras, as nested dicts.

    Raises:
      ValueError: The names contradict each other.
    """
    notes = {
        name: np.atleast_1d(leaves.get(f"{OWN}{_SEPARATOR}{name}", ())).tolist()
        for name in _NOTES
    }
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        narrow = path in notes[_BFLOAT16]
        if leaf.dtype == _UNNAMED_BFLOAT16:
            leaf = leaf.view(_BFLOAT16_DTYPE)
        _insert(tree, path, leaf.astype(_BFLOAT16_DTYPE) if narrow else leaf)
    for path in notes[_EMPTY]:
        _insert(tree, path, {})
    own = tree.pop(OWN, {})
    return tree, {name: entry for name, entry in own.items() if name not in _NOTES}


def convert(typ: Any, value: Any, path: str = "", *, strict: bool = False) -> Any:
    """Returns a tree of nested dicts as the type `typ`.

    A name that a dataclass has a default for may be missing, so that files stay
    readable when a configuration grows.

    Args:
      typ: A dataclass, a generic container, a scalar type, `numpy.ndarray` or `Any`.
      value: What `unflatten` returns, or a part of it.
      path: Where the part lies in the whole.
      strict: Whether a name that a dataclass lacks is an error, and not only logged.

    Raises:
      ValueError: The tree does not match the type.
      TypeError: The type cannot be read from a file.
    """
    if typ is Any:
        return value
    if typ in _SCALARS:
        return _scalar(typ, value, path)
    if typ is np.ndarray:
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{path}: expected an array, found {_described(value)}")
        return value
    if dataclasses.is_dataclass(typ):
        return _convert_dataclass(typ, _group(value, path), path, strict)
    origin = typing.get_origin(typ) or typ
    arguments = typing.get_args(typ)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typ, value, path, strict)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key_type, value_type = arguments or (Any, Any)
        return {
            _key(key_type, k, path): convert(
                value_type, v, _join(path, k), strict=strict
            )
            for k, v in _group(value, path).items()
        }
    if origin is typing.Literal:
        choice = _scalar(type(arguments[0]), value, path)
        if choice not in arguments:
            raise ValueError(
                f"{path}: expected {listed(map(str, arguments))}, found {choice!r}"
            )
        return choice
    if origin in (list, tuple):
        return _convert_sequence(origin, arguments, value, path, strict)
    try:
        return typ(value.item() if isinstance(value, np.ndarray) else value)
    except TypeError as error:
        raise TypeError(
            f"{path}: {typ} cannot be made from {_described(value)}"
        ) from error


def _convert_union(union: Any, value: Any, path: str, strict: bool) -> Any:
    """Returns a value as the type of a union that it has.

    That may be None, one scalar, and containers, of which the first is taken that fits.
    """
    options = [o for o in typing.get_args(union) if o is not types.NoneType]
    if len(options) > 1:
        several = isinstance(value, Mapping)
        options = [o for o in options if (o not in _SCALARS) == several]
        if not options or (len(options) > 1 and not several):
            raise TypeError(
                f"{path}: of unions only those of None, one scalar and containers can "
                f"be read, not {union}"
            )
    problems = []
    for option in options:
        try:
            return convert(option, value, path, strict=strict)
        except ValueError as error:
            problems.append(error)
    raise problems[-1]


def _convert_dataclass(typ: Any, group: dict[str, Any], path: str, strict: bool) -> Any:
    try:
        hints = typing.get_type_hints(typ)
    except NameError as error:
        raise TypeError(f"the fields of {typ} have unknown types: {error}") from error
    fields = {field.name: field for field in dataclasses.fields(typ) if field.init}
    missing = [
        _join(path, name)
        for name, field in fields.items()
        if name not in group and not _may_be_missing(field, hints[name])
    ]
    if missing:
        raise ValueError(f"it lacks {listed(missing, len(missing))}")
    unexpected = [_join(path, name) for name in group if name not in fields]
    if unexpected and strict:
        raise ValueError(f"it has the unknown {listed(unexpected)}")
    if unexpected:
        _logger.warning("%s has no field for %s", typ.__name__, listed(unexpected))
    values = {
        name: convert(hints[name], group[name], _join(path, name), strict=strict)
        for name in fields
        if name in group
    }
    # Without a default, only what may be None gets this far.
    absent = {
        name: None
        for name, field in fields.items()
        if name not in group and not _has_default(field)
    }
    return typ(**values, **absent)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    unset = dataclasses.MISSING
    return field.default is not unset or field.default_factory is not unset


def _may_be_missing(field: dataclasses.Field[Any], typ: Any) -> bool:
    if _has_default(field):
        return True
    is_union = typing.get_origin(typ) in (typing.Union, types.UnionType)
    return is_union and types.NoneType in typing.get_args(typ)


def _convert_sequence(
    kind: type, arguments: tuple[Any, ...], value: Any, path: str, strict: bool
) -> Any:
    group = _group(value, path)
    if set(group) != {str(index) for index in range(len(group))}:
        raise ValueError(
            f"{path}: expected the indices of a {kind.__name__}, found {listed(group)}"
        )
    if kind is list or arguments[1:] == (...,):
        types_of_entries = (arguments or (Any,))[:1] * len(group)
    else:
        types_of_entries = arguments or (Any,) * len(group)
    if len(types_of_entries) != len(group):
        raise ValueError(
            f"{path}: expected {len(types_of_entries)} entries, found {len(group)}"
        )
    return kind(
        convert(entry, group[str(index)], _join(path, str(index)), strict=strict)
        for index, entry in enumerate(types_of_entries)
    )


def _scalar(typ: type, value: Any, path: str) -> Any:
    """Returns a 0-d array as a Python scalar, if that changes nothing."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        item = value.item()
        if typ is str:
            fits = isinstance(item, str)
        else:
            fits = isinstance(item, bool | int | float) and (
                typ is float or typ(item) == item
            )
        if fits:
            return typ(item)
    raise ValueError(f"{path}: expected {typ.__name__}, found {_described(value)}")


def _key(typ: Any, key: str, path: str) -> Any:
    """Returns the text of a dict key as what it was before it was written."""
    if typ in (Any, str):
        return key
    if typ is bool and key in ("True", "False"):
        return key == "True"
    if typ in (int, float):
        try:
            return typ(key)
        except ValueError:
            raise ValueError(
                f"{path}: expected keys of type {typ.__name__}, found {key!r}"
            ) from None
    raise TypeError(f"{path}: keys of type {typ} cannot be read")


def _group(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a group, found {_described(value)}")
    return value


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return f"a group of {listed(value)}"
    if value.ndim == 0:
        return f"{value.item()!r}"
    return f"an array of {value.dtype} of shape {value.shape}"


def _join(path: str, name: str) -> str:
    return f"{path}{_SEPARATOR}{name}" if path else name


def _children(value: Any, path: str) -> list[tuple[str, Any]]:
    """Returns the parts of a container under their names in the file."""
    if dataclasses.is_dataclass(value):
        # Not `asdict`: it goes down further, past fields that are None.
        items = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        items = [(name, entry) for name, entry in items if entry is not None]
    elif isinstance(value, Mapping):
        items = [(str(key), entry) for key, entry in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(index), entry) for index, entry in enumerate(value)]
    else:
        raise ValueError(
            f"{path} must be a dataclass, dict, list or tuple, found "
            f"{type(value).__name__}"
        )
    names = [name for name, _ in items]
    for name in names:
        if _SEPARATOR in name:
            raise ValueError(f"{path}: the key {name!r} must not hold {_SEPARATOR!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: two keys are the same text: {listed(names)}")
    return items


def _add_leaves(
    value: Any, path: str, leaves: dict[str, np.ndarray], notes: dict[str, list[str]]
) -> None:
    """Adds all leaves of a tree, and notes on what they cannot say themselves."""
    if not (dataclasses.is_dataclass(value) or isinstance(value, _CONTAINERS)):
        leaf = _leaf(value, path)
        if leaf.dtype == _BFLOAT16_DTYPE:
            notes[_BFLOAT16].append(path)
            leaf = leaf.astype(np.float32)
        leaves[path] = leaf
        return
    children = _children(value, path)
    if not children:
        notes[_EMPTY].append(path)
    for name, entry in children:
        _add_leaves(entry, f"{path}{_SEPARATOR}{name}", leaves, notes)


def _leaf(value: Any, path: str) -> np.ndarray:
    if value is None:
        raise ValueError(f"{path}: None can be stored only as a field of a dataclass")
    try:
        leaf = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be stored as an array: {error}") from error
    # 2 marks types that a package added, whose names a file cannot hold.
    is_plain = leaf.dtype.kind in "biufcSUmM" and leaf.dtype.isbuiltin != 2
    if not is_plain and leaf.dtype != _BFLOAT16_DTYPE:
        raise ValueError(
            f"{path}: a {type(value).__name__} of dtype {leaf.dtype} cannot be stored; "
            "convert it to a plain NumPy dtype"
        )
    return leaf


def _insert(tree: dict[str, Any], path: str, entry: Any) -> None:
    *parents, name = path.split(_SEPARATOR)
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ValueError(f"the file is damaged: {path} lies inside an array")
    if name in node:
        raise ValueError(f"the file is damaged: {path} is an array and a group")
    node[name] = entry
