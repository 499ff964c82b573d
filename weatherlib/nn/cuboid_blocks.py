"""Blocks of networks on [time, lat, lon] around cuboid attention.

Source: Gao et al. (2022), arXiv 2207.05833, and the published Earthformer code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from weatherlib.geometry import cuboids
from weatherlib.geometry.cuboid_patterns import Cuboid, Triple
from weatherlib.nn import convolutions_3d, cuboid_attention, projections, vit

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "CuboidStack",
    "FeedForward",
    "FeedForwardSettings",
    "PatchMerge",
    "PositionEmbed",
    "Upsample",
    "activate",
]

Activation = Literal[
    "gelu", "leaky", "relu", "elu", "sigmoid", "tanh", "softplus", "softrelu",
    "softsign", "identity",
]  # fmt: skip
"""Published names; `gelu` is the exact one, `leaky` has a slope of 0.1."""

_ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "leaky": lambda x: jax.nn.leaky_relu(x, 0.1),
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "softrelu": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "identity": lambda x: x,
}
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


def activate(name: Activation, x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Returns an activation by its published name."""
    return _ACTIVATIONS[name](x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeedForwardSettings:
    """A perceptron of two layers at each point, with a residual around it.

    Attributes:
      activation: Between the layers.
      gated: Whether the activation of a layer of its own multiplies the first.
      norm_before: Whether the norm comes before the layers, or after the residual.
      drop_rate: Dropout after the activation and after the second layer.
      init: How the weights of the first layer begin.
      last_init: How those of the second begin.
    """

    activation: Activation = "gelu"
    gated: bool = False
    norm_before: bool = True
    drop_rate: float = 0.0
    init: projections.InitMode = "0"
    last_init: projections.InitMode = "2"


class FeedForward(hk.Module):
    """A perceptron at each point, with a residual around it."""

    def __init__(self, hidden: int, settings: FeedForwardSettings, name: str) -> None:
        """Takes the channels between the layers, and the rest."""
        super().__init__(name=name)
        self._hidden = hidden
        self._settings = settings

    def __call__(
        self, x: Float[Array, "*rows channel"], is_training: bool = False
    ) -> Float[Array, "*rows channel"]:
        """Returns the points after the perceptron.

        Args:
          x: Points.
          is_training: Whether dropout is on, which draws from the Haiku key stream.
        """
        settings = self._settings
        rate = settings.drop_rate if is_training else 0.0
        norm = projections.LayerNorm("norm")
        inner = norm(x) if settings.norm_before else x
        first = self._layer(self._hidden, "linear_0", settings.init)(inner)
        if settings.gated:
            gate = self._layer(self._hidden, "gate", settings.init)(inner)
            first = activate(settings.activation, gate) * first
        else:
            first = activate(settings.activation, first)
        last = self._layer(x.shape[-1], "linear_1", settings.last_init)
        x = x + vit.dropout(last(vit.dropout(first, rate)), rate)
        return x if settings.norm_before else norm(x)

    @hk.transparent
    def _layer(
        self, width: int, name: str, init: projections.InitMode
    ) -> projections.Projection:
        return projections.Projection(width, name, init=init)


class CuboidStack(hk.Module):
    """Layers of cuboid attention, each with a residual, and perceptrons."""

    def __init__(
        self,
        layers: Sequence[Cuboid],
        attention: cuboid_attention.Settings,
        feed_forward: FeedForwardSettings,
        *,
        inner: bool = True,
        of_vectors: bool = True,
        remat: bool = False,
        name: str,
    ) -> None:
        """Takes the layers and what they have in common.

        Args:
          layers: Cuboids of each attention layer.
          attention: What these have in common.
          feed_forward: The perceptrons, which have four times the channels inside.
          inner: Whether one follows each attention layer; if not, one follows all.
          of_vectors: Whether global vectors have perceptrons too.
          remat: Whether the backward pass computes the inside of each layer again
            instead of keeping it.
          name: Of the module.
        """
        super().__init__(name=name)
        self._layers = tuple(layers)
        self._attention = attention
        self._feed_forward = feed_forward
        self._inner = inner
        self._of_vectors = of_vectors
        self._remat = remat

    def __call__(
        self,
        x: Float[Array, "batch time lat lon channel"],
        vectors: Float[Array, "batch vector width"] | None = None,
        is_training: bool = False,
    ) -> tuple[
        Float[Array, "batch time lat lon channel"],
        Float[Array, "batch vector width"] | None,
    ]:
        """Returns points and global vectors after all layers.

        Args:
          x: Values at points.
          vectors: Global vectors, with settings for them.
          is_training: Whether dropout is on, which draws from the Haiku key stream.
        """
        last = len(self._layers) - 1

        def layer(
            i: int, x: Array, vectors: Array | None
        ) -> tuple[Array, Array | None]:
            attend = cuboid_attention.CuboidAttention(
                self._layers[i], self._attention, name=f"attn_{i}"
            )
            found, answer = attend(x, vectors, is_training)
            x = x + found
            if vectors is not None and answer is not None:
                vectors = vectors + answer
            if not self._inner and i < last:
                return x, vectors
            number = i if self._inner else 0
            x = self._perceptron(x, f"ffn_{number}", is_training)
            if vectors is not None and self._of_vectors:
                vectors = self._perceptron(vectors, f"global_ffn_{number}", is_training)
            return x, vectors

        for i in range(len(self._layers)):
            call = hk.remat(layer, static_argnums=0) if self._remat else layer
            x, vectors = call(i, x, vectors)
        return x, vectors

    @hk.transparent
    def _perceptron(self, x: Array, name: str, is_training: bool) -> Array:
        module = FeedForward(4 * x.shape[-1], self._feed_forward, name=name)
        return module(x, is_training)


class PatchMerge(hk.Module):
    """Makes one point of a few neighbouring ones: joined, normalised, projected."""

    def __init__(
        self,
        outputs: int,
        factor: Triple,
        padding: cuboids.Padding,
        name: str,
        init: projections.InitMode = "0",
    ) -> None:
        """Takes the channels of a new point and how many points it replaces.

        Args:
          outputs: Channels of the result.
          factor: Points in time, rows and columns that become one.
          padding: What is added where the data is no multiple of these.
          name: Of the module.
          init: How the weights begin.
        """
        super().__init__(name=name)
        self._outputs = outputs
        self._factor = factor
        self._padding: cuboids.Padding = padding
        self._init: projections.InitMode = init

    def __call__(
        self, x: Float[Array, "batch time lat lon channel"]
    ) -> Float[Array, "batch times rows columns output"]:
        """Returns the coarser data."""
        shape = (x.shape[1], x.shape[2], x.shape[3])
        added = cuboids.padding_of(shape, self._factor)
        if any(added) and self._padding == "nearest":
            for axis, more in enumerate(added, start=1):
                old = x.shape[axis]
                x = _take(x, cuboids.nearest_indices(old, old + more), axis)
        elif any(added):
            x = jnp.pad(x, ((0, 0), *((0, more) for more in added), (0, 0)))
        new = [(n + more) // k for n, more, k in zip(shape, added, self._factor)]
        cuboid = Cuboid(self._factor)
        x = cuboids.reorder(x, cuboid).reshape(x.shape[0], *new, -1)
        x = projections.LayerNorm("norm")(x)
        layer = projections.Projection(
            self._outputs, "reduction", bias=False, init=self._init
        )
        return layer(x)


class Upsample(hk.Module):
    """Stretches data to a larger shape, and convolves each frame."""

    def __init__(
        self,
        outputs: int,
        shape: Triple,
        name: str,
        *,
        size: int = 3,
        init: projections.InitMode = "torch",
    ) -> None:
        """Takes channels and shape of the result.

        Args:
          outputs: Channels of the result.
          shape: Points of the result in time, rows and columns, each of which takes
            the value of the nearest point of the data.
          name: Of the module.
          size: Points along a side of the convolution, an odd number.
          init: How the weights begin.
        """
        super().__init__(name=name)
        self._outputs = outputs
        self._shape = shape
        self._size = size
        self._init: projections.InitMode = init

    def __call__(
        self, x: Float[Array, "batch time lat lon channel"]
    ) -> Float[Array, "batch times rows columns output"]:
        """Returns the finer data."""
        for axis, length in enumerate(self._shape, start=1):
            x = _take(x, cuboids.nearest_indices(x.shape[axis], length), axis)
        module = convolutions_3d.Conv2D(
            self._outputs, "conv", size=self._size, init=self._init
        )
        return module(x)


def _take(x: Array, indices: Int[np.ndarray, " new"], axis: int) -> Array:
    """Returns the points of an axis by number."""
    old, new = x.shape[axis], len(indices)
    if new == old and np.array_equal(indices, np.arange(new)):
        return x
    if new % old == 0 and np.array_equal(indices, np.arange(new) // (new // old)):
        return jnp.repeat(x, new // old, axis=axis)
    return jnp.take(x, indices, axis=axis)


class PositionEmbed(hk.Module):
    """Adds learned tables that tell times and places apart."""

    def __init__(self, shape: Triple, kind: str, name: str) -> None:
        """Takes the largest data there is and the kind of tables.

        Args:
          shape: Most points in time, rows and columns.
          kind: "t+h+w" has a table for each axis, "t+hw" one for times and one for
            places.
          name: Of the module.

        Raises:
          ValueError: The kind is unknown.
        """
        super().__init__(name=name)
        if kind not in ("t+h+w", "t+hw"):
            raise ValueError(f"position embedding {kind!r}: there are t+h+w and t+hw")
        self._shape = shape
        self._kind = kind

    def __call__(
        self, x: Float[Array, "batch time lat lon channel"]
    ) -> Float[Array, "batch time lat lon channel"]:
        """Returns `x` with the tables added.

        Raises:
          ValueError: There are more points than places in the tables.
        """
        times, rows, columns = x.shape[1:4]
        most = self._shape
        if times > most[0] or rows > most[1] or columns > most[2]:
            raise ValueError(
                f"data of {times}x{rows}x{columns} points is larger than the "
                f"{most[0]}x{most[1]}x{most[2]} positions of the model"
            )
        found = self._table("time", most[0], x)[:times, jnp.newaxis, jnp.newaxis]
        if self._kind == "t+h+w":
            row = self._table("row", most[1], x)[:rows]
            column = self._table("column", most[2], x)[:columns]
            found = found + row[jnp.newaxis, :, jnp.newaxis]
            found = found + column[jnp.newaxis, jnp.newaxis]
        else:
            place = self._table("place", most[1] * most[2], x)
            place = place.reshape(most[1], most[2], -1)[:rows, :columns]
            found = found + place[jnp.newaxis]
        return x + found[jnp.newaxis]

    def _table(self, name: str, length: int, x: Array) -> Array:
        init = hk.initializers.RandomNormal(0.02)
        return hk.get_parameter(name, (length, x.shape[-1]), x.dtype, init=init)
