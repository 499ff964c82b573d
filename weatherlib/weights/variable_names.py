"""Variables whose level is part of the name, such as `geopotential_500`."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["shared_levels", "split_levels"]

_LEVEL = re.compile(r"(.+)_(\d+)")


def split_levels(
    variables: Sequence[str],
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Returns names without levels, in order, and the levels of those that have any.

    Args:
      variables: Names as published programs have them.
    """
    levels: dict[str, list[int]] = {}
    names: list[str] = []
    for variable in variables:
        match = _LEVEL.fullmatch(variable)
        name = match[1] if match else variable
        if name not in names:
            names.append(name)
        if match:
            levels.setdefault(name, []).append(int(match[2]))
    return tuple(names), {name: tuple(found) for name, found in levels.items()}


def shared_levels(levels: dict[str, tuple[int, ...]], keep: str) -> tuple[int, ...]:
    """Returns the levels that all variables with levels have.

    Args:
      levels: By variable.
      keep: What can be done where they differ, for the message.

    Raises:
      ValueError: They differ.
    """
    held = set(levels.values())
    if len(held) > 1:
        shown = "; ".join(f"{n}: {', '.join(map(str, ls))}" for n, ls in levels.items())
        raise ValueError(
            "the variables lie on different levels, so no checkpoint can say what the "
            f"model reads; {keep} ({shown})"
        )
    return held.pop() if held else ()
