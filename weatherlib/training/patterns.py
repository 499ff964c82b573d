"""Parameters by name: paths, patterns, comparison of two sets."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from weatherlib import config
from weatherlib.typing import PyTree

__all__ = [
    "compare",
    "describe",
    "first_match",
    "map_named",
    "names",
    "require_matches",
]

_LISTED = 4


def names(tree: PyTree) -> list[str]:
    """Returns the path of every leaf, its parts joined by slashes."""
    return [_joined(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def map_named(function: Any, tree: PyTree) -> PyTree:
    """Returns the tree of what `function(name, leaf)` gives for every leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(_joined(path), leaf), tree
    )


def first_match(name: str, patterns: Sequence[str]) -> int | None:
    """Returns the number of the first pattern that fits a name, or None."""
    for index, pattern in enumerate(patterns):
        if fnmatch.fnmatchcase(name, pattern):
            return index
    return None


def require_matches(tree: PyTree, patterns: Sequence[str], what: str) -> None:
    """Checks that every pattern fits a parameter.

    Raises:
      ValueError: One fits none; the message has the setting and similar names.
    """
    held = names(tree)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in held):
            hint = config.closest_hint(pattern.strip("*/"), held)
            if "valid:" in hint:
                hint = f" (parameters begin with {held[0]!r}; there are {len(held)})"
            raise ValueError(f"{what}: no parameter matches {pattern!r}{hint}")


def describe(tree: PyTree) -> dict[str, list[Any]]:
    """Returns the shape and dtype of every leaf by its name, as JSON can hold them."""
    return {
        _joined(path): [list(np.shape(leaf)), str(np.dtype(leaf.dtype))]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def compare(
    expected: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[Any]]
) -> list[str]:
    """Returns what differs between two descriptions, in words; empty if nothing."""
    lines = []
    missing = [name for name in expected if name not in found]
    if missing:
        lines.append(f"it lacks {_listed(missing)}")
    extra = [name for name in found if name not in expected]
    if extra:
        lines.append(f"it has {_listed(extra)}, which this model lacks")
    for name in expected:
        if name in found and list(found[name][0]) != list(expected[name][0]):
            lines.append(
                f"{name} has shape {tuple(found[name][0])}, this model needs "
                f"{tuple(expected[name][0])}"
            )
    if len(lines) > _LISTED:
        lines[_LISTED:] = [f"and {len(lines) - _LISTED} more"]
    return lines


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(items[:_LISTED])
    rest = len(items) - _LISTED
    return f"{shown} and {rest} more" if rest > 0 else shown


def _joined(path: Any) -> str:
    return "/".join(_part(key) for key in path)


def _part(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
