"""The stages of PreDiff from training to forecasts, on the command line."""

import json

import jax
import numpy as np
import pytest
import xarray
import yaml

from tests.prediff import stage_cases
from tests.training import toys
from weatherlib import config as config_lib
from weatherlib import prediff, training
from weatherlib.cli import families, main, models, run_stages, starting
from weatherlib.nn import autoencoder
from weatherlib.prediff import stage_config, stages
from weatherlib.weights import autoencoder_kl, flat, prediff_networks

RANGE = [99000.0, 104000.0]
CODER = {
    "in_channels": 1, "out_channels": 1, "latent_channels": 2,
    "block_out_channels": [4], "layers_per_block": 1, "norm_num_groups": 2,
    "mid_block_add_attention": False,
}  # fmt: skip
SIZES = {
    "base_units": 4, "depth": [1], "num_heads": 1,
    "block_cuboid_size": [[5, 8, 8]], "block_cuboid_strategy": [["l", "l", "l"]],
    "block_cuboid_shift_size": [[0, 0, 0]], "time_embed_use_scale_shift_norm": True,
}  # fmt: skip
NOISE = {"schedule": {"kind": "scaled_linear", "steps": 10, "start": 1e-3, "end": 0.3}}
STAGES = {
    "coder": {
        "family": "prediff_autoencoder", "value_range": RANGE, "autoencoder": CODER,
        "output_length": 2,
    },
    "model": {
        "family": "prediff", "scale_factor": None, "diffusion": NOISE,
        "denoiser": {
            "input_shape": [3, 8, 8, 2], "target_shape": [2, 8, 8, 2], **SIZES
        },
        "sampler": {"steps": 3},
    },
    "reader": {
        "family": "prediff_alignment", "scale_factor": None, "diffusion": NOISE,
        "network": {"input_shape": [2, 8, 8, 2], **SIZES},
    },
}  # fmt: skip


def _settings(folder, name):
    model = dict(STAGES[name])
    if name != "coder":
        model["autoencoder"] = str(folder / "coder" / "checkpoint.npz")
    return {
        "output": str(folder / name),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {
                "input_variables": [toys.PRESSURE],
                "target_variables": [toys.PRESSURE],
                "forcing_variables": [],
                "pressure_levels": [],
                "input_duration": "18h",
            },
            "train": {"end": "2020-01-10"},
            "validation": {"start": "2020-01-10"} if name == "model" else None,
        },
        "model": model,
        "optimizer": {"weight_decay": 0.1, "ema": 0.5},
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 4, "batch_size": 2}],
        "validation": {"every": 4, "samples": 2, "batch_size": 2, "leads": []},
        "log_every": 2,
        "license": "CC0-1.0",
    }


