"""Published ClimaX weights: read, checked, carried over, exported.

`load` does what the published loaders do, in their order: carry the position embedding
over to the grid of the model, give older keys their present names (`channel_*` became
`var_*`), and leave out what the model lacks or has in another shape. Unlike them it
takes either layout of the patch embeddings, and says what it did.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from weatherlib.climax import config as climax_config
from weatherlib.climax import parameters
from weatherlib.typing import PathLike
from weatherlib.weights import (
    climax_files,
    climax_variables,
    errors,
    name_map,
    positions,
)

__all__ = [
    "LoadReport",
    "Loaded",
    "export",
    "load",
    "map_of",
]

_TOKENS = re.compile(r"token_embeds\.(\d+)\.proj\.(weight|bias)")

Params = dict[str, dict[str, np.ndarray]]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What was done with the arrays of a file. Prints as readable lines.

    Attributes:
      source: The file and its format.
      loaded: Published names that went into the model.
      renamed: What has another name or layout now, a line each.
      altered: What was interpolated, cut or put in another order, a line each.
      dropped: Published names, as they were in the file, that the model does not take:
        shape and reason.
      fresh: Published names of what the model has and the file does not give, which
        keep their initial values; of a neck over time, which has none, our names.
      beside: What else the file holds.
    """

    source: str
    loaded: tuple[str, ...]
    renamed: tuple[str, ...]
    altered: tuple[str, ...]
    dropped: Mapping[str, tuple[Shape, str]]
    fresh: tuple[str, ...]
    beside: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} arrays loaded"]
        lines += [f"renamed: {line}" for line in self.renamed]
        lines += [f"altered: {line}" for line in self.altered]
        for name, (shape, reason) in self.dropped.items():
            lines.append(f"dropped: {name} {list(shape)}: {reason}")
        lines += [f"left at its initial value: {name}" for name in self.fresh]
        lines += [f"not weights: {line}" for line in self.beside]
        return "\n".join(lines)

    @property
    def is_exact(self) -> bool:
        """Whether all was loaded as it was, but for names and layouts."""
        return not (self.altered or self.dropped or self.fresh)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """Weights in our layout.

    Attributes:
      params: Haiku module path to parameter name to array.
      config: The architecture they are for.
      report: What was done.
    """

    params: Params
    config: climax_config.ClimaXConfig
    report: LoadReport


def map_of(sizes: climax_config.ClimaXConfig) -> name_map.NameMap:
    """Returns the map between published names, without `net.`, and parameters."""
    shapes = parameters.parameter_shapes(sizes)
    rules = [_rule(entry) for entry in parameters.name_map(sizes)]
    filled = {(rule.module, rule.name) for rule in rules}
    # A neck over time, which is ours, has no published names.
    known = {
        module: {n: s for n, s in names.items() if (module, n) in filled}
        for module, names in shapes.items()
    }
    return name_map.NameMap(rules, {m: ns for m, ns in known.items() if ns})


def _rule(entry: parameters.Entry) -> name_map.Rule:
    kind = entry.kind
    return name_map.Rule(
        source=entry.source,
        source_shape=entry.source_shape,
        module=entry.module,
        name=entry.name,
        transform=name_map.Transform(
            kind,
            lambda array: parameters.from_published(kind, array),
            lambda array, shape: parameters.to_published(kind, array, shape),
        ),
        index=... if entry.index is None else entry.index,
    )


