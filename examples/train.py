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
from weatherlib.cli import console, reporting, runs, settings

_USAGE = "usage: python examples/train.py CONFIG.yaml [key=value ...]"


def train(path: str, *changes: str) -> training.Result:
    """Trains and returns what it came to."""
    for word in (path, *changes):
        if word.startswith("-"):
            raise ValueError(f"there is no option {word}; {_USAGE}")
    config = settings.read(training.TrainConfig, path, changes)
    config.output.mkdir(parents=True, exist_ok=True)
    out = console.Console()
    run = runs.Run(config, out=out)
    out.facts(run.plan())
    result = run.train(resume=True)
    print(f"{result.step} updates, {result.ended}; see {config.output}/report.html")
    return result


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 after an error that a user can put right."""
    given = sys.argv[1:] if words is None else list(words)
    if not given or given[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if given else 2
    return reporting.run_reported(lambda: train(*given) and None)


if __name__ == "__main__":
    host_memory.keep_freed()
    sys.exit(main())
