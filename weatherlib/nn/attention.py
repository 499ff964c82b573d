"""Multi-head attention on arrays, in the layout of published transformers.

Queries, keys and values come from one layer `qkv` of three times the width, side by
side; heads are consecutive channels; `proj` mixes them again.
"""

from __future__ import annotations

import math

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from weatherlib.nn import dropout, mlp, partition

__all__ = [
    "QueryAttention",
    "SelfAttention",
    "attend",
    "joint_projection_init",
    "linear",
]

_INIT = hk.initializers.RandomNormal(0.02)
# A query block of this many scores per head bounds the memory of long sequences.
_BLOCK_SCORES = 2**22


def linear(
    x: Float[Array, "*rows input"], weights: mlp.LinearWeights
) -> Float[Array, "*rows output"]:
    """Returns `x @ w + b`."""
    if (
        x.ndim == 2
        or partition.parts(partition.LAT) * partition.parts(partition.LON) > 1
    ):
        return mlp.add_bias(x @ weights.w, weights.b)
    # As a product of two matrices: XLA for CPUs takes up to three times as long for the
    # gradient of one over several axes. Rows that are cut among devices stay apart.
    *axes, width = x.shape
    rows = mlp.add_bias(x.reshape(math.prod(axes), width) @ weights.w, weights.b)
    return rows.reshape(*axes, weights.w.shape[1])


def attend(
    query: Float[Array, "batch target head channel"],
    key: Float[Array, "batch source head channel"],
    value: Float[Array, "batch source head channel"],
    *,
    drop_rate: float = 0.0,
    drop_key: Array | None = None,
    mask: Bool[Array, "batch source"] | None = None,
) -> Float[Array, "batch target head channel"]:
    """Returns for each query the mean of the values, weighted by how keys fit.

    The softmax is computed in float32. Where there are many targets and sources, the
    targets are worked on in blocks, of which the backward pass computes the scores
    again, so that memory grows with the length of the sequence and not its square.

    Args:
      query: What is looked for.
      key: What there is to find.
      value: What is found.
      drop_rate: Share of the weights that are silenced, the others scaled up.
      drop_key: For them; None silences nothing.
      mask: Whether there is a source; without one, all are there.
    """
    targets, sources = query.shape[1], key.shape[1]
    query = query * jnp.asarray(1 / math.sqrt(query.shape[-1]), query.dtype)
    if targets * sources <= _BLOCK_SCORES:
        return _attend(query, key, value, drop_rate, drop_key, mask)
    count = min(math.ceil(targets * sources / _BLOCK_SCORES), targets)
    while targets % count:
        count += 1
    blocks = query.reshape(query.shape[0], count, -1, *query.shape[2:])

    @jax.checkpoint
    def of_block(item: tuple[Array, Array]) -> Array:
        block, number = item
        own = None if drop_key is None else jax.random.fold_in(drop_key, number)
        return _attend(block, key, value, drop_rate, own, mask)

    found = jax.lax.map(of_block, (blocks.swapaxes(0, 1), jnp.arange(count)))
    return found.swapaxes(0, 1).reshape(query.shape)


def _attend(
    query: Array,
    key: Array,
    value: Array,
    drop_rate: float,
    drop_key: Array | None,
    mask: Array | None,
) -> Array:
    """Returns attention for queries that are scaled already."""
    scores = jnp.einsum("bqhc,bkhc->bhqk", query, key).astype(jnp.float32)
    if mask is not None:
        least = jnp.finfo(jnp.float32).min
        scores = jnp.where(mask[:, jnp.newaxis, jnp.newaxis], scores, least)
    largest = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    weights = jnp.exp(scores - largest)
    total = weights.sum(-1, keepdims=True)
    weights = dropout.silence(weights, drop_rate, drop_key)
    weights = weights.astype(value.dtype)
    if value.dtype == jnp.float32:
        found = _mixed(weights, value)
    else:
        found = jax.lax.platform_dependent(
            weights,
            value,
            # XLA for CPUs has no product of bfloat16 into float32 in every version.
            cpu=lambda w, v: _mixed(w.astype(jnp.float32), v.astype(jnp.float32)),
            default=_mixed,
        )
    # Dividing what was found, rather than the weights, is a pass less over the scores.
    return (found / total.swapaxes(1, 2)).astype(value.dtype)


def _mixed(weights: Array, value: Array) -> Array:
    """Returns weighted sums of values, taken in float32."""
    return jnp.einsum(
        "bhqk,bkhc->bqhc", weights, value, preferred_element_type=jnp.float32
    )


class SelfAttention(hk.Module):
    """Lets each token of a sequence look at all of them."""

    def __init__(self, heads: int, name: str = "attn") -> None:
        """Takes the number of heads, which divides the channels of a token."""
        super().__init__(name=name)
        self._heads = heads

    def __call__(
        self,
        x: Float[Array, "batch token channel"],
        mask: Bool[Array, "batch token"] | None = None,
    ) -> Float[Array, "batch token channel"]:
        """Returns the tokens after attention, without a residual.

        Args:
          x: Tokens.
          mask: Whether there is a token to look at; without one, all are there.
        """
        batch, tokens, width = x.shape
        qkv = mlp.Linear(3 * width, name="qkv", w_init=_INIT).weights(width, x.dtype)
        parts = linear(x, qkv).reshape(batch, tokens, 3, self._heads, -1)
        found = attend(parts[:, :, 0], parts[:, :, 1], parts[:, :, 2], mask=mask)
        proj = mlp.Linear(width, name="proj", w_init=_INIT).weights(width, x.dtype)
        return linear(found.reshape(x.shape), proj)


class QueryAttention(hk.Module):
    """Lets given queries look at a sequence."""

    def __init__(
        self,
        heads: int,
        name: str,
        proj_init: hk.initializers.Initializer | None = None,
    ) -> None:
        """Takes the number of heads and how the last layer begins."""
        super().__init__(name=name)
        self._heads = heads
        self._proj_init = proj_init or _INIT

    def __call__(
        self,
        query: Float[Array, "batch target channel"],
        x: Float[Array, "batch source channel"],
        mask: Bool[Array, "batch source"] | None = None,
    ) -> Float[Array, "batch target channel"]:
        """Returns what each query finds in `x`, without a residual.

        Args:
          query: What looks.
          x: What it looks at.
          mask: Whether there is a token to look at; without one, all are there.
        """
        width = x.shape[-1]
        layer = mlp.Linear(3 * width, name="qkv", w_init=joint_projection_init(width))
        qkv = layer.weights(width, x.dtype)
        wq, wkv = qkv.w[:, :width], qkv.w[:, width:]
        bq, bkv = qkv.b[:width], qkv.b[width:]
        queries = linear(query, mlp.LinearWeights(wq, bq))
        pairs = linear(x, mlp.LinearWeights(wkv, bkv))
        pairs = pairs.reshape(*x.shape[:2], 2, self._heads, -1)
        queries = queries.reshape(*query.shape[:2], self._heads, -1)
        found = attend(queries, pairs[:, :, 0], pairs[:, :, 1], mask=mask)
        proj = mlp.Linear(width, name="proj", w_init=self._proj_init)
        return linear(found.reshape(query.shape), proj.weights(width, x.dtype))


def joint_projection_init(width: int) -> hk.initializers.Initializer:
    """Returns a Glorot uniform draw for a matrix of [width, 3 width]."""
    bound = math.sqrt(6 / (4 * width))
    return hk.initializers.RandomUniform(-bound, bound)