def _train(folder, name, *changes):
    words = [word for change in changes for word in ("--set", change)]
    return main.main(["train", str(folder / f"{name}.yaml"), *words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather, configurations and runs of a few updates."""
    folder = tmp_path_factory.mktemp("prediff")
    toys.weather(lat=8)[[toys.PRESSURE]].to_netcdf(folder / "weather.nc")
    for name in STAGES:
        values = yaml.safe_dump(_settings(folder, name))
        (folder / f"{name}.yaml").write_text(values)
    _, config = families.find_family(STAGES["coder"])
    data = _settings(folder, "coder")["data"]
    task_config = config_lib.from_dict(training.DataConfig, data).task_config()
    (folder / "coder").mkdir()
    stage_cases.save(
        folder / "coder" / "checkpoint.npz",
        config,
        stage_cases.params(config),
        stage_config.PREDIFF_AUTOENCODER,
        task_config=task_config,
    )
    assert _train(folder, "model") == 0
    return folder


@pytest.fixture(scope="module")
def reader(folder):
    """The file of an alignment network that is not trained."""
    coder = stages.open_autoencoder(folder / "coder" / "checkpoint.npz")
    held = stages.open_denoiser(folder / "model" / "checkpoint.npz")
    _, config = families.find_family(STAGES["reader"])
    shared = ("latent", "digest", "scale_factor", "value_range")
    config = config.replace(**{name: held.model_config[name] for name in shared})
    weights = stage_cases.params(config)
    path = folder / "reader.npz"
    name = stage_config.PREDIFF_ALIGNMENT
    stage_cases.save(path, config, weights, name, task_config=coder.task_config)
    return path


def _records(folder, name, kind):
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["kind"] == kind]


def test_each_stage_writes_the_file_of_its_family(folder):
    roots = {
        "coder": {"vae_encoder", "vae_decoder"},
        "model": {"vae_encoder", "vae_decoder", "earthformer_unet"},
    }
    for name, expected in roots.items():
        path = folder / name / "checkpoint.npz"
        assert families.recognise(path) == STAGES[name]["family"]
        held = models.load_model(path)
        assert stage_cases.roots(held.params) == expected
        assert held.model_config.value_range == tuple(RANGE)


def test_the_autoencoder_of_the_model_is_that_of_its_file_to_the_last_bit(folder):
    coder = stages.open_autoencoder(folder / "coder" / "checkpoint.npz")
    held = stages.open_denoiser(folder / "model" / "checkpoint.npz")
    for module, values in coder.params.items():
        for name, value in values.items():
            np.testing.assert_array_equal(held.params[module][name], value)
    config = held.model_config
    assert config.autoencoder == ""
    assert models.load_model(folder / "model" / "checkpoint.npz").time_step == "360min"
    assert config.latent == coder.model_config.autoencoder
    assert config.digest == stages.digest(coder.params)


def test_latent_fields_are_brought_to_unit_spread(folder):
    held = stages.open_denoiser(folder / "model" / "checkpoint.npz")
    model = autoencoder.Autoencoder(sizes=held.model_config.sizes)
    weather = xarray.open_dataset(folder / "weather.nc")[toys.PRESSURE]
    frames = (weather.values[0, :36, ..., None] - RANGE[0]) / (RANGE[1] - RANGE[0])
    encode = jax.jit(lambda p, x: model.encode(p, x).mode())
    latents = encode(held.params, frames.astype(np.float32))
    spread = float(latents.std()) * held.model_config.scale_factor
    assert spread == pytest.approx(1, abs=0.2)


def test_the_loss_judges_in_validation(folder):
    (found,) = _records(folder, "model", "validation")
    assert np.isfinite(found["loss"])
    assert "rmse" not in found


@pytest.mark.slow
def test_forecasts_are_judged_where_leads_are_named(folder, tmp_path):
    changes = [f"output={tmp_path / 'run'}", "validation.leads=[1, 2]"]
    assert _train(folder, "model", *changes) == 0
    (found,) = _records(tmp_path, "run", "validation")
    assert list(found["rmse"][toys.PRESSURE]) == ["1", "2"]


def test_the_loss_of_an_autoencoder_is_told_how_many_updates_were_made():
    stage = training.StageConfig(steps=5)
    for name, expected in (("coder", {"update": 7}), ("reader", None)):
        family = families.FAMILIES[STAGES[name]["family"]]()
        options = run_stages.loss_options(family, stage, 5, 0)
        assert (options(7) if options else None) == expected


@pytest.mark.slow
def test_a_discriminator_learns_from_its_start_on(folder, tmp_path, capsys):
    changes = [
        f"output={tmp_path / 'run'}", "model.loss.adversarial_weight=0.5",
        "model.loss.adversarial_start=2",
        "model.discriminator={width: 4, layers: 1, groups: 2}",
        "data.validation.start=2020-01-10",
    ]  # fmt: skip
    assert _train(folder, "coder", *changes) == 0
    assert "weatherlib predict" not in capsys.readouterr().out
    first, last = _records(tmp_path, "run", "train")
    assert first["losses"]["judge"] == 0
    assert last["losses"]["judge"] > 0
    assert last["options"] == {"update": 3}
    (found,) = _records(tmp_path, "run", "validation")
    assert np.isfinite(found["loss"]) and "rmse" not in found
    held = models.load_model(tmp_path / "run" / "checkpoint.npz")
    assert stage_cases.roots(held.params) == {"vae_encoder", "vae_decoder"}


@pytest.mark.slow
def test_an_alignment_network_is_trained(folder):
    assert _train(folder, "reader") == 0
    held = stages.open_alignment(folder / "reader" / "checkpoint.npz")
    model = stages.open_denoiser(folder / "model" / "checkpoint.npz").model_config
    for name in ("digest", "scale_factor", "latent"):
        assert held.model_config[name] == model[name]
    assert stage_cases.roots(held.params) == {"alignment"}


def test_members_are_drawn_from_one_state(folder):
    words = [
        "predict", "--model", str(folder / "model" / "checkpoint.npz"), "--conform",
        "--data", str(folder / "weather.nc"), "--steps", "3", "--members", "3",
        "--init", "2020-01-12T00", "--output", str(folder / "set.nc"), "--overwrite",
    ]  # fmt: skip
    assert main.main(words) == 0
    with xarray.open_dataset(folder / "set.nc", decode_timedelta=True) as found:
        assert "drawn by the model, 3 members" in found.attrs["perturbation"]
        assert found.attrs["source"].endswith(", PreDiff")
        values = found[toys.PRESSURE].squeeze()
        assert values.sizes["prediction_timedelta"] == 4
        numbers = values.transpose("number", ...).values
    assert np.isfinite(numbers).all()
    assert numbers.min() >= RANGE[0] and numbers.max() <= RANGE[1]
    for one in range(3):
        for other in range(one):
            assert np.abs(numbers[one] - numbers[other]).max() > 1


@pytest.mark.slow
def test_the_one_file_forecasts_alone(folder, tmp_path):
    alone = tmp_path / "model.npz"
    alone.write_bytes((folder / "model" / "checkpoint.npz").read_bytes())
    words = [
        "predict", "--model", str(alone), "--data", str(folder / "weather.nc"),
        "--conform", "--out-dir", str(tmp_path), "--output", str(tmp_path / "out.nc"),
    ]  # fmt: skip
    assert main.main(words) == 0
    with xarray.open_dataset(tmp_path / "out.nc") as found:
        assert found.sizes["time"] == 2


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("model", ["model.autoencoder=''"], "model.autoencoder: missing"),
        ("model", ["model.autoencoder=none.npz"], "none.npz does not exist"),
        (
            "reader",
            ["model.autoencoder={folder}/model/checkpoint.npz"],
            "holds the forecast model (stage 2); the autoencoder (stage 1)",
        ),
        (
            "model",
            ["model.denoiser.target_shape=[2, 8, 8, 3]",
             "model.denoiser.input_shape=[3, 8, 8, 3]"],
            "the autoencoder has 2 latent channels, and the network works on 3",
        ),
        (
            "model",
            ["model.denoiser.target_shape=[2, 4, 8, 2]",
             "model.denoiser.input_shape=[3, 4, 8, 2]"],
            "frames have 8x8 points, and the model works on 4x8",
        ),
        ("model", ["stages.0.rollout=2"], "trained on single steps; 1 would work"),
        ("coder", ["loss.kind=mse"], "has a loss of its own; leave it out"),
        (
            "coder",
            ["validation.metric=rmse", "validation.leads=[1]"],
            "makes no forecasts; use loss",
        ),
        (
            "model",
            ["optimizer.trained=['vae_decoder/*']", "optimizer.frozen=['*']"],
            "comes from another file and is not trained",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_end_with_one_line(
    folder, tmp_path, capsys, name, changes, message
):
    changes = [change.format(folder=folder) for change in changes]
    words = [w for c in [*changes, f"output={tmp_path / 'run'}"] for w in ("--set", c)]
    code = main.main(["train", str(folder / f"{name}.yaml"), *words, "--dry-run"])
    error = capsys.readouterr().err
    assert code == 2
    assert message in error


def test_data_in_their_own_units_need_no_statistics(folder, tmp_path):
    alone = tmp_path / "model.npz"
    alone.write_bytes((folder / "model" / "checkpoint.npz").read_bytes())
    found = models.find_statistics(models.load_model(alone))
    assert float(found.mean_by_level[toys.PRESSURE]) == sum(RANGE) / 2
    assert float(found.stddev_by_level[toys.PRESSURE]) == (RANGE[1] - RANGE[0]) / 2


def test_a_part_is_no_forecast_model(folder, capsys):
    path = str(folder / "coder" / "checkpoint.npz")
    words = ["predict", "--model", path, "--data", str(folder / "weather.nc")]
    assert main.main([*words, "--conform"]) == 2
    assert "holds an autoencoder of PreDiff, which makes no" in capsys.readouterr().err
    assert main.main(["info", path]) == 0
    assert "prediff_autoencoder" in capsys.readouterr().out


def _taken(name, path, extra=(), **options):
    """Returns what training would start from, with parameters of its own beside."""
    held = models.load_model(path if path.suffix == ".npz" else options.pop("of"))
    fresh = {
        module: {key: np.full(value.shape, 7.0, np.float32) for key, value in v.items()}
        for module, v in held.params.items()
    }
    fresh |= {module: {"b": np.full(2, 7.0, np.float32)} for module in extra}
    family = families.FAMILIES[STAGES[name]["family"]]()
    init = training.InitConfig(path=path, **options)
    return starting.take(init, family, fresh, model=held.model_config)


@pytest.mark.parametrize(
    ("name", "own"),
    [("coder", "judge/conv_0"), ("model", "diffusion"), ("reader", "vae_encoder/x")],
)
def test_training_goes_on_from_a_file_of_the_stage(folder, reader, name, own):
    path = reader if name == "reader" else folder / name / "checkpoint.npz"
    found = _taken(name, path, [own])
    held = models.load_model(path).params
    for module, values in held.items():
        if name == "model" and module.startswith("vae_"):
            continue  # These come from the file of the autoencoder.
        jax.tree.map(np.testing.assert_array_equal, found[module], values)
    assert (found[own]["b"] == 7).all()


def test_a_file_of_another_stage_is_no_start(folder, reader):
    path = reader
    family = families.FAMILIES["prediff"]()
    with pytest.raises(ValueError, match=r"holds an alignment network \(stage 3\)"):
        starting.take(training.InitConfig(path=path), family, {}, model=None)
    path = folder / "model" / "checkpoint.npz"
    with pytest.raises(ValueError, match="PreDiff carries no weights over"):
        _taken("model", path, adapt=True)


def test_published_weights_are_taken_up(folder, tmp_path):
    coder = stages.open_autoencoder(folder / "coder" / "checkpoint.npz")
    vae, unet = tmp_path / "vae.safetensors", tmp_path / "unet.safetensors"
    arrays = autoencoder_kl.export(coder.params, coder.model_config.autoencoder)
    flat.write(vae, arrays, format="safetensors", metadata={"format": "pt"})
    held = stages.open_denoiser(folder / "model" / "checkpoint.npz")
    own = {m: v for m, v in held.params.items() if m.startswith("earthformer")}
    arrays = prediff_networks.export(own, held.model_config.denoiser)
    flat.write(unet, arrays, format="safetensors", metadata={"format": "pt"})
    found = _taken("model", unet, of=folder / "model" / "checkpoint.npz")
    for module, values in own.items():
        jax.tree.map(np.testing.assert_array_equal, found[module], values)
    asked = held.model_config.replace(autoencoder=str(vae), digest="")
    config, params = families.FAMILIES["prediff"]().complete(asked, None)
    assert config == held.model_config
    jax.tree.map(np.testing.assert_array_equal, params, coder.params)


@pytest.mark.slow
def test_the_model_opens_as_a_nowcaster_and_guides(folder, reader):
    nowcast = prediff.open_nowcaster(
        folder / "model" / "checkpoint.npz",
        members=2,
        guide=prediff.IntensityGuide(path=reader),
    )
    weather = xarray.open_dataset(folder / "weather.nc")[toys.PRESSURE].values
    found = nowcast(weather[:, :3], 2)
    assert found.shape == (2, 1, 2, 8, 8)
    assert np.isfinite(found).all()
