"""A GraphCast trained by the example, and a forecast with what it exports."""

import numpy as np
import pytest
import xarray

from tests.examples import scripts
from weatherlib import bundled, checkpoint, data, graphcast
from weatherlib.cli import main

_CONFIG = """
output: {folder}/run
data:
  path: {folder}/weather.nc
  task:
    input_variables: [mean_sea_level_pressure, day_progress_sin, day_progress_cos]
    target_variables: [mean_sea_level_pressure]
    forcing_variables: [day_progress_sin, day_progress_cos]
    pressure_levels: []
    input_duration: 12h
model:
  family: graphcast
  resolution: 0
  mesh_size: 1
  latent_size: 8
  gnn_msg_steps: 1
  hidden_layers: 1
  radius_query_fraction_edge_length: 0.6
stages:
  - {{steps: 30, schedule: {{peak: 1e-2, end: 1e-3, warmup: 5}}}}
optimizer: {{ema: 0.8}}
log_every: 5
description: A test
license: CC0-1.0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    sample = data.open_dataset(bundled.sample_path()).load()
    coarse = sample.isel(lat=slice(2, None, 4), lon=slice(0, None, 4))
    coarse[["mean_sea_level_pressure"]].to_netcdf(folder / "weather.nc")
    (folder / "train.yaml").write_text(_CONFIG.format(folder=folder))
    result = scripts.load("train").train(str(folder / "train.yaml"), "seed=1")
    assert result.step == 30
    return folder


def test_the_exported_file_is_a_published_checkpoint_with_its_graph(folder):
    path = folder / "run" / "checkpoint.npz"
    model = checkpoint.open_checkpoint(path, graphcast.CheckPoint)
    assert model.model_config.latent_size == 8
    assert model.task_config.target_variables == ("mean_sea_level_pressure",)
    assert model.description == "A test (update 30)"
    with path.open("rb") as file:
        assert "topology" in checkpoint.load_extras(file)


def test_predict_reads_what_training_wrote(folder):
    words = ["predict", "--pretrained", str(folder / "run" / "checkpoint.npz")]
    words += ["--dataset", str(folder / "weather.nc"), "--steps", "2"]
    words += ["--output", str(folder / "forecast.nc")]
    words += ["--var", "mean_sea_level_pressure", "--out-dir", str(folder / "maps")]
    assert main.main(words) == 0
    with xarray.open_dataset(folder / "forecast.nc", decode_timedelta=True) as forecast:
        pressure = forecast["mean_sea_level_pressure"].values
    assert np.isfinite(pressure).all()
    assert 95_000 < pressure.mean() < 105_000
