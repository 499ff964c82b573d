"""Rules of the layers that models of PyTorch are built of.

Ours are laid out channels last, so that each rule is a renaming and a transposition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from weatherlib.weights import name_map

__all__ = [
    "attention",
    "batch_norm",
    "convolution",
    "layer",
    "layers",
    "linear",
    "lstm_layers",
    "norm",
    "point_layer",
    "rule",
    "transposed_convolution",
]


def rule(
    source: str,
    shape: tuple[int, ...],
    target: str,
    transform: name_map.Transform = name_map.IDENTITY,
) -> name_map.Rule:
    """Returns the rule of an array that is a whole parameter, `module/name`."""
    module, _, name = target.rpartition("/")
    return name_map.Rule(
        source=source,
        source_shape=shape,
        module=module,
        name=name,
        transform=transform,
    )


def convolution(
    source: str, target: str, inputs: int, outputs: int, kernel: int
) -> list[name_map.Rule]:
    """Returns the rules of a `torch.nn.Conv2d`."""
    shape = (outputs, inputs, kernel, kernel)
    return [
        rule(f"{source}.weight", shape, f"{target}/w", name_map.convolution(2)),
        rule(f"{source}.bias", (outputs,), f"{target}/b"),
    ]


def point_layer(
    source: str, target: str, inputs: int, outputs: int
) -> list[name_map.Rule]:
    """Returns the rules of a convolution of single points, a matrix here."""
    matrix = name_map.Transform(
        "matrix",
        lambda array: array[:, :, 0, 0].T,
        lambda array, _: array.T[:, :, np.newaxis, np.newaxis],
    )
    return [
        rule(f"{source}.weight", (outputs, inputs, 1, 1), f"{target}/w", matrix),
        rule(f"{source}.bias", (outputs,), f"{target}/b"),
    ]


def linear(source: str, target: str, inputs: int, outputs: int) -> list[name_map.Rule]:
    """Returns the rules of a `torch.nn.Linear`."""
    return [
        rule(f"{source}.weight", (outputs, inputs), f"{target}/w", name_map.TRANSPOSE),
        rule(f"{source}.bias", (outputs,), f"{target}/b"),
    ]


def lstm_layers(
    source: str, target: str, inputs: int, config: Any, endings: tuple[str, ...]
) -> list[name_map.Rule]:
    """Returns the rules of a `torch.nn.LSTM`."""
    hidden, rules = config.hidden_size, []
    for layer in range(config.num_layers):
        for ending in endings:
            place, ours = f"_l{layer}{ending}", f"{target}/layer_{layer}{ending}"
            rules += [
                rule(
                    f"{source}.weight_{kind}{place}",
                    (4 * hidden, size),
                    f"{ours}/w_{name}",
                    name_map.TRANSPOSE,
                )
                for kind, name, size in (
                    ("ih", "input", inputs),
                    ("hh", "hidden", hidden),
                )
            ]
            rules += [
                rule(f"{source}.bias_{kind}{place}", (4 * hidden,), f"{ours}/b_{name}")
                for kind, name in (("ih", "input"), ("hh", "hidden"))
            ]
        inputs = hidden * len(endings)
    return rules


def norm(source: str, target: str, width: int) -> list[name_map.Rule]:
    """Returns the rules of a norm's scale and offset."""
    return [
        rule(f"{source}.weight", (width,), f"{target}/scale"),
        rule(f"{source}.bias", (width,), f"{target}/offset"),
    ]


def attention(source: str, target: str, width: int) -> list[name_map.Rule]:
    """Returns the rules of a `torch.nn.MultiheadAttention`."""
    shape, joint = (3 * width, width), f"{target}/qkv"
    return [
        rule(f"{source}.in_proj_weight", shape, f"{joint}/w", name_map.TRANSPOSE),
        rule(f"{source}.in_proj_bias", (3 * width,), f"{joint}/b"),
        *linear(f"{source}.out_proj", f"{target}/proj", width, width),
    ]


def layer(
    source: str, target: str, width: int, hidden: int, attentions: Mapping[str, str]
) -> list[name_map.Rule]:
    """Returns the rules of a layer of a transformer, whose attentions have names."""
    rules = []
    for theirs, ours in attentions.items():
        rules += attention(f"{source}.{theirs}", f"{target}/{ours}", width)
    rules += linear(f"{source}.linear1", f"{target}/linear1", width, hidden)
    rules += linear(f"{source}.linear2", f"{target}/linear2", hidden, width)
    for i in range(len(attentions) + 1):
        rules += norm(f"{source}.norm{i + 1}", f"{target}/norm{i + 1}", width)
    return rules


def layers(
    source: str,
    target: str,
    count: int,
    sizes: tuple[int, int],
    attentions: Mapping[str, str],
) -> list[name_map.Rule]:
    """Returns the rules of the layers `source.0`, `source.1`, ... of a transformer."""
    rules = []
    for i in range(count):
        rules += layer(f"{source}.{i}", f"{target}_{i}", *sizes, attentions)
    return rules


def batch_norm(source: str, target: str, width: int) -> list[name_map.Rule]:
    """Returns the rules of a `torch.nn.BatchNorm2d`, running statistics among them."""
    return [
        *norm(source, target, width),
        rule(f"{source}.running_mean", (width,), f"{target}/moving_mean"),
        rule(f"{source}.running_var", (width,), f"{target}/moving_variance"),
    ]


def transposed_convolution(
    source: str, target: str, inputs: int, outputs: int, kernel: int
) -> list[name_map.Rule]:
    """Returns the rules of a `torch.nn.ConvTranspose2d`."""
    shape, order = (inputs, outputs, kernel, kernel), name_map.axes(2, 3, 0, 1)
    return [
        rule(f"{source}.weight", shape, f"{target}/w", order),
        rule(f"{source}.bias", (outputs,), f"{target}/b"),
    ]
