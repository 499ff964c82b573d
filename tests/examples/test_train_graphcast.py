import importlib.util
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
import xarray

from weatherlib import bundled, checkpoint, data, graphcast

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
CONFIG = """
data: {folder}/weather.nc
output: {folder}/run
task:
  input_variables: [mean_sea_level_pressure, day_progress_sin, day_progress_cos]
  target_variables: [mean_sea_level_pressure]
  forcing_variables: [day_progress_sin, day_progress_cos]
  pressure_levels: []
  input_duration: 12h
model:
  resolution: 0
  mesh_size: 1
  latent_size: 8
  gnn_msg_steps: 1
  hidden_layers: 1
  radius_query_fraction_edge_length: 0.6
train_end: 2003-12-05
validation_start: 2003-12-05
validation_starts: 2
validation_steps: 2
validate_every: 4
description: A test
stages:
  - {{updates: 8, rollout: 2, learning_rate: 1e-2, warmup: 2}}
"""


@pytest.fixture(scope="module")
def training():
    path = EXAMPLES / "train_graphcast.py"
    spec = importlib.util.spec_from_file_location("train_graphcast", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    sample = data.open_dataset(bundled.sample_path()).load()
    coarse = sample.isel(lat=slice(2, None, 4), lon=slice(0, None, 4))
    coarse[["mean_sea_level_pressure"]].to_netcdf(folder / "weather.nc")
    (folder / "train.yaml").write_text(CONFIG.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def finished(training, folder):
    settings = training.read_settings(folder / "train.yaml", [])
    settings.output.mkdir()
    training.Run(settings).train()
    return settings


def _model(settings):
    return checkpoint.open_checkpoint(
        settings.output / "checkpoint.npz", graphcast.CheckPoint
    )


def test_training_writes_a_checkpoint_statistics_and_metrics(finished):
    model = _model(finished)
    assert model.model_config == finished.model
    assert model.task_config == finished.task_config()
    assert model.description == "A test"
    names = {path.name for path in (finished.output / "stats").iterdir()}
    assert names == {f"{k}_by_level.nc" for k in ("mean", "stddev", "diffs_stddev")}
    text = (finished.output / "metrics.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert np.isfinite(losses).all()
    errors = [record["rmse"] for record in records if "rmse" in record]
    assert len(errors) == 2
    assert len(errors[-1]["mean_sea_level_pressure"]["persistence"]) == 2


def test_training_makes_forecasts_better(finished):
    text = (finished.output / "metrics.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    early, late = (record["rmse"] for record in records if "rmse" in record)
    name = "mean_sea_level_pressure"
    assert late[name]["forecast"][-1] < early[name]["forecast"][-1]
    assert late[name]["persistence"] == early[name]["persistence"]


def test_statistics_leave_out_what_comes_after_the_training_period(finished, folder):
    weather = data.open_dataset(folder / "weather.nc").load()
    early = weather["datetime"].values[0] < np.datetime64("2003-12-05")
    expected = weather["mean_sea_level_pressure"].isel(time=early).mean()
    found = xarray.load_dataset(finished.output / "stats" / "mean_by_level.nc")
    assert float(found["mean_sea_level_pressure"]) == pytest.approx(
        float(expected), rel=1e-6
    )


def test_an_interrupted_run_repeats_an_unbroken_one(training, folder, finished):
    words = [f"output={folder}/broken", "validation_start=null"]
    settings = training.read_settings(folder / "train.yaml", words)
    settings.output.mkdir()
    run = training.Run(settings)
    keep = run._keep

    def stop_after_four(index, count, leaves):
        keep(index, count, leaves)
        raise KeyboardInterrupt

    run._keep = stop_after_four
    with pytest.raises(KeyboardInterrupt):
        run.train()
    training.Run(settings).train()
    jax.tree.map(
        np.testing.assert_array_equal, _model(settings).params, _model(finished).params
    )


def test_batches_are_cut_where_the_starts_say(training, finished, folder):
    frames = training.load_frames(finished)
    inputs, targets, forcings = frames.batch(np.array([3, 7]), 2)
    weather = data.open_dataset(folder / "weather.nc").load()
    pressure = weather["mean_sea_level_pressure"].values[0]
    np.testing.assert_array_equal(inputs["mean_sea_level_pressure"][1], pressure[7:9])
    np.testing.assert_array_equal(targets["mean_sea_level_pressure"][0], pressure[5:7])
    hours = targets["time"].values / np.timedelta64(1, "h")
    assert hours.tolist() == [6, 12]
    assert set(forcings.data_vars) == {"day_progress_sin", "day_progress_cos"}
    last = frames.starts(2, before="2003-12-05", after=None)[-1]
    ends = frames.dataset["datetime"].values[last + 3]
    assert ends == np.datetime64("2003-12-04T18")
    with pytest.raises(ValueError, match="a sample needs 52"):
        frames.starts(50, before=None, after=None)


def test_words_override_settings_and_dates_stay_text(training, folder):
    words = ["model.latent_size=16", "train_end=2003-12-01", "seed=3"]
    settings = training.read_settings(folder / "train.yaml", words)
    assert settings.model.latent_size == 16
    assert settings.train_end == "2003-12-01"
    assert settings.seed == 3
    assert settings.stages[0].learning_rate == 1e-2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed"], "expected key=value, found 'seed'"),
        (["sede=3"], "did you mean 'seed'"),
        (["model.latent=3"], "latent_size"),
    ],
)
def test_wrong_words_are_explained(training, folder, words, message):
    with pytest.raises(ValueError, match=message):
        training.read_settings(folder / "train.yaml", words)


@pytest.mark.parametrize("path", sorted((EXAMPLES / "configs").glob("*.yaml")))
def test_every_configuration_can_be_read(training, path):
    settings = training.read_settings(path, [])
    assert settings.task_config().target_variables
    assert settings.stages
    assert path.read_text().startswith("#")
