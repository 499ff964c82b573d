"""Where the files inside the package are: sample, statistics and checkpoint.

They come from `weatherlib.simulation` and `weatherlib train`. Nothing here
opens them.
"""

from __future__ import annotations

import importlib.resources
import pathlib

__all__ = [
    "checkpoint_path",
    "coastline_path",
    "sample_path",
    "simulation_start_path",
    "statistics_path",
]


def sample_path() -> pathlib.Path:
    """Returns the NetCDF file of simulated weather in the layout of GraphCast."""
    return _resource("sample.nc")


def statistics_path() -> pathlib.Path:
    """Returns the folder of `{mean,stddev,diffs_stddev}_by_level.nc`."""
    return _resource("stats")


def checkpoint_path() -> pathlib.Path:
    """Returns the GraphCast checkpoint trained on the simulation."""
    return _resource("checkpoint.npz")


def simulation_start_path() -> pathlib.Path:
    """Returns the spun-up state from which simulations start."""
    return _resource("simulation_start.npz")


def coastline_path() -> pathlib.Path:
    """Returns the outlines of all land."""
    return _resource("coastline_110m.npz")


def _resource(name: str) -> pathlib.Path:
    """Returns the path of a file or folder below `weatherlib/resources`."""
    with importlib.resources.as_file(
        importlib.resources.files("weatherlib") / "resources" / name
    ) as path:
        return path
