"""Writes tests/goldens/baselines from the plain PyTorch networks of benchmarks.

    PYTHONPATH=. python scripts/make_grid_model_goldens.py

Run it with an interpreter that has torch and numpy. Weights, running statistics and
data come from seeded generators of NumPy, so that only the arithmetic is PyTorch's. See
tests/goldens/baselines/README.md for what the files hold.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import plain_grid_models

FOLDER = pathlib.Path("tests/goldens/baselines")

# Unequal sizes everywhere, so that no two axes can be mistaken for each other.
_TASK = {"channels": 2, "rows": 4, "columns": 6, "input_length": 3, "output_length": 2}
_BATCH = 2

CASES: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "lstm": ({}, {"hidden_size": 6, "num_layers": 2}),
    "bidirectional_lstm": ({}, {"hidden_size": 5, "num_layers": 2}),
    "lstm_seq2seq": ({}, {"hidden_size": 6, "num_layers": 2}),
    "transformer": ({}, {"d_model": 12, "nhead": 3, "num_layers": 2}),
    "transformer_seq2seq": (
        {},
        {"d_model": 8, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 2},
    ),
    "spatial_transformer": ({}, {"d_model": 8, "nhead": 2, "num_layers": 2}),
    "cnn": ({}, {"hidden_channels": 4}),
    "deep_cnn": ({}, {"hidden_channels": 5, "n_residual_blocks": 2}),
    "convlstm": ({}, {"hidden_channels": 4, "num_layers": 2, "kernel_size": 3}),
    "convlstm_seq2seq": (
        {"output_length": 3},
        {"hidden_channels": 3, "num_layers": 2, "kernel_size": 5},
    ),
    "weather_transformer": (
        {"rows": 6, "columns": 8},
        {
            "d_model": 8,
            "n_heads": 2,
            "n_layers": 2,
            "patch_size": (2, 4),
            "decoder_layers": 2,
        },
    ),
    "pixel_unet": ({"rows": 8, "columns": 12}, {"base_channels": 8, "depth": 2}),
}


def main() -> None:
    """Writes the files of all networks, and what they were made with."""
    torch.set_num_threads(1)
    made = {}
    for number, (name, (task, sizes)) in enumerate(CASES.items()):
        task = plain_grid_models.Task(**{**_TASK, **task})
        _write(name, task, sizes, np.random.default_rng(number))
        made[name] = {"task": dataclasses.asdict(task), "sizes": sizes}
    text = json.dumps(made, indent=1)
    (FOLDER / "cases.json").write_text(text + "\n", encoding="utf8")


def _write(
    name: str,
    task: plain_grid_models.Task,
    sizes: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """Writes the weights and the results of one network."""
    network = plain_grid_models.make(name, task, **sizes)
    # Attention of larger weights picks single tokens, which rounding can change.
    gain = 1.0 if "transformer" in name else 2.0
    network.load_state_dict(_values(network, rng, gain))
    shape = (_BATCH, task.input_length, task.channels, task.rows, task.columns)
    frames = torch.from_numpy(rng.standard_normal(shape, np.float32))
    shape = (_BATCH, task.output_length, *shape[2:])
    targets = torch.from_numpy(rng.standard_normal(shape, np.float32))
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "model.pt")
    output = network(frames)
    loss = functional.mse_loss(output, targets)
    loss.backward()
    results = {
        "frames": frames,
        "targets": targets,
        "output": output,
        "loss": loss,
        **{f"gradient:{n}": p.grad for n, p in network.named_parameters()},
    }
    if name == "convlstm_seq2seq":
        results["forced_output"] = network(frames, targets, 1.0)
    if any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()):
        results |= _trained(network, frames, targets)
    arrays = {n: tensor.detach().numpy() for n, tensor in results.items()}
    np.savez(folder / "golden.npz", **arrays)


def _values(
    network: nn.Module, rng: np.random.Generator, gain: float
) -> dict[str, torch.Tensor]:
    """Returns values for a state dict: none is zero, one, or like another."""
    found = {}
    for name, held in network.state_dict().items():
        shape = tuple(held.shape)
        drawn = rng.standard_normal(shape)
        if name.endswith(".pe"):
            drawn = held.numpy()
        elif name.endswith("num_batches_tracked"):
            drawn = np.array(7)
        elif name.endswith("running_var"):
            drawn = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            is_scale = name.endswith("weight")
            drawn = is_scale + (0.3 if is_scale else 0.1) * drawn
        elif name.split(".")[0] not in ("query_tokens", "position_embedding"):
            drawn = gain * drawn / np.sqrt(np.prod(shape[1:]))
        found[name] = torch.from_numpy(drawn.copy()).to(held.dtype)
    return found


def _trained(
    network: nn.Module, frames: torch.Tensor, targets: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Returns results with the statistics of the batch, and what is kept of them."""
    network.train().zero_grad()
    output = network(frames)
    loss = functional.mse_loss(output, targets)
    loss.backward()
    found = {"train_output": output, "train_loss": loss}
    for name, parameter in network.named_parameters():
        found[f"train_gradient:{name}"] = parameter.grad
    for name, buffer in network.named_buffers():
        found[f"after:{name}"] = buffer
    return found


if __name__ == "__main__":
    main()
