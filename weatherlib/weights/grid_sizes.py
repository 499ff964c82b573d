"""Sizes of models on grids from the shapes of their published arrays."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weatherlib import config
from weatherlib.weights import errors

__all__ = ["Known", "Sizes", "infer", "recognise"]

_Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known(config.Mapping):
    """What does not follow from the shapes of all models.

    Attributes:
      channels: Variables of a frame, each level counted; None where the shapes say it.
      grid: Rows and columns.
      input_length: Past frames.
      output_length: Predicted frames.
      heads: Of attention; None takes the number that is published for the model.
    """

    channels: int | None = None
    grid: tuple[int, int] = (32, 64)
    input_length: int = 12
    output_length: int = 4
    heads: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(number is not None and number < 1 for number in numbers):
                raise ValueError(f"{name} must be at least 1, found {value}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a model was made for.

    Attributes:
      fields: Of its configuration, as far as shapes and `Known` say them.
      channels: Variables of a frame, each level counted.
      grid: Rows and columns.
    """

    fields: dict[str, Any]
    channels: int
    grid: tuple[int, int]


def recognise(arrays: _Arrays) -> str | None:
    """Returns the name of the model whose arrays these seem to be, or None.

    Args:
      arrays: By published name.
    """
    for name, wanted in _MARKS.items():
        if all(any(re.fullmatch(w, source) for source in arrays) for w in wanted):
            return name
    return None


# Tried in this order: what marks a model may be found in one further down.
_MARKS: dict[str, tuple[str, ...]] = {
    "bidirectional_lstm": (r"lstm\.weight_ih_l0_reverse", r"fc\.weight"),
    "lstm": (r"lstm\.weight_ih_l0", r"fc\.weight"),
    "lstm_seq2seq": (r"encoder\.weight_ih_l0", r"decoder\.weight_ih_l0"),
    "weather_transformer": (r"patch_embedding\.weight", r"query_tokens"),
    "transformer_seq2seq": (r"query_tokens", r"transformer_decoder\..*"),
    "spatial_transformer": (r"position_embedding", r"transformer_encoder\..*"),
    "transformer": (r"transformer_encoder\..*", r"output_projection\.5\.weight"),
    "cnn": (r"encoder\.0\.weight", r"decoder\.6\.weight"),
    "deep_cnn": (r"residual_blocks\.0\.conv1\.weight",),
    "convlstm_seq2seq": (r"encoder_cells\.0\.conv\.weight", r"decoder_cell\..*"),
    "convlstm": (r"cells\.0\.conv\.weight",),
    "pixel_unet": (r"down_blocks\.0\.conv\.conv1\.weight", r"bottleneck\..*"),
}


def infer(name: str, arrays: _Arrays, known: Known) -> Sizes:
    """Returns the sizes of a model.

    Args:
      name: Of the model.
      arrays: By published name.
      known: What the shapes do not say.

    Raises:
      WrongFormatError: An array that says a size is lacking, or has no such axes.
      ValueError: Shapes and what is known do not go together.
    """
    return _INFER[name](arrays, known)


def _shape(arrays: _Arrays, name: str, axes: int) -> tuple[int, ...]:
    """Returns the shape of an array.

    Raises:
      WrongFormatError: It is lacking, or has not as many axes.
    """
    if name not in arrays:
        raise errors.WrongFormatError(
            f"{name} is lacking; there are {len(arrays)} arrays, such as "
            f"{', '.join(list(arrays)[:4])}"
        )
    shape = arrays[name].shape
    if len(shape) != axes:
        raise errors.WrongFormatError(
            f"{name} has the shape {list(shape)}, and {axes} axes were expected"
        )
    return shape


def _divided(what: str, total: int, part: int, by: str) -> int:
    """Returns how many times a part fits into a size.

    Raises:
      ValueError: It does not.
    """
    if total % part:
        raise ValueError(f"{what} counts {total}, no multiple of {part} {by}")
    return total // part


def _numbered(arrays: _Arrays, pattern: str) -> int:
    """Returns how many different numbers a pattern with one group finds in names."""
    matches = (re.match(pattern, source) for source in arrays)
    return len({match[1] for match in matches if match})


def _frames(
    known: Known, read: tuple[str, int], written: tuple[str, int]
) -> tuple[int, int]:
    """Returns channels and predicted frames of a model whose frames are channels."""
    channels = _divided(*read, known.input_length, "past frames (--frames)")
    steps = _divided(*written, channels, "variables")
    return _checked(known, channels), steps


