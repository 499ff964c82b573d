"""Make SEVIR-LR of SEVIR: a third of the resolution, half of the frames.

SOURCE is a folder of SEVIR with CATALOG.csv and data/vil. OUT gets the same files with
128 x 128 pixels, each the largest of 3 x 3, every 10 minutes, and a catalogue of them:
what PreDiff is trained on. An interrupted run is continued by the same command.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = ("weatherlib sevir-lr sevir sevirlr",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to make smaller."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder of SEVIR."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write."""


def run(options: Options) -> None:
    """Writes what the options ask for.

    Raises:
      FileNotFoundError: The catalogue, or a file that it names, is missing.
      OSError: A file is damaged, or cannot be written.
      ValueError: A file holds something else.
    """
    from weatherlib.cli import console, files
    from weatherlib.data import sevir_lr

    out = console.Console()
    files.existing(options.source, "the folder of SEVIR")
    files.writable_folder(options.output)
    with out.progress("Events", 1) as progress:
        report = sevir_lr.write_sevir_lr(
            options.source, options.output, progress=progress
        )
    out.print(
        f"{report.folder}: {report.written} files written, {report.kept} kept, of "
        f"{report.events} events"
    )
