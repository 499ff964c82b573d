"""A small model on a grid, trained by the command for a few updates."""

import yaml

from tests.training import toys
from weatherlib.cli import main

DATES = ["day_progress_sin", "day_progress_cos"]


def make(folder):
    """Writes weather, a configuration and a finished run into a folder; returns it."""
    weather = toys.weather()[[toys.PRESSURE]]
    weather.to_netcdf(folder / "weather.nc")
    values = {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {
                "input_variables": [toys.PRESSURE, *DATES],
                "target_variables": [toys.PRESSURE],
                "forcing_variables": DATES,
                "pressure_levels": [],
                "input_duration": "18h",
            },
            "train": {"end": "2020-01-12"},
        },
        "model": {
            "family": "residual_cnn", "width": 4, "dilations": [1], "dropout": 0.1,
            "members": 2,
        },
        "wrappers": {"climatology": {"years": 0, "days": 1}},
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 4, "batch_size": 2}],
        "log_every": 2,
        "license": "CC0-1.0",
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    assert main.main(["train", str(folder / "train.yaml")]) == 0
    return folder
