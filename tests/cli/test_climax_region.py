"""A ClimaX that predicts a region, from training to forecasts and scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from tests.cli.climax_runs import forecast, predict
from tests.training import toys
from weatherlib import data, evaluation, rollout
from weatherlib.cli import forecasting, main, models, runs, settings
from weatherlib.training import TrainConfig, records

VARIABLES = [toys.PRESSURE, "geopotential"]
PROGRESS = [
    f"{what}_progress_{wave}" for what in ("year", "day") for wave in ("sin", "cos")
]
# Whole patches of the 4x8 grid, west and east of Greenwich.
BOX = [-90, 0, -91, 46]
LAT, LON = [-67.5, -22.5], [270.0, 315.0, 0.0, 45.0]


def configuration(folder):
    return {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {
                "input_variables": [*VARIABLES, *PROGRESS, "lattitude"],
                "target_variables": VARIABLES,
                "forcing_variables": PROGRESS,
                "pressure_levels": [500, 850],
                "input_duration": "6h",
            },
            "train": {"end": "2020-01-12"},
            "validation": {"start": "2020-01-12"},
        },
        "model": {
            "family": "climax", "img_size": [4, 8], "embed_dim": 8, "num_heads": 2,
            "depth": 1, "lead_hours": [6, 72], "region_box": BOX,
            "default_vars": [
                "lattitude", toys.PRESSURE, "geopotential_500", "geopotential_850",
                *PROGRESS,
            ],
        },
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 4, "batch_size": 2}],
        "validation": {"every": 4, "leads": [1], "samples": 4},
        "wrappers": {"climatology": {"years": 0, "days": 1}},
        "log_every": 2,
        "license": "CC0-1.0",
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather, a configuration and a finished run of a few updates."""
    folder = tmp_path_factory.mktemp("region")
    toys.weather().to_netcdf(folder / "weather.nc")
    (folder / "train.yaml").write_text(yaml.safe_dump(configuration(folder)))
    assert main.main(["train", str(folder / "train.yaml")]) == 0
    return folder


def test_validation_judges_the_region_beside_persistence_there(folder):
    (*_, last) = [r for r in records.read_records(folder / "run")
                  if r["kind"] == "validation"]  # fmt: skip
    run = runs.Run(settings.read(TrainConfig, str(folder / "train.yaml"), ()))
    chosen = run.frames.starts(run.settings.data.validation)
    at = np.linspace(0, len(chosen) - 1, 4).round().astype(int)
    inputs, targets, _ = run.frames.batch(chosen[at])
    part = {"lat": LAT, "lon": LON}
    error = (inputs.isel(time=-1, drop=True) - targets)[toys.PRESSURE].sel(part)
    weights = np.cos(np.deg2rad(error["lat"]))
    expected = np.sqrt((error**2 * weights / weights.mean()).mean())
    np.testing.assert_allclose(
        last["persistence"][toys.PRESSURE]["1"], expected, rtol=1e-5
    )
    assert np.isfinite(last["loss"]) and last["rmse"][toys.PRESSURE]["1"] > 0


def test_the_loss_of_training_weights_the_region_alone(folder):
    """It is the mean over the cells of the region, whatever lies outside."""
    run = runs.Run(settings.read(TrainConfig, str(folder / "train.yaml"), ()))
    objective = run._objective(run.sources[0], is_training=False)
    inputs, targets, forcings = run.frames.batch(np.arange(2))
    loaded = models.load_model(folder / "run" / "checkpoint.npz")
    params = jax.tree.map(jnp.asarray, loaded.params)
    loss, (parts, _) = objective.loss(params, {}, None, (inputs, targets, forcings))
    found = objective.forecast(params, {}, None, (inputs, targets, forcings))
    assert found["lat"].values.tolist() == LAT and found["lon"].values.tolist() == LON
    statistics = run.sources[0].statistics
    stddev = statistics["stddev_by_level"][toys.PRESSURE]
    truth = targets[toys.PRESSURE].sel(lat=LAT, lon=LON)
    square = ((found[toys.PRESSURE] - truth) / float(stddev)) ** 2
    weights = np.cos(np.deg2rad(square["lat"]))
    expected = (square * weights / weights.mean()).mean()
    np.testing.assert_allclose(parts[toys.PRESSURE], float(expected), rtol=1e-3)
    outside = targets.copy(deep=True)
    for name in VARIABLES:
        outside[name][..., 2:, :] += 1e6
    again, _ = objective.loss(params, {}, None, (inputs, outside, forcings))
    np.testing.assert_allclose(again, loss, rtol=1e-6)


def test_a_forecast_lies_in_the_region_and_is_scored_there(folder, tmp_path):
    assert predict(folder, tmp_path / "f.nc", "--init", "2020-01-10T00",
                   "--lead", "24h") == 0  # fmt: skip
    found = forecast(tmp_path / "f.nc")
    assert sorted(found["lat"].values) == LAT
    assert sorted(found["lon"].values) == sorted(LON)
    assert found["time"].values / np.timedelta64(1, "h") == [24]
    values = found[toys.PRESSURE]
    assert values.min() > 98000 and values.max() < 105000
    assert (tmp_path / "rmse.csv").exists()
    assert list(tmp_path.glob("*.png"))


