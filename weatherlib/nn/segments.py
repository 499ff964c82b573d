"""Sums over the edges that each node receives, without scattering.

Edges are put in an order in which nodes with equally many edges stand together. The
sum is then a reshape and a reduction per group, which is fast on every device, gives
the same result every time, and whose derivative is a broadcast.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

__all__ = ["SegmentPlan", "make_plan", "segment_sum"]

# More different numbers of edges per node than this are cut into powers of two.
_MAX_GROUPS = 12


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentPlan:
    """How to sum rows by node.

    Attributes:
      num_nodes: Nodes to sum for.
      groups: (pieces, rows per piece) of each group, in the order of the rows.
      order: For each row of the planned order, the original row. Shape [row].
      piece_nodes: The node each piece belongs to. Shape [piece].
      piece_of_node: Where a node has at most one piece, its place, or the number of
        pieces for a node without rows. Shape [num_nodes].
      then: How to sum the pieces, where a node has several.
    """

    num_nodes: int
    groups: tuple[tuple[int, int], ...]
    order: Int[np.ndarray, " row"]
    piece_nodes: Int[np.ndarray, " piece"]
    piece_of_node: Int[np.ndarray, " node"] | None
    then: "SegmentPlan | None"

    @property
    def in_node_order(self) -> bool:
        """Whether the pieces are the nodes, one each and in order."""
        return self.piece_of_node is not None and np.array_equal(
            self.piece_nodes, np.arange(self.num_nodes)
        )


def make_plan(
    receivers: Int[np.ndarray, " row"], num_nodes: int, max_groups: int = _MAX_GROUPS
) -> SegmentPlan:
    """Returns the plan that sums rows by their receiver.

    Args:
      receivers: Node of each row, in any order. Shape [row].
      num_nodes: How many nodes there are; some may receive nothing.
      max_groups: Above this many different counts of rows per node, the rows of a node
        are cut into pieces whose sizes are powers of two.
    """
    degree = np.bincount(receivers, minlength=num_nodes)
    by_node = np.argsort(receivers, kind="stable")
    first_row = np.cumsum(degree) - degree
    if len(np.unique(degree[degree > 0])) <= max_groups:
        nodes = np.flatnonzero(degree)
        sizes, starts = degree[nodes], first_row[nodes]
    else:
        nodes, sizes, starts = _binary_pieces(degree, first_row)
    by_size = np.lexsort((nodes, sizes))
    nodes, sizes, starts = nodes[by_size], sizes[by_size], starts[by_size]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order = by_node[np.repeat(starts, sizes) + within]
    distinct, counts = np.unique(sizes, return_counts=True)
    single = len(np.unique(nodes)) == len(nodes)
    piece_of_node = None
    if single:
        piece_of_node = np.full(num_nodes, len(nodes), np.int32)
        piece_of_node[nodes] = np.arange(len(nodes))
    return SegmentPlan(
        num_nodes=num_nodes,
        groups=tuple((int(n), int(size)) for n, size in zip(counts, distinct)),
        order=order.astype(np.int32),
        piece_nodes=nodes.astype(np.int32),
        piece_of_node=piece_of_node,
        then=None if single else make_plan(nodes, num_nodes, max_groups=64),
    )


def _binary_pieces(
    degree: Int[np.ndarray, " node"], first_row: Int[np.ndarray, " node"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns node, size and first row of pieces, one per binary digit of a degree."""
    nodes, sizes, starts = [], [], []
    taken = np.zeros_like(degree)
    for bit in range(int(degree.max()).bit_length()):
        size = 1 << bit
        chosen = np.flatnonzero(degree & size)
        nodes.append(chosen)
        sizes.append(np.full(len(chosen), size))
        starts.append((first_row + taken)[chosen])
        taken[chosen] += size
    return np.concatenate(nodes), np.concatenate(sizes), np.concatenate(starts)


def segment_sum(
    rows: Float[Array, "row ..."], plan: SegmentPlan, dtype: Any = None
) -> Float[Array, "node ..."]:
    """Returns the sum of the rows of each node, zero for a node without rows.

    Args:
      rows: In the order of `plan.order`. Shape [row, ...].
      plan: From `make_plan`.
      dtype: To add in and to return; by default that of `rows`.
    """
    dtype = dtype or rows.dtype
    # One row of zeros stands for the sum of nothing.
    sums = [jnp.zeros((1, *rows.shape[1:]), dtype)]
    start = 0
    for pieces, size in plan.groups:
        block = rows[start : start + pieces * size]
        block = block.reshape(pieces, size, *rows.shape[1:])
        sums.append(block.sum(1, dtype=dtype))
        start += pieces * size
    if plan.in_node_order:
        return jnp.concatenate(sums[1:])
    pieces = jnp.concatenate(sums[1:] + sums[:1])
    if plan.then is not None:
        return segment_sum(pieces[plan.then.order], plan.then, dtype)
    return pieces[plan.piece_of_node]
