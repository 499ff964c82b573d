"""`weatherlib train` of the toy predictor: the family, and a folder with all it needs.

    python -m tests.training.toy_runs ARGUMENT...

is `weatherlib ARGUMENT...` where that family is known. With SLOW_BATCHES in the
environment every batch takes so many seconds, and with KILL_AT it kills itself where
`killing` says.
"""

import contextlib
import dataclasses
import os
import sys

import yaml

from tests.training import killing, toys
from weatherlib import checkpoint, config, training
from weatherlib.cli import families, main


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig(config.Mapping):
    noise: float = 0.05


@contextlib.contextmanager
def family():
    """Makes the family `toy` known."""
    toy = families.Family(
        title="toy",
        config_class=ToyConfig,
        network=lambda model, task, remat: toys.Linear(model.noise),
        save=_save,
        load=lambda path: checkpoint.open_checkpoint(path, dict)["params"],
        parameter_axes=((r"/w_", (None, "output")),),
    )
    families.FAMILIES["toy"] = lambda: toy
    try:
        yield
    finally:
        del families.FAMILIES["toy"]


def _save(path, params, model_config, task_config, grid, **texts):
    del model_config, task_config
    extras = {"lat": grid.lat, **texts}
    checkpoint.save(path, {"params": params}, extras=extras)


def write(folder):
    """Writes weather and `train.yaml` into a folder, and returns it."""
    toys.weather().to_netcdf(folder / "weather.nc")
    values = {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {name: list(v) if isinstance(v, tuple) else v
                     for name, v in toys.TASK.items()},
            "train": {"end": "2020-01-12"},
            "validation": {"start": "2020-01-12"},
        },
        "model": {"family": "toy"},
        "schedule": {"peak": 0.03, "warmup": 2},
        "stages": [{"steps": 8, "batch_size": 2}],
        "validation": {"every": 4, "samples": 2, "leads": [1]},
        "checkpoint_every": 4,
        "log_every": 2,
        "optimizer": {"ema": 0.9},
        "license": "CC0-1.0",
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    return folder


def _slow_down(seconds):
    loader = training.Frames.loader
    training.Frames.loader = lambda frames, targets=1: toys.Slow(
        loader(frames, targets), seconds
    )


if __name__ == "__main__":
    if "SLOW_BATCHES" in os.environ:
        _slow_down(float(os.environ["SLOW_BATCHES"]))
    killing.arm()
    with family():
        sys.exit(main.main())
