"""Layers that vision encoders and decoders share."""

from __future__ import annotations

import math
from typing import Literal

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from weatherlib.latent.config import ADAPTER
from weatherlib.nn import attention, mlp
from weatherlib.typing import PyTree

__all__ = [
    "Adapter",
    "Block",
    "Linear",
    "Mlp",
    "Norm",
    "Pointwise",
    "adapters",
    "from_colours",
    "standardize",
    "to_colours",
    "token",
]

INIT = hk.initializers.TruncatedNormal(0.02)
"""How weights and tokens begin."""


class Linear(hk.Module):
    """A linear layer whose weights begin as vision transformers' do."""

    def __init__(self, outputs: int, name: str) -> None:
        """Takes the channels of the result."""
        super().__init__(name=name)
        self._outputs = outputs

    def __call__(
        self, x: Float[Array, "*rows channel"]
    ) -> Float[Array, "*rows output"]:
        """Returns `x @ w + b`."""
        inputs = x.shape[-1]
        w = hk.get_parameter("w", (inputs, self._outputs), x.dtype, init=INIT)
        b = hk.get_parameter("b", (self._outputs,), x.dtype, init=jnp.zeros)
        return attention.linear(x, mlp.LinearWeights(w, b))


class Pointwise(hk.Module):
    """A linear layer over the channels of each point of an image."""

    def __init__(self, outputs: int, name: str) -> None:
        """Takes the channels of the result."""
        super().__init__(name=name)
        self._outputs = outputs

    def __call__(
        self, x: Float[Array, "batch channel lat lon"]
    ) -> Float[Array, "batch output lat lon"]:
        """Returns the image; weights begin uniform within 1 / sqrt(channels)."""
        inputs = x.shape[1]
        bound = 1 / math.sqrt(inputs)
        init = hk.initializers.RandomUniform(-bound, bound)
        w = hk.get_parameter("w", (inputs, self._outputs), x.dtype, init=init)
        b = hk.get_parameter("b", (self._outputs,), x.dtype, init=jnp.zeros)
        weights = mlp.LinearWeights(w, b)
        found = attention.linear(jnp.moveaxis(x, 1, -1), weights)
        return jnp.moveaxis(found, -1, 1)


class Adapter(hk.Module):
    """A layer between fields and colours, below the name of adapters."""

    def __init__(self, outputs: int, layer: str) -> None:
        """Takes the channels of the result, and the name of the layer."""
        super().__init__(name=ADAPTER)
        self._outputs = outputs
        self._layer = layer

    def __call__(
        self, x: Float[Array, "batch channel lat lon"]
    ) -> Float[Array, "batch output lat lon"]:
        """Returns the fields as colours, or colours as fields."""
        return Pointwise(self._outputs, name=self._layer)(x)


def adapters(channels: int, colours: int, key: Array) -> PyTree:
    """Returns first parameters of the layers to colours and back, by path.

    Args:
      channels: Of a field.
      colours: Of the network.
      key: Draws them.
    """
    inward, outward = jax.random.split(key)
    to, back = jnp.zeros((1, channels, 1, 1)), jnp.zeros((1, colours, 1, 1))
    return {
        **hk.transform(lambda x: Adapter(colours, "to_colours")(x)).init(inward, to),
        **hk.transform(lambda x: Adapter(channels, "from_colours")(x)).init(
            outward, back
        ),
    }


def to_colours(
    params: PyTree, fields: Float[Array, "batch channel lat lon"], colours: int
) -> Float[Array, "batch colour lat lon"]:
    """Returns fields as so many colours, by the parameters of `adapters`."""
    run = hk.transform(lambda x: Adapter(colours, "to_colours")(x))
    return hk.without_apply_rng(run).apply(params, fields)


def from_colours(
    params: PyTree, images: Float[Array, "batch colour lat lon"], channels: int
) -> Float[Array, "batch channel lat lon"]:
    """Returns colours as fields of so many channels, by those of `adapters`."""
    run = hk.transform(lambda x: Adapter(channels, "from_colours")(x))
    return hk.without_apply_rng(run).apply(params, images)


