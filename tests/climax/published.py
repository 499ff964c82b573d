"""The published inputs, outputs and weights, as our network takes them."""

import functools
import json
import pathlib

import numpy as np

from weatherlib import climax
from weatherlib.climax import parameters

FOLDER = pathlib.Path(__file__).parents[1] / "goldens" / "climax"


@functools.cache
def listed(name="config.json"):
    return json.loads((FOLDER / name).read_text())


@functools.cache
def arrays(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def config(**changes):
    """Returns the sizes of the small global model."""
    given = listed()["config"]
    names = ("patch_size", "embed_dim", "depth", "decoder_depth", "num_heads")
    return climax.ClimaXConfig(
        default_vars=tuple(given["default_vars"]),
        img_size=tuple(given["img_size"]),
        mlp_ratio=given["mlp_ratio"],
        **{name: given[name] for name in names},
    ).replace(**changes)


def projection_config():
    """Returns the sizes of the small projection model."""
    given = listed()["config"]["projection"]
    names = ("patch_size", "embed_dim", "depth", "num_heads", "time_history")
    return climax.ClimaXConfig(
        default_vars=tuple(given["default_vars"]),
        img_size=tuple(given["img_size"]),
        mlp_ratio=given["mlp_ratio"],
        head="projection",
        out_variables=(given["out_vars"],),
        **{name: given[name] for name in names},
    )


def params(sizes, weights):
    """Returns published weights under our names."""
    found = {
        module: {name: np.full(shape, np.nan, np.float32) for name, shape in v.items()}
        for module, v in parameters.parameter_shapes(sizes).items()
    }
    for entry in parameters.name_map(sizes):
        value = parameters.from_published(entry.kind, weights[entry.source])
        where = ... if entry.index is None else entry.index
        found[entry.module][entry.name][where] = value
    return found


def ids(names, variables):
    """Returns the numbers of variables."""
    return tuple(names.index(name) for name in variables)
