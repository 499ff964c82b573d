"""Names that PyTorch modules give the parameters of the models on grids, and ours.

For each model a function lists the rules of its name map. Ours are laid out channels
last, so that every rule is a renaming and a transposition.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weatherlib.weights import field_rules, sequence_rules
from weatherlib.weights.name_map import Rule

__all__ = ["RULES", "sizes_of"]

_Grid = tuple[int, int]
_Params = Mapping[str, Mapping[str, Any]]

RULES: dict[str, Callable[[Any, int, _Grid], list[Rule]]] = {
    "lstm": functools.partial(sequence_rules.lstm, "lstm", ("",)),
    "bidirectional_lstm": functools.partial(
        sequence_rules.lstm, "bidirectional_lstm", ("", "_reverse")
    ),
    "lstm_seq2seq": sequence_rules.lstm_seq2seq,
    "transformer": sequence_rules.transformer,
    "transformer_seq2seq": sequence_rules.transformer_seq2seq,
    "spatial_transformer": sequence_rules.spatial_transformer,
    "weather_transformer": sequence_rules.weather_transformer,
    "cnn": field_rules.cnn,
    "deep_cnn": field_rules.deep_cnn,
    "pixel_unet": field_rules.pixel_unet,
    "convlstm": field_rules.convlstm,
    "convlstm_seq2seq": field_rules.convlstm_seq2seq,
}
"""From the name of a model to what makes its rules from configuration, channels of a
frame and grid."""


def sizes_of(config: Any, params: _Params) -> tuple[int, _Grid]:
    """Returns the channels of a frame and a grid that parameters belong to.

    Only as far as shapes of parameters depend on them: a model that flattens its frames
    has one channel of many points here, and a grid counts as one row.

    Args:
      config: The architecture.
      params: Haiku module path to parameter name to array.

    Raises:
      ValueError: Parameters that say it are lacking.
    """
    module = next(iter(params)).split("/")[0]
    return _SIZES[module](config, params)


def _array(params: _Params, place: str) -> np.ndarray:
    module, _, name = place.rpartition("/")
    try:
        return np.asarray(params[module][name])
    except KeyError as error:
        raise ValueError(f"the parameters lack {place}") from error


def _output_channels(place: str, config: Any, params: _Params) -> tuple[int, _Grid]:
    """Returns the sizes that a last layer of all frames says."""
    return _array(params, place).shape[-1] // config.output_length, (1, 1)


def _frame_channels(place: str, config: Any, params: _Params) -> tuple[int, _Grid]:
    """Returns the sizes that a last layer of one frame says."""
    del config
    return _array(params, place).shape[-1], (1, 1)


def _places(module: str, config: Any, params: _Params) -> tuple[int, _Grid]:
    """Returns the sizes of a model with a token for each place."""
    channels, _ = _output_channels(f"{module}/head/b", config, params)
    return channels, (1, _array(params, f"{module}/position_embedding").shape[0])


def _halved(place: str, config: Any, params: _Params) -> tuple[int, _Grid]:
    """Returns the sizes of a model that halves its grid."""
    channels, _ = _output_channels(place, config, params)
    return channels, (2**config.depth, 2**config.depth)


def _patched(config: Any, params: _Params) -> tuple[int, _Grid]:
    """Returns the sizes of a model with a token for each patch."""
    height, breadth = config.patch_size
    places = _array(params, "weather_transformer/spatial_embedding").shape[0]
    values = _array(params, "weather_transformer/head/b").shape[0]
    return values // (height * breadth), (height, places * breadth)


_SIZES: dict[str, Callable[[Any, _Params], tuple[int, _Grid]]] = {
    "lstm": functools.partial(_output_channels, "lstm/head/b"),
    "bidirectional_lstm": functools.partial(
        _output_channels, "bidirectional_lstm/head/b"
    ),
    "lstm_seq2seq": functools.partial(_frame_channels, "lstm_seq2seq/head/b"),
    "transformer": functools.partial(_output_channels, "transformer/head/b"),
    "transformer_seq2seq": functools.partial(
        _frame_channels, "transformer_seq2seq/head/b"
    ),
    "spatial_transformer": functools.partial(_places, "spatial_transformer"),
    "weather_transformer": _patched,
    "cnn": functools.partial(_output_channels, "cnn/decoder_2/b"),
    "deep_cnn": functools.partial(_output_channels, "deep_cnn/output/b"),
    "pixel_unet": functools.partial(_halved, "pixel_unet/unet/output/b"),
    "convlstm": functools.partial(_output_channels, "convlstm/output/b"),
    "convlstm_seq2seq": functools.partial(_frame_channels, "convlstm_seq2seq/output/b"),
}