def test_the_engine_gives_what_the_command_writes(folder, tmp_path):
    assert predict(folder, tmp_path / "f.nc", "--init", "2020-01-10T00") == 0
    forecaster = forecasting.load_forecaster(folder / "run" / "checkpoint.npz")
    weather = data.open_dataset(folder / "weather.nc")
    hours = [9 * 24 - 6, 9 * 24]
    state = weather.sel(time=[np.timedelta64(hour, "h") for hour in hours])
    assert forecaster.crop(weather).sizes["lon"] == 4
    again = forecaster.predict(state, steps=1)
    written = forecast(tmp_path / "f.nc")
    template = data.open_dataset(folder / "weather.nc")[VARIABLES]
    template = template.isel(time=[0]).drop_vars("datetime")
    lead = np.array([6 * 3600 * 10**9], "timedelta64[ns]")
    template = template.assign_coords(time=lead)
    whole = forecaster.predict(state, targets_template=template)
    cut = forecaster.predict(state, targets_template=forecaster.crop(template))
    for name in VARIABLES:
        for found in (written, whole, cut):
            np.testing.assert_allclose(
                found[name].sel(lat=LAT, lon=LON).values, again[name].values, rtol=1e-6
            )


def test_a_set_of_starts_is_written_and_evaluated_in_the_region(folder, tmp_path):
    starts = ["--init", "2020-01-10T00:2020-01-11T00:12h"]
    assert predict(folder, tmp_path / "s.nc", "--lead", "12h", *starts) == 0
    found = forecast(tmp_path / "s.nc")
    assert found.sizes["latitude"] == 2 and found.sizes["longitude"] == 4
    words = ["evaluate", str(tmp_path / "s.nc"), "--truth", str(folder / "weather.nc"),
             "--out-dir", str(tmp_path), "--regions", "global", "--metrics", "rmse",
             "--resamples", "50"]  # fmt: skip
    assert main.main(words) == 0
    scores = evaluation.open_results(tmp_path / "scores.nc")
    truth = toys.weather()[toys.PRESSURE].isel(batch=0).sel(lat=LAT, lon=LON)
    steps = np.arange(36, 41, 2)
    guess = found[toys.PRESSURE].squeeze("prediction_timedelta")
    error = guess.transpose("time", "latitude", "longitude").values
    error = error - truth.isel(time=steps + 2).values
    weights = np.cos(np.deg2rad(LAT))[:, np.newaxis]
    expected = np.sqrt((error**2 * weights / weights.mean()).mean())
    rmse = scores[toys.PRESSURE].sel(model="s", metric="rmse").squeeze()
    np.testing.assert_allclose(rmse, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "2"], "--steps 2: the model predicts a part of the grid"),
        (["--members", "2", "--perturb", "bred", "--init", "2020-01-10T00"],
         "earlier steps: the model predicts a part of the grid"),
    ],
)  # fmt: skip
def test_a_step_does_not_start_from_a_part(folder, tmp_path, capsys, words, message):
    assert predict(folder, tmp_path / "x.nc", *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.0.rollout=2", "stages.rollout 2: the model predicts a part"),
        ("validation.leads=[1,4]", "validation.leads 4: the model predicts a part"),
        ("validation.rollout=2", "validation.rollout 2: the model predicts a part"),
        ("model.region_box=[10,15,0,5]", "region 10 to 15 N, 0 to 5 E: no whole patch"),
        ("model.region_box=[0,95,0,50]", "region_box must be south, north, west"),
    ],
)
def test_training_that_cannot_be_is_refused(folder, tmp_path, capsys, change, message):
    words = ["--set", change, "--set", f"output={tmp_path / 'run'}"]
    assert main.main(["train", str(folder / "train.yaml"), *words]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_a_region_is_named_in_a_configuration(folder, tmp_path, capsys):
    """The 4x8 grid is too coarse for it, which one line says."""
    words = ["--set", "model.region=NorthAmerica", "--set", "model.region_box=null",
             "--set", f"output={tmp_path / 'run'}"]  # fmt: skip
    assert main.main(["train", str(folder / "train.yaml"), *words]) == 2
    err = capsys.readouterr().err.strip()
    assert "region NorthAmerica: no whole patch of 2x2 points" in err
    assert len(err.splitlines()) == 1


def test_several_steps_of_a_region_are_refused_by_the_engine(folder):
    forecaster = forecasting.load_forecaster(folder / "run" / "checkpoint.npz")
    state = data.open_dataset(folder / "weather.nc").isel(time=[0, 1])
    with pytest.raises(ValueError, match="no further step can start"):
        forecaster.predict(state, steps=2)
    with pytest.raises(rollout.GuardError, match="at lat -"):
        forecaster.predict(
            state, steps=1,
            guard=rollout.Guard(bounds={toys.PRESSURE: (0, 1)}, on_violation="raise"),
        )  # fmt: skip
