"""Persistence and climatology through the door of the models."""

import numpy as np
import pytest
import xarray
import yaml

from tests.training import toys
from weatherlib import task, training
from weatherlib.baselines import registry
from weatherlib.cli import families, main, models
from weatherlib.training import records

TASK = task.TaskConfig(
    input_variables=(toys.PRESSURE, "geopotential", "day_progress_sin",
                     "day_progress_cos"),
    target_variables=(toys.PRESSURE, "geopotential"),
    forcing_variables=("day_progress_sin", "day_progress_cos"),
    pressure_levels=(500, 850),
    input_duration="6h",
)  # fmt: skip
END = "2020-01-18"
DAY = {"climatology": {"years": 0, "days": 2}}


def write(folder, family, wrappers=None, **more):
    """Writes weather and `train.yaml` into a folder, and returns it."""
    toys.weather(frames=90).to_netcdf(folder / "weather.nc")
    values = {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {name: list(v) if isinstance(v, tuple) else v
                     for name, v in TASK.items()},
            "train": {"end": END},
            "validation": {"start": END},
        },
        "model": {"family": family, "output_length": 2},
        "wrappers": wrappers or {},
        "validation": {"samples": 4, "leads": [1, 2], "levels": [500, 850]},
        **more,
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    return folder


def train(folder, *changes):
    sets = [word for change in changes for word in ("--set", change)]
    return main.main(["train", str(folder / "train.yaml"), *sets])


def forecast(folder, start):
    """Returns the two steps of two frames that follow a date, and the weather."""
    words = ["--model", str(folder / "run" / "checkpoint.npz"), "--steps", "4"]
    words += ["--data", str(folder / "weather.nc"), "--output", str(folder / "set.nc")]
    assert main.main(["predict", *words, "--init", f"{start}:{start}:6h"]) == 0
    with xarray.open_dataset(folder / "set.nc", decode_timedelta=True) as found:
        frames = training.Frames(toys.weather(frames=90), TASK)
        weather = frames.dataset.assign_coords(time=frames.datetimes)
        return found.squeeze("time", drop=True).load(), weather


def _same(found, expected, **tolerance):
    names = {"latitude": "lat", "longitude": "lon"}
    found = found.rename({long: s for long, s in names.items() if long in found.dims})
    expected = expected.transpose(*found.dims).sel(lat=found["lat"])
    np.testing.assert_allclose(found, expected, **tolerance)


@pytest.mark.parametrize("predicts", ["state", "change"])
def test_persistence_repeats_the_last_frame(tmp_path, predicts):
    folder = write(tmp_path, "persistence")
    assert train(folder, f"model.predicts={predicts}") == 0
    found, weather = forecast(folder, "2020-01-20T06")
    last = weather.sel(time="2020-01-20T06")
    for name in TASK.target_variables:
        for lead in range(4):
            values = found[name].isel(prediction_timedelta=lead, drop=True)
            _same(values, last[name], rtol=1e-6, atol=1e-3)
    validation = [
        record
        for record in records.read_records(folder / "run")
        if record["kind"] == "validation"
    ]
    assert validation and np.isfinite(validation[0]["loss"])


def test_climatology_predicts_what_is_usual_at_the_hour(tmp_path):
    folder = write(tmp_path, "climatology", wrappers=DAY)
    assert train(folder) == 0
    found, weather = forecast(folder, "2020-01-20T06")
    trained = weather.sel(time=slice(None, "2020-01-17T23"))
    usual = trained.groupby("time.hour").mean()
    for name in TASK.target_variables:
        for lead, hour in enumerate((12, 18, 0, 6)):
            values = found[name].isel(prediction_timedelta=lead, drop=True)
            _same(values, usual[name].sel(hour=hour), rtol=1e-5, atol=0.05)


def test_files_have_no_weights_and_are_known_again(tmp_path):
    folder = write(tmp_path, "persistence")
    assert train(folder) == 0
    path = folder / "run" / "checkpoint.npz"
    assert families.recognise(path) == "persistence"
    model = models.load_model(path)
    assert not model.params and model.frames_per_step == 2
    assert type(model.model_config) is registry.find("persistence").config_class
    assert registry.find("Persistence") is registry.find("persistence")
    assert train(folder) == 2


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("climatology", (), "wrappers.climatology: is what"),
        ("climatology", ("model.predicts=change",), "a climatology is a state"),
        ("persistence", ("init_from=x.npz",), "init_from: persistence has no weights"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, capsys, family, changes, message):
    assert train(write(tmp_path, family), *changes) == 2
    assert message in capsys.readouterr().err
