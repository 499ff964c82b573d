"""Tests of published weights of vision encoders and decoders."""

import json
import shutil

import numpy as np
import pytest

from tests.latent import cases
from weatherlib.latent import config, published
from weatherlib.weights import (
    errors,
    flat,
    folders,
    safetensors,
    vision,
    vision_names,
    vision_sizes,
)

ENCODERS = [
    "dinov2",
    "dinov2_registers",
    "dinov2_swiglu",
    "siglip2",
    "siglip2_naflex",
    "timm_vit_giant_small",
    "vit_mae",
]


@pytest.fixture
def folder(goldens, tmp_path):
    """A copy of a published folder that a test may change."""
    shutil.copytree(goldens / "vision" / "siglip2", tmp_path / "siglip2")
    return tmp_path / "siglip2"


def _change(folder, **changes):
    path = folder / "config.json"
    held = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in held.items() if v is not None}))


def _rewrite(folder, change):
    path = folder / "model.safetensors"
    arrays = {n: np.array(a) for n, a in safetensors.read(path).arrays.items()}
    flat.write(path, change(arrays), format="safetensors")


@pytest.mark.parametrize("name", ENCODERS)
def test_a_folder_is_loaded_strictly_and_exported_bit_by_bit(name, goldens, tmp_path):
    folder = goldens / "vision" / name
    loaded = vision.load_encoder(folder)
    held = folders.read(folder).arrays
    found = vision.export_encoder(loaded.params, loaded.config)
    assert sorted([*found, *loaded.outside]) == sorted(held)
    for key, array in found.items():
        assert array.tobytes() == held[key].tobytes()
    vision.write_encoder_folder(tmp_path / "new", loaded.params, loaded.config)
    again = vision.load_encoder(tmp_path / "new")
    assert again.config == loaded.config
    for module, values in loaded.params.items():
        for key, value in values.items():
            assert again.params[module][key].tobytes() == value.tobytes()


def test_decoders_are_loaded_strictly_and_exported_bit_by_bit(goldens):
    mae = vision.load_decoder(goldens / "vision" / "vit_mae")
    assert mae.config.class_source == "encoded"
    assert mae.config.grid == (4, 4)
    assert all(name.startswith("vit.") for name in mae.outside)
    held = folders.read(goldens / "vision" / "vit_mae").arrays
    for key, array in vision.export_decoder(mae.params, mae.config).items():
        assert array.tobytes() == held[f"decoder.{key}"].tobytes()
    file = goldens / "vision" / "rae" / "decoder.safetensors"
    rae = vision.load_decoder(file, mae.config)
    assert rae.config == mae.config.replace(class_source="trainable")
    assert rae.outside == ()
    held = safetensors.read(file).arrays
    found = vision.export_decoder(rae.params, rae.config)
    assert {n: a.tobytes() for n, a in found.items()} == {
        n: a.tobytes() for n, a in held.items()
    }
    with pytest.raises(ValueError, match="does not tell the sizes of a decoder"):
        vision.load_decoder(file)
    with pytest.raises(errors.MismatchError, match=r"prediction|decoder_pred"):
        vision.load_decoder(file, rae.config.replace(patch_size=8))


