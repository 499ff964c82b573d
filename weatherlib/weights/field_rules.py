"""Names of the parameters of convolutional models in PyTorch, and ours.

Each function takes the configuration, the channels of a frame and the grid, on which
nothing depends here.
"""

from __future__ import annotations

import itertools
from typing import Any

from weatherlib.weights import grid_layers
from weatherlib.weights.name_map import Rule

__all__ = ["cnn", "convlstm", "convlstm_seq2seq", "deep_cnn", "pixel_unet"]

_Grid = tuple[int, int]


def _cells(source: str, target: str, config: Any, channels: int) -> list[Rule]:
    """Returns the rules of layers of ConvLSTM cells."""
    rules, inputs = [], channels
    for i, width in enumerate(config.widths):
        rules += grid_layers.convolution(
            f"{source}.{i}.conv",
            f"{target}_{i}",
            inputs + width,
            4 * width,
            config.kernel_size,
        )
        inputs = width
    return rules


def convlstm(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `ConvLSTM`."""
    del grid
    width = config.widths[-1]
    half, outputs = max(width // 2, 1), config.output_length * channels
    return [
        *_cells("cells", "convlstm/layer", config, channels),
        *grid_layers.convolution("output_conv.0", "convlstm/head", width, half, 3),
        *grid_layers.point_layer("output_conv.2", "convlstm/output", half, outputs),
    ]


def convlstm_seq2seq(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `ConvLSTMSeq2Seq`."""
    del grid
    width = config.widths[-1]
    return [
        *_cells("encoder_cells", "convlstm_seq2seq/encoder", config, channels),
        *grid_layers.convolution(
            "decoder_cell.conv",
            "convlstm_seq2seq/decoder",
            channels + width,
            4 * width,
            config.kernel_size,
        ),
        *grid_layers.point_layer(
            "output_conv", "convlstm_seq2seq/output", width, channels
        ),
    ]


def cnn(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `CNN`."""
    del grid
    width, rules = config.hidden_channels, []
    sizes = (config.input_length * channels, width, 2 * width, 2 * width, 4 * width)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        source, target = f"encoder.{3 * i}", f"cnn/encoder_{i}"
        rules += grid_layers.convolution(source, target, inputs, outputs, 3)
        norm = f"encoder.{3 * i + 1}"
        rules += grid_layers.batch_norm(norm, f"{target}_norm", outputs)
    outputs = config.output_length * channels
    return [
        *rules,
        *grid_layers.transposed_convolution(
            "decoder.0", "cnn/decoder_0", 4 * width, 2 * width, 4
        ),
        *grid_layers.batch_norm("decoder.1", "cnn/decoder_0_norm", 2 * width),
        *grid_layers.convolution("decoder.3", "cnn/decoder_1", 2 * width, width, 3),
        *grid_layers.batch_norm("decoder.4", "cnn/decoder_1_norm", width),
        *grid_layers.convolution("decoder.6", "cnn/decoder_2", width, outputs, 3),
    ]


def deep_cnn(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `DeepCNN`."""
    del grid
    width, rules = config.hidden_channels, []
    inputs, outputs = (
        length * channels for length in (config.input_length, config.output_length)
    )
    for i in range(config.n_residual_blocks):
        for j in range(2):
            source, target = f"residual_blocks.{i}", f"deep_cnn/block_{i}"
            rules += grid_layers.convolution(
                f"{source}.conv{j + 1}", f"{target}/conv_{j}", width, width, 3
            )
            rules += grid_layers.batch_norm(
                f"{source}.bn{j + 1}", f"{target}/norm_{j}", width
            )
    return [
        *grid_layers.convolution(
            "input_projection", "deep_cnn/input", inputs, width, 3
        ),
        *rules,
        *grid_layers.convolution(
            "output_projection", "deep_cnn/output", width, outputs, 3
        ),
    ]


def pixel_unet(config: Any, channels: int, grid: _Grid) -> list[Rule]:
    """Returns the rules of `PixelUNet`."""
    del grid
    module, depth, rules = "pixel_unet/unet", config.depth, []
    widths = [config.base_channels * 2**level for level in range(depth + 1)]

    def block(source: str, name: str, inputs: int, outputs: int) -> None:
        for i in range(2):
            target = f"{module}/{name}"
            rules.extend(
                grid_layers.convolution(
                    f"{source}.conv{i + 1}",
                    f"{target}/conv_{i}",
                    outputs if i else inputs,
                    outputs,
                    3,
                )
            )
            rules.extend(
                grid_layers.norm(f"{source}.norm{i + 1}", f"{target}/norm_{i}", outputs)
            )

    for level in range(depth):
        inputs = widths[max(level - 1, 0)]
        block(f"down_blocks.{level}.conv", f"down_{level}", inputs, widths[level])
    block("bottleneck", "bottleneck", widths[depth - 1], widths[depth])
    for i, level in enumerate(reversed(range(depth))):
        source, fine = f"up_blocks.{i}", widths[level]
        rules += grid_layers.transposed_convolution(
            f"{source}.up", f"{module}/up_{i}_finer", 2 * fine, fine, 2
        )
        block(f"{source}.conv", f"up_{i}", 2 * fine, fine)
    inputs, outputs = (
        length * channels for length in (config.input_length, config.output_length)
    )
    return [
        *grid_layers.convolution("input_conv", f"{module}/input", inputs, widths[0], 3),
        *rules,
        *grid_layers.convolution(
            "output_conv", f"{module}/output", widths[0], outputs, 1
        ),
    ]
