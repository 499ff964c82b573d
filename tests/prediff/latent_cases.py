"""Published numbers of PreDiff."""

import functools
import json
import pathlib

import numpy as np

_FOLDER = pathlib.Path(__file__).parent.parent / "goldens" / "prediff"


@functools.cache
def arrays(name):
    """Returns the arrays of an npz file."""
    with np.load(_FOLDER / f"{name}.npz") as file:
        return dict(file)


@functools.cache
def listed(name):
    """Returns what a JSON file lists."""
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf8"))


def path(name):
    """Returns where a file lies."""
    return _FOLDER / name


def near(found, expected, tolerance):
    """Compares to within a share of the largest number."""
    bound = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
