"""A linear model from its fit to a forecast."""

import sys

import haiku as hk
import jax
import numpy as np
import pytest
import xarray
import yaml

from tests.training import toys
from weatherlib import task, training
from weatherlib.baselines import linear_config, registry
from weatherlib.cli import families, main, models
from weatherlib.training import records

TASK = task.TaskConfig(
    input_variables=(toys.PRESSURE, "geopotential", "day_progress_sin"),
    target_variables=(toys.PRESSURE, "geopotential"),
    forcing_variables=("day_progress_sin",),
    pressure_levels=(500, 850),
    input_duration="18h",
)


def write(folder, **model):
    """Writes weather and `train.yaml` into a folder, and returns it."""
    toys.weather(frames=90).to_netcdf(folder / "weather.nc")
    values = {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {name: list(v) if isinstance(v, tuple) else v
                     for name, v in TASK.items()},
            "train": {"end": "2020-01-18"},
            "validation": {"start": "2020-01-18"},
        },
        "model": {"family": "lr", "input_length": 3, "output_length": 2, **model},
        "validation": {"samples": 4, "leads": [1, 2], "levels": [500, 850]},
        "license": "CC0-1.0",
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    return folder


def train(folder, *changes, words=()):
    sets = [word for change in changes for word in ("--set", change)]
    return main.main(["train", str(folder / "train.yaml"), *sets, *words])


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


@pytest.fixture(
    scope="module", params=["lr", pytest.param("lr_multi", marks=pytest.mark.slow)]
)
def fitted(request, tmp_path_factory):
    """A folder with a fitted model."""
    made = write(tmp_path_factory.mktemp(request.param), family=request.param)
    assert train(made) == 0
    return made


def forecast(path, starts):
    """Returns forecasts and truth in the units of the data."""
    model = models.load_model(path)
    statistics = models.find_statistics(model)
    frames = training.Frames(toys.weather(frames=90), TASK)
    sample = frames.batch(np.asarray(starts), 2)

    def run(*sample):
        predictor = models.build_predictor(
            model.model_config, model.task_config, statistics, precision="float32"
        )
        return predictor(*sample)

    apply = hk.without_apply_rng(hk.transform(run)).apply
    found = jax.jit(apply)(model.params, *sample)
    return found, sample


def normalised(folder, sample):
    """Returns features and outputs of a sample, by hand."""
    statistics = models.load_statistics(folder / "run" / "stats")
    mean, scale = statistics.mean_by_level, statistics.stddev_by_level
    inputs, targets, forcings = (
        (part - mean[list(part)]) / scale[list(part)] for part in sample
    )

    def frame(part, time, names):
        fields = []
        for name in names:
            field = part[name].isel(time=time)
            if name == "day_progress_sin":
                field = field.expand_dims(lat=4, axis=1)
            fields.append(np.asarray(field).reshape(field.sizes["batch"], -1))
        return fields

    moving = ["geopotential", toys.PRESSURE, "day_progress_sin"]
    rows = [f for t in range(3) for f in frame(inputs, t, moving)]
    rows += [f for t in range(2) for f in frame(forcings, t, moving[2:])]
    goals = [f for t in range(2) for f in frame(targets, t, moving[:2])]
    return np.concatenate(rows, 1), np.concatenate(goals, 1)


def test_the_checkpoint_holds_the_ridge_of_the_normalised_training_period(fitted):
    path = fitted / "run" / "checkpoint.npz"
    model = models.load_model(path)
    frames = training.Frames(toys.weather(frames=90), TASK)
    starts = frames.starts(training.Period(end="2020-01-18"), targets=2)
    x, y = normalised(fitted, frames.batch(starts, 2))
    scales = np.ones(x.shape[1]), np.ones(y.shape[1])
    alpha = 1.0
    if model.family == "lr_multi":
        scales, alpha = (x.std(0), y.std(0)), 10.0
    a, b = (x - x.mean(0)) / scales[0], (y - y.mean(0)) / scales[1]
    weights = a.T @ np.linalg.solve(a @ a.T + alpha * np.eye(len(a)), b)
    values = model.params["linear"]
    assert values["w"].dtype == np.float32
    np.testing.assert_allclose(values["w"], weights, atol=1e-4)
    assert model.time_step == "360min"
    assert model.license == "CC0-1.0"


def test_the_forecast_is_that_of_the_weights(fitted):
    found, sample = forecast(fitted / "run" / "checkpoint.npz", [80, 83])
    model = models.load_model(fitted / "run" / "checkpoint.npz")
    statistics = models.load_statistics(fitted / "run" / "stats")
    x, _ = normalised(fitted, sample)
    values = model.params["linear"]
    if model.family == "lr_multi":
        x = (x - values["input_mean"]) / values["input_scale"]
    y = x @ values["w"] + values["b"]
    if model.family == "lr_multi":
        y = y * values["output_scale"] + values["output_mean"]
    y = y.reshape(2, 2, 3, 4, 8)
    for name, part in (("geopotential", slice(2)), (toys.PRESSURE, 2)):
        mean = statistics.mean_by_level[name].values
        scale = statistics.stddev_by_level[name].values
        expected = y[:, :, part] * scale.reshape(-1, 1, 1) + mean.reshape(-1, 1, 1)
        field = found[name].transpose("batch", "time", ..., "lat", "lon")
        apart = np.asarray(field) - expected.reshape(field.shape)
        assert np.abs(apart / scale.reshape(-1, 1, 1)).max() < 1e-4


