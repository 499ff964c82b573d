"""What it costs to pass a Dataset through `jax.jit`, beside passing its bare arrays.

    python benchmarks/xarray_bridge.py [--reference DIR] [--variables 20]

A Dataset of 20 variables with latitude, longitude, level, time and datetime goes
through an identity function. `--reference` names a checkout of the GraphCast package,
which is measured in a process of its own. Columns are microseconds: the fastest of
several rounds, for flattening, unflattening, comparing two structures built apart, a
whole call, and a call after 30 start dates have been compiled.
"""

import argparse
import importlib
import json
import pathlib
import subprocess
import sys
import timeit
import warnings
from collections.abc import Callable

import jax
import numpy as np
import xarray

_ROUNDS, _CALLS = 7, 50


def make_dataset(variables: int, day: int = 0) -> xarray.Dataset:
    """Returns a small weather dataset that starts `day` days after the first."""
    surface = ("batch", "time", "lat", "lon")
    upper = ("batch", "time", "level", "lat", "lon")
    start = np.datetime64("2020-01-01", "ns") + np.timedelta64(day, "D")
    data = {
        f"variable_{i}": (surface, np.zeros((1, 2, 32, 64), np.float32))
        if i % 2
        else (upper, np.zeros((1, 2, 3, 32, 64), np.float32))
        for i in range(variables)
    }
    coords = {
        "lat": np.linspace(-90, 90, 32),
        "lon": np.arange(64) * 5.625,
        "level": np.array([500, 850, 1000]),
        "time": np.array([0, 6], "timedelta64[h]").astype("timedelta64[ns]"),
        "datetime": (("batch", "time"), np.array([[start, start]])),
    }
    return jax.device_put(xarray.Dataset(data, coords))


def fastest(function: Callable[[], object]) -> float:
    """Returns the microseconds that one call takes at best."""
    function()
    return min(timeit.repeat(function, number=_CALLS, repeat=_ROUNDS)) / _CALLS * 1e6


def measure(module: str, variables: int) -> dict[str, float]:
    """Returns the microseconds of each operation with one implementation."""
    importlib.import_module(module)
    dataset = make_dataset(variables)
    leaves, structure = jax.tree.flatten(dataset)
    other = jax.tree.structure(make_dataset(variables))
    identity, leaf_identity = jax.jit(lambda x: x), jax.jit(lambda x: x)
    results = {
        "flatten": fastest(lambda: jax.tree.flatten(dataset)),
        "unflatten": fastest(lambda: jax.tree.unflatten(structure, leaves)),
        "compare": fastest(lambda: structure == other),
        "call": fastest(lambda: identity(dataset)),
        "bare call": fastest(lambda: leaf_identity(leaves)),
    }
    dated = [make_dataset(variables, day) for day in range(30)]
    for x in dated:
        identity(x)
    results["30 dates"] = fastest(lambda: identity(dated[15]))
    return results


def main() -> None:
    """Measures each implementation in a process of its own and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variables", type=int, default=20)
    parser.add_argument("--reference", type=pathlib.Path, help="a GraphCast checkout")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        warnings.simplefilter("ignore")
        if options.reference:
            sys.path.insert(0, str(options.reference))
        print(json.dumps(measure(options.measure, options.variables)))
        return
    modules = ["weatherlib.xarray_jax"]
    if options.reference:
        modules.append("graphcast.xarray_jax")
    table = {}
    for module in modules:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", module]
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        table[module] = json.loads(output.stdout)
    for module, row in table.items():
        print(f"{module:<24}", *(f"{name} {us:.0f} us  " for name, us in row.items()))
    ours = table["weatherlib.xarray_jax"]
    added = ours["call"] - ours["bare call"]
    print(f"a Dataset adds {added:.0f} us to a call of {ours['bare call']:.0f} us")
    if options.reference:
        theirs = table["graphcast.xarray_jax"]
        ratios = (f"{name} {theirs[name] / ours[name]:.1f}x" for name in ours)
        print("times as fast as the reference:", ", ".join(ratios))


if __name__ == "__main__":
    main()
