"""The small PyTorch models on grids that `make_grid_model_goldens.py` has written."""

import json
import pathlib

import numpy as np

from weatherlib.weights import flat, grid_sizes

FOLDER = pathlib.Path(__file__).parents[1] / "goldens" / "baselines"
CASES = json.loads((FOLDER / "cases.json").read_text())
NAMES = tuple(CASES)


def model_file(name):
    """Returns the path of the state dict of a model."""
    return FOLDER / name / "model.pt"


def arrays_of(name):
    """Returns the arrays of a state dict."""
    return flat.read(model_file(name)).arrays


def results_of(name):
    """Returns what PyTorch has computed."""
    with np.load(FOLDER / name / "golden.npz") as file:
        return dict(file)


def known_of(name, **changes):
    """Returns what the shapes of a model do not say."""
    task, sizes = CASES[name]["task"], CASES[name]["sizes"]
    return grid_sizes.Known(
        **{
            "grid": (task["rows"], task["columns"]),
            "input_length": task["input_length"],
            "output_length": task["output_length"],
            "heads": sizes.get("nhead", sizes.get("n_heads")),
            **changes,
        }
    )
