"""ClimaX from training to direct and iterated forecasts."""

import numpy as np
import pytest
import xarray
import yaml

from tests.cli.climax_runs import forecast, predict
from tests.training import toys
from weatherlib import climax
from weatherlib.cli import families, main, models

VARIABLES = [toys.PRESSURE, "geopotential"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather, a configuration and a finished run of a few updates."""
    folder = tmp_path_factory.mktemp("climax")
    toys.weather().to_netcdf(folder / "weather.nc")
    values = {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {
                "input_variables": VARIABLES,
                "target_variables": VARIABLES,
                "forcing_variables": [],
                "pressure_levels": [500, 850],
                "input_duration": "6h",
            },
            "train": {"end": "2020-01-12"},
        },
        "model": {
            "family": "climax", "img_size": [4, 8], "embed_dim": 8, "num_heads": 2,
            "depth": 1, "lead_hours": [6, 72],
            "default_vars": [toys.PRESSURE, "geopotential_500", "geopotential_850"],
        },
        "optimizer": {"layer_decay": 0.8},
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 2, "batch_size": 2}, {"steps": 2, "rollout": 2}],
        "log_every": 2,
        "license": "CC0-1.0",
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    assert main.main(["train", str(folder / "train.yaml")]) == 0
    return folder


def test_the_checkpoint_is_that_of_its_family(folder, capsys):
    path = folder / "run" / "checkpoint.npz"
    assert families.recognise(path) == "climax"
    model = models.load_model(path)
    assert model.model_config.predicts == "state"
    assert set(model.params) >= {"climax/var_agg/qkv"}
    assert main.main(["info", str(folder / "weather.nc"), "--checkpoint", str(path)])\
        == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "family        climax" in out and "patch_size 2" in out
    assert "geopotential_500" in out


def test_a_forecast_is_iterated(folder, tmp_path):
    assert predict(folder, tmp_path / "f.nc", "--steps", "3") == 0
    found = forecast(tmp_path / "f.nc")
    leads = found["time"].values / np.timedelta64(1, "h")
    assert leads.tolist() == [6, 12, 18]
    values = found[toys.PRESSURE]
    # A state that was mistaken for a change would pile up.
    assert values.min() > 98000 and values.max() < 105000


def test_a_forecast_is_made_directly_at_a_lead(folder, tmp_path):
    start = ["--init", "2020-01-10T00"]
    assert predict(folder, tmp_path / "d.nc", "--lead", "72h", *start) == 0
    direct = forecast(tmp_path / "d.nc")
    assert direct["time"].values / np.timedelta64(1, "h") == [72]
    model = models.load_model(folder / "run" / "checkpoint.npz")
    statistics = models.find_statistics(model)
    import haiku as hk
    import jax

    frame = toys.weather().sel(time=np.timedelta64(9 * 24, "h")).drop_vars("datetime")
    frame = frame.expand_dims("time", axis=1).assign_coords(
        time=np.array([0], "timedelta64[ns]")
    )
    template = frame.assign_coords(
        time=np.array([72], "timedelta64[h]").astype("m8[ns]")
    )

    def run(inputs, template):
        predictor = models.build_predictor(
            model.model_config, model.task_config, statistics
        )
        return predictor(inputs, template, xarray.Dataset())

    expected = jax.jit(hk.transform(run).apply)(model.params, None, frame, template)
    for name in VARIABLES:
        np.testing.assert_allclose(
            direct[name].values, np.asarray(jax.device_get(expected[name].values)),
            rtol=1e-5,
        )  # fmt: skip


def test_a_set_of_direct_forecasts_has_its_lead(folder, tmp_path, caplog):
    starts = ["--init", "2020-01-10T00:2020-01-11T00:12h"]
    assert predict(folder, tmp_path / "s.nc", "--lead", "96h", *starts) == 0
    found = forecast(tmp_path / "s.nc")
    leads = found["prediction_timedelta"].values / np.timedelta64(1, "h")
    assert leads.tolist() == [96]
    assert "lead time 96 h: the weights were trained on 6 to 72 h" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lead", "-6h"], "--lead must be a positive length"),
        (["--lead", "0h"], "--lead must be a positive length"),
        (["--lead", "6h", "--time-step", "6h"], "give one of --lead and --time-step"),
    ],
)
def test_a_lead_that_cannot_be_is_refused(folder, tmp_path, capsys, words, message):
    assert predict(folder, tmp_path / "x.nc", *words) == 2
    assert message in capsys.readouterr().err


def test_other_families_have_no_leads(capsys):
    assert main.main(["predict", "--lead", "72h"]) == 2
    assert "this graphcast model has one length of step" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.patch_size=3", "patch_size 3 does not divide the 4x8 grid"),
        ("model.img_size=[8, 8]", "positions for a 8x8 grid (img_size), found 4x8"),
        ("model.default_vars=[geopotential_500]", "no variable of this model"),
        ("data.task.input_duration=12h", "reads 1 input frame(s) (time_history)"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    folder, tmp_path, capsys, change, message
):
    words = ["--set", change, "--set", f"output={tmp_path / 'run'}"]
    assert main.main(["train", str(folder / "train.yaml"), *words]) == 2
    assert message in capsys.readouterr().err


def test_published_sizes_are_a_family_of_the_command_line():
    family, sizes = families.find_family({"family": "climax"})
    assert sizes == climax.PUBLISHED_CONFIGS["5.625deg"]
    assert family.any_lead(sizes)
    assert not family.any_lead(sizes.replace(time_history=2))
