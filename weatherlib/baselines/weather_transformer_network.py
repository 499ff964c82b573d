"""The Weather Transformer: patches, attention in space and time, learned queries."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.baselines import flattened
from weatherlib.baselines.fields import Fields
from weatherlib.baselines.weather_transformer_config import WeatherTransformerConfig
from weatherlib.nn import attention, embedding, initial, mlp, patching, transformer
from weatherlib.nn.edges import Edges

__all__ = ["WeatherTransformerNetwork"]


class WeatherTransformerNetwork(hk.Module):
    """Encodes patches of past frames; learned queries look at them and become frames.

    A patch of a frame is a token, with the static fields of its place. Its position in
    time is a table of sines, in space it is learned. In each layer of the encoder a
    token sees the others of its time, then those of its place. There is a query for
    each patch of each predicted frame. Where forcings at the predicted times are known,
    what a layer `known_embedding` makes of their patches is added to the queries.

    All matrices, positions and queries begin with a truncated normal of standard
    deviation 0.02, biases with zeros, unless the configuration says otherwise.
    """

    def __init__(
        self,
        config: WeatherTransformerConfig,
        *,
        remat: bool = False,
        name: str = "weather_transformer",
    ) -> None:
        """Takes the sizes.

        Args:
          config: Sizes.
          remat: Whether the backward pass computes the inside of layers again.
          name: Of the module.
        """
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        fields: Fields,
        edges: Edges,
        output_size: int,
        is_training: bool = False,
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the frames that follow.

        Args:
          fields: Past frames, forcings and static fields.
          edges: Not used.
          output_size: Channels of a predicted frame.
          is_training: Whether anything is dropped, which needs a Haiku key.

        Raises:
          ValueError: The number of frames is another than that of the configuration, a
            patch is larger than the grid, or the weights are for another grid.
        """
        del edges
        config = self._config
        flattened.require_frames(
            fields, config.input_length, config.output_length, output_size
        )
        rows, columns = fields.frames.shape[2:4]
        _require_room(config.patch_size, rows, columns)
        tokens = _tokens(flattened.seen_frames(fields), config.patch_size)
        known = None
        if fields.known.shape[-1]:
            known = _tokens(fields.known, config.patch_size)
        with flattened.weights_of_grid(rows, columns):
            weights = self._weights(tokens, known, output_size)
        drop = transformer.KEEP
        if is_training and config.dropout:
            drop = transformer.Drop(hk.next_rng_key(), config.dropout)
        found = _run(weights, tokens, known, drop, config, self._remat)
        across = -(-columns // config.patch_size[1])
        shape = (tokens.shape[0], config.output_length, -1, across, found.shape[-1])
        found = found.reshape(shape)
        return patching.from_patches(found, config.patch_size, (rows, columns))

    @hk.transparent
    def _weights(
        self, tokens: Array, known: Array | None, output_size: int
    ) -> _Weights:
        """Creates or looks up all weights."""
        config, dtype = self._config, tokens.dtype
        width, places = config.d_model, tokens.shape[2]
        size = config.patch_size[0] * config.patch_size[1] * output_size
        queries = (config.output_length, places, width)
        first = _STARTS[config.start]

        def linear(
            name: str, inputs: int, outputs: int, init: Any = first.matrix
        ) -> mlp.LinearWeights:
            return mlp.Linear(outputs, name=name, w_init=init).weights(inputs, dtype)

        def norm(name: str) -> mlp.NormWeights | None:
            if not config.pre_norm:
                return None
            return mlp.LayerNorm(name=name).weights(width, dtype)

        def layers(name: str, count: int, *attentions: str) -> Any:
            return tuple(
                transformer.Layer(
                    attentions,
                    config.mlp_ratio * width,
                    first.layer,
                    name=f"{name}_{i}",
                )(width, dtype)
                for i in range(count)
            )

        return _Weights(
            patch=linear("patch_embedding", tokens.shape[-1], width),
            known=None
            if known is None
            else linear("known_embedding", known.shape[-1], width),
            space=hk.get_parameter(
                "spatial_embedding", queries[1:], dtype, first.space
            ),
            queries=hk.get_parameter("query_tokens", queries, dtype, initial.NARROW),
            encoder=layers("encoder", config.n_layers, "spatial_attn", "temporal_attn"),
            encoder_norm=norm("encoder_norm"),
            decoder=layers("decoder", config.decoder_layers, "self_attn", "cross_attn"),
            decoder_norm=norm("decoder_norm"),
            head=linear("head", width, size, first.head),
        )


@dataclasses.dataclass(frozen=True)
class _Start:
    """How weights begin: layers, other matrices, positions in space, the head."""

    layer: transformer.Start
    matrix: Any
    space: Any
    head: Any


_STARTS = {
    "narrow": _Start(
        transformer.NARROW, initial.NARROW, initial.NARROW, initial.NARROW
    ),
    # The sines of time have a standard deviation of 0.7 as well.
    "glorot": _Start(
        transformer.GLOROT,
        initial.GLOROT,
        hk.initializers.RandomNormal(0.7),
        jnp.zeros,
    ),
}


class _Weights(NamedTuple):
    patch: mlp.LinearWeights
    known: mlp.LinearWeights | None
    space: Array
    queries: Array
    encoder: tuple[transformer.LayerWeights, ...]
    encoder_norm: mlp.NormWeights | None
    decoder: tuple[transformer.LayerWeights, ...]
    decoder_norm: mlp.NormWeights | None
    head: mlp.LinearWeights


def _run(
    weights: _Weights,
    tokens: Array,
    known: Array | None,
    drop: transformer.Drop,
    config: WeatherTransformerConfig,
    remat: bool,
) -> Array:
    """Returns the patches of the predicted frames, shape [batch, token, value]."""
    batch, times, _, _ = tokens.shape
    x = attention.linear(tokens, weights.patch)
    table = embedding.alternating_1d(config.d_model, np.arange(times))
    places = jnp.asarray(table, x.dtype)[:, jnp.newaxis] + weights.space[jnp.newaxis]
    x = drop(x + places[jnp.newaxis], 0)
    sizes = {"heads": config.n_heads, "pre_norm": config.pre_norm}
    encode = functools.partial(transformer.encode_space_time, **sizes)
    x = transformer.through(weights.encoder, x, encode, drop.at(1), remat=remat)
    x = _normalized(weights.encoder_norm, x)
    queries = weights.queries[jnp.newaxis]
    if known is not None and weights.known is not None:
        queries = queries + attention.linear(known, weights.known)
    if config.queries_see_last:
        queries = queries + x[:, -1:]
    queries = queries.reshape(queries.shape[0], -1, config.d_model)
    decode = functools.partial(transformer.decode, **sizes)
    memory = x.reshape(batch, -1, config.d_model)
    queries = transformer.through(
        weights.decoder, queries, decode, drop.at(2), memory, remat=remat
    )
    return attention.linear(_normalized(weights.decoder_norm, queries), weights.head)


def _normalized(weights: mlp.NormWeights | None, x: Array) -> Array:
    return x if weights is None else transformer.normalize(weights, x)


def _tokens(
    frames: Array, patch_size: tuple[int, int]
) -> Float[Array, "batch time place value"]:
    """Returns the patches of frames, row by row."""
    cut = patching.to_patches(frames, patch_size)
    batch, times, rows, columns, values = cut.shape
    return cut.reshape(batch, times, rows * columns, values)


def _require_room(patch_size: tuple[int, int], rows: int, columns: int) -> None:
    if patch_size[0] > rows or patch_size[1] > columns:
        raise ValueError(
            f"patch_size {patch_size[0]}x{patch_size[1]} is larger than the "
            f"{rows}x{columns} grid; take at most {rows}x{columns}"
        )