@pytest.mark.parametrize(
    ("file", "name", "count"),
    [
        ("dinov2_base", "facebook/dinov2-base", 86_580_480),
        (
            "dinov2_with_registers_base",
            "facebook/dinov2-with-registers-base",
            86_583_552,
        ),
        ("timm_vit_giant_patch14_dinov2", "vit_giant_patch14_dinov2", 1_136_479_232),
        (
            "siglip2_base_patch16_256_vision",
            "google/siglip2-base-patch16-256",
            92_930_304,
        ),
        ("vit_mae_base", "facebook/vit-mae-base", 111_907_840),
        ("rae_decoder_vitxl", "", 415_352_704),
    ],
)
def test_published_models_have_our_names_and_shapes(file, name, count, goldens):
    path = goldens / "vision" / f"param_shapes_{file}.json"
    held = json.loads(path.read_text())
    expected = {n: tuple(shape) for n, shape in held["tensors"].items()}
    assert sum(np.prod(s) for s in expected.values()) == count
    found = {}
    if name:
        sizes = published.ENCODERS[name]
        prefix = vision_names.encoder_prefix(sizes)
        shapes = vision_names.encoder_map(sizes).source_shapes
        found |= {f"{prefix}{n}": s for n, s in shapes.items()}
    if file == "vit_mae_base":
        sizes = published.DECODERS[name].replace(class_source="encoded", grid=(14, 14))
        shapes = vision_names.decoder_map(sizes).source_shapes
        found |= {f"decoder.{n}": s for n, s in shapes.items()}
    if not name:
        found = vision_names.decoder_map(published.DECODERS["ViTXL"]).source_shapes
    assert found == expected


@pytest.mark.parametrize("name", list(published.ENCODERS))
def test_sizes_of_published_encoders_survive_their_config_json(name):
    sizes = published.ENCODERS[name]
    assert vision_sizes.read_encoder_config(vision_sizes.to_config(sizes)) == sizes


def test_whole_models_leave_out_what_is_default():
    """As the published file of SigLIP2 does."""
    held = {
        "model_type": "siglip",
        "text_config": {"model_type": "siglip_text_model"},
        "vision_config": {"image_size": 256, "model_type": "siglip_vision_model"},
    }
    found = vision_sizes.read_encoder_config(held)
    assert found == published.ENCODERS["google/siglip2-base-patch16-256"]
    held = {"architecture": "vit_giant_patch14_dinov2", "num_classes": 0}
    found = vision_sizes.read_encoder_config(held)
    assert found == published.ENCODERS["vit_giant_patch14_dinov2"]
    assert vision_sizes.read_decoder_config({"model_type": "vit_mae"}).grid == (14, 14)


def test_the_vision_tower_is_taken_from_a_whole_model(folder):
    _change(folder, model_type="siglip", vision_config={})
    held = json.loads((folder / "config.json").read_text())
    held["vision_config"] = {n: v for n, v in held.items() if n != "model_type"}
    (folder / "config.json").write_text(json.dumps(held))
    text = {
        "text_model.embeddings.position_embedding.weight": np.zeros((4, 2)),
        "logit_scale": np.zeros(1),
    }
    _rewrite(folder, lambda arrays: arrays | text)
    loaded = vision.load_encoder(folder)
    assert set(loaded.outside) == set(text)