def _checked(known: Known, channels: int) -> int:
    """Returns the number of channels.

    Raises:
      ValueError: Another one is known.
    """
    if known.channels not in (None, channels):
        raise ValueError(
            f"the arrays are those of {channels} variables, and {known.channels} are "
            "named, each level counted"
        )
    return channels


def _flat(known: Known, what: str, features: int) -> int:
    """Returns the channels of a model that flattens its frames."""
    rows, columns = known.grid
    by = f"points of a {rows}x{columns} grid (--grid)"
    return _checked(known, _divided(what, features, rows * columns, by))


def _lstm(arrays: _Arrays, known: Known) -> Sizes:
    weight = "lstm.weight_ih_l0"
    features = _shape(arrays, weight, 2)[1]
    written = _shape(arrays, "fc.weight", 2)[0]
    return Sizes(
        fields={
            "hidden_size": _shape(arrays, "lstm.weight_hh_l0", 2)[1],
            "num_layers": _numbered(arrays, r"lstm\.weight_ih_l(\d+)$"),
            "input_length": known.input_length,
            "output_length": _divided("fc.weight", written, features, "features"),
        },
        channels=_flat(known, weight, features),
        grid=known.grid,
    )


def _lstm_seq2seq(arrays: _Arrays, known: Known) -> Sizes:
    weight = "encoder.weight_ih_l0"
    return Sizes(
        fields={
            "hidden_size": _shape(arrays, "encoder.weight_hh_l0", 2)[1],
            "num_layers": _numbered(arrays, r"encoder\.weight_ih_l(\d+)$"),
            "input_length": known.input_length,
            "output_length": known.output_length,
        },
        channels=_flat(known, weight, _shape(arrays, weight, 2)[1]),
        grid=known.grid,
    )


def _attention(known: Known, width: int, field: str) -> dict[str, Any]:
    """Returns the fields of a model with attention that its shapes do not say."""
    if known.heads is None:
        return {}
    _divided("the width of tokens", width, known.heads, "heads (--num-heads)")
    return {field: known.heads}


def _transformer(arrays: _Arrays, known: Known) -> Sizes:
    weight, head = "input_projection.weight", "output_projection.5.weight"
    width, features = _shape(arrays, weight, 2)
    steps = _divided(head, _shape(arrays, head, 2)[0], features, "features")
    return Sizes(
        fields={
            "d_model": width,
            "num_layers": _numbered(arrays, r"transformer_encoder\.layers\.(\d+)\."),
            "dim_feedforward": _hidden(arrays, "transformer_encoder.layers.0"),
            "input_length": known.input_length,
            "output_length": steps,
            **_attention(known, width, "nhead"),
        },
        channels=_flat(known, weight, features),
        grid=known.grid,
    )


def _hidden(arrays: _Arrays, layer: str) -> int:
    return _shape(arrays, f"{layer}.linear1.weight", 2)[0]


def _transformer_seq2seq(arrays: _Arrays, known: Known) -> Sizes:
    weight = "input_projection.weight"
    width, features = _shape(arrays, weight, 2)
    counts = {
        f"num_{kind}_layers": _numbered(arrays, rf"transformer_{kind}\.layers\.(\d+)\.")
        for kind in ("encoder", "decoder")
    }
    return Sizes(
        fields={
            "d_model": width,
            **counts,
            "dim_feedforward": _hidden(arrays, "transformer_encoder.layers.0"),
            "input_length": known.input_length,
            "output_length": _shape(arrays, "query_tokens", 3)[1],
            **_attention(known, width, "nhead"),
        },
        channels=_flat(known, weight, features),
        grid=known.grid,
    )


def _spatial_transformer(arrays: _Arrays, known: Known) -> Sizes:
    read, written = "input_projection.weight", "output_projection.weight"
    width, inputs = _shape(arrays, read, 2)
    channels, steps = _frames(
        known, (read, inputs), (written, _shape(arrays, written, 2)[0])
    )
    places = _shape(arrays, "position_embedding", 3)[1]
    if places != math.prod(known.grid):
        raise ValueError(
            f"position_embedding has {places} places, a {known.grid[0]}x"
            f"{known.grid[1]} grid (--grid) {math.prod(known.grid)}"
        )
    return Sizes(
        fields={
            "d_model": width,
            "num_layers": _numbered(arrays, r"transformer_encoder\.layers\.(\d+)\."),
            "dim_feedforward": _hidden(arrays, "transformer_encoder.layers.0"),
            "input_length": known.input_length,
            "output_length": steps,
            **_attention(known, width, "nhead"),
        },
        channels=channels,
        grid=known.grid,
    )


