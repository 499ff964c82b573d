"""Tests of representation autoencoders and of their wrapper of published parts."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.latent import cases
from weatherlib import latent
from weatherlib.latent import config, representation

SIZES = config.RepresentationConfig(
    encoder=cases.TINY, decoder=cases.DECODER, input_size=(8, 12), channels=5
)


@pytest.fixture(scope="module")
def folders(goldens, tmp_path_factory):
    """Folders of the published encoder and of the sizes of its decoder."""
    folder = goldens / "vision" / "rae"
    held = json.loads((folder / "config.json").read_text())
    sizes = tmp_path_factory.mktemp("decoder")
    names = [name for name in held if name.startswith("decoder_")]
    text = json.dumps({name: held[name] for name in names})
    (sizes / "config.json").write_text(text)
    return folder / "encoder", sizes, folder / "decoder.safetensors"


def _wrapper(folders, **options):
    encoder, sizes, decoder = folders
    return latent.RAEWrapper(
        encoder_cls="Dinov2withNorm",
        encoder_config_path=encoder,
        encoder_input_size=56,
        decoder_config_path=sizes,
        decoder_patch_size=16,
        **{"pretrained_decoder_path": decoder, **options},
    )


@pytest.fixture(scope="module")
def wrapper(folders):
    return _wrapper(folders)


@pytest.fixture(scope="module")
def published(goldens):
    with np.load(goldens / "vision" / "rae" / "golden.npz") as held:
        return dict(held)


def _near(found, expected):
    atol = tolerances.AUTOENCODER_ATOL
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


def test_the_published_numbers_come_out(folders, wrapper, published, tmp_path):
    statistics = tmp_path / "statistics.npz"
    np.savez(statistics, mean=published["latent_mean"], var=published["latent_var"])
    fields = 2 * published["x"] - 1
    prepared = wrapper.autoencoder.prepare(jnp.asarray(fields))
    resized = prepared * published["image_std"] + published["image_mean"]
    _near(resized, published["resized"])
    found = wrapper.encode(fields)
    _near(found, published["latent"])
    _near((wrapper.decode(found) + 1) / 2, published["image_of_latent"])
    _near((wrapper.decode(published["z"]) + 1) / 2, published["image_of_z"])
    assert wrapper(fields).shape == fields.shape
    normal = _wrapper(folders, latent_statistics=statistics)
    found = normal.encode(fields, wrapper.params)
    _near(found, published["latent_normalized"])
    image = normal.decode(found, wrapper.params)
    _near((image + 1) / 2, published["image_of_latent"])


def test_the_published_tokens_of_another_grid_come_out(wrapper, published):
    params = representation.part(wrapper.params, "decoder")
    run = cases.run_decoder(wrapper.config.decoder)
    found = run(params, jnp.asarray(published["tokens_other_grid"]))
    _near(found, published["logits_other_grid"])


@pytest.mark.parametrize(
    ("name", "path", "side", "shape"),
    [
        ("SigLIP2wNorm", "google/siglip2-base-patch16-256", 256, (768, 16, 16)),
        ("SigLIP2wNorm", None, None, (768, 16, 16)),
        ("MAEwNorm", "facebook/vit-mae-base", 224, (768, 14, 14)),
        ("Dinov2withNorm", "facebook/dinov2-base", 224, (768, 16, 16)),
        (
            "Dinov2withNorm",
            "timm/vit_giant_patch14_dinov2.lvd142m",
            518,
            (1536, 37, 37),
        ),
    ],
)
def test_published_encoders_have_their_published_latent_fields(name, path, side, shape):
    wrapper = latent.RAEWrapper(name, path, side, "vit_mae-base", 16)
    assert wrapper.config.latent_shape == shape
    assert wrapper.config.decoder.grid == shape[1:]


def test_fields_become_latent_fields_of_the_published_shape():
    wrapper = latent.RAEWrapper(
        "SigLIP2wNorm", "google/siglip2-base-patch16-256", 256, "vit_mae-base", 16
    )
    params = jax.eval_shape(wrapper.init, jax.random.key(0))
    fields = jax.ShapeDtypeStruct((2, 3, 32, 64), jnp.float32)
    found = jax.eval_shape(wrapper.autoencoder.encode, params, fields)
    assert found.shape == (2, 768, 16, 16)
    image = jax.eval_shape(wrapper.autoencoder.decode, params, found)
    assert image.shape == (2, 3, 256, 256)


def test_a_device_is_ignored_with_a_message(folders, caplog):
    with caplog.at_level(logging.DEBUG):
        _wrapper(folders, device="cuda")
    assert "device 'cuda' is ignored" in caplog.text


@pytest.mark.parametrize(
    ("frozen", "trained"),
    [
        ({}, ("decoder", "adapter")),
        pytest.param({"freeze_decoder": True}, ("adapter",), marks=pytest.mark.slow),
        pytest.param(
            {"freeze_encoder": False},
            ("encoder", "decoder", "adapter"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_gradients_of_frozen_parts_are_exactly_zero(frozen, trained, strict_numerics):
    model = representation.RepresentationAutoencoder(config=SIZES.replace(**frozen))
    params = _random(model)
    fields = cases.images(4, 6, channels=5)

    def loss(params):
        return jnp.square(model.reconstruct(params, fields) - fields).mean()

    gradients = jax.jit(jax.grad(loss))(params)
    # The last norm of the encoder is used without scale and offset, and positions of
    # the decoder are fixed. Gradients reach the adapter through an encoder that is
    # kept.
    idle = {"vision_encoder/norm/scale", "vision_encoder/norm/offset"}
    idle |= {"vision_decoder/positions"}
    count = 0
    for name in ("encoder", "decoder", "adapter"):
        for module, held in representation.part(gradients, name).items():
            for key, value in held.items():
                moves = name in trained and f"{module}/{key}" not in idle
                assert bool((value != 0).any()) is moves, (module, key)
                count += 1
    assert count == len(jax.tree.leaves(params))


def _random(model, dtype=jnp.float32):
    params = jax.eval_shape(model.init, jax.random.key(0))
    table = {m: {n: v.shape for n, v in held.items()} for m, held in params.items()}
    return cases.drawn(table, dtype=dtype)


def test_it_computes_in_bfloat16(strict_numerics):
    model = representation.RepresentationAutoencoder(config=SIZES)
    run = jax.jit(model.reconstruct)
    fields = cases.images(4, 6, channels=5)
    found = run(_random(model), fields)
    assert found.shape == fields.shape
    narrow = run(_random(model, jnp.bfloat16), fields.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16
    a, b = (np.asarray(x, np.float64).ravel() for x in (found, narrow))
    assert a @ b / np.sqrt((a @ a) * (b @ b)) > tolerances.VISION_BF16_COSINE


@pytest.mark.slow
def test_fields_at_once_do_not_matter(strict_numerics):
    model = representation.RepresentationAutoencoder(config=SIZES)
    params, fields = _random(model), cases.images(4, 6, batch=3, channels=5)
    found = jax.jit(model.reconstruct)(params, fields)
    few = representation.RepresentationAutoencoder(
        config=SIZES, batch_size=1, remat=True
    )
    blocks = jax.jit(few.reconstruct)(params, fields)
    np.testing.assert_allclose(blocks, found, atol=1e-4)
    each = jax.vmap(lambda x: model.reconstruct(params, x[jnp.newaxis])[0])
    np.testing.assert_allclose(jax.jit(each)(fields), found, atol=1e-4)


def test_one_channel_is_repeated_and_averaged(strict_numerics):
    colours = representation.RepresentationAutoencoder(config=SIZES.replace(channels=3))
    grey = representation.RepresentationAutoencoder(config=SIZES.replace(channels=1))
    params = _random(colours)
    assert set(jax.eval_shape(grey.init, jax.random.key(0))) == set(params)
    fields = cases.images(4, 6, channels=1)
    found = jax.jit(grey.reconstruct)(params, fields)
    expected = jax.jit(colours.reconstruct)(params, fields.repeat(3, 1))
    np.testing.assert_allclose(found, expected.mean(1, keepdims=True), atol=1e-5)


def test_noise_is_drawn_by_the_key_and_sized_for_each_field(strict_numerics):
    model = representation.RepresentationAutoencoder(
        config=SIZES.replace(noise_tau=0.8)
    )
    params, fields = _random(model), cases.images(4, 6, batch=8, channels=5)
    encode = jax.jit(model.encode)
    plain = encode(params, fields)
    first, again, other = (
        encode(params, fields, jax.random.key(seed)) - plain for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert float(jnp.abs(first - other).max()) > 0.1
    sizes = np.asarray(first).reshape(8, -1).std(1)
    assert sizes.max() < 1.1 and sizes.max() > 2 * sizes.min()


def test_encoders_without_weights_say_how_to_get_them():
    wrapper = latent.RAEWrapper("MAEwNorm")
    with pytest.raises(FileNotFoundError, match="no folder 'facebook/vit-mae-base'"):
        wrapper.encode(np.zeros((1, 3, 8, 8), np.float32))


def test_what_no_file_holds_is_drawn_from_the_seed(folders, wrapper):
    drawn = _wrapper(folders, pretrained_decoder_path=None, channels=2, seed=1).params
    for module, held in representation.part(wrapper.params, "encoder").items():
        for name, value in held.items():
            np.testing.assert_array_equal(value, drawn[module][name])
    place = "vision_decoder/embed"
    assert (drawn[place]["w"] != wrapper.params[place]["w"]).any()
    other = jax.jit(wrapper.init)(jax.random.key(1))
    np.testing.assert_array_equal(drawn[place]["w"], other[place]["w"])
    assert "channel_adapter/to_colours" in drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_cls": "Dinov2wNorm"}, "no encoder 'Dinov2wNorm' .did you mean 'Di"),
        (
            {"encoder_cls": "MAEwNorm", "encoder_config_path": "facebook/dinov2-base"},
            "MAEwNorm does not go with facebook/dinov2-base, .* Dinov2withNorm does",
        ),
        (
            {"encoder_cls": "MAEwNorm", "encoder_input_size": 225},
            "encoder_input_size: patch size 16 does not divide an image of 225x225; "
            "224x224 would work",
        ),
        (
            {"encoder_config_path": "google/siglip2-base"},
            "encoder_config_path: there is no folder and no published encoder 'goo",
        ),
        (
            {"decoder_config_path": "vit_mae-bse"},
            "decoder_config_path: there is no folder and no decoder 'vit_mae-bse' .did",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        latent.RAEWrapper(**options)


def test_a_decoder_of_a_masked_autoencoder_is_refused(folders, goldens):
    mae = goldens / "vision" / "vit_mae"
    wrapper = _wrapper(folders, pretrained_decoder_path=mae)
    with pytest.raises(ValueError, match="which has no class token of its own"):
        _ = wrapper.params


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (8, 10)}, "encoder input size: patch size 4 does not divide"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be positive"),
        ({"mean": (0.5,)}, "an encoder of 3 channels needs as many of the decoder"),
        ({"noise_tau": -1.0}, "noise_tau must not be negative"),
        ({"channels": 0}, "channels must be at least 1"),
        (
            {"decoder": cases.DECODER.replace(hidden_size=4)},
            "tokens of 4 channels, but",
        ),
        (
            {"decoder": cases.DECODER.replace(class_source="encoded")},
            "has no class token",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SIZES.replace(**changes)


def test_fields_and_latent_fields_that_do_not_fit_are_refused():
    model = representation.RepresentationAutoencoder(config=SIZES)
    with pytest.raises(ValueError, match=r"wanted \[batch, 5, lat, lon\]"):
        model.encode({}, cases.images())
    with pytest.raises(ValueError, match=r"wanted \[batch, 8, rows, columns\]"):
        model.decode({}, cases.images())
    with pytest.raises(ValueError, match="batch_size must be at least 1, found 0"):
        representation.RepresentationAutoencoder(config=SIZES, batch_size=0)
    with pytest.raises(ValueError, match="part 'both' is not one of encoder"):
        representation.part({}, "both")


def test_configurations_are_read_without_jax_and_unknown_names_are_none():
    assert hasattr(latent, "Encoder")
    assert "RAEWrapper" in dir(latent)
    with pytest.raises(AttributeError, match="has no attribute 'Enc'"):
        _ = latent.Enc
