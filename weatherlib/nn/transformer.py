"""Layers of transformers in the layout of PyTorch.

Those of `torch.nn.TransformerEncoderLayer` and `torch.nn.TransformerDecoderLayer` with
ReLU and without masks, and one with attention in space and in time by turns. They
normalise after each sum, where asked before each attention and perceptron. `Layer`
creates the weights; `encode`, `decode` and `encode_space_time` apply them, so that they
can be used inside of loops.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import attention, dropout, initial, mlp

__all__ = [
    "GLOROT",
    "KEEP",
    "NARROW",
    "TORCH",
    "AttentionWeights",
    "Drop",
    "Layer",
    "LayerWeights",
    "Start",
    "decode",
    "encode",
    "encode_space_time",
    "normalize",
    "through",
]


@dataclasses.dataclass(frozen=True)
class Start:
    """How the weights of a layer begin.

    Attributes:
      joint: Takes the width; for the matrix of queries, keys and values.
      matrix: Takes the number of inputs; for other matrices.
      bias: Takes the number of inputs; for biases of the perceptron. Those of attention
        are zero.
    """

    joint: Callable[[int], Any]
    matrix: Callable[[int], Any]
    bias: Callable[[int], Any]


TORCH = Start(
    joint=attention.joint_projection_init,
    matrix=initial.fan_in_uniform,
    bias=initial.fan_in_uniform,
)
"""As PyTorch does, but with other numbers in each of several layers."""

NARROW = Start(
    joint=lambda _: initial.NARROW,
    matrix=lambda _: initial.NARROW,
    bias=lambda _: jnp.zeros,
)
"""Truncated normal of standard deviation 0.02, and zero biases."""

GLOROT = Start(
    joint=attention.joint_projection_init,
    matrix=lambda _: initial.GLOROT,
    bias=lambda _: jnp.zeros,
)
"""Glorot's uniform draw, by inputs and outputs, and zero biases."""


class AttentionWeights(NamedTuple):
    """Queries, keys and values side by side, and what mixes the heads again."""

    qkv: mlp.LinearWeights
    proj: mlp.LinearWeights


class LayerWeights(NamedTuple):
    """One layer.

    Attributes:
      attention: One or two, in the order in which they act.
      linear1: Into the perceptron.
      linear2: Out of it.
      norms: Of each attention, and of the perceptron.
    """

    attention: tuple[AttentionWeights, ...]
    linear1: mlp.LinearWeights
    linear2: mlp.LinearWeights
    norms: tuple[mlp.NormWeights, ...]


class Layer(hk.Module):
    """Creates the weights of one layer."""

    def __init__(
        self,
        attentions: Sequence[str],
        hidden: int,
        start: Start = TORCH,
        name: str = "layer",
    ) -> None:
        """Takes what it consists of.

        Args:
          attentions: Names, in the order in which they act.
          hidden: Width inside the perceptron.
          start: How its weights begin.
          name: Of the module.
        """
        super().__init__(name=name)
        self._attentions = tuple(attentions)
        self._hidden = hidden
        self._start = start

    def __call__(self, width: int, dtype: Any) -> LayerWeights:
        """Returns the weights for tokens of `width` channels."""
        start, hidden = self._start, self._hidden

        def linear(name: str, inputs: int, outputs: int) -> mlp.LinearWeights:
            layer = mlp.Linear(
                outputs, name, w_init=start.matrix(inputs), b_init=start.bias(inputs)
            )
            return layer.weights(inputs, dtype)

        return LayerWeights(
            attention=tuple(
                _Attention(start, name=name)(width, dtype) for name in self._attentions
            ),
            linear1=linear("linear1", width, hidden),
            linear2=linear("linear2", hidden, width),
            norms=tuple(
                mlp.LayerNorm(name=f"norm{i + 1}").weights(width, dtype)
                for i in range(len(self._attentions) + 1)
            ),
        )


