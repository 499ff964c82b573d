"""Row-wise functions applied to blocks of rows, one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["map_rows"]


def map_rows(
    function: Callable[[Any], Any],
    rows: Any,
    *,
    block: int | None = None,
    remat: bool = False,
) -> Any:
    """Returns `function(rows)` for a function that treats each row on its own.

    Args:
      function: Takes a pytree like `rows` with fewer rows and returns a pytree of
        arrays with as many.
      rows: Pytree of arrays of equal first axis.
      block: Most rows at a time, which bounds the memory of what lies between input
        and output. None takes all at once.
      remat: Whether the backward pass computes what lies between once more instead of
        keeping it.

    Raises:
      ValueError: `block` is not positive.
    """
    if block is not None and block < 1:
        raise ValueError(f"a block needs at least one row, found {block}")
    if remat:
        function = jax.checkpoint(function)
    total = jax.tree.leaves(rows)[0].shape[0]
    if block is None or total <= block:
        return function(rows)
    count = _block_count(total, block)
    size = -(-total // count)

    def split(x: jax.Array) -> jax.Array:
        missing = count * size - total
        if missing:
            x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(count, size, *x.shape[1:])

    def join(x: jax.Array) -> jax.Array:
        return x.reshape(count * size, *x.shape[2:])[:total]

    return jax.tree.map(join, jax.lax.map(function, jax.tree.map(split, rows)))


def _block_count(total: int, block: int) -> int:
    """Returns how many blocks to make, evenly filled ones where that is possible."""
    fewest = -(-total // block)
    for count in range(fewest, 2 * fewest + 1):
        if total % count == 0:
            return count
    return fewest