def test_it_beats_persistence_and_says_so(tmp_path, capsys):
    made = write(tmp_path)
    assert train(made) == 0
    out = capsys.readouterr().out
    run = made / "run"
    assert {path.name for path in run.iterdir()} == {
        "checkpoint.npz", "config.yaml", "curves.png", "metrics.csv", "metrics.jsonl",
        "report.html", "stats",
    }  # fmt: skip
    (record,) = records.read_records(run)
    assert record["kind"] == "validation" and record["samples"] == 4
    for name, errors in record["rmse"].items():
        for lead in ("1", "2"):
            assert errors[lead] < record["persistence"][name][lead]
        line = f"{name:34s} {errors['1']:.4g}/{record['persistence'][name]['1']:.4g}"
        assert line in out
    assert "64 samples of 448 features and 192 outputs in the dual form" in out
    assert "penalty  1" in out
    assert f"predict --pretrained {run}/checkpoint.npz" in out
    assert "family: lr" in (run / "report.html").read_text()


def test_info_describes_a_fitted_model(fitted, capsys):
    path = fitted / "run" / "checkpoint.npz"
    assert main.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "alpha" in out and "held_out 0.2" in out
    assert families.recognise(path) == models.load_model(path).family


def test_a_fit_needs_no_packages_for_training(folder, monkeypatch):
    for name in ("grain", "orbax", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    assert train(folder) == 0


def test_validation_is_not_needed(folder, capsys):
    assert train(folder, "data.validation=null") == 0
    assert "persistence" not in capsys.readouterr().out
    assert records.read_records(folder / "run") == []


def test_candidates_are_judged_by_the_last_samples(folder, capsys):
    change = "model.fit={candidates: [0.1, 10, 100000], held_out: 0.25}"
    assert train(folder, "model.family=lr_multi", change) == 0
    out = capsys.readouterr().out
    assert "one of 0.1, 10, 100000, by 16 samples" in out.replace("1e+05", "100000")
    model = models.load_model(folder / "run" / "checkpoint.npz")
    assert set(model.model_config.alphas) == {toys.PRESSURE, "geopotential"}
    assert "errors, geopotential" in out
    for alpha in model.model_config.alphas.values():
        assert alpha in (0.1, 10.0, 1e5)


def test_candidates_can_be_judged_by_a_period(folder, capsys):
    period = "['2020-01-04', '2020-01-06']"
    change = f"model.fit={{candidates: [1, 10], held_out_period: {period}}}"
    assert train(folder, change) == 0
    # Frames of two days, eight of them, hold four samples of five frames.
    assert "by 4 samples" in capsys.readouterr().out
    found = models.load_model(folder / "run" / "checkpoint.npz").model_config
    assert isinstance(found, linear_config.LinearConfig)
    assert found.fit.held_out_period == ("2020-01-04", "2020-01-06")
    assert train(folder, change.replace("2020", "2021"), words=["--resume"]) == 2


def test_a_large_model_is_stored_as_factors(folder, capsys):
    assert train(folder, "model.fit={storage: factors}") == 0
    assert "in two matrices" in capsys.readouterr().out
    path = folder / "run" / "checkpoint.npz"
    assert models.load_model(path).params["linear"]["basis"].shape == (448, 64)
    factors, _ = forecast(path, [80])
    assert train(folder, words=["--resume"]) == 0
    matrix, _ = forecast(path, [80])
    for name in factors:
        apart = np.asarray(factors[name]) - np.asarray(matrix[name])
        assert np.abs(apart).max() < 1e-3 * np.asarray(matrix[name]).std()


def test_changes_can_be_predicted(folder):
    assert train(folder, "model.predicts=change") == 0
    found, sample = forecast(folder / "run" / "checkpoint.npz", [80, 83])
    truth, last = sample[1][toys.PRESSURE], sample[0][toys.PRESSURE].isel(time=-1)
    error = np.square(np.asarray(found[toys.PRESSURE]) - truth).mean()
    assert error < 0.5 * np.square(last - truth).mean()


def test_a_climatology_can_be_taken_away(folder):
    change = "wrappers.climatology={years: 0, days: 1}"
    names = (
        "[mean_sea_level_pressure, geopotential, day_progress_sin, day_progress_cos]"
    )
    assert train(
        folder, change, f"data.task.input_variables={names}",
        "data.task.forcing_variables=[day_progress_sin, day_progress_cos]",
    ) == 0  # fmt: skip
    statistics = models.load_statistics(folder / "run" / "stats")
    assert statistics.climatology is not None


def test_gradients_go_on_from_a_fit(folder):
    assert train(folder) == 0
    stages = "stages=[{steps: 2, batch_size: 2, schedule: {peak: 0.00001}}]"
    assert train(
        folder, stages, f"init_from={folder / 'run' / 'checkpoint.npz'}",
        f"output={folder / 'tuned'}",
    ) == 0  # fmt: skip
    before, after = (
        models.load_model(folder / name / "checkpoint.npz").params["linear"]["w"]
        for name in ("run", "tuned")
    )
    assert 0 < np.abs(before - after).max() < 1e-3


def test_a_dry_run_fits_nothing(folder, capsys):
    assert train(folder, words=["--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "GiB of memory" in out and "license  CC0-1.0" in out
    assert not (folder / "run" / "checkpoint.npz").exists()


def test_a_fitted_model_is_replaced_only_when_asked(folder, capsys):
    assert train(folder) == 0
    assert train(folder) == 2
    assert "holds a model already; fit it anew with --resume" in capsys.readouterr().err
    assert train(folder, "model.alpha=1000", words=["--resume"]) == 0
    found = models.load_model(folder / "run" / "checkpoint.npz")
    assert found.model_config.alpha == 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("loss.kind=mae", "loss: without stages the model is fitted in closed form"),
        ("wrappers.noise_level=0.1", "wrappers.noise_level: without stages"),
        ("init_from=a.npz", "init_from: without stages"),
        ("model.input_length=5", "has 3 frame(s), and the model reads 5"),
        ("model.fit={memory: 0.001}", "or set fit.memory (GiB) where there is more"),
        ("model.alpha=-1", "alpha must be 0 or more"),
        ("model={family: lr_multi, alphas: {t: 1}, input_length: 3, output_length: 2}",
         "alphas: t is not predicted"),
        ("data.train.end=2020-01-02", "as a sample needs"),
        ("model={family: residual_cnn}", "stages is empty; a run needs at least one"),
        ("model.fit={candidates: [1, 2], held_out: 0.99}", "are left to fit to"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(folder, capsys, change, message):
    assert train(folder, change) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_missing_values_are_named(folder, capsys):
    weather = toys.weather(frames=90)
    weather["geopotential"][0, 20, 0, 1, 2] = np.nan
    weather.to_netcdf(folder / "weather.nc")
    assert train(folder) == 2
    assert "geopotential" in capsys.readouterr().err
    change = "data.nan_allowed=[geopotential]"
    assert train(folder, change) == 2
    assert "wrappers.nan_cleaning: [geopotential]" in capsys.readouterr().err


def test_several_processes_are_refused(monkeypatch):
    from weatherlib.cli import fitting, solving

    settings = training.TrainConfig(
        output="x",
        data=training.DataConfig(path="x.nc", task="TASK_13"),
        model={"family": "lr"},
    )
    with pytest.raises(ValueError, match="runs in one process, found 2"):
        solving.run(fitting.Fitting, settings, resume=False, dry_run=False, processes=2)


@pytest.mark.parametrize("name", ["lr", "lr_multi", "MultiOutputLinearRegression"])
def test_linear_models_are_registered(name):
    model = registry.find(name)
    assert model.closed_form
    assert registry.find(registry.name_of(model.config_class())) is model


def predict(folder, *words):
    return main.main(
        [
            "predict", "--model", str(folder / "run" / "checkpoint.npz"),
            "--data", str(folder / "weather.nc"), "--out-dir", str(folder),
            "--output", str(folder / "found.nc"), "--overwrite", "--conform",
            *words,
        ]
    )  # fmt: skip


@pytest.mark.parametrize(("asked", "made"), [(None, 2), (3, 4)])
def test_forecasts_are_whole_steps_of_several_frames(fitted, asked, made, capsys):
    words = () if asked is None else ("--steps", str(asked))
    assert predict(fitted, "--init", "2020-01-19T00", *words) == 0
    with xarray.open_dataset(fitted / "found.nc", decode_timedelta=False) as found:
        assert found.sizes["time"] == made
    said = f"Steps: {made} for {asked}, as the model predicts 2 at a time"
    assert (said in capsys.readouterr().out) == (asked in (1, 3))


def test_sets_of_forecasts_are_whole_steps_of_several_frames(fitted, capsys):
    words = ("--init", "2020-01-19T00:2020-01-20T00:12h", "--steps", "3")
    (fitted / "found.nc").unlink(missing_ok=True)
    assert predict(fitted, *words) == 0
    with xarray.open_dataset(fitted / "found.nc", decode_timedelta=False) as found:
        assert {3, 4} <= set(found.sizes.values())
    assert "Steps: 4 for 3" in capsys.readouterr().out


def test_without_a_name_the_first_variable_is_drawn(fitted):
    assert predict(fitted, "--init", "2020-01-19T00") == 0
    assert (fitted / "geopotential_at_500_hPa_step01.png").exists()
