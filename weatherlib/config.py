"""Configuration objects: frozen dataclasses that also behave as mappings.

Nothing here imports JAX or xarray, so a configuration can be read, checked and
printed without loading either.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import enum
import inspect
import numbers
import pathlib
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

__all__ = ["Mapping", "closest_hint", "from_dict", "require_seed"]

_T = TypeVar("_T")

_RESERVED = frozenset({"get", "items", "keys", "replace", "values"})


def require_seed(seed: int, name: str = "seed") -> None:
    """Checks that random keys can be made of a seed.

    Raises:
      ValueError: It is negative or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"{name} must lie in 0 to {2**32 - 1}, found {seed}")


class Mapping(collections.abc.Mapping):
    """Makes a dataclass readable as a mapping from field name to value.

    `config["name"]`, `**config`, `keys()`, `items()` and `len` work beside attribute
    access, as they do for the configurations of the published GraphCast package. Use
    it below a frozen, keyword-only dataclass:

        @dataclasses.dataclass(frozen=True, kw_only=True)
        class PatchConfig(config.Mapping):
            size: int = 2
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        taken = sorted(_RESERVED & set(inspect.get_annotations(cls)))
        if taken:
            raise TypeError(
                f"{cls.__name__} is a mapping, so it cannot have fields named {taken}"
            )

    def __getitem__(self, key: str) -> Any:
        """Returns the value of the field `key`.

        Raises:
          KeyError: There is no such field.
        """
        names = _field_names(self)
        if key not in names:
            raise KeyError(
                f"{type(self).__name__} has no field {key!r}{closest_hint(key, names)}"
            )
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(_field_names(self))

    def __len__(self) -> int:
        return len(_field_names(self))

    def replace(self, **changes: Any) -> Self:
        """Returns a checked copy with the given fields changed."""
        return dataclasses.replace(self, **changes)  # pyright: ignore


def closest_hint(name: object, valid: collections.abc.Iterable[str]) -> str:
    """Returns ' (did you mean ...?)' for the valid name nearest to `name`.

    Where none is near, the valid names are listed instead.
    """
    names = [str(option) for option in valid]
    near = difflib.get_close_matches(str(name), names, n=1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (valid: {', '.join(names) or 'none'})"


def from_dict(cls: type[_T], mapping: collections.abc.Mapping[str, Any]) -> _T:
    """Returns an instance of the dataclass `cls` with the values of `mapping`.

    Made for what YAML files and flags hold: lists become tuples where the field is a
    tuple, nested mappings become nested dataclasses (null the default of one that may
    be absent), text becomes a path, an enumeration member or (as YAML reads `1e-4` as
    text) a float where the field asks for one. Nothing else is converted.

    Args:
      cls: A dataclass.
      mapping: Field name to value. Fields with a default may be absent.

    Returns:
      The checked instance; its own `__post_init__` has run too.

    Raises:
      ValueError: An unknown or missing key, or a value of the wrong type. The message
        holds the dotted field name, what was found and what is expected.
    """
    return _dataclass(cls, mapping, "")


def _field_names(dataclass: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(dataclass))


def _dataclass(cls: type[_T], value: Any, path: str) -> _T:
    if isinstance(value, cls):
        return value
    label = path or cls.__name__
    if not isinstance(value, collections.abc.Mapping):
        raise _mismatch(label, f"a mapping of the fields of {cls.__name__}", value)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # pyright: ignore
    unknown = [key for key in value if key not in fields]
    if unknown:
        found = "; ".join(f"{key!r}{closest_hint(key, fields)}" for key in unknown)
        raise ValueError(f"{label}: unknown key {found}")
    missing = [
        name
        for name, field in fields.items()
        if name not in value
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{label}: missing {', '.join(missing)}")
    hints = typing.get_type_hints(cls)
    prefix = f"{path}." if path else ""
    converted = {
        name: _convert(hints[name], value[name], f"{prefix}{name}")
        for name in value
        if value[name] is not None or not _has_default_section(fields[name], hints)
    }
    try:
        return cls(**converted)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _has_default_section(field: dataclasses.Field, hints: dict[str, Any]) -> bool:
    """Whether a field holds a dataclass that stands for itself where it is left out.

    A section whose lines are all commented out, or null, means the defaults then.
    """
    is_section = isinstance(hints[field.name], type) and dataclasses.is_dataclass(
        hints[field.name]
    )
    return is_section and not (
        field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    )


def _convert(expected: Any, value: Any, path: str) -> Any:
    """Returns `value` as the type `expected`, or raises with the field's path."""
    if expected is Any:
        return value
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _dataclass(expected, value, path)
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return _union(expected, value, path)
    if origin is typing.Literal:
        return _literal(expected, value, path)
    if origin in (tuple, list) or expected in (tuple, list):
        return _sequence(expected, value, path)
    if origin in (dict, collections.abc.Mapping) or expected is dict:
        return _dictionary(expected, value, path)
    if isinstance(expected, type) and issubclass(expected, enum.Enum):
        return _member(expected, value, path)
    if expected in _SCALARS:
        return _SCALARS[expected](value, path)
    if isinstance(expected, type) and not isinstance(value, expected):
        raise _mismatch(path, expected.__name__, value)
    return value