class _Attention(hk.Module):
    """Creates the weights of one attention."""

    def __init__(self, start: Start, name: str) -> None:
        super().__init__(name=name)
        self._start = start

    def __call__(self, width: int, dtype: Any) -> AttentionWeights:
        qkv = mlp.Linear(3 * width, name="qkv", w_init=self._start.joint(width))
        proj = mlp.Linear(width, name="proj", w_init=self._start.matrix(width))
        return AttentionWeights(qkv.weights(width, dtype), proj.weights(width, dtype))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("key",),
    meta_fields=("rate", "of_weights"),
)
@dataclasses.dataclass(frozen=True)
class Drop:
    """What is silenced in training.

    Attributes:
      key: Random key; None silences nothing.
      rate: Share of the elements; the others are scaled up.
      of_weights: Whether weights of attention are among them.
    """

    key: Any = None
    rate: float = 0.0
    of_weights: bool = True

    def at(self, place: int) -> Drop:
        """Returns one that draws other numbers, for another place."""
        if self.key is None:
            return self
        key = jax.random.fold_in(self.key, place)
        return dataclasses.replace(self, key=key)

    def __call__(
        self, x: Float[Array, "*axes"], place: int = 0
    ) -> Float[Array, "*axes"]:
        """Returns `x` with elements silenced by the numbers of a place."""
        return dropout.silence(x, self.rate, self.at(place).key)

    def attend(self, query: Array, key: Array, value: Array) -> Array:
        """Returns `attention.attend` with weights silenced."""
        drop_key = self.key if self.of_weights else None
        return attention.attend(
            query, key, value, drop_rate=self.rate, drop_key=drop_key
        )


KEEP = Drop()
"""Silences nothing."""


def through(
    layers: Sequence[LayerWeights],
    x: Float[Array, "*batch token channel"],
    function: Callable[..., Array],
    drop: Drop = KEEP,
    *beside: Array,
    remat: bool = False,
) -> Float[Array, "*out token channel"]:
    """Returns the tokens after all layers.

    Args:
      layers: First to last.
      x: Tokens.
      function: Takes a layer, tokens, what is silenced, and `beside`; returns tokens.
      drop: What is silenced; each layer draws numbers of its own.
      *beside: What each layer sees beside the tokens.
      remat: Whether the backward pass computes the inside of layers again.
    """
    if remat:
        function = jax.checkpoint(function)
    for i, weights in enumerate(layers):
        x = function(weights, x, drop.at(i), *beside)
    return x


def encode(
    weights: LayerWeights,
    x: Float[Array, "batch token channel"],
    drop: Drop = KEEP,
    *,
    heads: int,
) -> Float[Array, "batch token channel"]:
    """Returns the tokens after attention among them and a perceptron.

    Args:
      weights: With one attention.
      x: Tokens.
      drop: What is silenced.
      heads: Of attention.
    """
    look = functools.partial(_among, weights.attention[0], heads=heads, drop=drop.at(0))
    x = _added(weights.norms[0], x, look, drop, 1)
    return _finished(weights, x, drop)


def decode(
    weights: LayerWeights,
    x: Float[Array, "queries token channel"],
    drop: Drop,
    memory: Float[Array, "batch source channel"],
    *,
    heads: int,
    pre_norm: bool = False,
) -> Float[Array, "batch token channel"]:
    """Returns queries after attention among them, to a memory, and a perceptron.

    Args:
      weights: With two attentions.
      x: Queries. A batch of 1 stands for queries that are alike in the whole batch;
        what they say to each other is then computed once.
      drop: What is silenced.
      memory: What they look at.
      heads: Of attention.
      pre_norm: Whether norms come before attention and perceptron, not after each sum.
    """
    if drop.key is not None and drop.rate:
        x = jnp.broadcast_to(x, (memory.shape[0], *x.shape[1:]))
    look = functools.partial(_among, weights.attention[0], heads=heads, drop=drop.at(0))
    x = _added(weights.norms[0], x, look, drop, 1, pre_norm)
    x = jnp.broadcast_to(x, (memory.shape[0], *x.shape[1:]))
    look = functools.partial(
        _into, weights.attention[1], memory=memory, heads=heads, drop=drop.at(2)
    )
    x = _added(weights.norms[1], x, look, drop, 3, pre_norm)
    return _finished(weights, x, drop, pre_norm)


