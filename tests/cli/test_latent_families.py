"""Forecast models in a latent space, from training to forecasts on the command line."""

import dataclasses

import numpy as np
import pytest
import xarray
import yaml

from tests.training import toys
from weatherlib.cli import families, latent_weights, main, models
from weatherlib.latent import CodecConfig, LatentUNetConfig
from weatherlib.weights import autoencoder_kl

CODER = {
    "block_out_channels": [2, 2], "layers_per_block": 1, "norm_num_groups": 1,
    "mid_block_add_attention": False, "latent_channels": 2, "in_channels": 1,
    "out_channels": 1,
}  # fmt: skip
SIZES = {
    "input_length": 2, "output_length": 2, "base_channels": 4, "depth": 1, "groups": 2,
}  # fmt: skip
NAMES = (toys.PRESSURE, "geopotential")
LEVELS = (500, 850)


def _settings(folder, name, model):
    return {
        "output": str(folder / name),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {
                "input_variables": list(NAMES),
                "target_variables": list(NAMES),
                "forcing_variables": [],
                "pressure_levels": list(LEVELS),
                "input_duration": "12h",
            },
            "train": {"end": "2020-01-10"},
            "validation": None,
        },
        "model": model,
        "optimizer": {"weight_decay": 0.1, "ema": 0.5},
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 2, "batch_size": 2}],
        "validation": {"every": 2, "samples": 2, "batch_size": 2, "leads": [2]},
        "log_every": 1,
        "license": "CC0-1.0",
    }


