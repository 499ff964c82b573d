"""Parameters of pure functions as those of the Haiku transformation around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array

from weatherlib.typing import PyTree

__all__ = ["cast", "lifted", "part"]


def lifted(init: Callable[[Array], PyTree]) -> PyTree:
    """Returns the parameters of the Haiku transformation around, by their own names.

    So samplers and gradients can take functions of them.

    Args:
      init: Takes a key, returns first parameters by full path.
    """
    key = hk.next_rng_key() if hk.running_init() else jax.random.PRNGKey(0)
    return hk.transparent_lift(init, allow_reuse=True)(key)


def part(params: PyTree, *roots: str) -> PyTree:
    """Returns the parameters whose paths begin with one of these names."""
    return {m: v for m, v in params.items() if m.split("/")[0] in roots}


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Returns floating-point arrays in a type, and others as they are.

    None leaves all as they are.
    """
    if dtype is None:
        return tree

    def one(x: Any) -> Any:
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x, dtype) if floating else x

    return jax.tree.map(one, tree)
