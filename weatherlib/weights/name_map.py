"""Maps between published names of weights and ours, declared once and strict both ways.

A family lists a `Rule` for each published array: where it goes and how it is laid out
anew. Several rules may fill parts of one parameter (one array for each variable, say),
and one array may fill several parameters. A `NameMap` makes sure on construction that
every element on each side is named exactly once, so that the way there and back is an
identity, bit by bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np

from weatherlib.weights import errors

__all__ = [
    "IDENTITY",
    "TRANSPOSE",
    "NameMap",
    "Rule",
    "Transform",
    "axes",
    "convolution",
    "reshape",
]

Params = dict[str, dict[str, np.ndarray]]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """How an array is laid out anew; only the order of its elements changes.

    Attributes:
      name: For people.
      forward: Returns a published array in our layout.
      backward: Returns one of ours in the published layout, given that shape.
    """

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray, Shape], np.ndarray]


def axes(*order: int) -> Transform:
    """Returns the transform that permutes axes as `numpy.transpose` does."""
    inverse = tuple(np.argsort(order).tolist())
    return Transform(
        f"axes {order}",
        lambda array: array.transpose(order),
        lambda array, _: array.transpose(inverse),
    )


def convolution(spatial: int) -> Transform:
    """Returns the transform of a kernel [out, in, ...] to [..., in, out].

    Args:
      spatial: How many axes the kernel moves along.
    """
    return axes(*range(2, 2 + spatial), 1, 0)


def reshape(*shape: int) -> Transform:
    """Returns the transform that gives an array another shape, in the same order."""
    return Transform(
        f"shape {shape}",
        lambda array: array.reshape(shape),
        lambda array, source: array.reshape(source),
    )


IDENTITY = Transform("as it is", lambda array: array, lambda array, _: array)
TRANSPOSE = axes(1, 0)
"""Of a linear layer [out, in], which is [in, out] here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """A published array, or a part of one, and its place.

    Attributes:
      source: Published name.
      source_shape: Shape of the whole published array.
      module: Haiku module path.
      name: Parameter in that module.
      transform: Of the published array, or of the part of it.
      part: Index of the published array that this rule takes; all of it by default.
      index: Index of the parameter that it fills; all of it by default.
    """

    source: str
    source_shape: Shape
    module: str
    name: str
    transform: Transform = IDENTITY
    part: Any = ...
    index: Any = ...


