"""Published inputs, outputs and weights of PreDiff's parts."""

import functools
import json
import pathlib

import numpy as np

from tests import tolerances

FOLDER = pathlib.Path(__file__).parents[1] / "goldens" / "prediff"


@functools.cache
def listed(name="primitives"):
    """Returns what a JSON file holds."""
    return json.loads((FOLDER / f"{name}.json").read_text())


@functools.cache
def arrays(name="primitives"):
    """Returns the arrays of a file by name."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def weights(name):
    """Returns the published weights of a primitive by their names in it."""
    prefix = f"{name}_w/"
    found = arrays().items()
    return {k.removeprefix(prefix): v for k, v in found if k.startswith(prefix)}


def laid_out(array):
    """Returns a kernel [out, in, ...] as [..., in, out], anything else as it is."""
    if array.ndim < 2:
        return array
    return array.transpose(*range(2, array.ndim), 1, 0)


def params(held, names, root):
    """Returns the parameters of a module from published arrays.

    Args:
      held: Published arrays by name.
      names: Our module, below `root`, of each published layer.
      root: Name of the module.
    """
    found = {}
    for source, target in names.items():
        module = f"{root}/{target}" if target else root
        for kind, array in held.items():
            layer, _, last = kind.rpartition(".")
            if layer != source:
                continue
            norm = "norm" in target
            name = {
                "weight": "scale" if norm else "w",
                "bias": "offset" if norm else "b",
            }
            found.setdefault(module, {})[name[last]] = laid_out(array)
    return found


def close(found, expected, share=tolerances.PREDIFF_NETWORK):
    """Asserts that errors are below a share of the largest published number."""
    error = np.abs(np.asarray(found, np.float64) - expected).max()
    assert found.shape == expected.shape
    assert error <= share * np.abs(expected).max(), error / np.abs(expected).max()