def _union(expected: Any, value: Any, path: str) -> Any:
    options = typing.get_args(expected)
    if value is None and types.NoneType in options:
        return None
    errors = []
    for option in options:
        if option is types.NoneType:
            continue
        try:
            return _convert(option, value, path)
        except ValueError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    names = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise _mismatch(path, names, value)


def _literal(expected: Any, value: Any, path: str) -> Any:
    options = typing.get_args(expected)
    for option in options:
        if option == value and type(option) is type(value):
            return option
    names = ", ".join(map(repr, options))
    hint = closest_hint(value, map(str, options)) if isinstance(value, str) else ""
    raise ValueError(f"{path}: expected one of {names}, found {value!r}{hint}")


def _sequence(expected: Any, value: Any, path: str) -> Any:
    kind = typing.get_origin(expected) or expected
    items = typing.get_args(expected)
    if not isinstance(value, (list, tuple)):
        raise _mismatch(path, "a list", value)
    if not items:
        return kind(value)
    if kind is tuple and items[-1:] != (...,):
        if len(items) != len(value):
            raise _mismatch(path, f"{len(items)} values", value)
    else:
        items = items[:1] * len(value)
    return kind(
        _convert(item, entry, f"{path}[{i}]")
        for i, (item, entry) in enumerate(zip(items, value))
    )


def _dictionary(expected: Any, value: Any, path: str) -> dict:
    if not isinstance(value, collections.abc.Mapping):
        raise _mismatch(path, "a mapping", value)
    key_type, value_type = typing.get_args(expected) or (Any, Any)
    return {
        _convert(key_type, key, f"{path} key"): _convert(
            value_type, entry, f"{path}.{key}"
        )
        for key, entry in value.items()
    }


def _member(expected: type[enum.Enum], value: Any, path: str) -> enum.Enum:
    if isinstance(value, expected):
        return value
    for member in expected:
        if value in (member.value, member.name):
            return member
    names = ", ".join(expected.__members__)
    hint = closest_hint(value, expected.__members__)
    raise ValueError(f"{path}: expected one of {names}, found {value!r}{hint}")


def _as_bool(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _mismatch(path, "true or false", value)
    return value


def _as_int(value: Any, path: str) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise _mismatch(path, "a whole number", value)


def _as_float(value: Any, path: str) -> float:
    # YAML 1.1 takes `1e-4`, without a point, for text.
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, str)):
        raise _mismatch(path, "a number", value)
    try:
        return float(value)
    except ValueError:
        raise _mismatch(path, "a number", value) from None


def _as_str(value: Any, path: str) -> str:
    if isinstance(value, (int, float)):
        raise _mismatch(path, f"text (in quotes, '{value}')", value)
    if not isinstance(value, str):
        raise _mismatch(path, "text", value)
    return value


def _as_path(value: Any, path: str) -> pathlib.Path:
    if not isinstance(value, (str, pathlib.PurePath)):
        raise _mismatch(path, "a path", value)
    if not str(value):
        raise ValueError(f"{path} is empty; name a file or folder")
    return pathlib.Path(value)


_SCALARS: dict[type, Callable[[Any, str], Any]] = {
    bool: _as_bool,
    int: _as_int,
    float: _as_float,
    str: _as_str,
    pathlib.Path: _as_path,
}


def _mismatch(path: str, expected: str, value: Any) -> ValueError:
    return ValueError(
        f"{path}: expected {expected}, found {value!r} ({type(value).__name__})"
    )
