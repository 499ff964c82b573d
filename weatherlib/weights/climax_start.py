"""ClimaX weights to start a training from, also those of another architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weatherlib.climax import config as climax_config
from weatherlib.climax import parameters
from weatherlib.typing import PathLike
from weatherlib.weights import climax, climax_checkpoint, positions

__all__ = ["carry", "start"]

Params = dict[str, dict[str, np.ndarray]]

_ROWS = (
    ("climax", "var_embed"),
    ("climax/token_embed", "w"),
    ("climax/token_embed", "b"),
)
_LISTED = 6


def start(
    path: PathLike,
    sizes: climax_config.ClimaXConfig,
    initial: Mapping[str, Mapping[str, Any]],
    *,
    adapt: bool = False,
    variables: Sequence[str] = (),
) -> tuple[Params, list[str]]:
    """Returns the weights of a file as parameters of a model, and what was changed.

    Args:
      path: A checkpoint of this package, or published weights as `climax.load` takes
        them.
      sizes: The model.
      initial: Its fresh parameters, which stay where the file gives none.
      adapt: Whether weights of another architecture are carried over. Without, those
        of a checkpoint are returned as they are, for the caller to compare.
      variables: Names of the variables of published weights; the published ones by
        default.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      MismatchError: Published weights do not fit the model, and `adapt` is not set.
      ValueError: The file is damaged, or its variables or rows are in another order
        and `adapt` is not set.
    """
    own = climax_checkpoint.open_checkpoint(path)
    if own is not None:
        found = {
            m: {n: np.asarray(x) for n, x in e.items()} for m, e in own.params.items()
        }
        if adapt:
            return carry(found, own.model_config, sizes, initial)
        _require_variables(path, own.model_config.default_vars, sizes)
        _require_rows(path, own.model_config, sizes)
        return found, []
    names = tuple(variables) or climax_config.DEFAULT_VARIABLES
    if adapt:
        loaded = climax.load(
            path, sizes, initial=initial, match="name", source_variables=names
        )
        return loaded.params, str(loaded.report).splitlines()
    _require_variables(path, names, sizes)
    return climax.load(path, sizes, strict=True).params, []


def carry(
    found: Mapping[str, Mapping[str, np.ndarray]],
    old: climax_config.ClimaXConfig,
    new: climax_config.ClimaXConfig,
    initial: Mapping[str, Mapping[str, Any]],
) -> tuple[Params, list[str]]:
    """Returns weights of one model as those of another, as far as they go.

    Embeddings, patch embeddings and outputs of the head follow the names of variables;
    the position embedding is interpolated to another grid; all else is taken where the
    shape is the same. The rest keeps its initial values.

    Args:
      found: Parameters of the old model.
      old: Its architecture.
      new: That of the new model.
      initial: Fresh parameters of the new model.

    Returns:
      The parameters, and a line for each thing that is not as it was.

    Raises:
      ValueError: The models order their rows differently.
    """
    _require_rows("the weights", old, new)
    places = [_place(name, old.default_vars) for name in new.default_vars]
    lines, fresh = [], []
    params: Params = {}
    last = f"climax/head/linear_{new.decoder_depth}"
    same_head = (
        old.head == new.head == "grid" and old.decoder_depth == new.decoder_depth
    )
    for module, entries in parameters.parameter_shapes(new).items():
        params[module] = {}
        for name, shape in entries.items():
            value = found.get(module, {}).get(name)
            begin = np.array(initial[module][name])
            if value is not None and (module, name) in _ROWS:
                value = _rows(value, begin, places)
            elif value is not None and module == last and same_head:
                value = _outputs(value, begin, places, len(old.default_vars))
            elif value is not None and (module, name) == ("climax", "pos_embed"):
                value = _positions(value, old, new, lines)
            if value is None or value.shape != shape:
                fresh.append(f"{module}/{name}" if module == "climax" else module)
                value = begin
            params[module][name] = value
    lines += _variable_lines(old, new)
    if old.predicts != new.predicts:
        lines.append(
            f"the weights predict a {old.predicts}, the model a {new.predicts}: leave "
            "the head fresh with skip"
        )
    fresh = list(dict.fromkeys(fresh))
    if fresh:
        rest = f" and {len(fresh) - _LISTED} more" if len(fresh) > _LISTED else ""
        lines.append(f"left at initial values: {', '.join(fresh[:_LISTED])}{rest}")
    return params, lines


def _place(name: str, names: Sequence[str]) -> int | None:
    return names.index(name) if name in names else None


def _picked(
    old: np.ndarray, begin: np.ndarray, places: Sequence[int | None], axis: int
) -> np.ndarray:
    """Returns entries along an axis by place, and initial ones where there is none."""
    found = np.array(begin)
    target, source = np.moveaxis(found, axis, 0), np.moveaxis(old, axis, 0)
    for i, place in enumerate(places):
        if place is not None:
            target[i] = source[place]
    return found


def _rows(
    old: np.ndarray, begin: np.ndarray, places: Sequence[int | None]
) -> np.ndarray | None:
    if old.shape[1:] != begin.shape[1:]:
        return None
    return _picked(old, begin, places, 0)


def _outputs(
    old: np.ndarray, begin: np.ndarray, places: Sequence[int | None], count: int
) -> np.ndarray | None:
    """Returns the last layer, of which the variable is what changes fastest."""
    before = old.reshape(*old.shape[:-1], -1, count)
    after = begin.reshape(*begin.shape[:-1], -1, len(places))
    if before.shape[:-1] != after.shape[:-1]:
        return None
    return _picked(before, after, places, -1).reshape(begin.shape)


def _positions(
    table: np.ndarray,
    old: climax_config.ClimaXConfig,
    new: climax_config.ClimaXConfig,
    lines: list[str],
) -> np.ndarray:
    before, after = (old.rows, old.columns), (new.rows, new.columns)
    if before == after:
        return table
    lines.append(
        f"pos_embed interpolated from {before[0]}x{before[1]} to "
        f"{after[0]}x{after[1]} patches"
    )
    return positions.interpolate(table[np.newaxis], before, after)[0]


def _variable_lines(
    old: climax_config.ClimaXConfig, new: climax_config.ClimaXConfig
) -> list[str]:
    added = [name for name in new.default_vars if name not in old.default_vars]
    gone = [name for name in old.default_vars if name not in new.default_vars]
    lines = []
    if added:
        lines.append(f"fresh embeddings of new variables: {', '.join(added)}")
    if gone:
        lines.append(f"variables left out: {', '.join(gone)}")
    if not added and not gone and old.default_vars != new.default_vars:
        lines.append("variables brought into the order of the model")
    return lines


def _require_variables(
    path: PathLike, found: Sequence[str], sizes: climax_config.ClimaXConfig
) -> None:
    if tuple(found) == tuple(sizes.default_vars):
        return
    pairs = [pair for pair in zip(found, sizes.default_vars) if pair[0] != pair[1]]
    first = pairs[0] if pairs else None
    where = f"{first[0]} where the model has {first[1]}" if first else "another number"
    raise ValueError(
        f"init_from: the variables of {path} are not default_vars of the model: "
        f"{len(found)} and {len(sizes.default_vars)}, {where}; init_from.adapt: true "
        "carries them over by name"
    )


def _require_rows(
    path: PathLike, old: climax_config.ClimaXConfig, new: climax_config.ClimaXConfig
) -> None:
    if old.latitude != new.latitude:
        raise ValueError(
            f"init_from: {path} has rows in {old.latitude} order, the model in "
            f"{new.latitude}; set model.latitude: {old.latitude}"
        )