def test_shards_with_an_index_are_read_and_missing_ones_are_named(folder):
    expected = vision.load_encoder(folder)
    path = folder / "model.safetensors"
    arrays = {n: np.array(a) for n, a in safetensors.read(path).arrays.items()}
    path.unlink()
    places = {}
    for i, names in enumerate((list(arrays)[:20], list(arrays)[20:])):
        shard = f"model-0000{i + 1}-of-00002.safetensors"
        flat.write(folder / shard, {n: arrays[n] for n in names}, format="safetensors")
        places |= dict.fromkeys(names, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    found = vision.load_encoder(folder)
    for module, values in expected.params.items():
        for key, value in values.items():
            np.testing.assert_array_equal(found.params[module][key], value)
    (folder / shard).unlink()
    with pytest.raises(
        FileNotFoundError, match=f"1 of 2 shards are missing: '{shard}'"
    ):
        vision.load_encoder(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden_size": 64},
            r"misshapen.*is \[.*48.*\], not \[.*64.*Does config.json",
        ),
        ({"num_hidden_layers": 3}, r"16 arrays are missing.*encoder.layers.2.*missing"),
        ({"num_hidden_layers": 1}, r"16 extra.*encoder.layers.1.* is unknown"),
        (
            {"image_size": 96},
            r"position_embedding.weight is \[16, 48\], not \[36, 48\]",
        ),
        ({"model_type": "clip"}, "describes a 'clip', which is no encoder made here"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', of which only 'gelu_pytorch_t"),
        ({"qkv_bias": False}, "qkv_bias is false, which is not made here"),
        (
            {"hidden_size": 50},
            "hidden_size 50 must be a multiple of num_attention_heads",
        ),
        ({"hidden_size": "48"}, "hidden_size is '48', not a whole number"),
        ({"image_size": [64, 32]}, r"image_size is \[64, 32\], not a whole number"),
    ],
)
def test_a_config_that_does_not_belong_to_the_weights_is_refused(
    changes, message, folder
):
    _change(folder, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        vision.load_encoder(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_unknown_arrays_and_other_models_are_refused(folder):
    extra = {"vision_model.extra": np.zeros(3, np.float32)}
    _rewrite(folder, lambda arrays: arrays | extra)
    with pytest.raises(errors.MismatchError, match=r"1 extra.*extra \[3\] is unknown"):
        vision.load_encoder(folder)
    _rewrite(folder, lambda arrays: extra)
    with pytest.raises(errors.WrongFormatError, match=r"patch_embedding.* is lacking"):
        vision.load_encoder(folder)


def test_folders_without_a_config_are_refused(tmp_path):
    for read in (vision.encoder_sizes_of_folder, vision.decoder_sizes_of_folder):
        with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
            read(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        vision.load_encoder(tmp_path / "none")


def test_a_decoder_of_diffusers_is_read_with_its_fixed_positions(tmp_path):
    sizes = cases.DECODER
    expected = {
        m: {n: np.asarray(v) for n, v in held.items()}
        for m, held in cases.decoder_params(sizes).items()
    }
    without = {m: dict(held) for m, held in expected.items()}
    del without["vision_decoder"]["positions"]
    arrays = vision_names.decoder_map(sizes, "diffusers").to_sources(without)
    file = tmp_path / "model.safetensors"
    others = {"encoder_mean": np.zeros(3, np.float32)}
    flat.write(
        file,
        {f"decoder.{n}": a for n, a in arrays.items()} | others,
        format="safetensors",
    )
    loaded = vision.load_decoder(file, sizes)
    assert loaded.outside == ("encoder_mean",)
    found = loaded.params["vision_decoder"].pop("positions")
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(found[4, 4], np.sin(1), rtol=1e-6)
    for module, values in loaded.params.items():
        for key, value in values.items():
            np.testing.assert_array_equal(value, without[module][key])


def test_statistics_of_latent_fields_are_mean_and_variance(tmp_path):
    path = tmp_path / "statistics.npz"
    np.savez(path, mean=np.ones(2), var=np.full(2, 4.0))
    found = vision.load_statistics(path)
    np.testing.assert_allclose(found["scale"], 2, rtol=1e-5)
    np.savez(path, mean=np.ones(2), std=np.ones(2))
    with pytest.raises(errors.WrongFormatError, match="it holds mean, std"):
        vision.load_statistics(path)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"architecture": "resnet50"}, "architecture: there is no folder and no publ"),
        ({"architecture": "vit_base_patch14_dinov2", "model_args": 3}, "no mapping"),
        (
            {"architecture": "vit_base_patch14_dinov2", "reg_tokens": 4},
            "registers with positions are not made here",
        ),
        ({"model_type": "siglip", "vision_config": 3}, "vision_config is no mapping"),
        (
            {"model_type": "siglip2_vision_model", "num_patches": 10},
            "num_patches 10 is no square",
        ),
    ],
)
def test_other_configurations_are_refused(held, message):
    with pytest.raises(ValueError, match=message):
        vision_sizes.read_encoder_config(held)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"model_type": "dinov2"}, "a dinov2 has no decoder"),
        ({"model_type": "vit_mae", "hidden_act": "relu"}, "hidden_act is 'relu'"),
    ],
)
def test_other_decoders_are_refused(held, message):
    with pytest.raises(ValueError, match=message):
        vision_sizes.read_decoder_config(held)


