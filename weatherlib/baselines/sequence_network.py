"""Networks that read frames as a sequence of vectors, or the grid as one of places.

Weights begin as those of the layers of PyTorch do.
"""

from __future__ import annotations

import abc
import functools
import warnings
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.baselines import fields as inputs
from weatherlib.baselines import flattened, sequence_config
from weatherlib.baselines.fields import Fields
from weatherlib.nn import attention, embedding, initial, mlp, recurrent, transformer
from weatherlib.nn.edges import Edges

__all__ = [
    "BidirectionalLSTMNetwork",
    "LSTMNetwork",
    "LSTMSeq2SeqNetwork",
    "SpatialTransformerNetwork",
    "TransformerNetwork",
    "TransformerSeq2SeqNetwork",
]

_MANY_TOKENS = 4096


class _Network(hk.Module):
    """What all of them have in common; a subclass says how frames are predicted."""

    path: str

    def __init__(
        self,
        config: Any,
        *,
        remat: bool = False,
        name: str | None = None,
    ) -> None:
        """Takes the sizes.

        Args:
          config: Sizes.
          remat: Whether the backward pass computes the inside of layers, or the gates
            of each step, again.
          name: Of the module; None is the name of the model.
        """
        super().__init__(name=name or self.path)
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
          ValueError: The number of frames is another than that of the configuration, or
            the weights are for another grid.
        """
        del edges
        config = self._config
        flattened.require_frames(
            fields, config.input_length, config.output_length, output_size
        )
        with flattened.weights_of_grid(*fields.frames.shape[2:4]):
            return self._predict(fields, output_size, is_training)

    @abc.abstractmethod
    def _predict(self, fields: Fields, output_size: int, is_training: bool) -> Array:
        """Returns the frames that follow, of inputs that are checked."""


class LSTMNetwork(_Network):
    """Reads frames one by one and predicts all from what is left after the last.

    Where forcings at the predicted times are known, what a layer `known` makes of them
    is added to what the head reads.
    """

    path = "lstm"

    @hk.transparent
    def _predict(self, fields: Fields, output_size: int, is_training: bool) -> Array:
        return _read_and_predict(
            self._config, fields, output_size, is_training, self._remat
        )


class BidirectionalLSTMNetwork(_Network):
    """As `LSTMNetwork`, with layers that also read from the last frame to the first.

    The head sees what is left at the end of each direction.
    """

    path = "bidirectional_lstm"

    @hk.transparent
    def _predict(self, fields: Fields, output_size: int, is_training: bool) -> Array:
        return _read_and_predict(
            self._config, fields, output_size, is_training, self._remat, directions=2
        )


class LSTMSeq2SeqNetwork(_Network):
    """Reads frames one by one, then predicts one by one from what it has predicted.

    The decoder begins with the state of the encoder and the last past frame. It reads
    frames of the predicted variables, the forcings at the time to predict and the
    static fields.
    """

    path = "lstm_seq2seq"

    @hk.transparent
    def _predict(self, fields: Fields, output_size: int, is_training: bool) -> Array:
        config = self._config
        rows, columns = fields.frames.shape[2:4]
        x = flattened.flatten(flattened.seen_frames(fields))
        first = flattened.flatten(fields.frames[:, -1, ..., :output_size])
        beside = _beside(fields)
        read = first.shape[-1] + beside.shape[-1]
        sizes = (config.hidden_size, config.num_layers)
        encoder = recurrent.Lstm(*sizes, name="encoder")(x.shape[-1], x.dtype)
        decoder = recurrent.Lstm(*sizes, name="decoder")(read, x.dtype)
        head = _linear("head", config.hidden_size, first.shape[-1], x.dtype)
        rate = config.dropout
        key = _key_between(config, is_training)
        _, state = recurrent.read(
            encoder, x, drop_rate=rate, key=key, remat=self._remat
        )
        key = _key_between(config, is_training)

        def advance(carry: Any, item: tuple[Array, Array]) -> tuple[Any, Array]:
            frame, state = carry
            seen = jnp.concatenate([frame, item[0]], axis=-1)
            own = None if key is None else jax.random.fold_in(key, item[1])
            found, state = recurrent.step(decoder, seen, state, drop_rate=rate, key=own)
            frame = attention.linear(found, head)
            return (frame, state), frame

        body = jax.checkpoint(advance) if self._remat else advance
        items = (beside.swapaxes(0, 1), jnp.arange(config.output_length))
        _, frames = jax.lax.scan(body, (first, state), items)
        return flattened.unflatten(frames.swapaxes(0, 1), rows, columns)


class TransformerNetwork(_Network):
    """A transformer in time: frames are tokens, and the last predicts all that follow.

    Where forcings at the predicted times are known, what a layer `known` makes of them
    is added to that last token.
    """

    path = "transformer"

    @hk.transparent
    def _predict(self, fields: Fields, output_size: int, is_training: bool) -> Array:
        config = self._config
        batch, _, rows, columns, _ = fields.frames.shape
        steps, width = config.output_length, config.d_model
        x = flattened.flatten(flattened.seen_frames(fields))
        embed = _linear("input_projection", x.shape[-1], width, x.dtype)
        layers = _layers(config, "encoder", config.num_layers, x.dtype)
        norm = mlp.LayerNorm(name="head_norm").weights(width, x.dtype)
        hidden = _linear("head_hidden", width, width // 2, x.dtype)
        size = steps * output_size * rows * columns
        head = _linear("head", width // 2, size, x.dtype)
        drop = _drop(config, is_training)
        x = _begin(attention.linear(x, embed), drop.at(0))
        encode = functools.partial(transformer.encode, heads=config.nhead)
        x = transformer.through(layers, x, encode, drop.at(1), remat=self._remat)
        last = drop(transformer.normalize(norm, _with_known(x[:, -1], fields)), 2)
        last = drop(jax.nn.relu(attention.linear(last, hidden)), 3)
        found = attention.linear(last, head).reshape(batch, steps, -1)
        return flattened.unflatten(found, rows, columns)


class TransformerSeq2SeqNetwork(_Network):
    """A transformer in time whose learned queries become the frames that follow.

    Where forcings at the predicted times are known, what a layer `known` makes of those
    of a time is added to its query.
    """

    path = "transformer_seq2seq"

    @hk.transparent
    def _predict(self, fields: Fields, output_size: int, is_training: bool) -> Array:
        config = self._config
        rows, columns = fields.frames.shape[2:4]
        x = flattened.flatten(flattened.seen_frames(fields))
        width, dtype = config.d_model, x.dtype
        embed = _linear("input_projection", x.shape[-1], width, dtype)
        layers = _layers(config, "encoder", config.num_encoder_layers, dtype)
        names = ("self_attn", "cross_attn")
        decoders = _layers(config, "decoder", config.num_decoder_layers, dtype, names)
        shape = (config.output_length, width)
        init = hk.initializers.RandomNormal()
        queries = hk.get_parameter("query_tokens", shape, dtype, init)[jnp.newaxis]
        if fields.known.shape[-1]:
            known = flattened.flatten(fields.known)
            into = _linear("known", known.shape[-1], width, dtype)
            queries = queries + attention.linear(known, into)
        head = _linear("head", width, output_size * rows * columns, dtype)
        drop = _drop(config, is_training)
        x = _begin(attention.linear(x, embed), drop.at(0))
        encode = functools.partial(transformer.encode, heads=config.nhead)
        x = transformer.through(layers, x, encode, drop.at(1), remat=self._remat)
        decode = functools.partial(transformer.decode, heads=config.nhead)
        queries = transformer.through(
            decoders, queries, decode, drop.at(2), x, remat=self._remat
        )
        return flattened.unflatten(attention.linear(queries, head), rows, columns)


class SpatialTransformerNetwork(_Network):
    """A transformer in space: each place of the grid is a token with all its frames.

    It warns of more than 4096 places: time grows with the square of their number.
    """

    path = "spatial_transformer"

    @hk.transparent
    def _predict(self, fields: Fields, output_size: int, is_training: bool) -> Array:
        config = self._config
        batch, _, rows, columns, _ = fields.frames.shape
        count, width, steps = rows * columns, config.d_model, config.output_length
        if count > _MANY_TOKENS:
            warnings.warn(
                f"attention between all {count} places of a {rows}x{columns} grid "
                f"takes time that grows with the square of their number; up to "
                f"{_MANY_TOKENS} are meant, and a WeatherTransformer takes more",
                stacklevel=2,
            )
        channels = inputs.flat_channels(fields)
        x = channels.reshape(batch, count, channels.shape[-1])
        embed = _linear("input_projection", x.shape[-1], width, x.dtype)
        shape = (count, width)
        places = hk.get_parameter("position_embedding", shape, x.dtype, initial.NARROW)
        layers = _layers(config, "encoder", config.num_layers, x.dtype)
        head = _linear("head", width, steps * output_size, x.dtype)
        drop = _drop(config, is_training, of_weights=False)
        x = drop(attention.linear(x, embed) + places[jnp.newaxis], 0)
        encode = functools.partial(transformer.encode, heads=config.nhead)
        x = transformer.through(layers, x, encode, drop.at(1), remat=self._remat)
        found = attention.linear(x, head).reshape(batch, rows, columns, -1)
        return inputs.frames_of(found, steps)


def _read_and_predict(
    config: sequence_config.LSTMConfig,
    fields: Fields,
    output_size: int,
    is_training: bool,
    remat: bool,
    directions: int = 1,
) -> Array:
    """Returns all frames from the states that LSTM layers end with."""
    batch, _, rows, columns, _ = fields.frames.shape
    x = flattened.flatten(flattened.seen_frames(fields))
    weights = recurrent.Lstm(
        config.hidden_size,
        config.num_layers,
        bidirectional=directions == 2,
        name="recurrent",
    )(x.shape[-1], x.dtype)
    steps = config.output_length
    width = directions * config.hidden_size
    head = _linear("head", width, steps * output_size * rows * columns, x.dtype)
    _, state = recurrent.read(
        weights,
        x,
        drop_rate=config.dropout,
        key=_key_between(config, is_training),
        remat=remat,
    )
    last = jnp.concatenate([one.hidden for one in state[-1]], axis=-1)
    found = attention.linear(_with_known(last, fields), head)
    return flattened.unflatten(found.reshape(batch, steps, -1), rows, columns)


def _linear(name: str, size: int, outputs: int, dtype: Any) -> mlp.LinearWeights:
    """Returns the weights of a layer that begins as one of PyTorch."""
    init = initial.fan_in_uniform(size)
    layer = mlp.Linear(outputs, name=name, w_init=init, b_init=init)
    return layer.weights(size, dtype)


def _layers(
    config: Any,
    name: str,
    count: int,
    dtype: Any,
    attentions: tuple[str, ...] = ("self_attn",),
) -> list[transformer.LayerWeights]:
    """Returns the weights of the layers `name_0`, `name_1` and so on."""
    return [
        transformer.Layer(attentions, config.hidden, name=f"{name}_{i}")(
            config.d_model, dtype
        )
        for i in range(count)
    ]


def _with_known(state: Array, fields: Fields) -> Array:
    """Returns what predicts, with what is known of the predicted times added."""
    if not fields.known.shape[-1]:
        return state
    vector = flattened.flatten(fields.known).reshape(fields.known.shape[0], -1)
    weights = _linear("known", vector.shape[-1], state.shape[-1], vector.dtype)
    return state + attention.linear(vector, weights)


def _beside(fields: Fields) -> Float[Array, "batch step feature"]:
    """Returns what a decoder reads beside its own frames."""
    static = fields.static[:, jnp.newaxis]
    shape = (*fields.known.shape[:-1], fields.static.shape[-1])
    both = jnp.concatenate([fields.known, jnp.broadcast_to(static, shape)], axis=-1)
    return flattened.flatten(both)


def _key_between(config: sequence_config.LSTMConfig, is_training: bool) -> Array | None:
    """Returns the key for what is dropped between the layers of an LSTM."""
    active = is_training and config.dropout and config.num_layers > 1
    return hk.next_rng_key() if active else None


def _drop(config: Any, is_training: bool, of_weights: bool = True) -> transformer.Drop:
    if not is_training or not config.dropout:
        return transformer.KEEP
    return transformer.Drop(hk.next_rng_key(), config.dropout, of_weights)


def _begin(x: Array, drop: transformer.Drop) -> Array:
    """Returns tokens, shape [batch, time, channel], with their places in time."""
    table = embedding.alternating_1d(x.shape[-1], np.arange(x.shape[1]))
    return drop(x + jnp.asarray(table, x.dtype)[jnp.newaxis])
