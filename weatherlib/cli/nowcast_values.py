"""Values of published YAML files, checked and brought to one type by key.

YAML reads `1e-3` as text, and the published files write numbers in this way, so text
that is a number counts as one wherever a number is expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["KINDS", "read_value"]


def read_value(place: str, kind: str, value: Any) -> Any:
    """Returns a value as its key wants it.

    Args:
      place: Of the key, for the message.
      kind: One of `KINDS`; with "?" behind it the value may be missing, None.
      value: As YAML has it.

    Raises:
      ValueError: It is something else.
    """
    name = kind.removesuffix("?")
    if value is None and kind.endswith("?"):
        return None
    wanted, read = KINDS[name]
    found = None if value is None else read(value)
    if found is None:
        shown = "null" if value is None else repr(value)
        raise ValueError(f"{place}: expected {wanted}, found {shown}")
    return found


def _number(value: Any) -> float | int | None:
    """Returns a finite number, or None."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    found = _number(value)
    return None if found is None or found != int(found) else int(found)


def _where(
    read: Callable[[Any], Any], holds: Callable[[Any], bool]
) -> Callable[[Any], Any]:
    """Returns a reader that takes only values of which something holds."""

    def found(value: Any) -> Any:
        read_in = read(value)
        return None if read_in is None or not holds(read_in) else read_in

    return found


def _listed(
    read: Callable[[Any], Any], length: int | None = None
) -> Callable[[Any], list[Any] | None]:
    """Returns a reader of lists, of so many entries or of any number."""

    def found(value: Any) -> list[Any] | None:
        if not isinstance(value, list | tuple):
            return None
        entries = [None if entry is None else read(entry) for entry in value]
        if None in entries or length not in (None, len(entries)):
            return None
        return entries

    return found


def _of_type(*types: type) -> Callable[[Any], Any]:
    def found(value: Any) -> Any:
        return value if isinstance(value, types) else None

    return found


_COUNT = _where(_whole, lambda number: number >= 0)
_FROM_ONE = _where(_whole, lambda number: number >= 1)
_DECAY = _where(_number, lambda number: 0 <= number < 1)

KINDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "any": ("a value", lambda value: value),
    "flag": ("true or false", _of_type(bool)),
    "text": ("text", _of_type(str)),
    "texts": ("a list of words", _listed(_of_type(str))),
    "section": ("keys and values", _of_type(dict)),
    "number": ("a number", _number),
    "positive": ("a number above 0", _where(_number, lambda number: number > 0)),
    "weight": ("a number from 0 on", _where(_number, lambda number: number >= 0)),
    "share": ("a number from 0 to 1", _where(_number, lambda found: 0 <= found <= 1)),
    "count": ("a whole number from 0 on", _COUNT),
    "whole": ("a number from 1 on", _FROM_ONE),
    "numbers": ("a list of numbers", _listed(_number)),
    "counts": ("a list of whole numbers from 0 on", _listed(_COUNT)),
    "wholes": ("a list of whole numbers from 1 on", _listed(_FROM_ONE)),
    "shape": (
        "four numbers from 1 on (frames, rows, columns, channels)",
        _listed(_FROM_ONE, 4),
    ),
    "decays": ("two numbers below 1, such as [0.9, 0.999]", _listed(_DECAY, 2)),
}
"""What a value can be, in words, and what reads it or returns None."""