class Norm(hk.Module):
    """Scales channels to mean 0 and variance 1, in float32."""

    def __init__(self, epsilon: float, name: str) -> None:
        """Takes what is added to the variance."""
        super().__init__(name=name)
        self._epsilon = epsilon

    def __call__(
        self, x: Float[Array, "*rows channel"]
    ) -> Float[Array, "*rows channel"]:
        """Returns `x` normalised, scaled and moved."""
        shape = x.shape[-1:]
        scale = hk.get_parameter("scale", shape, x.dtype, init=jnp.ones)
        offset = hk.get_parameter("offset", shape, x.dtype, init=jnp.zeros)
        weights = mlp.NormWeights(scale.astype(jnp.float32), offset.astype(jnp.float32))
        wide = mlp.normalize(weights, x.astype(jnp.float32), self._epsilon)
        return wide.astype(x.dtype)


def standardize(
    x: Float[Array, "*rows channel"], epsilon: float
) -> Float[Array, "*rows channel"]:
    """Returns `x` with mean 0 and variance 1 over channels, computed in float32."""
    width = x.shape[-1]
    weights = mlp.NormWeights(
        jnp.ones((width,), jnp.float32), jnp.zeros((width,), jnp.float32)
    )
    return mlp.normalize(weights, x.astype(jnp.float32), epsilon).astype(x.dtype)


class Mlp(hk.Module):
    """Two layers with a nonlinearity between them, or a gated pair (SwiGLU)."""

    def __init__(
        self,
        hidden: int,
        activation: Literal["gelu", "gelu_tanh", "swiglu"],
        name: str = "mlp",
    ) -> None:
        """Takes the channels inside, and what happens to them."""
        super().__init__(name=name)
        self._hidden = hidden
        self._activation = activation

    def __call__(
        self, x: Float[Array, "*rows channel"]
    ) -> Float[Array, "*rows channel"]:
        """Returns `x` after both layers."""
        width = x.shape[-1]
        if self._activation == "swiglu":
            # The first half is the gate.
            both = Linear(2 * self._hidden, name="fc1")(x)
            gate, value = jnp.split(both, 2, axis=-1)
            inner = jax.nn.silu(gate) * value
        else:
            approximate = self._activation == "gelu_tanh"
            inner = Linear(self._hidden, name="fc1")(x)
            inner = jax.nn.gelu(inner, approximate=approximate)
        return Linear(width, name="fc2")(inner)


class Block(hk.Module):
    """A transformer block that normalises before attention and before its perceptron.

    With factors for the channels of each branch, where `layer_scale` is set.
    """

    def __init__(
        self,
        heads: int,
        hidden: int,
        *,
        activation: Literal["gelu", "gelu_tanh", "swiglu"] = "gelu",
        epsilon: float = 1e-6,
        layer_scale: bool = False,
        name: str = "block",
    ) -> None:
        """Takes the sizes.

        Args:
          heads: Attention heads.
          hidden: Channels inside of the perceptron.
          activation: Inside of it.
          epsilon: Added to variances.
          layer_scale: Whether each branch has a factor for each channel.
          name: Of the module.
        """
        super().__init__(name=name)
        self._heads = heads
        self._mlp = (hidden, activation)
        self._epsilon = epsilon
        self._layer_scale = layer_scale

    def __call__(
        self,
        x: Float[Array, "batch token channel"],
        mask: Bool[Array, "batch token"] | None = None,
    ) -> Float[Array, "batch token channel"]:
        """Returns the tokens after the block.

        Args:
          x: Tokens.
          mask: Whether there is a token; without one, all are there.
        """
        y = Norm(self._epsilon, name="norm1")(x)
        y = attention.SelfAttention(self._heads, name="attn")(y, mask)
        x = x + self._scaled(y, "gamma1")
        hidden, activation = self._mlp
        y = Mlp(hidden, activation)(Norm(self._epsilon, name="norm2")(x))
        return x + self._scaled(y, "gamma2")

    def _scaled(self, x: Array, name: str) -> Array:
        if not self._layer_scale:
            return x
        factor = hk.get_parameter(name, x.shape[-1:], x.dtype, init=jnp.ones)
        return x * factor[jnp.newaxis, jnp.newaxis]


def token(
    name: str, count: int, like: Float[Array, "batch token channel"]
) -> Float[Array, "batch count channel"]:
    """Returns learned tokens of the module at hand, the same for the whole batch.

    Args:
      name: Of the parameter, [channel] where it is one token.
      count: How many tokens it holds, or 0 for one without an axis.
      like: Tokens whose batch, width and type they have.
    """
    batch, _, width = like.shape
    shape = (count, width) if count else (width,)
    held = hk.get_parameter(name, shape, like.dtype, init=INIT)
    return jnp.broadcast_to(held.reshape(1, -1, width), (batch, max(count, 1), width))
