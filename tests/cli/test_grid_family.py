"""A grid model from training to a scored set of forecasts, climatology removed."""

import json
import shutil

import numpy as np
import pytest
import xarray

from tests.cli import grid_runs
from tests.training import toys
from weatherlib.cli import families, main, models
from weatherlib.data_utils import harmonics


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather, a configuration and a finished run of a few updates."""
    return grid_runs.make(tmp_path_factory.mktemp("grid"))


def _train(folder, *words):
    return main.main(["train", str(folder / "train.yaml"), *words])


def test_the_checkpoint_is_that_of_its_family(folder, capsys):
    path = folder / "run" / "checkpoint.npz"
    assert families.recognise(path) == "residual_cnn"
    model = models.load_model(path)
    assert model.family == "residual_cnn"
    assert model.time_step == "360min"
    assert set(model.params) >= {"residual_cnn/member_0/embed"}
    assert main.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "residual_cnn" in out and "dilations 1" in out and "6 h" in out


def test_the_bundled_checkpoint_is_still_graphcast():
    assert models.load_model().family == "graphcast"


def test_statistics_describe_what_is_left(folder):
    statistics = models.load_statistics(folder / "run" / "stats")
    assert statistics.climatology.attrs["days"] == 1
    frames = xarray.open_dataset(folder / "weather.nc")[toys.PRESSURE]
    inside = frames.isel(time=slice(0, 44))
    mean = float(statistics.mean_by_level[toys.PRESSURE])
    assert mean == pytest.approx(float(inside.mean()), rel=1e-5)
    assert float(statistics.stddev_by_level[toys.PRESSURE]) < float(inside.std())


def test_a_set_of_forecasts_is_made_at_the_step_of_training(folder, capsys):
    words = [
        "predict", "--model", str(folder / "run" / "checkpoint.npz"), "--conform",
        "--data", str(folder / "weather.nc"), "--steps", "2",
        "--init", "2020-01-12T00:2020-01-13T00:12h",
        "--output", str(folder / "set.nc"), "--overwrite",
    ]  # fmt: skip
    assert main.main(words) == 0
    with xarray.open_dataset(folder / "set.nc", decode_timedelta=True) as found:
        leads = found["prediction_timedelta"].values / np.timedelta64(1, "h")
        assert leads.tolist() == [6, 12]
        assert found.attrs["source"].endswith(", residual CNN")
        values = found[toys.PRESSURE]
        assert np.isfinite(values).all()
        assert values.min() > 98000 and values.max() < 105000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lead", "72h"], "has one length of step, 6 h; leave --lead out"),
        (
            ["--init", "2020-01-12T00", "--time-step", "3h"],
            "--time-step 3h: the step of the checkpoint is 6 h; leave --time-step out",
        ),
        (["--time-step", "1d"], "--time-step 1d: the step of the checkpoint is 6 h"),
        (["--time-step", "360min", "--var", "x"], "no variable 'x'"),
    ],
)
def test_a_step_that_is_not_that_of_training_is_refused(
    folder, tmp_path, capsys, words, message
):
    path = folder / "run" / "checkpoint.npz"
    start = ["predict", "--model", str(path), "--data", str(folder / "weather.nc")]
    start += ["--conform", "--out-dir", str(tmp_path)]
    assert main.main([*start, *words]) == 2
    assert message in capsys.readouterr().err


def test_statistics_without_their_climatology_are_refused(folder, tmp_path, capsys):
    shutil.copy(folder / "run" / "checkpoint.npz", tmp_path)
    shutil.copytree(folder / "run" / "stats", tmp_path / "stats")
    (tmp_path / "stats" / harmonics.FILE).unlink()
    words = ["--data", str(folder / "weather.nc"), "--conform"]
    path = str(tmp_path / "checkpoint.npz")
    assert main.main(["predict", "--model", path, *words]) == 2
    assert "climatology_harmonics.nc: missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("wrappers.climatology={years: 0, days: 2}", "waves 0 years, 1 days, while"),
        ("wrappers.climatology=null", "asks for none; delete the folder"),
        ("wrappers.climatology={years: 1}", "lacks year_progress_sin, year_progress"),
    ],
)
def test_another_climatology_than_that_of_the_folder_is_refused(
    folder, capsys, change, message
):
    assert _train(folder, "--set", change, "--dry-run") == 2
    assert message in capsys.readouterr().err


def test_statistics_with_a_climatology_can_be_shared(folder, tmp_path):
    words = [
        f"output={tmp_path / 'other'}", f"data.statistics={folder / 'run' / 'stats'}"
    ]  # fmt: skip
    sets = [word for change in words for word in ("--set", change)]
    assert _train(folder, *sets, "--dry-run") == 0
    copied = {path.name for path in (tmp_path / "other" / "stats").iterdir()}
    assert harmonics.FILE in copied
    source = json.loads((tmp_path / "other" / "stats" / "source.json").read_text())
    assert source["time_step"] == "360 minutes"


def test_a_wrong_size_is_named(folder, capsys):
    assert _train(folder, "--set", "model.kernel=4", "--dry-run") == 2
    assert "kernel must be an odd number" in capsys.readouterr().err
