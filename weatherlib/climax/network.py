"""ClimaX on arrays: variables become tokens, tokens the weather at a later time.

Source: Nguyen et al. (2023), arXiv 2301.10343.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from weatherlib.climax import aggregation
from weatherlib.climax.config import ClimaXConfig
from weatherlib.nn import attention, embedding, mlp, vit

__all__ = ["ClimaXNetwork", "Output"]

_INIT = hk.initializers.RandomNormal(0.02)
# Published lead times are in hundreds of hours.
_HOURS = 100.0


class Output(NamedTuple):
    """What the network finds.

    Attributes:
      fields: Predictions; of a part of the patches, these joined.
      encoding: Tokens after the last norm, which the head reads. With the projection
        head one token for each batch member.
      aggregated: Tokens as the variable aggregation leaves them, of all input frames.
      weights: How much each variable counted at each place, by attention head; they add
        up to 1 over the variables.
    """

    fields: Float[Array, "batch field lat lon"]
    encoding: Float[Array, "batch token channel"]
    aggregated: Float[Array, "batch time token channel"]
    weights: Float[Array, "batch time token head variable"]


class ClimaXNetwork(hk.Module):
    """A vision transformer over variables, places and, with some heads, times."""

    def __init__(
        self, config: ClimaXConfig, *, remat: bool = False, name: str = "climax"
    ) -> None:
        """Takes the sizes.

        Args:
          config: Sizes and head.
          remat: Whether the backward pass computes the aggregation and the inside of
            each block again instead of keeping it.
          name: Of the module.
        """
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        fields: Float[Array, "batch time variable lat lon"],
        lead_hours: Float[Array, " batch"],
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        patch_ids: Int[np.ndarray, "row column"] | None = None,
        is_training: bool = False,
    ) -> Output:
        """Returns the predictions and what led to them.

        Args:
          fields: Normalised states, `time_history` of them.
          lead_hours: How far ahead to predict, each batch member for itself.
          inputs: Numbers of the variables of `fields` in `default_vars`.
          outputs: Numbers of the variables to predict, in `default_vars` or, with the
            projection head, in `out_variables`.
          patch_ids: Numbers of the patches that are read and predicted; None takes all.
          is_training: Whether dropout is on, which draws from the Haiku key stream.

        Raises:
          ValueError: The fields are not on the grid of the position embedding, or not
            as many frames as the configuration says.
        """
        config, dtype = self._config, fields.dtype
        _check(config, fields)
        batch, times = fields.shape[:2]
        pixels = vit.patches(
            fields.reshape(batch * times, *fields.shape[2:]), config.patch_size
        )
        table = embedding.sincos_2d(config.embed_dim, config.rows, config.columns)
        position = _table("pos_embed", table, dtype)
        rows = config.rows
        if patch_ids is not None:
            rows = patch_ids.shape[0]
            pixels = pixels[:, patch_ids.reshape(-1)]
            position = position[patch_ids.reshape(-1)]
        found = _aggregate(config, pixels, inputs, self._remat)
        shape = (batch, times)
        x = aggregated = found.tokens.reshape(*shape, *found.tokens.shape[1:])
        weights = found.weights.reshape(*shape, *found.weights.shape[1:])
        x = x + position[jnp.newaxis, jnp.newaxis]
        lead = _lead(config, lead_hours).astype(dtype)
        if config.head == "projection":
            x = x + _time_table(config, dtype) + lead[:, jnp.newaxis]
            merged = x.reshape(batch * times, *x.shape[2:])
            merged = _transform(config, merged, is_training, self._remat)
            encoding = _over_time(config, merged.mean(1).reshape(*shape, -1))
            return Output(
                _globe(config, encoding, outputs), encoding, aggregated, weights
            )
        x = _neck(config, x) if times > 1 else x[:, 0]
        encoding = _transform(config, x + lead, is_training, self._remat)
        patches = _Head(config, name="head")(encoding, outputs)
        predictions = vit.unpatch(patches, rows, config.patch_size)
        return Output(predictions, encoding, aggregated, weights)


def _check(config: ClimaXConfig, fields: Array) -> None:
    size = config.patch_size
    lat, lon = fields.shape[-2:]
    if lat % size or lon % size:
        raise ValueError(
            f"patch_size {size} does not divide the {lat}x{lon} grid; regrid it or cut "
            f"it to {lat // size * size}x{lon // size * size}"
        )
    if (lat, lon) != tuple(config.img_size):
        rows, columns = config.img_size
        raise ValueError(
            f"the model has positions for a {rows}x{columns} grid (img_size), found "
            f"{lat}x{lon}; regrid the data, or change img_size and interpolate the "
            "position embedding"
        )
    if fields.shape[1] != config.time_history:
        raise ValueError(
            f"the model reads {config.time_history} input frame(s) (time_history), "
            f"found {fields.shape[1]}; change input_duration of the task, or "
            "time_history"
        )


def _table(name: str, start: np.ndarray, dtype: Any) -> Array:
    """Returns a learned table that starts with the given values."""
    init = hk.initializers.Constant(jnp.asarray(start, jnp.float32))
    return hk.get_parameter(name, start.shape, dtype, init=init)


def _time_table(config: ClimaXConfig, dtype: Any) -> Float[Array, "1 time 1 channel"]:
    table = embedding.sincos_1d(config.embed_dim, np.arange(config.time_history))
    return _table("time_pos_embed", table, dtype)[jnp.newaxis, :, jnp.newaxis]


def _aggregate(
    config: ClimaXConfig, pixels: Array, inputs: tuple[int, ...], remat: bool
) -> aggregation.Aggregated:
    """Returns one token for each place from the patches of all variables."""
    count, width = len(config.default_vars), config.embed_dim
    dtype = pixels.dtype
    table = embedding.sincos_1d(width, np.arange(count))
    variables = _table("var_embed", table, dtype)
    query = hk.get_parameter("var_query", (1, width), dtype, init=jnp.zeros)
    embed = aggregation.PatchEmbed(
        count, config.patch_size**2, width, name="token_embed"
    ).weights(dtype)
    ids = np.asarray(inputs)
    chosen = aggregation.PatchWeights(embed.w[ids], (embed.b + variables)[ids])
    module = aggregation.VariableAggregation(config.num_heads, name="var_agg")
    return _maybe_remat(module, remat)(pixels, chosen, query)


def _lead(
    config: ClimaXConfig, lead_hours: Float[Array, " batch"]
) -> Float[Array, "batch 1 channel"]:
    """Returns what the lead time adds to each token, in float32 as hours are."""
    hours = lead_hours.astype(jnp.float32)[:, jnp.newaxis]
    layer = mlp.Linear(config.embed_dim, name="lead_time_embed", w_init=_INIT)
    weights = layer.weights(1, jnp.float32)
    return attention.linear(hours / _HOURS, weights)[:, jnp.newaxis]


def _transform(
    config: ClimaXConfig, x: Array, is_training: bool, remat: bool
) -> Float[Array, "batch token channel"]:
    """Returns the tokens after all blocks and the last norm."""
    x = vit.dropout(x, config.drop_rate if is_training else 0.0)
    hidden = int(config.embed_dim * config.mlp_ratio)
    rates = np.linspace(0, config.drop_path, config.depth)
    for i, rate in enumerate(rates.tolist()):
        block = vit.Block(
            config.num_heads,
            hidden,
            drop_rate=config.drop_rate,
            drop_path=rate,
            name=f"block_{i}",
        )
        x = _maybe_remat(lambda y, b=block: b(y, is_training), remat)(x)
    return vit.LayerNorm("norm")(x)


def _neck(
    config: ClimaXConfig, x: Float[Array, "batch time token channel"]
) -> Float[Array, "batch token channel"]:
    """Returns the last frame with what each place finds in all frames added.

    Nothing is found before training, so that weights of one frame keep their meaning.
    """
    batch, times, tokens, width = x.shape
    frames = (x + _time_table(config, x.dtype)).swapaxes(1, 2)
    frames = frames.reshape(batch * tokens, times, width)
    module = attention.QueryAttention(
        config.num_heads, name="time_neck", proj_init=hk.initializers.Constant(0.0)
    )
    found = module(frames[:, -1:], frames)
    return x[:, -1] + found.reshape(batch, tokens, width)


def _over_time(
    config: ClimaXConfig, x: Float[Array, "batch time channel"]
) -> Float[Array, "batch 1 channel"]:
    """Returns one token from those of all frames."""
    width = config.embed_dim
    query = hk.get_parameter("time_query", (1, width), x.dtype, init=jnp.zeros)
    queries = jnp.broadcast_to(query, (x.shape[0], 1, width))
    return attention.QueryAttention(config.num_heads, name="time_agg")(queries, x)


def _globe(
    config: ClimaXConfig,
    encoding: Float[Array, "batch 1 channel"],
    outputs: tuple[int, ...],
) -> Float[Array, "batch field lat lon"]:
    """Returns whole fields from one token."""
    width, count = config.embed_dim, len(config.out_variables)
    lat, lon = config.img_size
    layer = mlp.Linear(count * lat * lon, name="head", w_init=_INIT)
    fields = attention.linear(encoding, layer.weights(width, encoding.dtype))
    return fields.reshape(-1, count, lat, lon)[:, np.asarray(outputs)]


class _Head(hk.Module):
    """Layers with exact GELU, and one that gives the pixels of each variable."""

    def __init__(self, config: ClimaXConfig, name: str) -> None:
        super().__init__(name=name)
        self._config = config

    def __call__(self, x: Array, outputs: tuple[int, ...]) -> Array:
        """Returns shape [batch, token, pixel, field]."""
        config, width = self._config, self._config.embed_dim
        for j in range(config.decoder_depth):
            layer = mlp.Linear(width, name=f"linear_{j}", w_init=_INIT)
            x = attention.linear(x, layer.weights(width, x.dtype))
            x = jax.nn.gelu(x, approximate=False)
        pixels, count = config.patch_size**2, len(config.default_vars)
        name = f"linear_{config.decoder_depth}"
        last = mlp.Linear(pixels * count, name=name, w_init=_INIT)
        w, b = last.weights(width, x.dtype)
        # Only the variables that are asked for are computed.
        ids = np.asarray(outputs)
        w = w.reshape(width, pixels, count)[:, :, ids].reshape(width, -1)
        b = b.reshape(pixels, count)[:, ids].reshape(-1)
        found = attention.linear(x, mlp.LinearWeights(w, b))
        return found.reshape(*x.shape[:2], pixels, len(ids))


def _maybe_remat(function: Callable[..., Any], remat: bool) -> Callable[..., Any]:
    return hk.remat(function) if remat else function
