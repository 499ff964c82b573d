"""Networks of convolutional LSTM cells: one pass to all frames, and frame by frame."""

from __future__ import annotations

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.baselines.convlstm_config import (
    ConvLSTMConfig,
    ConvLSTMSeq2SeqConfig,
    RecurrentConfig,
)
from weatherlib.baselines.fields import Fields, frames_of
from weatherlib.nn import convlstm, convolutions, patching
from weatherlib.nn.edges import Edges, check_reach, surround

__all__ = ["ConvLSTMNetwork", "ConvLSTMSeq2SeqNetwork"]


class ConvLSTMNetwork(hk.Module):
    """Reads frames one after the other, then predicts all frames at once.

    Layers of cells end in a state; a convolution, ReLU and a linear layer turn the
    hidden state of the last layer into the frames. Static fields are channels of every
    frame that is read; what is known of the times to predict joins the hidden state.
    """

    def __init__(
        self, config: ConvLSTMConfig, *, remat: bool = False, name: str = "convlstm"
    ) -> None:
        """Takes the sizes.

        Args:
          config: Sizes.
          remat: Whether the backward pass computes the convolutions again.
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
        carry: bool = False,
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the frames after those of `fields`.

        Args:
          fields: What is seen.
          edges: How fields go on beyond their edges.
          output_size: Channels of a predicted frame.
          is_training: Whether dropout is on; it needs a Haiku key.
          carry: Whether to go on from the state that the last call of the program left
            as Haiku state, and leave the new one there; see `baselines.streaming`. Any
            number of frames may be read then.

        Raises:
          ValueError: The number of frames, or the size of the grid, does not fit.
        """
        config = self._config
        grid = _Grid.of(fields, edges, config, carry)
        drop = config.dropout if is_training else 0.0
        reading = _Reading("layer", drop, carry, self._remat)
        state = _read(fields, grid, config, reading)
        x = _dropped(state.hidden, drop)
        if fields.known.shape[-1]:
            embed = hk.Linear(x.shape[-1], name="known_embed")
            known = grid.embedded(_merged(fields.known), embed)
            x = jnp.concatenate([x, known], axis=-1)
        check_reach(x.shape[1], x.shape[2], 1, grid.edges)
        x = surround(x, 1, grid.edges)
        x = convolutions.Conv2D(max(config.widths[-1] // 2, 1), 3, name="head")(x)
        output = grid.output(config.output_length * output_size)
        return frames_of(grid.projected(jax.nn.relu(x), output), config.output_length)


class ConvLSTMSeq2SeqNetwork(hk.Module):
    """Reads frames one after the other, then predicts one after the other.

    One more cell starts from the last layer's state and reads first the last frame,
    then each prediction, side by side with what is known of the time to predict and
    the static fields. A linear layer turns its hidden state into the frame. Where
    changes from the last frame are predicted, it reads changes, the first being none.

    Attributes:
      takes_targets: Tells that training may hand over true frames.
    """

    takes_targets = True

    def __init__(
        self,
        config: ConvLSTMSeq2SeqConfig,
        *,
        remat: bool = False,
        name: str = "convlstm_seq2seq",
    ) -> None:
        """Takes the sizes.

        Args:
          config: Sizes.
          remat: Whether the backward pass computes the convolutions again.
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
        targets: Float[Array, "batch step lat lon output"] | None = None,
        teacher_forcing_ratio: float | Float[Array, ""] = 0.0,
        carry: bool = False,
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the frames after those of `fields`.

        Args:
          fields: What is seen.
          edges: How fields go on beyond their edges.
          output_size: Channels of a predicted frame.
          is_training: Whether dropout and teacher forcing are on.
          targets: True frames as the network would return them. Used in training only.
          teacher_forcing_ratio: How likely a true frame takes the place of the
            prediction that the next step reads, drawn for each step and batch member
            from the Haiku key stream. With 0 and 1 nothing depends on the key, and as
            plain numbers they need none.
          carry: As for `ConvLSTMNetwork`; the layers' state goes on, predictions start
            from the last frame.

        Raises:
          ValueError: The number of frames, the size of the grid or the form of the
            targets does not fit, or the ratio is no probability or lacks targets.
        """
        config = self._config
        grid = _Grid.of(fields, edges, config, carry)
        drop = config.dropout if is_training else 0.0
        reading = _Reading("encoder", drop, carry, self._remat)
        state = _read(fields, grid, config, reading)
        truth = None
        if is_training:
            truth = _truth(fields, output_size, config, targets, teacher_forcing_ratio)
        first = fields.frames[:, -1, ..., :output_size]
        if config.predicts == "change":
            first = jnp.zeros_like(first)
        decoder = _cell(config, -1, "decoder")
        embed = hk.Linear(config.widths[0], name="decoder_embed")
        output = grid.output(output_size)

        def step(
            carried: tuple[convlstm.State, Array], given: tuple[Array, _Truth | None]
        ) -> tuple[tuple[convlstm.State, Array], Array]:
            (state, seen), (known, truth) = carried, given
            x = jnp.concatenate([seen, known, fields.static], axis=-1)
            state = decoder(grid.embedded(x, embed), state, grid.edges)
            x = _dropped(state.hidden, drop)
            frame = grid.projected(x, output)
            seen = frame if truth is None else jnp.where(*truth, frame)
            return (state, seen), frame

        step = convlstm.remembering(step, remat=self._remat)
        known = jnp.moveaxis(fields.known, 1, 0)
        _, frames = hk.scan(step, (state, first), (known, truth))
        return jnp.moveaxis(frames, 0, 1)


class _Reading(NamedTuple):
    """How layers of cells read frames."""

    name: str
    drop: float
    carry: bool
    remat: bool


class _Truth(NamedTuple):
    """Where true frames are read, and these; both lead by step and batch."""

    replaced: Array
    frames: Array


class _Grid(NamedTuple):
    """The points of the recurrent layers, which are patches of the field's."""

    patch: tuple[int, int]
    sizes: tuple[int, int]
    edges: Edges

    @classmethod
    def of(
        cls, fields: Fields, edges: Edges, config: RecurrentConfig, carry: bool
    ) -> _Grid:
        """Returns the grid, after checking that the fields have the right sizes."""
        count, steps = fields.frames.shape[1], fields.known.shape[1]
        if count != config.input_length and not (carry and count):
            raise ValueError(
                f"found {count} frame(s), and the network reads {config.input_length}; "
                "give as many or set input_length"
            )
        if steps != config.output_length:
            raise ValueError(
                f"found what is known at {steps} time(s), and the network predicts "
                f"{config.output_length}; give as many or set output_length"
            )
        rows, columns = fields.frames.shape[2:4]
        sizes = (rows, columns)
        coarse = patching.patch_edges(edges, config.patch, sizes)
        return cls(config.patch, sizes, coarse)

    def embedded(self, x: Array, linear: hk.Linear) -> Array:
        """Returns fields at the points, where these are patches through a layer."""
        if self.patch == (1, 1):
            return x
        return linear(patching.to_patches(x, self.patch))

    def output(self, size: int) -> hk.Linear:
        """Returns the layer that gives `size` channels for each cell of a patch."""
        return hk.Linear(self.patch[0] * self.patch[1] * size, name="output")

    def projected(self, x: Array, linear: hk.Linear) -> Array:
        """Returns the fields that a layer makes of the points."""
        return patching.from_patches(linear(x), self.patch, self.sizes)


def _cell(config: RecurrentConfig, layer: int, name: str) -> convlstm.Cell:
    return convlstm.Cell(
        config.widths[layer],
        config.kernel_size,
        dilation=config.spacings[layer],
        normalize=config.normalization == "layer",
        peepholes=config.peepholes,
        forget_bias=config.forget_bias,
        name=name,
    )


def _read(
    fields: Fields, grid: _Grid, config: RecurrentConfig, reading: _Reading
) -> convlstm.State:
    """Returns the state of the last layer after all frames."""
    cells = [_cell(config, i, f"{reading.name}_{i}") for i in range(config.num_layers)]
    shape = (*fields.frames.shape[:-1], fields.static.shape[-1])
    static = jnp.broadcast_to(fields.static[:, jnp.newaxis], shape)
    x = jnp.concatenate([fields.frames, static], axis=-1)
    x = grid.embedded(x, hk.Linear(config.widths[0], name="embed"))
    begin = [cell.recall if reading.carry else cell.start for cell in cells]
    states = convlstm.run(
        cells,
        x,
        [state(x[:, 0]) for state in begin],
        grid.edges,
        between=lambda x: _dropped(x, reading.drop),
        remat=reading.remat,
    )
    if reading.carry:
        for cell, state in zip(cells, states, strict=True):
            cell.keep(state)
    return states[-1]


def _truth(
    fields: Fields,
    output_size: int,
    config: RecurrentConfig,
    targets: Array | None,
    ratio: float | Array,
) -> _Truth | None:
    """Returns what of the truth is read, None for nothing."""
    known = isinstance(ratio, int | float)
    if known and not 0 <= ratio <= 1:
        raise ValueError(f"teacher_forcing_ratio must be in [0, 1], found {ratio}")
    if known and not ratio:
        return None
    if targets is None:
        raise ValueError("teacher_forcing_ratio needs targets, found none")
    batch, _, *sizes, _ = fields.frames.shape
    shape = (batch, config.output_length, *sizes, output_size)
    if targets.shape != shape:
        raise ValueError(
            f"targets have the shape {targets.shape}, the predictions {shape}"
        )
    draws = (config.output_length, batch, 1, 1, 1)
    if known and ratio == 1:
        replaced = jnp.ones(draws, bool)
    else:
        bound = jnp.asarray(ratio, jnp.float32)
        replaced = jax.random.uniform(hk.next_rng_key(), draws) < bound
    return _Truth(replaced, jnp.moveaxis(targets, 1, 0).astype(fields.frames.dtype))


def _merged(frames: Array) -> Array:
    """Returns frames side by side as channels, the earliest first."""
    moved = jnp.moveaxis(frames, 1, 3)
    return moved.reshape(*moved.shape[:3], -1)


def _dropped(x: Array, rate: float) -> Array:
    return hk.dropout(hk.next_rng_key(), rate, x) if rate else x