def load(
    path: PathLike,
    sizes: climax_config.ClimaXConfig | None = None,
    *,
    initial: Mapping[str, Mapping[str, Any]] | None = None,
    strict: bool = False,
    match: Literal["place", "first", "name"] = "place",
    source_variables: Sequence[str] = climax_config.DEFAULT_VARIABLES,
    source_grid: tuple[int, int] | None = None,
    verify: bool = True,
) -> Loaded:
    """Returns published weights as the parameters of a model.

    Args:
      path: A published `.ckpt`, or an npz or safetensors file with its names.
      sizes: The model; what the file was made with by default.
      initial: Parameters of a fresh model, whose values stay where the file gives none.
      strict: Refuse a file that does not fit the model as it is: nothing interpolated,
        dropped, or left at its initial value.
      match: Which variable of the file becomes which of the model. "place": that at
        the same place, as in the published loaders, where a model of other variables
        gets no variable embedding; "first": the same, with the embeddings of as many
        variables as the model has; "name": that of the same name, in which case
        embeddings and the last layer of the head are put in order.
      source_variables: Names of the variables of the file, for `match="name"`.
      source_grid: Rows and columns of the grid of the file. By default that of the
        model where the numbers of patches agree, unless the file is a torch file: the
        published loaders take those for twice as wide as high.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      MismatchError: It does not fit and `strict` is set, or something is lacking that
        no initial value was given for.
      ValueError: It is damaged, would run something, or holds no ClimaX.
    """
    found = climax_files.read_arrays(path, verify=verify)
    if sizes is None:
        try:
            sizes = climax_files.infer_config(found.arrays)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    names = map_of(sizes)
    _match_variables(found, sizes, match, source_variables, initial)
    if not strict:
        _carry_over(found, sizes, source_grid)
    _relayout(found, sizes)
    if strict:
        _require_exact(found, names, str(path))
    else:
        _drop_unfit(found, names, sizes)
    return _filled(found, sizes, names, initial, str(path))


def _filled(
    found: climax_files.Arrays,
    sizes: climax_config.ClimaXConfig,
    names: name_map.NameMap,
    initial: Mapping[str, Mapping[str, Any]] | None,
    path: str,
) -> Loaded:
    """Returns the parameters, with initial values where there are no others.

    Raises:
      MismatchError: Initial values are needed and lack something.
    """
    params, unfilled = names.fill(found.arrays)
    fresh = tuple(name for name in names.source_shapes if name not in found.arrays)
    shapes = parameters.parameter_shapes(sizes)
    for module, held in shapes.items():
        for name, shape in held.items():
            filled = name in params.get(module, {})
            if filled and (module, name) not in unfilled:
                continue
            value = None if initial is None else initial.get(module, {}).get(name)
            if value is None or np.shape(value) != shape:
                raise errors.MismatchError(
                    f"{path}: does not give all of the model, and initial parameters "
                    f"are lacking for {len(fresh)} arrays",
                    missing={n: names.source_shapes[n] for n in fresh}
                    or {f"{module}/{name}": shape},
                )
            start = np.array(value)
            target = params.setdefault(module, {})
            if filled:
                for index in unfilled[module, name]:
                    target[name][index] = start[index]
            else:
                target[name] = start
                fresh += (f"{module}/{name}",)
    report = LoadReport(
        source=found.source,
        loaded=tuple(name for name in names.source_shapes if name in found.arrays),
        renamed=tuple(found.renamed),
        altered=tuple(found.altered),
        dropped=found.dropped,
        fresh=fresh,
        beside=found.beside,
    )
    return Loaded(params=params, config=sizes, report=report)


def _match_variables(
    found: climax_files.Arrays,
    sizes: climax_config.ClimaXConfig,
    match: str,
    source_variables: Sequence[str],
    initial: Mapping[str, Mapping[str, Any]] | None,
) -> None:
    """Gives each variable of the model what belongs to it."""
    if match == "first":
        old = found.arrays["var_embed"]
        new = climax_variables.truncate(old, len(sizes.default_vars))
        if new.shape != old.shape:
            found.arrays["var_embed"] = new
            found.altered.append(
                f"var_embed cut to the first {new.shape[1]} rows of {old.shape[1]}"
            )
    elif match == "name":
        start = None
        if initial is not None:
            # A neck over time has no published names.
            names = map_of(sizes)
            held = {
                m: {
                    n: x
                    for n, x in initial.get(m, {}).items()
                    if (m, n) in names.shapes
                }
                for m in names.modules
            }
            start = export(held, sizes, prefix="")
        found.altered += climax_variables.reorder(
            found.arrays, list(source_variables), list(sizes.default_vars), start
        )
        for name in found.arrays:
            found.original.setdefault(name, name)


