"""Linear layers and norms that start as published PyTorch models do."""

from __future__ import annotations

import math
from typing import Literal

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import mlp

__all__ = [
    "GroupNorm",
    "InitMode",
    "LayerNorm",
    "Projection",
    "first_bias",
    "first_weights",
    "group_count",
    "group_norm",
]

InitMode = Literal["0", "1", "2", "torch"]
"""How weights begin. "0": normal, with variance 1 / inputs; "1": normal, with variance
2 / (1.01 outputs); "2": zero; "torch": uniform within 1 / sqrt(inputs), as PyTorch does
when nobody says otherwise, and then the bias too. Otherwise it begins at zero."""

_EPSILON = 1e-5


def first_weights(
    mode: InitMode, inputs: int, outputs: int
) -> hk.initializers.Initializer:
    """Returns the draw of first weights.

    Args:
      mode: How they begin.
      inputs: What each output is a sum of: channels, times the points of a kernel.
      outputs: Outputs that each input has a part in, counted likewise.
    """
    if mode == "torch":
        bound = 1 / math.sqrt(max(inputs, 1))
        return hk.initializers.RandomUniform(-bound, bound)
    if mode == "2":
        return hk.initializers.Constant(0.0)
    variance = 1 / max(inputs, 1) if mode == "0" else 2 / (1.01 * max(outputs, 1))
    return hk.initializers.RandomNormal(math.sqrt(variance))


def first_bias(mode: InitMode, inputs: int) -> hk.initializers.Initializer:
    """Returns the draw of a first bias; see `first_weights`."""
    return first_weights(mode if mode == "torch" else "2", inputs, 1)


class Projection(hk.Module):
    """A linear layer over channels."""

    def __init__(
        self, outputs: int, name: str, *, bias: bool = True, init: InitMode = "0"
    ) -> None:
        """Takes the channels of the result, and how the weights begin."""
        super().__init__(name=name)
        self._outputs = outputs
        self._bias = bias
        self._init: InitMode = init

    def __call__(
        self, x: Float[Array, "*rows channel"]
    ) -> Float[Array, "*rows output"]:
        """Returns `x @ w + b`."""
        inputs = x.shape[-1]
        init = first_weights(self._init, inputs, self._outputs)
        w = hk.get_parameter("w", (inputs, self._outputs), x.dtype, init=init)
        if not self._bias:
            return x @ w
        init = first_bias(self._init, inputs)
        return mlp.add_bias(
            x @ w, hk.get_parameter("b", (self._outputs,), x.dtype, init=init)
        )


class LayerNorm(hk.Module):
    """Scales channels to mean 0 and variance 1, in float32; epsilon is 1e-5."""

    def __call__(
        self, x: Float[Array, "*rows channel"]
    ) -> Float[Array, "*rows channel"]:
        """Returns `x` normalised, scaled and moved."""
        scale, offset = _scale_and_offset(x)
        weights = mlp.NormWeights(scale, offset)
        return mlp.normalize(weights, x.astype(jnp.float32)).astype(x.dtype)


class GroupNorm(hk.Module):
    """Scales groups of channels of each batch member to mean 0 and variance 1."""

    def __init__(self, groups: int, name: str) -> None:
        """Takes the number of groups, which divides the channels."""
        super().__init__(name=name)
        self._groups = groups

    def __call__(
        self, x: Float[Array, "batch *axes channel"]
    ) -> Float[Array, "batch *axes channel"]:
        """Returns `x` normalised in float32, scaled and moved."""
        scale, offset = _scale_and_offset(x)
        return group_norm(x, self._groups, scale, offset)


def group_count(channels: int) -> int:
    """Returns the published number of groups: 32, or all channels where that is odd."""
    return 32 if channels % 32 == 0 else channels


def group_norm(
    x: Float[Array, "batch *axes channel"],
    groups: int,
    scale: Float[Array, " channel"],
    offset: Float[Array, " channel"],
) -> Float[Array, "batch *axes channel"]:
    """Returns `x` with mean 0 and variance 1 over each group, scaled and moved.

    Computed in float32; epsilon is 1e-5.

    Args:
      x: Values.
      groups: Number of groups of neighbouring channels; divides their number.
      scale: Factor of each channel.
      offset: Added to each channel.

    Raises:
      ValueError: The groups do not divide the channels.
    """
    channels = x.shape[-1]
    if channels % groups:
        raise ValueError(f"{groups} groups do not divide {channels} channels")
    flat = x.astype(jnp.float32).reshape(x.shape[0], -1, channels)
    centred = flat - _group_mean(flat, groups)
    variance = _group_mean(jnp.square(centred), groups)
    factor = scale[jnp.newaxis, jnp.newaxis] / jnp.sqrt(variance + _EPSILON)
    found = centred * factor + offset[jnp.newaxis, jnp.newaxis]
    return found.reshape(x.shape).astype(x.dtype)


def _group_mean(x: Array, groups: int) -> Array:
    """Returns the mean over rows and groups, shape [batch, 1, channel]."""
    batch, _, channels = x.shape
    size = channels // groups
    mean = x.mean(1).reshape(batch, groups, size).mean(-1, keepdims=True)
    return jnp.broadcast_to(mean, (batch, groups, size)).reshape(batch, 1, channels)


def _scale_and_offset(x: Array) -> tuple[Array, Array]:
    """Returns the parameters of a norm in float32."""
    shape = x.shape[-1:]
    scale = hk.get_parameter("scale", shape, x.dtype, init=jnp.ones)
    offset = hk.get_parameter("offset", shape, x.dtype, init=jnp.zeros)
    return scale.astype(jnp.float32), offset.astype(jnp.float32)
