"""Perceptrons with conditioned normalisation, as in the published `mlp` module."""

import haiku as hk
import jax
import jax.numpy as jnp

__all__ = ["LinearNormConditioning"]


class LinearNormConditioning(hk.Module):
    """Scales and moves each channel by what a linear layer makes of a condition.

    Its weights begin near zero, so the scale begins near one and the offset near zero.
    """

    def __init__(self, name: str = "norm_conditioning") -> None:
        super().__init__(name=name)

    def __call__(self, inputs: jax.Array, norm_conditioning: jax.Array) -> jax.Array:
        """Returns `inputs` scaled and moved.

        Args:
          inputs: Normalised features. Shape [..., channel].
          norm_conditioning: The condition. Shape [..., feature], whose leading axes
            broadcast against those of `inputs`.
        """
        linear = hk.Linear(
            2 * inputs.shape[-1],
            w_init=hk.initializers.TruncatedNormal(stddev=1e-8),
            name="linear",
        )
        scale_less_one, offset = jnp.split(linear(norm_conditioning), 2, axis=-1)
        return inputs * (1 + scale_less_one) + offset
