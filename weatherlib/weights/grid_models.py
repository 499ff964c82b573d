"""PyTorch weights of the models on grids: read, checked, carried over, exported.

The names of parameters are the usual ones of such modules, as `grid_rules` lists them.
Nothing may be missing or left over, but for what PyTorch keeps in a state dict beside
weights: the table of sines of a transformer, which is compared with ours, and how many
batches a norm has seen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weatherlib.baselines import common, registry
from weatherlib.typing import PathLike
from weatherlib.weights import (
    errors,
    flat,
    grid_channels,
    grid_rules,
    grid_sizes,
    name_map,
    variable_names,
)

__all__ = ["FAMILIES", "Known", "Loaded", "export", "load", "map_of", "order_of"]

Known = grid_sizes.Known
Params = dict[str, dict[str, np.ndarray]]

FAMILIES = tuple(grid_rules.RULES)
"""Names of the models whose weights are read."""

# What programs that wrap a model put before all names.
_WRAPPERS = ("module.", "model.", "net.", "network.", "_orig_mod.")
_TABLE, _COUNTER = ".pe", ".num_batches_tracked"
_TABLE_ERROR = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """Weights in our layout.

    Attributes:
      name: Of the model.
      params: Haiku module path to parameter name to array.
      config: The architecture they are for.
      channels: Variables of a frame, each level counted.
      report: What was done, a line each.
    """

    name: str
    params: Params
    config: common.FrameModelConfig
    channels: int
    report: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.report)


def map_of(
    config: common.FrameModelConfig, channels: int, grid: tuple[int, int]
) -> name_map.NameMap:
    """Returns the map between the names of PyTorch and the parameters of a model.

    Args:
      config: The architecture.
      channels: Variables of a frame, each level counted.
      grid: Rows and columns.

    Raises:
      ValueError: There is no map for the architecture.
    """
    name = registry.name_of(config)
    if name not in grid_rules.RULES:
        raise ValueError(
            f"{name}: has no names of PyTorch; those with are {', '.join(FAMILIES)}"
        )
    rules = grid_rules.RULES[name](config, channels, grid)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for rule in rules:
        outline = np.broadcast_to(np.zeros((), np.bool_), rule.source_shape)
        held = shapes.setdefault(rule.module, {})
        held[rule.name] = rule.transform.forward(outline).shape
    return name_map.NameMap(rules, shapes)


def load(
    path: PathLike,
    name: str | None = None,
    known: Known | None = None,
    *,
    variables: Sequence[str] = (),
    verify: bool = True,
) -> Loaded:
    """Returns weights of a file as the parameters of a model, strictly.

    Args:
      path: A state dict that torch has saved, by itself or inside a training
        checkpoint, or an npz or safetensors file with its names.
      name: Of the model; told by the names in the file otherwise.
      known: What the shapes of the arrays do not say.
      variables: Names of the channels of the file, in its order, levels as in
        `geopotential_500`. They are put into the order that our models have; without
        names they stay as they are.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      MismatchError: It has not just the arrays of the model.
      ValueError: It is damaged, would run something, holds no such model, or sizes do
        not go together.
    """
    file = flat.read(path, verify=verify)
    try:
        return _load(file, name, known or Known(), tuple(variables))
    except errors.MismatchError as error:
        raise errors.MismatchError(
            f"{path}: {error}",
            missing=error.missing,
            extra=error.extra,
            misshapen=error.misshapen,
        ) from error
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from error


def _load(
    file: flat.FlatWeights, name: str | None, known: Known, variables: tuple[str, ...]
) -> Loaded:
    arrays, lines = _unwrapped(file.arrays)
    name = name or grid_sizes.recognise(arrays)
    if name not in grid_rules.RULES:
        what = "the arrays are those of no" if name is None else f"{name} is no"
        raise errors.WrongFormatError(
            f"{what} model with names of PyTorch; there are {', '.join(FAMILIES)}"
        )
    if variables and known.channels is None:
        known = known.replace(channels=len(variables))
    sizes = grid_sizes.infer(name, arrays, known)
    config = registry.find(name).config_class(**sizes.fields)
    arrays, dropped = _weights_only(arrays)
    arrays = {source: _float32(array) for source, array in arrays.items()}
    names = map_of(config, sizes.channels, sizes.grid)
    names.check(arrays, f"of a {name} of {sizes.channels} variables")
    if variables:
        order = order_of(variables)
        points = math.prod(sizes.grid)
        arrays = grid_channels.reorder(name, arrays, order, points)
        shown = ", ".join(variables[i] for i in order)
        if list(order) != sorted(order):
            lines.append(f"channels put in the order {shown}")
    heads = {"nhead", "n_heads"} & {f.name for f in dataclasses.fields(config)}
    if heads and known.heads is None:
        lines.append(f"heads of attention: {config[heads.pop()]}, as published")
    source = f"{file.path} ({file.format})"
    return Loaded(
        name=name,
        params=names.to_params(arrays),
        config=config,
        channels=sizes.channels,
        report=(
            f"{source}: {len(arrays)} arrays of a {name} loaded",
            *lines,
            *dropped,
            *(f"not weights: {line}" for line in file.beside),
        ),
    )


def _unwrapped(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns arrays without what a wrapper has put before all names."""
    found, lines = dict(arrays), []
    while found:
        prefix = next(
            (p for p in _WRAPPERS if all(source.startswith(p) for source in found)),
            None,
        )
        if prefix is None:
            break
        found = {s.removeprefix(prefix): array for s, array in found.items()}
        lines.append(f"{prefix} taken from all names")
    return found, lines


