"""Forecasts in the latent space of vision encoders, from training to rolling on."""

import dataclasses

import numpy as np
import pytest
import xarray
import yaml

from tests.latent import codecs
from tests.training import toys
from weatherlib.cli import main, models
from weatherlib.latent import latent_statistics

NAMES = (toys.PRESSURE, "geopotential")
ENCODER, DECODER = "vision_encoder", "vision_decoder"
SIZES = {
    "vae_type": "rae", "input_length": 2, "output_length": 2, "base_channels": 4,
    "depth": 2, "groups": 2,
}  # fmt: skip
TINY_DIT = {
    "hidden_size": 8, "depth": 1, "num_heads": 2, "head_hidden_size": 8,
    "head_depth": 1, "head_num_heads": 2,
}  # fmt: skip


def _write(folder, name, model, **changes):
    values = {
        "output": str(folder / name),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {
                "input_variables": list(NAMES),
                "target_variables": list(NAMES),
                "forcing_variables": [],
                "pressure_levels": [500, 850],
                "input_duration": "12h",
            },
            "train": {"end": "2020-01-12"},
        },
        "model": model,
        "optimizer": {"weight_decay": 0.1, "ema": 0.5},
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 2, "batch_size": 2}],
        "log_every": 1,
        "license": "CC0-1.0",
        **changes,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))


def _train(folder, name, *changes):
    words = [word for change in changes for word in ("--set", change)]
    return main.main(["train", str(folder / f"{name}.yaml"), *words])


def _diffusion(folder, denoiser, kind):
    """Returns the model of a diffusion run, on what the U-Net run has trained."""
    return {
        "family": "latent_diffusion", **SIZES, "denoiser": denoiser, "dit": TINY_DIT,
        "vae_pretrained_path": str(folder / "unet" / "checkpoint.npz"),
        "latent_statistics": kind,
        "diffusion": {"schedule": {"steps": 10, "start": 1e-3, "end": 0.3}},
        "sampler": {"kind": "ddim", "steps": 2},
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather and a latent U-Net of a few updates, its decoder trained.

    The latent fields are 2 x 2, which is filled up to the 4 x 4 that its depth needs.
    """
    folder = tmp_path_factory.mktemp("rae")
    toys.weather()[list(NAMES)].to_netcdf(folder / "weather.nc")
    unet = {
        "family": "latent_unet", **SIZES,
        "representation": dataclasses.asdict(codecs.SMALL_RAE),
    }  # fmt: skip
    _write(folder, "unet", unet)
    assert _train(folder, "unet") == 0
    return folder


def _run(folder, name, kind):
    """Trains a diffusion model unless that was done, and returns its checkpoint."""
    path = folder / name / "checkpoint.npz"
    if not path.exists():
        _write(folder, name, _diffusion(folder, name, kind))
        assert _train(folder, name) == 0
    return path


def _forecast(folder, name, output, *words):
    path = folder / name / "checkpoint.npz"
    command = ["predict", "--model", str(path), "--data", str(folder / "weather.nc")]
    command += ["--init", "2020-01-12T00", "--steps", "4", "--var", toys.PRESSURE]
    command += ["--out-dir", str(output.parent), "--output", str(output), *words]
    assert main.main(command) == 0
    with xarray.open_dataset(output, decode_timedelta=True) as found:
        return found[list(NAMES)].load()


def _same(first, second, root):
    """Returns whether parameters under a root are the same to the last bit."""
    held = [m for m in first if m.split("/")[0] == root]
    assert held
    return all(
        np.array_equal(value, second[m][n])
        for m in held
        for n, value in first[m].items()
    )


def test_a_unet_forecasts_on_tokens_and_rolls_on(folder, tmp_path):
    model = models.load_model(folder / "unet" / "checkpoint.npz")
    assert model.model_config.is_encoder_frozen
    assert model.model_config.latent_statistics == "none"
    roots = {module.split("/")[0] for module in model.params}
    assert roots == {ENCODER, DECODER, "latent_unet"}
    found = _forecast(folder, "unet", tmp_path / "unet.nc")
    assert found.sizes["time"] == 4
    assert all(np.isfinite(found[name]).all() for name in NAMES)


@pytest.mark.parametrize(
    ("denoiser", "kind"),
    [
        ("dh_dit", "channel"),
        pytest.param("dit", "position", marks=pytest.mark.slow),
        pytest.param("unet", "none", marks=pytest.mark.slow),
    ],
)
def test_denoisers_draw_futures_on_tokens_and_roll_on(folder, tmp_path, denoiser, kind):
    name = _run(folder, denoiser, kind).parent.name
    before, after = (
        models.load_model(folder / n / "checkpoint.npz").params for n in ("unet", name)
    )
    assert _same(before, after, ENCODER) and _same(before, after, DECODER)
    members = ("--members", "3", "--seed", "1")
    found = _forecast(folder, name, tmp_path / "members.nc", *members)
    values = found[toys.PRESSURE].values
    assert np.isfinite(values).all()
    assert values.std(axis=values.shape.index(3)).min() > 0


def test_measured_statistics_are_kept_and_go_on_with_the_checkpoint(folder, tmp_path):
    path = _run(folder, "dh_dit", "channel")
    model = models.load_model(path)
    assert model.model_config.latent_statistics == "channel"
    assert model.model_config.scale_factor is None
    held = model.params[latent_statistics.STATISTICS]
    assert held["mean"].shape == held["scale"].shape == (8, 1, 1)
    assert np.all(held["scale"] > 0) and np.abs(held["mean"]).max() > 1e-3
    # From there on they come along, and are not measured again.
    chained = _diffusion(folder, "dh_dit", "none")
    chained["vae_pretrained_path"] = str(path)
    _write(folder, "chained", chained, stages=[{"steps": 1, "batch_size": 2}])
    assert _train(folder, "chained", f"output={tmp_path / 'chained'}") == 0
    after = models.load_model(tmp_path / "chained" / "checkpoint.npz")
    assert after.model_config.latent_statistics == "channel"
    assert _same(model.params, after.params, latent_statistics.STATISTICS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("model.vae_pretrained_path=''", "model.rae_encoder_config_path=mae"),
            "there is no folder 'mae' with weights of the encoder",
        ),
        (("model.latent_statistics=all",), "latent_statistics"),
        (
            ("model.latent_statistics_path=nowhere.npz",),
            "nowhere.npz does not exist",
        ),
        (
            ("model.freeze_encoder=false",),
            "latent_statistics are those of an encoder that is kept",
        ),
        (("model.denoiser=transformer",), "denoiser"),
        (("model.sampler.kind=euler",), "euler"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(
    folder, tmp_path, capsys, changes, message
):
    _write(folder, "bad", _diffusion(folder, "dit", "channel"))
    assert _train(folder, "bad", *changes, f"output={tmp_path / 'run'}") == 2
    assert message in capsys.readouterr().err
