"""Parameters to start from, taken out of a published file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from weatherlib.cli import families
from weatherlib.training import config, patterns

__all__ = ["begin", "fixed", "take", "with_held"]


def fixed(
    family: families.Family,
    model: Any,
    held: Mapping[str, Any],
    shapes: Callable[[], Any],
) -> dict[str, Any]:
    """Returns the parameters that are never trained, by path, or their shapes.

    Args:
      family: Of the model.
      model: Its configuration.
      held: Parameters from another file.
      shapes: Returns names and shapes of all parameters.
    """
    if family.frozen is None:
        return dict(held)
    return {m: v for m, v in shapes().items() if family.frozen(model, m)}


def begin(
    init: config.InitConfig | None,
    family: families.Family,
    params: Any,
    *,
    held: Mapping[str, Any],
    fixed: Mapping[str, Any],
    **options: Any,
) -> Any:
    """Returns the parameters of files in place of fresh ones.

    Args:
      init: Names the file to start from; None where there is none.
      family: Reads it.
      params: Fresh parameters.
      held: Those of another file, which come before that to start from, and after it
        where they are never trained.
      fixed: Those that are never trained.
      **options: For `take`.

    Raises:
      FileNotFoundError: As `take`.
      ValueError: As `take`.
    """
    began = with_held(params, held)
    if init is None:
        return began
    taken = take(init, family, began, **options)
    return with_held(taken, {m: v for m, v in held.items() if m in fixed})


def take(
    init: config.InitConfig,
    family: families.Family,
    params: Any,
    *,
    model: Any = None,
    say: Callable[[str], None] = lambda line: None,
) -> Any:
    """Returns fresh parameters with those of a file in their place.

    Args:
      init: The file, and what is not taken from it.
      family: Reads the file.
      params: Fresh parameters, which give names and shapes.
      model: Configuration of the model, for families that carry weights over.
      say: Told what is changed on the way.

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: Names or shapes differ, apart from what is not taken; or a pattern
        fits no parameter.
    """
    if not init.path.exists():
        raise FileNotFoundError(f"init_from: {init.path} does not exist")
    found = _read(init, family, params, model, say)
    patterns.require_matches(params, init.skip, "init_from.skip")

    def is_taken(name: str) -> bool:
        return patterns.first_match(name, init.skip) is None

    expected, held = (
        {name: shape for name, shape in described.items() if is_taken(name)}
        for described in (patterns.describe(params), patterns.describe(found))
    )
    differences = patterns.compare(expected, held)
    if differences:
        lines = "\n  ".join(differences)
        raise ValueError(
            f"init_from: {init.path} does not fit the model:\n  {lines}\n"
            "Change the model, or name what to leave fresh in init_from.skip"
        )
    values = dict(zip(patterns.names(found), jax.tree.leaves(found)))

    def choose(name: str, fresh: Any) -> Any:
        if not is_taken(name):
            return fresh
        return jax.numpy.asarray(values[name], fresh.dtype)

    return patterns.map_named(choose, params)


def with_held(params: Any, held: Any) -> Any:
    """Returns parameters with those in place that stay as they are.

    Args:
      params: By path, with names and types.
      held: Some of them, of another file.
    """
    if not held:
        return params
    return {
        module: {
            name: jax.numpy.asarray(held[module][name], leaf.dtype)
            for name, leaf in values.items()
        }
        if module in held
        else values
        for module, values in params.items()
    }


def _read(
    init: config.InitConfig,
    family: families.Family,
    params: Any,
    model: Any,
    say: Callable[[str], None],
) -> Any:
    """Returns the parameters of the file, carried over where that was asked for."""
    if family.start is None:
        if init.adapt or init.variables:
            raise ValueError(
                "init_from: this family carries no weights over; leave out adapt and "
                "variables, and name what starts fresh in skip"
            )
        return family.load(init.path)
    host = jax.device_get(params)
    found, lines = family.start(init.path, model, host, init)
    for line in lines:
        say(f"  init_from: {line}")
    return found