def encode_space_time(
    weights: LayerWeights,
    x: Float[Array, "batch time place channel"],
    drop: Drop = KEEP,
    *,
    heads: int,
    pre_norm: bool = False,
) -> Float[Array, "batch time place channel"]:
    """Returns tokens after attention in space, then in time, and a perceptron.

    In space each token sees those of its time, in time those of its place.

    Args:
      weights: With two attentions.
      x: Tokens.
      drop: What is silenced.
      heads: Of attention.
      pre_norm: Whether norms come before attention and perceptron, not after each sum.
    """
    space, time = weights.attention

    def look(x: Array) -> Array:
        apart = x.reshape(-1, *x.shape[2:])
        return _among(space, apart, heads, drop.at(0)).reshape(x.shape)

    x = _added(weights.norms[0], x, look, drop, 1, pre_norm)
    # Each head of each place is a head: nothing but queries, keys and values is moved.
    look_back = functools.partial(_among, time, heads=heads, drop=drop.at(2))
    x = _added(weights.norms[1], x, look_back, drop, 3, pre_norm)
    return _finished(weights, x, drop, pre_norm)


def _among(weights: AttentionWeights, x: Array, heads: int, drop: Drop) -> Array:
    """Returns what tokens find among themselves, shape [batch, token, ..., channel].

    What lies between tokens and channels is as many more heads.
    """
    batch, tokens, *between, width = x.shape
    parts = attention.linear(x, weights.qkv)
    parts = parts.reshape(batch, tokens, *between, 3, heads, width // heads)
    shape = (batch, tokens, math.prod(between) * heads, width // heads)
    query, key, value = (parts[..., i, :, :].reshape(shape) for i in range(3))
    found = drop.attend(query, key, value)
    return attention.linear(found.reshape(x.shape), weights.proj)


def _into(
    weights: AttentionWeights, x: Array, memory: Array, heads: int, drop: Drop
) -> Array:
    """Returns what queries find in a memory."""
    width = x.shape[-1]
    w, b = weights.qkv
    query = attention.linear(x, mlp.LinearWeights(w[:, :width], b[:width]))
    pairs = attention.linear(memory, mlp.LinearWeights(w[:, width:], b[width:]))
    query = query.reshape(*x.shape[:2], heads, width // heads)
    pairs = pairs.reshape(*memory.shape[:2], 2, heads, width // heads)
    found = drop.attend(query, pairs[:, :, 0], pairs[:, :, 1])
    return attention.linear(found.reshape(x.shape), weights.proj)


def _finished(
    weights: LayerWeights, x: Array, drop: Drop, pre_norm: bool = False
) -> Array:
    """Returns the tokens after the perceptron and its norm."""

    def perceptron(x: Array) -> Array:
        hidden = jax.nn.relu(attention.linear(x, weights.linear1))
        return attention.linear(drop(hidden, 4), weights.linear2)

    return _added(weights.norms[-1], x, perceptron, drop, 5, pre_norm)


def _added(
    norm: mlp.NormWeights,
    x: Array,
    function: Callable[[Array], Array],
    drop: Drop,
    place: int,
    pre_norm: bool = False,
) -> Array:
    """Returns `x` and what a function finds in it, normalised before or after."""
    if pre_norm:
        return x + drop(function(normalize(norm, x)), place)
    return normalize(norm, x + drop(function(x), place))


def normalize(
    weights: mlp.NormWeights, x: Float[Array, "*rows channel"]
) -> Float[Array, "*rows channel"]:
    """Returns `x` normalised over channels in float32, scaled and moved."""
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), weights)
    rows = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    return mlp.normalize(wide, rows).astype(x.dtype).reshape(x.shape)