def _require_exact(
    found: climax_files.Arrays, names: name_map.NameMap, path: str
) -> None:
    """Refuses a file that has not just the arrays of the model."""
    every = dict(found.arrays)
    for name, (shape, _) in found.dropped.items():
        every[name] = np.broadcast_to(np.zeros(()), shape)
    names.check(every, path)


def _carry_over(
    found: climax_files.Arrays,
    sizes: climax_config.ClimaXConfig,
    source_grid: tuple[int, int] | None,
) -> None:
    """Interpolates the position embedding to the grid of the model."""
    table = found.arrays["pos_embed"]
    new = (sizes.rows, sizes.columns)
    if table.ndim != 3:
        return
    if source_grid is not None:
        old = tuple(length // sizes.patch_size for length in source_grid)
    elif table.shape[1] == sizes.patches and not found.is_torch:
        return
    else:
        try:
            old = positions.grid_of_tokens(table.shape[1])
        except ValueError:
            return
    if old != new:
        found.arrays["pos_embed"] = positions.interpolate(table, (old[0], old[1]), new)
        found.altered.append(
            f"pos_embed interpolated from {old[0]}x{old[1]} to {new[0]}x{new[1]} "
            "patches"
        )


def _relayout(found: climax_files.Arrays, sizes: climax_config.ClimaXConfig) -> None:
    """Brings the patch embeddings into the layout of the model."""
    arrays = found.arrays
    if sizes.parallel_patch_embed and climax_files.STACKED_WEIGHTS not in arrays:
        parts = {name: match for name in arrays if (match := _TOKENS.fullmatch(name))}
        count = 1 + max((int(match[1]) for match in parts.values()), default=-1)
        for kind, joined in (
            ("weight", climax_files.STACKED_WEIGHTS),
            ("bias", climax_files.STACKED_BIASES),
        ):
            wanted = [f"token_embeds.{i}.proj.{kind}" for i in range(count)]
            shapes = {arrays[name].shape for name in wanted if name in arrays}
            if count and len(shapes) == 1 and all(name in arrays for name in wanted):
                arrays[joined] = np.stack([arrays.pop(name) for name in wanted])
                found.original[joined] = joined
        found.renamed.append(f"{count} patch embeddings stacked")
    elif not sizes.parallel_patch_embed and climax_files.STACKED_WEIGHTS in arrays:
        for kind, joined in (
            ("weight", climax_files.STACKED_WEIGHTS),
            ("bias", climax_files.STACKED_BIASES),
        ):
            if joined not in arrays:
                continue
            for i, part in enumerate(arrays.pop(joined)):
                name = f"token_embeds.{i}.proj.{kind}"
                arrays[name] = part
                found.original[name] = f"{found.original[joined]}[{i}]"
        found.renamed.append("stacked patch embeddings taken apart")


def _drop_unfit(
    found: climax_files.Arrays,
    names: name_map.NameMap,
    sizes: climax_config.ClimaXConfig,
) -> None:
    """Takes out what the model lacks or has in another shape."""
    onto_projection = sizes.head == "projection" and "time_query" not in found.arrays
    for name in list(found.arrays):
        shape = found.arrays[name].shape
        if onto_projection and name.startswith(("token_embeds.", "head.")):
            found.drop(name, "trained anew for projections, as published")
        elif name not in names.source_shapes:
            found.drop(name, "not in the model")
        elif shape != names.source_shapes[name]:
            wanted = list(names.source_shapes[name])
            found.drop(name, f"of shape {wanted} in the model")


def export(
    params: Mapping[str, Mapping[str, Any]],
    sizes: climax_config.ClimaXConfig,
    *,
    prefix: str = climax_files.PREFIX,
) -> dict[str, np.ndarray]:
    """Returns parameters under their published names, bit by bit.

    Args:
      params: Haiku module path to parameter name to array.
      sizes: The model.
      prefix: Before each name.

    Raises:
      MismatchError: They are not those of the model. A neck over time, which has no
        published names, is an extra.
    """
    sources = map_of(sizes).to_sources(params)
    return {f"{prefix}{name}": array for name, array in sources.items()}
