"""A radar file, and settings of a tiny model for it."""

import numpy as np
import yaml

from weatherlib import data

FRAMES = 40
VALUES = {
    "data": {
        "radar": {"inputs": 3, "stride": 2, "augment": "flips", "tile": 16},
        "train": {"end": "2020-06-01T02:00"},
        "validation": {"start": "2020-06-01T02:00", "end": "2020-06-01T02:40"},
        "test": {"start": "2020-06-01T02:40"},
    },
    "model": {
        "family": "convlstm", "input_length": 3, "output_length": 2,
        "hidden_channels": 3, "num_layers": 1, "patch_size": 4, "predicts": "change",
    },
    "schedule": {"peak": 0.01, "decay": 4},
    "stages": [{"steps": 4, "batch_size": 4}],
    "validation": {"every": 2, "samples": 4, "batch_size": 2, "leads": [1, 2]},
    "checkpoint_every": 2,
    "log_every": 2,
}  # fmt: skip


def series(**fields):
    """Returns rain cells on 32 x 32 pixels every 5 minutes from midnight."""
    sizes = {"frames": FRAMES, "rows": 32, "columns": 32, "seed": 3, "cells": 12.0}
    return data.synthetic_radar(**{**sizes, "start": "2020-06-01", **fields})


def with_gaps(dataset, frame=5):
    """Returns the series with a missing corner in one frame."""
    field = dataset["vil"].values.copy()
    field[frame, :2, :3] = np.nan
    return dataset.assign(vil=(dataset["vil"].dims, field, dataset["vil"].attrs))


def write(folder, dataset=None, **changes):
    """Writes `radar.nc` and `train.yaml` into a folder, and returns it."""
    (series() if dataset is None else dataset).to_netcdf(folder / "radar.nc")
    values = {**VALUES, "output": str(folder / "run"), **changes}
    values["data"] = {"path": str(folder / "radar.nc"), **VALUES["data"]}
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    return folder
