"""Tests of published weights of KL autoencoders."""

import json
import shutil

import numpy as np
import pytest

from tests.weights import torch_writer
from weatherlib.nn import autoencoder_config
from weatherlib.weights import autoencoder_kl, errors, flat, folders, safetensors


@pytest.fixture
def folder(goldens, tmp_path):
    """A copy of the published folder that a test may change."""
    shutil.copytree(goldens / "vision" / "sd_vae_legacy_names", tmp_path / "vae")
    return tmp_path / "vae"


@pytest.fixture
def torch_file(goldens):
    """A file of PreDiff."""
    return goldens / "prediff" / "vae.pt"


def _assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


def test_a_folder_is_loaded_strictly_and_exported_bit_by_bit(folder):
    loaded = autoencoder_kl.load(folder)
    assert loaded.naming == "legacy"
    assert loaded.config == autoencoder_config.AutoencoderConfig(
        block_out_channels=(16, 16, 32, 32), layers_per_block=1, norm_num_groups=8
    )
    published = safetensors.read(folder / "diffusion_pytorch_model.safetensors").arrays
    _assert_same(
        autoencoder_kl.export(loaded.params, loaded.config, naming="legacy"), published
    )


def test_a_torch_file_is_loaded_strictly_and_exported_bit_by_bit(torch_file):
    loaded = autoencoder_kl.load(torch_file, norm_num_groups=4)
    assert loaded.naming == "legacy"
    assert loaded.outside == loaded.beside == ()
    assert loaded.config == autoencoder_config.AutoencoderConfig(
        in_channels=1,
        out_channels=1,
        latent_channels=8,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        scaling_factor=1.0,
        sample_size=128,
    )
    _assert_same(
        autoencoder_kl.export(loaded.params, loaded.config, naming="legacy"),
        flat.read(torch_file).arrays,
    )


def test_the_published_model_of_prediff_has_our_arrays(goldens):
    path = goldens / "prediff" / "published_params.json"
    held = json.loads(path.read_text())["vae"]
    names = autoencoder_kl.map_of(autoencoder_config.PREDIFF_VAE, "legacy")
    expected = {n: tuple(row["shape"]) for n, row in held["state_dict"].items()}
    assert names.source_shapes == expected
    assert len(expected) == 248
    assert sum(np.prod(s) for s in expected.values()) == held["n_params"] == 84_499_393
    outline = {
        n: np.broadcast_to(np.zeros((), np.float32), s) for n, s in expected.items()
    }
    assert autoencoder_kl.infer_config(outline) == autoencoder_config.PREDIFF_VAE


def test_the_published_model_of_stable_diffusion_is_inferred(goldens):
    path = goldens / "vision" / "param_shapes_sd_v1_5_vae.json"
    held = json.loads(path.read_text())
    outline = {
        n: np.broadcast_to(np.zeros((), np.float32), row["shape"])
        for n, row in held["tensors"].items()
    }
    assert autoencoder_kl.infer_config(outline) == autoencoder_config.SD_VAE
    assert autoencoder_kl.looks_like(outline)
    assert autoencoder_kl.describe(outline) == (
        "KL autoencoder of 3 channels to 4, 8 times smaller, 83,653,863 parameters"
    )
    found = autoencoder_kl.read_config(held["config"])
    assert found == autoencoder_config.SD_VAE


@pytest.mark.parametrize("naming", ["current", "legacy"])
def test_a_folder_that_we_write_is_read_back_bit_by_bit(folder, tmp_path, naming):
    first = autoencoder_kl.load(folder)
    sizes = first.config.replace(shift_factor=0.25)
    autoencoder_kl.write_folder(tmp_path / "new", first.params, sizes, naming=naming)
    again = autoencoder_kl.load(tmp_path / "new")
    assert again.config == sizes
    assert again.naming == naming
    for module, held in first.params.items():
        _assert_same(again.params[module], held)
    names = set(
        flat.read(tmp_path / "new" / "diffusion_pytorch_model.safetensors").arrays
    )
    last = "query" if naming == "legacy" else "to_q"
    assert f"decoder.mid_block.attentions.0.{last}.weight" in names


def test_attention_as_convolutions_is_the_same(folder):
    """As in the oldest files."""
    path = folder / "diffusion_pytorch_model.safetensors"
    arrays = dict(safetensors.read(path).arrays)
    expected = autoencoder_kl.load(folder).params
    for name, array in arrays.items():
        arrays[name] = np.array(array)
        if ".attentions.0." in name and array.ndim == 2:
            arrays[name] = arrays[name][:, :, None, None]
    safetensors.write(path, arrays)
    found = autoencoder_kl.load(folder).params
    for module, held in expected.items():
        _assert_same(found[module], held)


@pytest.mark.parametrize("prefix", ["first_stage_model.", "torch_nn_module.", "vae."])
def test_the_autoencoder_is_found_in_a_file_of_a_whole_model(
    torch_file, tmp_path, prefix
):
    arrays = flat.read(torch_file).arrays
    held = {f"{prefix}{name}": np.array(array) for name, array in arrays.items()}
    held |= {"betas": np.zeros(3, np.float32)}
    flat.write(tmp_path / "x.npz", held, format="npz")
    loaded = autoencoder_kl.load(tmp_path / "x.npz", norm_num_groups=4)
    assert loaded.outside == ("betas",)
    _assert_same(
        autoencoder_kl.export(loaded.params, loaded.config, naming="legacy"), arrays
    )


