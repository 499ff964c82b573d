"""Make weather to learn from, without any download.

A simulated atmosphere with jets, storms, fronts, rain and a daily cycle, in the
variables and units of ERA5 and the layout of the GraphCast example files. It is not the
real atmosphere, but a model can be trained and tried on it. Needs the `sim` extra:
pip install 'weatherlib[sim]', or '.[sim]' in a clone.

An interrupted run stays readable as NAME.partial; the same command continues it.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated, Literal

import tyro

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib simulate weather.nc",
    "weatherlib simulate year.zarr --days 365 --resolution T31 --seed 1",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to simulate, for how long and on which grid."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """File to write, .nc or .zarr."""

    days: float = 10.0
    """Length of what is written, in days."""

    resolution: Literal["T21", "T31", "T42"] = "T21"
    """Spectral truncation: T21 with 8 layers, T31 with 10, T42 with 12."""

    seed: int = 0
    """Chooses the weather; the same seed gives the same weather again."""

    start: Annotated[str, tyro.conf.arg(metavar="TIME")] = "2001-01-01T00"
    """First time written, UTC."""

    spin_up_days: float = 40.0
    """Days that are simulated first and not written."""

    hours: Literal[6, 12, 24] = 6
    """Time between frames."""

    latitudes: int = 32
    """Rows of the output grid, twice as many columns."""

    frames_per_chunk: int = 40
    """Frames computed and written at a time."""

    overwrite: bool = False
    """Replace an older file of that name."""


def run(options: Options) -> None:
    """Simulates and writes what the options ask for.

    Raises:
      ValueError: An option is out of range.
      ImportError: The `sim` extra is not installed.
      FloatingPointError: The simulation became unstable.
      OSError: The file cannot be written.
    """
    from weatherlib import data, simulation
    from weatherlib.cli import console, files

    given = dataclasses.asdict(options)
    output, overwrite = given.pop("output"), given.pop("overwrite")
    settings = simulation.SimulationConfig(**given)
    out = console.Console()
    attrs = {
        "title": "Simulated weather",
        "comment": f"weatherlib simulate, not the real atmosphere: {settings}",
        "license": "CC0-1.0",
    }
    writer = data.open_writer(output, attrs=attrs, overwrite=overwrite)
    began = time.perf_counter()
    with (
        out.stage("simulation"),
        out.progress("Frames", settings.frames) as progress,
        files.partial_noted(writer, output, settings.frames),
        writer,
    ):
        simulation.run(
            settings,
            writer,
            progress=lambda done, total: progress(
                done, total, time.perf_counter() - began
            ),
        )
    out.print(f"{output}: {settings.frames} frames")
    out.print_times()