def _weather_transformer(arrays: _Arrays, known: Known) -> Sizes:
    width, channels, height, breadth = _shape(arrays, "patch_embedding.weight", 4)
    rows, columns = known.grid
    places = _shape(arrays, "spatial_embedding", 4)[2]
    if -(-rows // height) * -(-columns // breadth) != places:
        raise ValueError(
            f"spatial_embedding has {places} patches of {height}x{breadth} points, "
            f"which do not cover a {rows}x{columns} grid (--grid)"
        )
    return Sizes(
        fields={
            "d_model": width,
            "n_layers": _numbered(arrays, r"encoder_layers\.(\d+)\."),
            "decoder_layers": _numbered(arrays, r"decoder\.layers\.(\d+)\."),
            "mlp_ratio": _divided(
                "encoder_layers.0.linear1.weight",
                _hidden(arrays, "encoder_layers.0"),
                width,
                "channels of a token",
            ),
            "patch_size": (height, breadth),
            "input_length": known.input_length,
            "output_length": _shape(arrays, "query_tokens", 4)[1],
            "pre_norm": "encoder_norm.weight" in arrays,
            **_attention(known, width, "n_heads"),
        },
        channels=_checked(known, channels),
        grid=known.grid,
    )


def _stacked(
    arrays: _Arrays, known: Known, read: str, written: str, **fields: Any
) -> Sizes:
    """Returns the sizes of a convolutional model whose frames are channels."""
    channels, steps = _frames(
        known,
        (read, _shape(arrays, read, 4)[1]),
        (written, _shape(arrays, written, 4)[0]),
    )
    fields |= {"input_length": known.input_length, "output_length": steps}
    return Sizes(fields=fields, channels=channels, grid=known.grid)


def _cnn(arrays: _Arrays, known: Known) -> Sizes:
    read = "encoder.0.weight"
    width = _shape(arrays, read, 4)[0]
    return _stacked(arrays, known, read, "decoder.6.weight", hidden_channels=width)


def _deep_cnn(arrays: _Arrays, known: Known) -> Sizes:
    read = "input_projection.weight"
    return _stacked(
        arrays,
        known,
        read,
        "output_projection.weight",
        hidden_channels=_shape(arrays, read, 4)[0],
        n_residual_blocks=_numbered(arrays, r"residual_blocks\.(\d+)\."),
    )


def _pixel_unet(arrays: _Arrays, known: Known) -> Sizes:
    read = "input_conv.weight"
    return _stacked(
        arrays,
        known,
        read,
        "output_conv.weight",
        base_channels=_shape(arrays, read, 4)[0],
        depth=_numbered(arrays, r"down_blocks\.(\d+)\."),
    )


def _convlstm(arrays: _Arrays, known: Known) -> Sizes:
    written = _shape(arrays, "output_conv.2.weight", 4)[0]
    sizes = _cells(arrays, known, "cells", known.output_length)
    steps = _divided("output_conv.2.weight", written, sizes.channels, "variables")
    fields = {**sizes.fields, "output_length": steps}
    return dataclasses.replace(sizes, fields=fields)


def _convlstm_seq2seq(arrays: _Arrays, known: Known) -> Sizes:
    return _cells(arrays, known, "encoder_cells", known.output_length)


def _cells(arrays: _Arrays, known: Known, prefix: str, steps: int) -> Sizes:
    """Returns the sizes that the cells of a ConvLSTM say."""
    gates, inputs, kernel, _ = _shape(arrays, f"{prefix}.0.conv.weight", 4)
    width = gates // 4
    return Sizes(
        fields={
            "hidden_channels": width,
            "num_layers": _numbered(arrays, rf"{prefix}\.(\d+)\."),
            "kernel_size": kernel,
            "input_length": known.input_length,
            "output_length": steps,
        },
        channels=_checked(known, inputs - width),
        grid=known.grid,
    )


_INFER: dict[str, Callable[[_Arrays, Known], Sizes]] = {
    "lstm": _lstm,
    "bidirectional_lstm": _lstm,
    "lstm_seq2seq": _lstm_seq2seq,
    "transformer": _transformer,
    "transformer_seq2seq": _transformer_seq2seq,
    "spatial_transformer": _spatial_transformer,
    "cnn": _cnn,
    "deep_cnn": _deep_cnn,
    "convlstm": _convlstm,
    "convlstm_seq2seq": _convlstm_seq2seq,
    "weather_transformer": _weather_transformer,
    "pixel_unet": _pixel_unet,
}
