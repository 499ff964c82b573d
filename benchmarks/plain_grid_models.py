"""The models on grids in plain PyTorch, for comparison only.

    python -m benchmarks.plain_grid_models    (prints the parameter counts)

Imported where torch is installed, by `benchmarks/grid_models.py` and
`scripts/make_grid_model_goldens.py`. Every network is written with the layers that
PyTorch has for it, and called with the past frames, shape [batch, time, channel, lat,
lon]; it returns the frames that follow. Grids have to fit: nothing is padded here.

The names of parameters of the original modules were never published. These are the
usual ones: `lstm` and `fc`; `encoder` and `decoder` where there are two;
`input_projection`, `transformer_encoder` with the names that `nn.TransformerEncoder`
gives, `output_projection`; `encoder.0` and on where layers stand in a row;
`residual_blocks.0.bn1`, `cells.0.conv`, `down_blocks.0.conv.conv1`.
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks import plain_field_models, plain_sequence_models
from benchmarks.plain_task import Task

__all__ = ["COUNTS", "MODELS", "Task", "count", "make"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lstm": plain_sequence_models.Lstm,
    "bidirectional_lstm": functools.partial(
        plain_sequence_models.Lstm, bidirectional=True
    ),
    "lstm_seq2seq": plain_sequence_models.LstmSeq2Seq,
    "transformer": plain_sequence_models.Transformer,
    "transformer_seq2seq": plain_sequence_models.TransformerSeq2Seq,
    "spatial_transformer": plain_sequence_models.SpatialTransformer,
    "cnn": plain_field_models.Cnn,
    "deep_cnn": plain_field_models.DeepCnn,
    "convlstm": plain_field_models.ConvLstm,
    "convlstm_seq2seq": plain_field_models.ConvLstmSeq2Seq,
    "weather_transformer": plain_sequence_models.WeatherTransformer,
    "pixel_unet": plain_field_models.PixelUnet,
}

COUNTS = {
    "lstm": 2_304_000,
    "bidirectional_lstm": 4_730_880,
    "transformer": 1_398_080,
    "cnn": 1_125_636,
    "convlstm": 463_780,
    "weather_transformer": 1_636_768,
    "pixel_unet": 31_085_828,
}
"""Published numbers of parameters, at one channel and the sizes of `Task`."""


def make(name: str, task: Task, **sizes: Any) -> nn.Module:
    """Returns a network in evaluation mode; `sizes` are its own arguments."""
    return MODELS[name](task, **sizes).eval()


def count(network: nn.Module) -> int:
    """Returns the number of parameters; running statistics are none."""
    return sum(parameter.numel() for parameter in network.parameters())


def _print_counts() -> None:
    for name in MODELS:
        found, wanted = count(make(name, Task())), COUNTS.get(name)
        verdict = "" if wanted is None else "as published"
        if wanted not in (None, found):
            verdict = f"but published are {wanted:,}"
        print(f"{name:<20}{found:>12,}  {verdict}")


if __name__ == "__main__":
    _print_counts()
