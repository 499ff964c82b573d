"""Folders of vision encoders and autoencoders on the command line."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.latent import codecs
from weatherlib import checkpoint, hub, latent, task
from weatherlib.cli import main
from weatherlib.latent import codec
from weatherlib.weights import autoencoder_kl, flat, folders, vision

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens" / "vision"
FOLDERS = {
    "sd_vae_legacy_names": ("KL autoencoder", autoencoder_kl.load),
    "siglip2": ("vision encoder", vision.load_encoder),
    "vit_mae": ("vision encoder", vision.load_encoder),
    "timm_vit_giant_small": ("vision encoder", vision.load_encoder),
}


def _convert(*words):
    return main.main(["weights", "convert", *map(str, words)])


def _same(found, expected):
    assert set(found) == set(expected)
    for module, held in expected.items():
        for name, array in held.items():
            np.testing.assert_array_equal(found[module][name], array)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_becomes_npz_and_returns_bit_by_bit(name, tmp_path, capsys):
    title, load = FOLDERS[name]
    source = GOLDENS / name
    other, back = tmp_path / "npz", tmp_path / "back"
    assert _convert(source, other, "--format", "npz") == 0
    assert title in capsys.readouterr().out
    assert _convert(other, back) == 0
    expected = load(source)
    for folder in (other, back):
        found = load(folder)
        assert found.config == expected.config
        _same(found.params, expected.params)
    file = folders.read(source).files[0]
    arrays = flat.read(source / file).arrays
    for key, array in flat.read(back / file).arrays.items():
        assert array.tobytes() == np.ascontiguousarray(arrays[key]).tobytes()
    assert _convert(source, tmp_path / "one.npz") == 0
    assert set(flat.read(tmp_path / "one.npz").arrays) == set(arrays)


def test_a_folder_is_described_with_its_sizes(capsys):
    assert main.main(["info", str(GOLDENS / "sd_vae_legacy_names")]) == 0
    out = capsys.readouterr().out
    held = autoencoder_kl.load(GOLDENS / "sd_vae_legacy_names")
    count = sum(a.size for v in held.params.values() for a in v.values())
    assert f"{count:,}" in out and "legacy" in out and "0.18215" in out
    assert main.main(["info", str(GOLDENS / "vit_mae")]) == 0
    assert "beside" in capsys.readouterr().out


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path, capsys):
    source = GOLDENS / "siglip2"

    def said(folder):
        assert main.main(["info", str(folder)]) == 2
        # Arrays that do not fit are listed below the message.
        return capsys.readouterr().err.splitlines()[0]

    other = tmp_path / "other"
    shutil.copytree(source, other)
    config = json.loads((other / "config.json").read_text())
    sizes = config.get("vision_config", config)
    sizes["intermediate_size"] += 8
    (other / "config.json").write_text(json.dumps(config))
    assert "Does config.json belong to them?" in said(other)
    shards = tmp_path / "shards"
    shards.mkdir()
    shutil.copy(source / "config.json", shards)
    places = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    index = json.dumps({"weight_map": places})
    (shards / "model.safetensors.index.json").write_text(index)
    (shards / "model-1.safetensors").touch()
    assert "1 of 2 shards are missing: 'model-2.safetensors'" in said(shards)
    (shards / "model.safetensors.index.json").unlink()
    assert "no weights" in said(shards)
    assert _convert(source, tmp_path / "x.txt") == 2
    assert "into a folder" in capsys.readouterr().err
    assert _convert(source, source) == 2
    assert "choose another name" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["sd", "rae"])
def test_the_autoencoder_of_a_checkpoint_becomes_a_published_folder(kind, tmp_path):
    settings = codecs.SIZES[kind] | {"channels": 3}
    config = latent.LatentAutoencoderConfig(**settings)
    made = codec.make(config)
    params = {m: dict(v) for m, v in codecs.drawn(made).items()}
    value = latent.LatentAutoencoderCheckPoint(
        architecture=latent.LATENT_AUTOENCODER,
        params=params,
        model_config=config,
        task_config=task.TASK,
        description="",
        license="",
    )
    checkpoint.save(tmp_path / "checkpoint.npz", value)
    folder = tmp_path / "folder"
    assert _convert(tmp_path / "checkpoint.npz", folder) == 0
    found = {}
    if kind == "sd":
        loaded = autoencoder_kl.load(folder)
        assert loaded.config == made.sizes
        found = loaded.params
    else:
        loaded = vision.load_encoder(folder)
        assert loaded.config == made.sizes.encoder
        decoder = vision.load_decoder(
            folder / "decoder.safetensors", made.sizes.decoder
        )
        found = {**loaded.params, **decoder.params}
    _same(found, params)


def test_published_autoencoders_come_with_their_configuration():
    for name in ("stable-diffusion-v1-5", "sd-vae-mse", "sd-vae-ema"):
        entry = hub.find(name)
        files = [file.name for file in entry.files]
        assert files == ["config.json", "diffusion_pytorch_model.safetensors"]
        assert entry.can_be_fetched
    assert latent.CodecConfig().vae_model_id in hub.entries()
