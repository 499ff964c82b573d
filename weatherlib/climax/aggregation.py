"""From fields to one token at each place: patch embedding and variable aggregation.

The token of a variable is linear in the few pixels of its patch, and the aggregation
asks all places the same learned question. So the products of parameters are formed
first, and no token of a single variable ever exists: with 48 variables of 1024 channels
that saves most of the work and of the memory of this part, and gives the same numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import attention, mlp

__all__ = ["Aggregated", "PatchEmbed", "PatchWeights", "VariableAggregation"]

_INIT = hk.initializers.RandomNormal(0.02)


class PatchWeights(NamedTuple):
    """How the pixels of a patch become the token of a variable.

    The token is `pixels @ w + b`; `b` holds the embedding of the variable too.
    """

    w: Float[Array, "variable pixel channel"]
    b: Float[Array, "variable channel"]


class Aggregated(NamedTuple):
    """Tokens of all variables made one, and how much each of them counted."""

    tokens: Float[Array, "batch token channel"]
    weights: Float[Array, "batch token head variable"]


class PatchEmbed(hk.Module):
    """Creates the patch embeddings of all variables the model knows, stacked."""

    def __init__(self, variables: int, pixels: int, width: int, name: str) -> None:
        """Takes the number of variables, the pixels of a patch and the channels."""
        super().__init__(name=name)
        self._shape = (variables, pixels, width)

    def weights(self, dtype: Any) -> PatchWeights:
        """Returns the weights, without embeddings of the variables."""
        variables, pixels, width = self._shape
        bound = 1 / math.sqrt(pixels)
        return PatchWeights(
            w=hk.get_parameter("w", self._shape, dtype, init=_INIT),
            b=hk.get_parameter(
                "b",
                (variables, width),
                dtype,
                init=hk.initializers.RandomUniform(-bound, bound),
            ),
        )


class VariableAggregation(hk.Module):
    """Cross-attention of one learned query over the variables at each place."""

    def __init__(self, heads: int, name: str = "var_agg") -> None:
        """Takes the number of heads, which divides the channels of a token."""
        super().__init__(name=name)
        self._heads = heads

    def __call__(
        self,
        pixels: Float[Array, "batch token variable pixel"],
        embed: PatchWeights,
        query: Float[Array, "1 channel"],
    ) -> Aggregated:
        """Returns one token for each place.

        Args:
          pixels: Patches of each variable, in the order of `embed`.
          embed: How they become tokens.
          query: The learned question.
        """
        width = query.shape[-1]
        init = attention.joint_projection_init(width)
        dtype = pixels.dtype
        qkv = mlp.Linear(3 * width, name="qkv", w_init=init).weights(width, dtype)
        proj = mlp.Linear(width, name="proj", w_init=_INIT).weights(width, dtype)
        keys, values = self._folded(embed, qkv, query)
        # The bias of the keys moves all scores of a head alike, so it has no effect.
        scores = jnp.einsum("blvp,vph->blhv", pixels, keys.w)
        scores = scores + keys.b.T[jnp.newaxis, jnp.newaxis]
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(dtype)
        mixed = weights[..., jnp.newaxis] * pixels[:, :, jnp.newaxis]
        found = jnp.einsum("blhvp,vphc->blhc", mixed, values.w)
        found = found + jnp.einsum("blhv,vhc->blhc", weights, values.b)
        found = mlp.add_bias(
            found.reshape(*pixels.shape[:2], width), qkv.b[2 * width :]
        )
        return Aggregated(attention.linear(found, proj), weights)

    def _folded(
        self, embed: PatchWeights, qkv: mlp.LinearWeights, query: Array
    ) -> tuple[PatchWeights, PatchWeights]:
        """Returns scores [.., head] and values [.., head, channel] by pixel."""
        width = query.shape[-1]
        heads = self._heads
        wq, wk, wv = jnp.split(qkv.w, 3, axis=1)
        asked = attention.linear(query, mlp.LinearWeights(wq, qkv.b[:width]))
        asked = asked.reshape(heads, -1) * jnp.asarray(
            1 / math.sqrt(width // heads), query.dtype
        )
        key = jnp.einsum("ihc,hc->ih", wk.reshape(width, heads, -1), asked)
        shapes = (*embed.w.shape[:2], heads, -1), (embed.b.shape[0], heads, -1)
        values = PatchWeights(
            (embed.w @ wv).reshape(shapes[0]), (embed.b @ wv).reshape(shapes[1])
        )
        return PatchWeights(embed.w @ key, embed.b @ key), values