def _train(folder, name, *changes):
    words = [word for change in changes for word in ("--set", change)]
    return main.main(["train", str(folder / f"{name}.yaml"), *words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather and a run of a few updates of a U-Net."""
    folder = tmp_path_factory.mktemp("latent")
    toys.weather()[list(NAMES)].to_netcdf(folder / "weather.nc")
    unet = {
        "family": "latent_unet", **SIZES, "autoencoder": CODER, "freeze_encoder": True,
    }  # fmt: skip
    _run(folder, "unet", unet)
    return folder


@pytest.fixture(scope="module")
def chained(folder):
    """The folder with a run of diffusion that goes on from that of the U-Net."""
    diffusion = {
        "family": "latent_diffusion", **SIZES, "measure_scale": True,
        "vae_pretrained_path": str(folder / "unet" / "checkpoint.npz"),
        "diffusion": {"schedule": {"steps": 10, "start": 1e-3, "end": 0.3}},
        "sampler": {"kind": "ddim", "steps": 3},
    }  # fmt: skip
    _run(folder, "diffusion", diffusion)
    return folder


def _run(folder, name, model):
    values = yaml.safe_dump(_settings(folder, name, model))
    (folder / f"{name}.yaml").write_text(values)
    assert _train(folder, name) == 0


def _predict(folder, name, output, *words):
    return main.main(
        [
            "predict", "--model", str(folder / name / "checkpoint.npz"),
            "--data", str(folder / "weather.nc"), "--init", "2020-01-12T00",
            "--var", toys.PRESSURE, "--out-dir", str(output.parent),
            "--output", str(output), "--overwrite", *words,
        ]
    )  # fmt: skip


def _forecast(path):
    with xarray.open_dataset(path, decode_timedelta=True) as found:
        return found.load()


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("unet", "folder"),
        pytest.param("diffusion", "chained", marks=pytest.mark.slow),
    ],
)
def test_checkpoints_need_no_other_file_and_describe_themselves(
    request, capsys, name, runs
):
    path = request.getfixturevalue(runs) / name / "checkpoint.npz"
    model = models.load_model(path)
    assert model.family == f"latent_{name}"
    config = model.model_config
    assert config.vae_pretrained_path == ""
    assert config.channels == 3 and len(config.lowest) == 3
    roots = {module.split("/")[0] for module in model.params}
    assert {"vae_encoder", "vae_decoder", "channel_adapter"} < roots
    assert main.main(["info", str(path)]) == 0
    assert f"latent_{name}" in capsys.readouterr().out


def test_the_range_is_that_of_the_training_period(folder):
    config = models.load_model(folder / "unet" / "checkpoint.npz").model_config
    statistics = models.load_statistics(folder / "unet" / "stats")
    frames = _forecast(folder / "weather.nc").sel(
        time=slice(None, np.timedelta64(9, "D"))
    )
    frames = frames.isel(time=slice(0, 36))
    part = (frames - statistics.mean_by_level) / statistics.stddev_by_level
    heights = part["geopotential"].transpose(..., "level").values.reshape(-1, 2)
    pressure = part[toys.PRESSURE].values.reshape(-1, 1)
    values = np.concatenate([heights, pressure], axis=1)
    np.testing.assert_allclose(config.lowest, values.min(axis=0), rtol=1e-4)
    np.testing.assert_allclose(config.highest, values.max(axis=0), rtol=1e-4)


@pytest.mark.slow
def test_frozen_parts_stay_as_they_are(chained):
    unet, diffusion = (
        models.load_model(chained / name / "checkpoint.npz").params
        for name in ("unet", "diffusion")
    )
    held = {"vae_encoder": True, "vae_decoder": True, "channel_adapter": False}
    for module, values in unet.items():
        root = module.split("/")[0]
        if root not in held:
            continue
        same = all(np.array_equal(v, diffusion[module][n]) for n, v in values.items())
        assert same == held[root], module


@pytest.mark.slow
def test_the_latent_fields_of_a_measured_scale_have_the_size_of_noise(chained):
    config = models.load_model(chained / "diffusion" / "checkpoint.npz").model_config
    assert not config.measure_scale
    assert config.scale_factor not in (None, 0.18215)


def test_forecasts_roll_on_several_frames_a_step(folder, tmp_path):
    assert _predict(folder, "unet", tmp_path / "unet.nc", "--steps", "6") == 0
    found = _forecast(tmp_path / "unet.nc")
    assert found.sizes["time"] == 6
    assert all(np.isfinite(found[name]).all() for name in NAMES)


@pytest.mark.slow
def test_members_differ_and_the_sampler_is_a_setting(chained, tmp_path):
    def drawn(name, *words):
        output = tmp_path / f"{name}.nc"
        members = ("--members", "3", "--members-per-batch", "2", "--steps", "4")
        assert _predict(chained, "diffusion", output, *members, *words) == 0
        return _forecast(output)[toys.PRESSURE].values

    first = drawn("a")
    assert 3 in first.shape and np.isfinite(first).all()
    axis = first.shape.index(3)
    assert first.std(axis=axis).min() > 0
    fast = drawn("b", "--sampler", "dpmsolver++", "--sampling-steps", "2")
    assert np.abs(fast - first).max() > 0


@pytest.mark.slow
def test_the_same_seed_draws_the_same_members(chained, tmp_path):
    found = []
    for name in ("a", "b"):
        output = tmp_path / f"{name}.nc"
        assert _predict(chained, "diffusion", output, "--members", "2") == 0
        found.append(_forecast(output)[toys.PRESSURE].values)
    np.testing.assert_array_equal(*found)


def test_a_sampler_is_refused_where_nothing_is_drawn(folder, tmp_path, capsys):
    assert _predict(folder, "unet", tmp_path / "f.nc", "--sampler", "ddim") == 2
    assert "does not draw its forecasts" in capsys.readouterr().err


@pytest.mark.slow
def test_samplers_that_do_not_fit_are_refused(chained, tmp_path, capsys):
    output = tmp_path / "f.nc"
    assert _predict(chained, "diffusion", output, "--sampling-steps", "11") == 2
    assert "the model knows 10 steps of noise" in capsys.readouterr().err
    assert _predict(chained, "diffusion", output, "--sampler", "dpm++") == 2
    assert "invalid choice 'dpm++'" in capsys.readouterr().err
    name = "model.sampler.kind=dpmsolver"
    assert _train(chained, "diffusion", name, f"output={tmp_path / 'run'}") == 2
    assert "dpmsolver" in capsys.readouterr().err


def test_weather_outside_of_the_range_is_refused(folder, tmp_path, capsys):
    weather = _forecast(folder / "weather.nc")
    values = weather[toys.PRESSURE].transpose("time", ...).values
    values[43, 0, 0, 0] += 4000.0  # a view of the data
    weather.to_netcdf(tmp_path / "far.nc")
    words = ["--data", str(tmp_path / "far.nc")]
    assert _predict(folder, "unet", tmp_path / "f.nc", *words) == 2
    message = capsys.readouterr().err
    assert f"{toys.PRESSURE} is 1.05" in message
    assert "above the highest value that the model accepts" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.vae_type=vq", "vae_type"),
        ("model.autoencoder=null", "none are downloaded unasked"),
        ("model.vae_pretrained_path=nowhere", "nowhere does not exist"),
        ("model.channels=4", "the data have 3 channel"),
        ("model.loss_on=latents", "loss_on latents trains no autoencoder"),
        ("model.measure_scale=true", "needs trained weights"),
        ("data.path=odd.nc", "multiples of 2, found 3x8"),
        ("optimizer.trained=['vae_encoder/*']", "is not trained"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(
    folder, tmp_path, capsys, change, message
):
    toys.weather(lat=3)[list(NAMES)].to_netcdf(tmp_path / "odd.nc")
    change = change.replace("odd.nc", str(tmp_path / "odd.nc"))
    assert _train(folder, "unet", change, f"output={tmp_path / 'run'}") == 2
    err = capsys.readouterr().err
    assert message in err, err


@pytest.mark.slow
def test_only_what_is_not_frozen_comes_from_a_file_to_start_from(folder, tmp_path):
    start = folder / "unet" / "checkpoint.npz"
    output = tmp_path / "run"
    changes = (f"init_from={start}", f"output={output}", "schedule.peak=0.0")
    assert _train(folder, "unet", *changes, "optimizer.weight_decay=0.0") == 0
    before, after = (models.load_model(p / "checkpoint.npz").params
                     for p in (folder / "unet", output))  # fmt: skip
    for module, values in before.items():
        for name, value in values.items():
            np.testing.assert_allclose(after[module][name], value, atol=1e-7)


def test_published_folders_are_read_and_mismatches_named(goldens, tmp_path):
    folder = goldens / "vision" / "sd_vae_legacy_names"
    asked = LatentUNetConfig(vae_pretrained_path=str(folder))
    config, params = latent_weights.complete(asked, 2)
    assert config.autoencoder == autoencoder_kl.load(folder).config
    assert config.channels == 2 and not config.vae_pretrained_path
    assert {m.split("/")[0] for m in params} == {"vae_encoder", "vae_decoder"}
    other = CodecConfig(
        vae_pretrained_path=str(folder),
        autoencoder=dataclasses.replace(config.autoencoder, latent_channels=8),
    )
    with pytest.raises(ValueError, match="8"):
        latent_weights.complete(other, 3)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        latent_weights.complete(CodecConfig(vae_pretrained_path=str(empty)), 1)


def test_weights_of_other_channels_are_refused(folder):
    path = str(folder / "unet" / "checkpoint.npz")
    with pytest.raises(ValueError, match="channel_adapter/from_colours"):
        latent_weights.complete(CodecConfig(vae_pretrained_path=path), 2)
    with pytest.raises(ValueError, match="no representation autoencoder"):
        latent_weights.complete(
            CodecConfig(vae_type="rae", vae_pretrained_path=path), 3
        )
    with pytest.raises(FileNotFoundError, match="no folder 'google/nothing'"):
        asked = CodecConfig(vae_type="rae", rae_encoder_config_path="google/nothing")
        latent_weights.complete(asked, 3)


def test_families_say_what_is_frozen():
    family = families.FAMILIES["latent_unet"]()
    config = LatentUNetConfig(channels=2, freeze_decoder=True)
    assert family.frozen(config, "vae_decoder/mid")
    assert not family.frozen(config, "vae_encoder/mid")
    assert not family.frozen(config, "latent_unet/unet")