def _weights_only(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns arrays without what is computed, and what was left out.

    Raises:
      ValueError: A table of positions is another than ours.
    """
    found, lines = {}, []
    for source, array in arrays.items():
        if source.endswith(_TABLE):
            _require_sines(source, array)
            lines.append(f"not weights: {source}, the sines that we compute")
        elif not source.endswith(_COUNTER):
            found[source] = array
    counters = sum(source.endswith(_COUNTER) for source in arrays)
    if counters:
        lines.append(f"not weights: {counters} counters of batches")
    return found, lines


def _require_sines(source: str, table: np.ndarray) -> None:
    """Raises a ValueError where a table of positions is not that of our models."""
    rows = table.reshape(-1, table.shape[-1]).astype(np.float64)
    place = np.arange(rows.shape[0])[:, np.newaxis]
    width = rows.shape[1]
    angle = place * np.exp(-np.log(1e4) * np.arange(0, width, 2) / width)
    wanted = np.empty_like(rows)
    wanted[:, 0::2] = np.sin(angle)
    wanted[:, 1::2] = np.cos(angle[:, : width // 2])
    # Tables are computed in float32, whose angles are rounded in far rows.
    near = slice(0, 64)
    if not np.abs(rows[near] - wanted[near]).max() < _TABLE_ERROR:
        raise ValueError(
            f"{source}: holds no sines and cosines of base 10000, which are the "
            "positions of our models"
        )


def _float32(array: np.ndarray) -> np.ndarray:
    return array if array.dtype == np.float32 else array.astype(np.float32)


def order_of(variables: Sequence[str]) -> tuple[int, ...]:
    """Returns which of some channels comes at each place of a frame of our models.

    Variables come in the order of their names, and their levels as they are given.

    Args:
      variables: Channels, levels as in `geopotential_500`.

    Raises:
      ValueError: One is given twice.
    """
    if len(set(variables)) != len(variables):
        twice = next(v for v in variables if list(variables).count(v) > 1)
        raise ValueError(f"variables: {twice} is named twice")
    bare = [variable_names.split_levels([v])[0][0] for v in variables]
    return tuple(sorted(range(len(variables)), key=lambda i: bare[i]))


def export(
    params: Mapping[str, Mapping[str, Any]], config: common.FrameModelConfig
) -> dict[str, np.ndarray]:
    """Returns parameters under the names of PyTorch, bit by bit.

    Args:
      params: Haiku module path to parameter name to array.
      config: The architecture.

    Raises:
      MismatchError: They are not those of the model.
      ValueError: The model has inputs beside the frames of what it predicts, or there
        is no map for it.
    """
    name = registry.name_of(config)
    if name not in grid_rules.RULES:
        raise ValueError(
            f"{name}: has no names of PyTorch; those with are {', '.join(FAMILIES)}"
        )
    channels, grid = grid_rules.sizes_of(config, params)
    return map_of(config, channels, grid).to_sources(params)
