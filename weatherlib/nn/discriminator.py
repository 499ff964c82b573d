"""A network that tells decoded fields from real ones, and losses of both sides.

Source: Isola et al. (2017), arXiv 1611.07004, section 3.2, with the hinge losses and
the adaptive weight of Esser et al. (2021), arXiv 2012.09841, equation 7.
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import mlp, norm
from weatherlib.typing import PyTree

__all__ = [
    "PatchDiscriminator",
    "adaptive_weight",
    "adversarial_loss",
    "discriminator_loss",
    "smallest_side",
]

_SIDE = 4
_LARGEST_WEIGHT = 1e4
_LARGEST_GROWTH = 8


def smallest_side(layers: int) -> int:
    """Returns how many rows and columns fields need for so many halvings.

    The last two convolutions take a point away each, and one has to be left.
    """
    return 3 * 2**layers


class PatchDiscriminator(hk.Module):
    """Judges every patch of a field by convolutions.

    Groups of channels are normalised where the published network normalises batches, so
    that it has no state and fields are judged alike in batches of any size.
    """

    def __init__(
        self, width: int = 64, layers: int = 3, groups: int = 8, *, name: str = "judge"
    ) -> None:
        """Takes channels of the first layer, halvings, and groups of the norms.

        Raises:
          ValueError: The groups do not divide the width, or a size is not positive.
        """
        super().__init__(name=name)
        if width < 1 or layers < 1 or groups < 1 or width % groups:
            raise ValueError(
                f"a discriminator needs positive sizes and groups that divide its "
                f"width, found width {width}, layers {layers}, groups {groups}"
            )
        self._width = width
        self._layers = layers
        self._groups = groups

    def __call__(
        self, fields: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns"]:
        """Returns how real each patch seems: above 0 if more real than not.

        Raises:
          ValueError: The fields are too small for so many halvings.
        """
        smallest = smallest_side(self._layers)
        if min(fields.shape[1:3]) < smallest:
            raise ValueError(
                f"a discriminator of {self._layers} layers needs at least {smallest}x"
                f"{smallest} points, found {fields.shape[1]}x{fields.shape[2]}"
            )
        x = _leaky(_Conv(self._width, 2, name="conv_0")(fields))
        for i in range(1, self._layers + 1):
            width = self._width * min(2**i, _LARGEST_GROWTH)
            stride = 2 if i < self._layers else 1
            x = _Conv(width, stride, name=f"conv_{i}")(x)
            x = _leaky(norm.GroupNorm(self._groups, f"norm_{i}")(x))
        return _Conv(1, 1, name="conv_out")(x)[..., 0]


class _Conv(hk.Module):
    """A convolution over squares of 4x4 points, with zeros one point around."""

    def __init__(self, outputs: int, stride: int, *, name: str) -> None:
        super().__init__(name=name)
        self._outputs = outputs
        self._stride = stride

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        shape = (_SIDE, _SIDE, x.shape[-1], self._outputs)
        init = hk.initializers.RandomNormal(0.02)
        w = hk.get_parameter("w", shape, x.dtype, init=init)
        b = hk.get_parameter("b", shape[3:], x.dtype, init=jnp.zeros)
        found = jax.lax.conv_general_dilated(
            x,
            w,
            (self._stride, self._stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return mlp.add_bias(found, b)


def _leaky(x: Array) -> Array:
    return jax.nn.leaky_relu(x, 0.2)


def discriminator_loss(
    real: Float[Array, "batch rows columns"],
    decoded: Float[Array, "batch rows columns"],
) -> Float[Array, ""]:
    """Returns how badly real and decoded fields were told apart.

    Nothing is gained by being surer than 1.

    Args:
      real: Judgements of real fields.
      decoded: Judgements of decoded ones, through which no gradient should go.
    """
    one = jnp.ones((), real.dtype)
    of_real, of_decoded = jax.nn.relu(one - real), jax.nn.relu(one + decoded)
    half = jnp.asarray(0.5, real.dtype)
    return half * (of_real.mean() + of_decoded.mean())


def adversarial_loss(
    decoded: Float[Array, "batch rows columns"],
) -> Float[Array, ""]:
    """Returns how little decoded fields seem real."""
    return -decoded.mean()


def adaptive_weight(of_error: PyTree, of_adversarial: PyTree) -> Float[Array, ""]:
    """Returns the weight that makes two gradients equally long.

    Args:
      of_error: Gradient of the reconstruction error, of the last layer say.
      of_adversarial: Gradient of the adversarial loss for the same parameters.

    Returns:
      At most 10,000; without a gradient.
    """
    lengths = [_length(gradient) for gradient in (of_error, of_adversarial)]
    weight = lengths[0] / (lengths[1] + jnp.float32(1e-4))
    return jax.lax.stop_gradient(jnp.clip(weight, 0, _LARGEST_WEIGHT))


def _length(gradient: PyTree) -> Array:
    squares = [
        jnp.square(leaf.astype(jnp.float32)).sum() for leaf in jax.tree.leaves(gradient)
    ]
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return jnp.sqrt(total)
