"""Names of the parameters of LSTMs and transformers in PyTorch, and ours.

Each function takes the configuration, the channels of a frame and the grid.
"""

from __future__ import annotations

from typing import Any

from weatherlib.weights import grid_layers
from weatherlib.weights.name_map import Rule, Transform, reshape

__all__ = [
    "lstm",
    "lstm_seq2seq",
    "spatial_transformer",
    "transformer",
    "transformer_seq2seq",
    "weather_transformer",
]

_Grid = tuple[int, int]


def lstm(
    module: str, endings: tuple[str, ...], config: Any, channels: int, grid: _Grid
) -> list[Rule]:
    """Returns the rules of `LSTM` and `BidirectionalLSTM`."""
    features = channels * grid[0] * grid[1]
    width = config.hidden_size * len(endings)
    return [
        *grid_layers.lstm_layers(
            "lstm", f"{module}/recurrent", features, config, endings
        ),
        *grid_layers.linear(
            "fc", f"{module}/head", width, config.output_length * features
        ),
    ]


def lstm_seq2seq(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `LSTMSeq2Seq`."""
    module, features = "lstm_seq2seq", channels * grid[0] * grid[1]
    return [
        *grid_layers.lstm_layers(
            "encoder", f"{module}/encoder", features, config, ("",)
        ),
        *grid_layers.lstm_layers(
            "decoder", f"{module}/decoder", features, config, ("",)
        ),
        *grid_layers.linear("fc", f"{module}/head", config.hidden_size, features),
    ]


_SELF = {"self_attn": "self_attn"}
_CROSS = {"self_attn": "self_attn", "multihead_attn": "cross_attn"}
# Of those that normalise before attention, which was not published.
_LAST_NORMS = {"encoder_norm": "encoder_norm", "decoder.norm": "decoder_norm"}
_SPACE_TIME = {"spatial_attn": "spatial_attn", "temporal_attn": "temporal_attn"}


def transformer(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `TransformerModel`."""
    module, width = "transformer", config.d_model
    features, sizes = channels * grid[0] * grid[1], (width, config.hidden)
    outputs = config.output_length * features
    head = "output_projection"
    return [
        *grid_layers.linear(
            "input_projection", f"{module}/input_projection", features, width
        ),
        *grid_layers.layers(
            "transformer_encoder.layers",
            f"{module}/encoder",
            config.num_layers,
            sizes,
            _SELF,
        ),
        *grid_layers.norm(f"{head}.0", f"{module}/head_norm", width),
        *grid_layers.linear(f"{head}.2", f"{module}/head_hidden", width, width // 2),
        *grid_layers.linear(f"{head}.5", f"{module}/head", width // 2, outputs),
    ]


def transformer_seq2seq(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `TransformerSeq2Seq`."""
    module, width = "transformer_seq2seq", config.d_model
    features, sizes = channels * grid[0] * grid[1], (width, config.hidden)
    queries = (config.output_length, width)
    return [
        *grid_layers.linear(
            "input_projection", f"{module}/input_projection", features, width
        ),
        grid_layers.rule(
            "query_tokens", (1, *queries), f"{module}/query_tokens", reshape(*queries)
        ),
        *grid_layers.layers(
            "transformer_encoder.layers",
            f"{module}/encoder",
            config.num_encoder_layers,
            sizes,
            _SELF,
        ),
        *grid_layers.layers(
            "transformer_decoder.layers",
            f"{module}/decoder",
            config.num_decoder_layers,
            sizes,
            _CROSS,
        ),
        *grid_layers.linear("output_projection", f"{module}/head", width, features),
    ]


def spatial_transformer(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `SpatialTransformer`."""
    module, width = "spatial_transformer", config.d_model
    places = (grid[0] * grid[1], width)
    inputs, outputs = (
        length * channels for length in (config.input_length, config.output_length)
    )
    return [
        *grid_layers.linear(
            "input_projection", f"{module}/input_projection", inputs, width
        ),
        grid_layers.rule(
            "position_embedding",
            (1, *places),
            f"{module}/position_embedding",
            reshape(*places),
        ),
        *grid_layers.layers(
            "transformer_encoder.layers",
            f"{module}/encoder",
            config.num_layers,
            (width, config.hidden),
            _SELF,
        ),
        *grid_layers.linear("output_projection", f"{module}/head", width, outputs),
    ]


def weather_transformer(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `WeatherTransformer`."""
    module, width = "weather_transformer", config.d_model
    height, breadth = config.patch_size
    cells = height * breadth * channels
    places = -(-grid[0] // height) * -(-grid[1] // breadth)
    queries, sizes = (
        (config.output_length, places, width),
        (
            width,
            config.mlp_ratio * width,
        ),
    )
    return [
        grid_layers.rule(
            "patch_embedding.weight",
            (width, channels, height, breadth),
            f"{module}/patch_embedding/w",
            _patches(channels, height, breadth),
        ),
        grid_layers.rule(
            "patch_embedding.bias", (width,), f"{module}/patch_embedding/b"
        ),
        grid_layers.rule(
            "spatial_embedding",
            (1, 1, places, width),
            f"{module}/spatial_embedding",
            reshape(places, width),
        ),
        grid_layers.rule(
            "query_tokens", (1, *queries), f"{module}/query_tokens", reshape(*queries)
        ),
        *grid_layers.layers(
            "encoder_layers",
            f"{module}/encoder",
            config.n_layers,
            sizes,
            _SPACE_TIME,
        ),
        *grid_layers.layers(
            "decoder.layers",
            f"{module}/decoder",
            config.decoder_layers,
            sizes,
            _CROSS,
        ),
        *(
            rule
            for source, target in _LAST_NORMS.items()
            if config.pre_norm
            for rule in grid_layers.norm(source, f"{module}/{target}", width)
        ),
        *grid_layers.linear("output_projection", f"{module}/head", width, cells),
    ]


def _patches(channels: int, height: int, breadth: int) -> Transform:
    """Returns the transform of a convolution of patches, which is a matrix here."""
    return Transform(
        "patches",
        lambda array: array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0]),
        lambda array, _: array.reshape(
            height, breadth, channels, array.shape[-1]
        ).transpose(3, 2, 0, 1),
    )