@final
class NameMap:
    """Goes from published names to ours and back.

    Args:
      rules: One for each published array, or part of one.
      shapes: Module to parameter to shape, of all parameters that the rules fill.

    Raises:
      ValueError: The rules contradict each other, or leave elements out. That is a
        mistake in a family, not in a file.
    """

    def __init__(
        self, rules: Iterable[Rule], shapes: Mapping[str, Mapping[str, Shape]]
    ) -> None:
        self.rules: Sequence[Rule] = tuple(rules)
        self.shapes = {
            (module, name): tuple(shape)
            for module, names in shapes.items()
            for name, shape in names.items()
        }
        self.source_shapes: dict[str, Shape] = {}
        filled: dict[tuple[str, str], int] = dict.fromkeys(self.shapes, 0)
        taken: dict[str, int] = {}
        for rule in self.rules:
            known = self.source_shapes.setdefault(rule.source, rule.source_shape)
            place = (rule.module, rule.name)
            if known != rule.source_shape or place not in self.shapes:
                raise ValueError(f"{rule.source}: has two shapes or no place")
            source = _outline(rule.source_shape)[rule.part]
            target = _outline(self.shapes[place])[rule.index]
            moved = rule.transform.forward(source)
            back = rule.transform.backward(target, source.shape)
            if moved.shape != target.shape or back.shape != source.shape:
                raise ValueError(
                    f"{rule.source} {source.shape} does not fit {'/'.join(place)} "
                    f"{target.shape}"
                )
            filled[place] += target.size
            taken[rule.source] = taken.get(rule.source, 0) + source.size
        uneven = [
            "/".join(p) for p, n in filled.items() if n != math.prod(self.shapes[p])
        ]
        uneven += [s for s, n in taken.items() if n != math.prod(self.source_shapes[s])]
        if uneven:
            raise ValueError(f"named not exactly once: {', '.join(sorted(uneven))}")

    @property
    def modules(self) -> list[str]:
        """Modules with parameters that the rules fill."""
        return list(dict.fromkeys(module for module, _ in self.shapes))

    def check(self, sources: Mapping[str, np.ndarray], what: str = "the file") -> None:
        """Makes sure that arrays are just those of the map.

        Args:
          sources: By published name.
          what: Where they are from, for the message.

        Raises:
          MismatchError: Some are lacking, are too many or have other shapes. All are
            named at once, with their shapes.
        """
        wanted = self.source_shapes
        missing = {n: s for n, s in wanted.items() if n not in sources}
        extra = {n: a.shape for n, a in sources.items() if n not in wanted}
        misshapen = {
            n: (a.shape, wanted[n])
            for n, a in sources.items()
            if n in wanted and a.shape != wanted[n]
        }
        if missing or extra or misshapen:
            raise errors.MismatchError(
                f"{what}: {len(missing)} arrays are missing, {len(extra)} extra and "
                f"{len(misshapen)} misshapen, of {len(wanted)} that the model has",
                missing=missing,
                extra=extra,
                misshapen=misshapen,
            )

    def to_params(self, sources: Mapping[str, np.ndarray]) -> Params:
        """Returns parameters from published arrays, which have to be complete.

        Raises:
          MismatchError: As `check`.
        """
        self.check(sources)
        params, _ = self.fill(sources)
        return params

    def fill(
        self, sources: Mapping[str, np.ndarray]
    ) -> tuple[Params, dict[tuple[str, str], list[Any]]]:
        """Returns parameters as far as published arrays fill them.

        Args:
          sources: Some of the arrays of the map, of the right shapes.

        Returns:
          The parameters, zero where nothing fills them; and of each parameter that is
          not filled as a whole, the indices that are not.
        """
        unfilled: dict[tuple[str, str], list[Any]] = {}
        types: dict[tuple[str, str], np.dtype] = {}
        for rule in self.rules:
            place = (rule.module, rule.name)
            if rule.source not in sources:
                unfilled.setdefault(place, []).append(rule.index)
                continue
            found = sources[rule.source].dtype
            types[place] = np.promote_types(types.get(place, found), found)
        params: Params = {}
        for (module, name), shape in self.shapes.items():
            dtype = types.get((module, name), np.dtype(np.float32))
            params.setdefault(module, {})[name] = np.zeros(shape, dtype)
        for rule in self.rules:
            if rule.source in sources:
                value = rule.transform.forward(sources[rule.source][rule.part])
                params[rule.module][rule.name][rule.index] = value
        return params, unfilled

    def to_sources(
        self, params: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, np.ndarray]:
        """Returns published arrays from parameters, which have to be complete.

        Raises:
          MismatchError: Parameters are lacking, are too many or have other shapes.
        """
        found = {
            (m, n): np.asarray(a) for m, ns in params.items() for n, a in ns.items()
        }
        missing = {"/".join(p): s for p, s in self.shapes.items() if p not in found}
        extra = {"/".join(p): a.shape for p, a in found.items() if p not in self.shapes}
        misshapen = {
            "/".join(p): (a.shape, self.shapes[p])
            for p, a in found.items()
            if p in self.shapes and a.shape != self.shapes[p]
        }
        if missing or extra or misshapen:
            raise errors.MismatchError(
                f"the parameters: {len(missing)} are missing, {len(extra)} extra and "
                f"{len(misshapen)} misshapen, of {len(self.shapes)}",
                missing=missing,
                extra=extra,
                misshapen=misshapen,
            )
        sources: dict[str, np.ndarray] = {}
        for rule in self.rules:
            array = found[rule.module, rule.name]
            if rule.source not in sources:
                sources[rule.source] = np.zeros(rule.source_shape, array.dtype)
            outline = _outline(rule.source_shape)[rule.part]
            value = rule.transform.backward(array[rule.index], outline.shape)
            sources[rule.source][rule.part] = value
        return sources


def _outline(shape: Shape) -> np.ndarray:
    """Returns an array of a shape that takes no memory worth mentioning."""
    return np.broadcast_to(np.zeros((), np.bool_), shape)
