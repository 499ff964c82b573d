"""Multi-layer perceptrons whose weights are created first and applied later.

The modules only create weights, under the paths and with the initial values of
`hk.nets.MLP` and `hk.LayerNorm`. Applying them is left to plain functions, so that a
first layer over concatenated inputs can be split into one product per input, and so
that blocks of rows can go through `lax.map` or `jax.checkpoint`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import reverse_mode
from weatherlib.nn.channel_mean import channel_mean

__all__ = [
    "LayerNorm",
    "Linear",
    "LinearWeights",
    "Mlp",
    "MlpWeights",
    "NormWeights",
    "add_bias",
    "apply",
    "finish",
    "normalize",
    "split_rows",
    "sum_terms",
]

_EPSILON = 1e-5


class LinearWeights(NamedTuple):
    """The matrix [input, output] and the bias [output] of one layer."""

    w: Array
    b: Array


class NormWeights(NamedTuple):
    """Scale and offset of a layer norm, shape [channel] or with leading axes."""

    scale: Array
    offset: Array


class MlpWeights(NamedTuple):
    """The layers of a perceptron and the norm after it, if there is one."""

    layers: tuple[LinearWeights, ...]
    norm: NormWeights | None


class Linear(hk.Module):
    """Creates one affine layer, by default initialised as `hk.Linear`."""

    def __init__(
        self,
        output_size: int,
        name: str | None = None,
        w_init: hk.initializers.Initializer | None = None,
        b_init: hk.initializers.Initializer | None = None,
    ) -> None:
        super().__init__(name=name)
        self._output_size = output_size
        self._w_init = w_init
        self._b_init = b_init or jnp.zeros

    def weights(self, input_size: int, dtype: Any) -> LinearWeights:
        """Returns the weights for inputs of `input_size` channels."""
        # A size of zero has no fan-in; any finite spread will do for an empty matrix.
        spread = max(input_size, 1) ** -0.5
        init = self._w_init or hk.initializers.TruncatedNormal(stddev=spread)
        shape = (input_size, self._output_size)
        return LinearWeights(
            w=hk.get_parameter("w", shape, dtype, init=init),
            b=hk.get_parameter("b", shape[1:], dtype, init=self._b_init),
        )


class LayerNorm(hk.Module):
    """Creates scale and offset as `hk.LayerNorm` over the last axis does."""

    def weights(self, size: int, dtype: Any) -> NormWeights:
        """Returns the weights for `size` channels."""
        return NormWeights(
            scale=hk.get_parameter("scale", (size,), dtype, init=jnp.ones),
            offset=hk.get_parameter("offset", (size,), dtype, init=jnp.zeros),
        )


class Mlp(hk.Module):
    """Creates the layers `linear_0`, `linear_1`, ... of a perceptron."""

    def __init__(self, output_sizes: Sequence[int], name: str | None = None) -> None:
        super().__init__(name=name)
        self._output_sizes = tuple(output_sizes)
        self._layers = [
            Linear(size, name=f"linear_{i}") for i, size in enumerate(output_sizes)
        ]

    def weights(self, input_size: int, dtype: Any) -> tuple[LinearWeights, ...]:
        """Returns the layers for inputs of `input_size` channels, first to last."""
        sizes = (input_size, *self._output_sizes)
        return tuple(
            layer.weights(size, dtype) for layer, size in zip(self._layers, sizes)
        )


def split_rows(
    weights: MlpWeights, sizes: Sequence[int]
) -> tuple[Float[Array, "part output"], ...]:
    """Returns the first matrix cut into the parts that meet each input.

    `concatenate(inputs, -1) @ w` is the sum of `inputs[i] @ parts[i]`.

    Args:
      weights: The perceptron.
      sizes: Channels of each input, in the order of concatenation.

    Returns:
      One matrix per input.

    Raises:
      ValueError: The sizes do not add up to the rows of the matrix.
    """
    first = weights.layers[0].w
    if sum(sizes) != first.shape[0]:
        raise ValueError(
            f"inputs of {tuple(sizes)} channels do not fill the {first.shape[0]} rows "
            "of the first layer"
        )
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(
        first[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)
    )


def finish(
    weights: MlpWeights, preactivation: Float[Array, "*rows hidden"]
) -> Float[Array, "*rows output"]:
    """Returns the output, given what the first layer gives with its bias.

    Takes shape [..., hidden], returns shape [..., output].
    """
    x = preactivation
    if reverse_mode.suits(x.dtype) and len(weights.layers) > 1:
        return _finish_by_hand(weights, x)
    for layer in weights.layers[1:]:
        x = add_bias(jax.nn.swish(x) @ layer.w, layer.b)
    return x if weights.norm is None else normalize(weights.norm, x)


def _finish_by_hand(weights: MlpWeights, x: Array) -> Array:
    """Returns what `finish` does, with a faster backward pass."""
    *hidden, last = weights.layers[1:]
    for layer in hidden:
        x = reverse_mode.layer(layer.w, layer.b, None, None, x, _EPSILON)
    scale, offset = weights.norm or (None, None)
    return reverse_mode.layer(last.w, last.b, scale, offset, x, _EPSILON)


def apply(
    weights: MlpWeights, *inputs: Float[Array, "*rows _"]
) -> Float[Array, "*rows output"]:
    """Returns the output for the concatenated `inputs`, one product per input."""
    parts = split_rows(weights, [x.shape[-1] for x in inputs])
    total = sum_terms([x @ part for x, part in zip(inputs, parts, strict=True)])
    return finish(weights, add_bias(total, weights.layers[0].b))


def add_bias(
    x: Float[Array, "*rows channel"], bias: Float[Array, " channel"]
) -> Float[Array, "*rows channel"]:
    """Returns `x + bias` without relying on rank promotion."""
    return x + _to_rank(bias, x.ndim)


def sum_terms(terms: Sequence[Array]) -> Array:
    """Returns the sum of arrays of equal rank whose axes may be 1.

    Its shape is that to which they broadcast.
    """
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def normalize(
    weights: NormWeights, x: Float[Array, "*rows channel"], epsilon: float = _EPSILON
) -> Float[Array, "*rows channel"]:
    """Returns `x` with mean 0 and variance 1 over channels, scaled and moved.

    Args:
      weights: Scale and offset.
      x: Values.
      epsilon: Added to the variance.
    """
    centred = x - channel_mean(x)
    variance = channel_mean(jnp.square(centred))
    inverse = jax.lax.rsqrt(variance + jnp.asarray(epsilon, x.dtype))
    scale = _to_rank(weights.scale, x.ndim)
    return centred * inverse * scale + _to_rank(weights.offset, x.ndim)


def _to_rank(x: Array, rank: int) -> Array:
    """Returns `x` with leading axes of size 1 up to `rank`."""
    return x.reshape((1,) * (rank - x.ndim) + x.shape)