def test_weights_in_shards_are_one(folder):
    path = folder / "diffusion_pytorch_model.safetensors"
    expected = autoencoder_kl.load(folder).params
    arrays = {n: np.array(a) for n, a in safetensors.read(path).arrays.items()}
    path.unlink()
    parts = (
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00002-of-00002.safetensors",
    )
    places = {name: parts[i % 2] for i, name in enumerate(arrays)}
    for part in parts:
        chosen = {n: a for n, a in arrays.items() if places[n] == part}
        safetensors.write(folder / part, chosen)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    found = autoencoder_kl.load(folder).params
    for module, held in expected.items():
        _assert_same(found[module], held)
    (folder / parts[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 shards are missing: .*00002"):
        autoencoder_kl.load(folder)


def test_a_folder_with_a_torch_file_is_read(folder):
    path = folder / "diffusion_pytorch_model.safetensors"
    expected = autoencoder_kl.load(folder).params
    arrays = {n: np.array(a) for n, a in safetensors.read(path).arrays.items()}
    path.unlink()
    torch_writer.save(folder / "diffusion_pytorch_model.bin", arrays)
    found = autoencoder_kl.load(folder).params
    for module, held in expected.items():
        _assert_same(found[module], held)


def test_what_differs_is_named_on_either_side(folder):
    sizes = autoencoder_kl.load(folder).config
    path = folder / "diffusion_pytorch_model.safetensors"
    arrays = {n: np.array(a) for n, a in safetensors.read(path).arrays.items()}
    del arrays["quant_conv.bias"]
    arrays["discriminator.weight"] = np.zeros(2, np.float32)
    arrays["decoder.conv_in.bias"] = np.zeros(2, np.float32)
    safetensors.write(path, arrays)
    with pytest.raises(errors.MismatchError) as caught:
        autoencoder_kl.load(folder)
    assert set(caught.value.missing) == {"quant_conv.bias"}
    assert set(caught.value.extra) == {"discriminator.weight"}
    assert set(caught.value.misshapen) == {"decoder.conv_in.bias"}
    with pytest.raises(errors.MismatchError, match="the parameters: "):
        autoencoder_kl.export({}, sizes)


def _edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers_per_block": 2}, "arrays are missing"),
        ({"_class_name": "AutoencoderTiny"}, "describes 'AutoencoderTiny', not an"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"]}, "has AttnDownEncoder"),
        ({"latents_mean": [0.0]}, "latents_mean is set"),
        ({"norm_num_groups": 5}, "config.json: .*5 does not divide the 16 channels"),
        ({"scaling_factor": "much"}, "config.json: scaling_factor"),
        ({"act_fn": "tanh"}, "config.json: "),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, changes, message):
    _edit(folder, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        autoencoder_kl.load(folder)
    assert str(folder) in str(caught.value)


def test_a_folder_that_lacks_something_says_what(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file"):
        autoencoder_kl.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        folders.read(tmp_path / "nowhere")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"wanted diffusion_pytorch_model.saf"):
        autoencoder_kl.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has a config.json; it holds"):
        autoencoder_kl.load(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "\x00", "[" * 100_000])
def test_a_damaged_config_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(errors.DamagedError, match=r"config\.json: "):
        autoencoder_kl.load(folder)


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": 3}, {"weight_map": {"a": "../x.safetensors"}}]
)
def test_an_index_that_leads_elsewhere_is_refused(folder, index):
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    path = folder / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(errors.DamagedError, match="no weight_map of names to files"):
        autoencoder_kl.load(folder)


def test_a_file_of_something_else_is_refused(tmp_path):
    flat.write(tmp_path / "x.npz", {"betas": np.zeros(3, np.float32)}, format="npz")
    with pytest.raises(errors.WrongFormatError, match=r"no KL autoencoder.*betas"):
        autoencoder_kl.load(tmp_path / "x.npz")
    assert not autoencoder_kl.looks_like({"betas": np.zeros(3)})


def test_one_array_under_two_names_is_refused(folder):
    path = folder / "diffusion_pytorch_model.safetensors"
    arrays = {n: np.array(a) for n, a in safetensors.read(path).arrays.items()}
    name = "encoder.mid_block.attentions.0."
    arrays[f"{name}to_q.weight"] = arrays[f"{name}query.weight"]
    safetensors.write(path, arrays)
    with pytest.raises(errors.DamagedError, match=r"to_q.weight is given under two"):
        autoencoder_kl.load(folder)


def test_groups_that_do_not_fit_a_file_are_asked_for(torch_file):
    with pytest.raises(ValueError, match=r"vae\.pt: norm_num_groups 32 does not"):
        autoencoder_kl.load(torch_file)


def test_an_unknown_naming_is_refused():
    with pytest.raises(ValueError, match="naming 'old' is neither current nor legacy"):
        autoencoder_kl.map_of(autoencoder_config.SD_VAE, "old")
