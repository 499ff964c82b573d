"""Blocks that tell a network of a diffusion model how noisy its input is.

Source: the published PreDiff code (arXiv 2307.10422), after Ho et al. (2020).
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from weatherlib.nn import convolutions_3d, projections, vit
from weatherlib.nn import step_embedding as step_embedding_lib

__all__ = ["AttentionPool", "TimeEmbed", "TimeResidual", "step_embedding"]


def step_embedding(
    steps: Num[Array, " batch"], width: int
) -> Float[Array, "batch width"]:
    """Returns cosines, then sines, of step numbers at `width / 2` frequencies.

    The frequencies fall geometrically from 1 to about 1 / 10000 radians per step. An
    odd width ends with a zero.

    Args:
      steps: Numbers of diffusion steps, as they are.
      width: Channels.

    Returns:
      float32, whatever the steps are.
    """
    return step_embedding_lib.timestep_embedding(steps, width, cosines_first=True)


class TimeEmbed(hk.Module):
    """Two layers with SiLU between that make a vector of a step's embedding."""

    def __init__(self, outputs: int, name: str) -> None:
        """Takes the channels of the result."""
        super().__init__(name=name)
        self._outputs = outputs

    def __call__(
        self, x: Float[Array, "batch channel"]
    ) -> Float[Array, "batch output"]:
        """Returns the vectors."""
        first = projections.Projection(self._outputs, "linear_0", init="torch")
        last = projections.Projection(self._outputs, "linear_1", init="torch")
        return last(jax.nn.silu(first(x)))


class TimeResidual(hk.Module):
    """A residual block of two convolutions in three dimensions."""

    def __init__(
        self,
        outputs: int,
        name: str,
        *,
        embedded: bool = True,
        scale_shift: bool = False,
        drop_rate: float = 0.0,
    ) -> None:
        """Takes the channels of the result and how steps take part.

        Args:
          outputs: Channels of the result.
          name: Of the module.
          embedded: Whether the vector of a step takes part.
          scale_shift: Whether it scales and moves the second norm's result; if not,
            it is added before the second norm.
          drop_rate: Dropout before the second convolution.
        """
        super().__init__(name=name)
        self._outputs = outputs
        self._embedded = embedded
        self._scale_shift = scale_shift
        self._drop_rate = drop_rate

    def __call__(
        self,
        x: Float[Array, "batch time lat lon channel"],
        vector: Float[Array, "batch width"] | None = None,
        is_training: bool = False,
    ) -> Float[Array, "batch time lat lon output"]:
        """Returns the data after the block.

        Args:
          x: The data.
          vector: Of the diffusion step.
          is_training: Whether dropout is on, which draws from the Haiku key stream.

        Raises:
          ValueError: The vector is lacking, or is not asked for.
        """
        if (vector is not None) != self._embedded:
            raise ValueError("the block takes no vector of a step, or lacks it")
        inputs, outputs = x.shape[-1], self._outputs
        count = projections.group_count
        y = jax.nn.silu(projections.GroupNorm(count(inputs), "norm_in")(x))
        y = convolutions_3d.Conv3D(outputs, "conv_in")(y)
        scale = None
        if vector is not None:
            width = 2 * outputs if self._scale_shift else outputs
            layer = projections.Projection(width, "embed")
            shift = layer(jax.nn.silu(vector)).astype(y.dtype)
            shift = shift.reshape(x.shape[0], 1, 1, 1, -1)
            if self._scale_shift:
                scale, shift = jnp.split(shift, 2, axis=-1)
            else:
                y = y + shift
        y = projections.GroupNorm(count(outputs), "norm_out")(y)
        if scale is not None:
            y = y * (1 + scale) + shift
        y = vit.dropout(jax.nn.silu(y), self._drop_rate if is_training else 0.0)
        y = convolutions_3d.Conv3D(outputs, "conv_out", init="2")(y)
        if inputs != outputs:
            x = projections.Projection(outputs, "skip", init="torch")(x)
        return x + y


class AttentionPool(hk.Module):
    """Makes one vector of a row of points, by what their mean finds in them."""

    def __init__(self, outputs: int, heads: int, name: str) -> None:
        """Takes the channels of the result and the number of heads."""
        super().__init__(name=name)
        self._outputs = outputs
        self._heads = heads

    def __call__(
        self, x: Float[Array, "batch point channel"]
    ) -> Float[Array, "batch output"]:
        """Returns the vectors.

        Raises:
          ValueError: The heads do not divide the channels.
        """
        batch, points, width = x.shape
        heads = self._heads
        if width % heads:
            raise ValueError(f"{heads} heads do not divide {width} channels")
        init = hk.initializers.RandomNormal(width**-0.5)
        table = hk.get_parameter("positions", (points + 1, width), x.dtype, init=init)
        x = jnp.concatenate([x.mean(1, keepdims=True), x], axis=1) + table[jnp.newaxis]
        qkv = projections.Projection(3 * width, "qkv", init="torch")(x)
        # Only the mean asks; what the other points would find is not used.
        query = qkv[:, 0, :width].reshape(batch, heads, -1)
        key = qkv[..., width : 2 * width].reshape(batch, points + 1, heads, -1)
        value = qkv[..., 2 * width :].reshape(batch, points + 1, heads, -1)
        scores = jnp.einsum(
            "bhc,bphc->bhp", query, key, preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(scores * (width // heads) ** -0.5, axis=-1)
        found = jnp.einsum("bhp,bphc->bhc", weights.astype(x.dtype), value)
        layer = projections.Projection(self._outputs, "proj", init="torch")
        return layer(found.reshape(batch, width))
