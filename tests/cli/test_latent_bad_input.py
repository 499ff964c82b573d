"""Weights and sizes of latent models that do not fit: one clear line, nothing made."""

import json
import shutil

import pytest
import yaml

from tests.training import toys
from weatherlib.cli import main

TASK = {
    "input_variables": [toys.PRESSURE],
    "target_variables": [toys.PRESSURE],
    "forcing_variables": [],
    "pressure_levels": [],
    "input_duration": "12h",
}
SIZES = {"input_length": 2, "output_length": 2}
FAMILIES = {
    "sd": {"family": "latent_unet", **SIZES, "vae_pretrained_path": "vae"},
    "rae": {
        "family": "latent_diffusion",
        **SIZES,
        "vae_type": "rae",
        "rae_encoder_cls": "MAEwNorm",
        "rae_encoder_config_path": "mae",
        "rae_encoder_input_size": 32,
    },
    "direct": {"family": "stage1_direct", **SIZES, "backbone": "mae"},
}


@pytest.fixture(scope="module")
def weather(tmp_path_factory):
    path = tmp_path_factory.mktemp("weather") / "weather.nc"
    toys.weather(20, lat=16, lon=16)[[toys.PRESSURE]].to_netcdf(path)
    return path


@pytest.fixture
def folder(goldens, tmp_path, monkeypatch):
    """A working folder with published weights in `vae` and `mae`."""
    held = {"vae": goldens / "vision" / "sd_vae_legacy_names"}
    held["mae"] = goldens / "vision" / "vit_mae"
    for name, source in held.items():
        shutil.copytree(source, tmp_path / name, copy_function=shutil.copyfile)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _in_shards(folder, stem):
    """Leaves the first of two shards, which holds all of the weights there are."""
    names = [f"{stem}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    (folder / f"{stem}.safetensors").rename(folder / names[0])
    places = {"a": names[0], "b": names[1]}
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))


def _error(folder, weather, family, capsys, **changes):
    """Returns what is said about a training run that cannot begin."""
    values = {
        "output": str(folder / "run"),
        "data": {"path": str(weather), "task": TASK, "train": {"end": "2020-01-05"}},
        "model": FAMILIES[family] | changes,
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 1, "batch_size": 1}],
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    assert main.main(["train", str(folder / "train.yaml")]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert not (folder / "run" / "checkpoint.npz").exists()
    # What lacks may be listed after it.
    return next(x for x in message.splitlines() if x.startswith("weatherlib: error: "))


@pytest.mark.parametrize(
    ("family", "name", "changes", "message"),
    [
        ("sd", "vae", {"layers_per_block": 2}, "arrays are missing"),
        ("rae", "mae", {"num_hidden_layers": 3}, "arrays are missing"),
        ("direct", "mae", {"hidden_size": 64}, "misshapen"),
    ],
)
def test_a_config_that_does_not_match_its_weights_is_named(
    folder, weather, capsys, family, name, changes, message
):
    _edit(folder / name / "config.json", **changes)
    found = _error(folder, weather, family, capsys)
    assert message in found and name in found


@pytest.mark.parametrize(
    ("family", "name", "stem"),
    [("sd", "vae", "diffusion_pytorch_model"), ("rae", "mae", "model"),
     ("direct", "mae", "model")],
)  # fmt: skip
def test_missing_shards_are_named(folder, weather, capsys, family, name, stem):
    _in_shards(folder / name, stem)
    found = _error(folder, weather, family, capsys)
    assert "1 of 2 shards are missing" in found
    assert f"{stem}-00002-of-00002.safetensors" in found


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (
            "rae",
            {"rae_encoder_input_size": 30},
            "model.rae_encoder_input_size: patch size",
        ),
        ("rae", {"rae_encoder_cls": "CLIPwNorm"}, "CLIPwNorm"),
        (
            "rae",
            {"rae_encoder_cls": "SigLIP2wNorm"},
            "model.rae_encoder_cls SigLIP2wNorm does not go",
        ),
        ("direct", {"input_size": [30, 32]}, "input_size: patch size 16 does not"),
        ("direct", {"backbone": "nowhere"}, "there is no folder 'nowhere'"),
        ("rae", {"sampler": {"kind": "euler"}}, "euler"),
        ("sd", {"vae_pretrained_path": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_names_and_sizes_that_do_not_fit_are_named(
    folder, weather, capsys, family, changes, message
):
    assert message in _error(folder, weather, family, capsys, **changes)
