"""Trains what a configuration describes, as `weatherlib train` does, from Python.

    python examples/train.py examples/configs/era5_msl.yaml data.path=era5.nc

Words after the file change settings. The same command continues an interrupted run.
What is behind `Run` is public as well: `training.Trainer` takes any loss, batches with
a position and optax transforms, and knows no model (docs/how-to/train.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from weatherlib import host_memory, training
from weatherlib.cli import console, runs, settings


def main(words: Sequence[str]) -> training.Result:
    """Trains and returns what it came to."""
    path, *changes = words
    config = settings.read(training.TrainConfig, path, changes)
    config.output.mkdir(parents=True, exist_ok=True)
    out = console.Console()
    run = runs.Run(config, out=out)
    out.facts(run.plan())
    result = run.train(resume=True)
    print(f"{result.step} updates, {result.ended}; see {config.output}/report.html")
    return result


if __name__ == "__main__":
    host_memory.keep_freed()
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/train.py CONFIG.yaml [key=value ...]")
    main(sys.argv[1:])
