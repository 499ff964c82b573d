"""Parameters to start from, taken out of a published file."""

from __future__ import annotations

from typing import Any

import jax

from weatherlib.cli import families
from weatherlib.training import config, patterns

__all__ = ["take"]


def take(init: config.InitConfig, family: families.Family, params: Any) -> Any:
    """Returns fresh parameters with those of a file in their place.

    Args:
      init: The file, and what is not taken from it.
      family: Reads the file.
      params: Fresh parameters, which give names and shapes.

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: Names or shapes differ, apart from what is not taken; or a pattern
        fits no parameter.
    """
    if not init.path.exists():
        raise FileNotFoundError(f"init_from: {init.path} does not exist")
    found = family.load(init.path)
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
