"""The variables of published ClimaX weights, cut or put in another order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["reorder", "truncate"]

_HEAD = re.compile(r"head\.(\d+)\.(weight|bias)")
_WEIGHTS, _BIASES = "token_embeds.proj_weights", "token_embeds.proj_biases"


def truncate(table: np.ndarray, count: int) -> np.ndarray:
    """Returns the embeddings of the first variables; all where there are fewer.

    Args:
      table: Shape [1, variable, width].
      count: Variables wanted.
    """
    return table[:, :count] if count <= table.shape[1] else table


def reorder(
    arrays: dict[str, np.ndarray],
    source: Sequence[str],
    target: Sequence[str],
    initial: Mapping[str, np.ndarray] | None = None,
) -> list[str]:
    """Brings what belongs to variables into the order of a model, by their names.

    Args:
      arrays: By published name without prefix. Changed in place: embeddings of
        variables and patches, and the last layer of the head.
      source: Names of the variables of the arrays.
      target: Names of those of the model.
      initial: Arrays of a fresh model, for variables that the file lacks.

    Returns:
      What was done, a line each.

    Raises:
      ValueError: The arrays have another number of variables, or there are new ones
        without initial values.
    """
    count = arrays["var_embed"].shape[1]
    if len(source) != count:
        raise ValueError(
            f"the file has {count} variables, {len(source)} names were given for them"
        )
    if list(source) == list(target):
        return []
    new = [name for name in target if name not in source]
    if new and initial is None:
        raise ValueError(
            f"the weights know nothing of {', '.join(new)}; give the parameters of a "
            f"fresh model as initial values, or choose from {', '.join(source)}"
        )
    places = [source.index(name) if name in source else None for name in target]
    start = initial or {}
    table = _picked(arrays["var_embed"][0], places, _row(start, "var_embed"))
    arrays["var_embed"] = table[np.newaxis]
    _reorder_patches(arrays, places, start)
    _reorder_head(arrays, places, start, count)
    lines = [f"rows of {len(target) - len(new)} of {count} variables taken by name"]
    if new:
        lines.append(f"rows of new variables left at initial values: {', '.join(new)}")
    return lines


def _row(initial: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    return initial[name][0] if name in initial else None


def _picked(
    rows: np.ndarray, places: Sequence[int | None], start: np.ndarray | None
) -> np.ndarray:
    """Returns rows at some places, and initial ones where there is no place."""
    parts = []
    for i, place in enumerate(places):
        if place is not None:
            parts.append(rows[place])
        else:
            assert start is not None, "checked by the caller"
            parts.append(start[i])
    return np.stack(parts).astype(rows.dtype, copy=False)


def _reorder_patches(
    arrays: dict[str, np.ndarray],
    places: Sequence[int | None],
    initial: Mapping[str, np.ndarray],
) -> None:
    for kind, joined in (("weight", _WEIGHTS), ("bias", _BIASES)):
        start = _patches(initial, kind, joined)
        if joined in arrays:
            arrays[joined] = _picked(arrays[joined], places, start)
            continue
        found = _patches(arrays, kind, joined)
        if found is None:
            continue
        for i in range(len(found)):
            del arrays[f"token_embeds.{i}.proj.{kind}"]
        for i, part in enumerate(_picked(found, places, start)):
            arrays[f"token_embeds.{i}.proj.{kind}"] = part


def _patches(
    arrays: Mapping[str, np.ndarray], kind: str, joined: str
) -> np.ndarray | None:
    """Returns patch embeddings of all variables in one array, None for none."""
    if joined in arrays:
        return arrays[joined]
    parts = []
    while (name := f"token_embeds.{len(parts)}.proj.{kind}") in arrays:
        parts.append(arrays[name])
    return np.stack(parts) if parts else None


def _reorder_head(
    arrays: dict[str, np.ndarray],
    places: Sequence[int | None],
    initial: Mapping[str, np.ndarray],
    count: int,
) -> None:
    """Puts the outputs of the last layer in order: the variable changes fastest."""
    layers = [int(match[1]) for name in arrays if (match := _HEAD.fullmatch(name))]
    if not layers:
        return
    for kind in ("weight", "bias"):
        name = f"head.{max(layers)}.{kind}"
        array = arrays.get(name)
        if array is None or array.shape[0] % count:
            continue
        pixels = array.shape[0] // count
        rows = array.reshape(pixels, count, -1).swapaxes(0, 1)
        start = initial.get(name)
        if start is not None:
            start = start.reshape(pixels, len(places), -1).swapaxes(0, 1)
        picked = _picked(rows, places, start).swapaxes(0, 1)
        arrays[name] = picked.reshape(pixels * len(places), *array.shape[1:])
