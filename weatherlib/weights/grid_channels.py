"""Where the variables of a task lie in the published arrays of models on grids.

A channel of a frame is met where arrays touch the fields: in the first layers and the
last ones. Files have their channels in the order of the program that trained them; our
models have variables in the order of their names. `reorder` goes from one to the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["channel_axes", "reorder"]

# Pattern of published names, axis, and what the axis counts beside channels: "frame",
# or "cell" of a patch, before them; "point" of the grid after them; "rest" for hidden
# channels that follow.
_Place = tuple[str, int, str]

_PLACES: dict[str, tuple[_Place, ...]] = {
    "lstm": (
        (r"lstm\.weight_ih_l0(_reverse)?", 1, "point"),
        (r"fc\.(weight|bias)", 0, "frame point"),
    ),
    "lstm_seq2seq": (
        (r"(encoder|decoder)\.weight_ih_l0", 1, "point"),
        (r"fc\.(weight|bias)", 0, "point"),
    ),
    "transformer": (
        (r"input_projection\.weight", 1, "point"),
        (r"output_projection\.5\.(weight|bias)", 0, "frame point"),
    ),
    "transformer_seq2seq": (
        (r"input_projection\.weight", 1, "point"),
        (r"output_projection\.(weight|bias)", 0, "point"),
    ),
    "spatial_transformer": (
        (r"input_projection\.weight", 1, "frame"),
        (r"output_projection\.(weight|bias)", 0, "frame"),
    ),
    "cnn": (
        (r"encoder\.0\.weight", 1, "frame"),
        (r"decoder\.6\.(weight|bias)", 0, "frame"),
    ),
    "deep_cnn": (
        (r"input_projection\.weight", 1, "frame"),
        (r"output_projection\.(weight|bias)", 0, "frame"),
    ),
    "convlstm": (
        (r"cells\.0\.conv\.weight", 1, "rest"),
        (r"output_conv\.2\.(weight|bias)", 0, "frame"),
    ),
    "convlstm_seq2seq": (
        (r"(encoder_cells\.0|decoder_cell)\.conv\.weight", 1, "rest"),
        (r"output_conv\.(weight|bias)", 0, ""),
    ),
    "weather_transformer": (
        (r"patch_embedding\.weight", 1, ""),
        (r"output_projection\.(weight|bias)", 0, "cell"),
    ),
    "pixel_unet": (
        (r"input_conv\.weight", 1, "frame"),
        (r"output_conv\.(weight|bias)", 0, "frame"),
    ),
}
_PLACES["bidirectional_lstm"] = _PLACES["lstm"]


def channel_axes(name: str, source: str) -> tuple[int, str] | None:
    """Returns the axis of a published array that counts channels, and what else.

    Args:
      name: Of the model.
      source: Of the array.
    """
    for pattern, axis, beside in _PLACES[name]:
        if re.fullmatch(pattern, source):
            return axis, beside
    return None


def reorder(
    name: str, arrays: Mapping[str, np.ndarray], order: Sequence[int], points: int
) -> dict[str, np.ndarray]:
    """Returns published arrays of the same model with its channels in another order.

    Args:
      name: Of the model.
      arrays: By published name.
      order: Which channel comes at each place.
      points: Of the grid.
    """
    found = {}
    for source, array in arrays.items():
        place = channel_axes(name, source)
        if place is not None:
            axis, beside = place
            index = _index(array.shape[axis], order, beside, points)
            array = np.take(array, index, axis)
        found[source] = array
    return found


def _index(length: int, order: Sequence[int], beside: str, points: int) -> np.ndarray:
    """Returns where on an axis each of its new entries comes from."""
    every = np.arange(length)
    if beside == "rest":
        return np.concatenate([np.asarray(order), every[len(order) :]])
    after = points if "point" in beside else 1
    return every.reshape(-1, len(order), after)[:, list(order)].ravel()