def test_widths_without_a_published_ratio_are_refused():
    sizes = config.EncoderConfig(use_swiglu_ffn=True, intermediate_size=3071)
    with pytest.raises(ValueError, match="no mlp_ratio leads from hidden_size 768"):
        vision_sizes.to_config(sizes)


@pytest.mark.parametrize("kind", ["dinov2", "siglip2", "mae"])
def test_a_representation_autoencoder_of_diffusers_is_read(kind, tmp_path):
    """Encoder without the last norm, decoder and statistics, in one folder."""
    held = {
        "_class_name": "AutoencoderRAE",
        "encoder_type": kind,
        "encoder_hidden_size": 64,
        "encoder_patch_size": 56 if kind == "dinov2" else 32,
        "encoder_num_hidden_layers": 1,
        "encoder_input_size": 224,
        "patch_size": 2,
        **{name: cases.DECODER[name] for name in vision_sizes._DECODER},
    }
    outer = vision_sizes.read_encoder_config(held)
    inner = vision_sizes.read_decoder_config(held)
    assert outer.hidden_size == inner.hidden_size == 64
    assert outer.num_attention_heads == 1
    assert outer.num_register_tokens == (4 if kind == "dinov2" else 0)
    assert inner.grid == ((4, 4) if kind == "dinov2" else (7, 7))
    assert inner.image_size == ((8, 8) if kind == "dinov2" else (14, 14))
    first = vision_names.encoder_map(outer)
    prefix = "encoder.vision_model." if kind == "siglip2" else "encoder."
    params = {
        m: {n: np.asarray(v) for n, v in values.items()}
        for m, values in cases.encoder_params(outer).items()
    }
    params["vision_encoder/norm"] = {"scale": np.ones(64), "offset": np.zeros(64)}
    arrays = {
        f"{prefix}{name}": array
        for name, array in first.to_sources(params).items()
        if not name.startswith(("layernorm", "post_layernorm"))
    }
    rest = vision_names.decoder_map(inner, "diffusers")
    arrays |= {
        f"decoder.{name}": np.ones(shape, np.float32)
        for name, shape in rest.source_shapes.items()
    }
    buffers = ("encoder_mean", "encoder_std", "_latents_mean", "_latents_std")
    arrays |= {name: np.full(1, 2, np.float32) for name in buffers}
    folders.write(tmp_path, held, arrays)
    loaded = vision.load_encoder(tmp_path)
    assert loaded.config == outer
    for module, values in params.items():
        for key, value in values.items():
            np.testing.assert_array_equal(loaded.params[module][key], value)
    assert vision.load_decoder(tmp_path).config == inner
    found = vision.load_statistics(tmp_path / "diffusion_pytorch_model.safetensors")
    np.testing.assert_allclose(found["scale"], 2.00001)
    assert vision.statistics_of_folder(tmp_path) is None  # They change nothing.
    with pytest.raises(ValueError, match="encoder_type is 'clip', not one of dinov2"):
        vision_sizes.read_encoder_config(held | {"encoder_type": "clip"})


def test_statistics_of_latent_fields_come_with_a_folder_that_has_them(tmp_path):
    mean, std = (np.full((3, 2, 2), x, np.float32) for x in (5, 4))
    held = {"_class_name": "AutoencoderRAE", "latents_mean": [1], "latents_std": [1]}
    arrays = {"_latents_mean": mean, "_latents_std": std}
    folders.write(tmp_path / "whole", held, arrays)
    found = vision.statistics_of_folder(tmp_path / "whole")
    np.testing.assert_array_equal(found["mean"], mean)
    np.testing.assert_allclose(found["scale"], 4.00001)
    folders.write(tmp_path / "lacking", held, {"_latents_mean": mean})
    with pytest.raises(errors.WrongFormatError, match="which the weights lack"):
        vision.statistics_of_folder(tmp_path / "lacking")
    folders.write(tmp_path / "other", {"model_type": "vit_mae"}, arrays)
    assert vision.statistics_of_folder(tmp_path / "other") is None
