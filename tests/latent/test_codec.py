"""Autoencoders of frames behind one interface."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.latent import codecs
from weatherlib.latent import codec, codec_config
from weatherlib.nn import autoencoder_config
from weatherlib.weights import autoencoder_kl

TINY = codecs.SMALL_VAE.replace(
    block_out_channels=(2, 2), norm_num_groups=1, mid_block_add_attention=False
)
ROOTS = {
    "sd": ("vae_encoder", "vae_decoder"),
    "rae": ("vision_encoder", "vision_decoder"),
}


def _reconstruct(model, params, images):
    return model.decode(params, model.encode(params, images), images.shape[-2:])


def test_the_published_autoencoder_gives_its_numbers_times_the_factor(goldens):
    folder = goldens / "vision" / "sd_vae_legacy_names"
    golden = np.load(folder / "golden.npz")
    loaded = autoencoder_kl.load(folder)
    settings = codec_config.CodecConfig(
        channels=3, autoencoder=loaded.config, vae_batch_size=1
    )
    model = codec.make(settings)
    x = jnp.asarray(golden["x_32x32"])
    latents = jax.jit(model.encode)(loaded.params, x)
    np.testing.assert_allclose(latents, golden["scaled_mode_32x32"], atol=2e-4)
    frames = jax.jit(model.decode)(loaded.params, latents)
    np.testing.assert_allclose(frames, golden["decode_mode_32x32"], atol=2e-4)


@pytest.mark.parametrize("kind", ["sd", "rae"])
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_of_any_channels_come_back_in_their_size(
    kind, channels, strict_numerics
):
    model, params = codecs.made(codecs.small(kind, channels, vae_batch_size=2))
    images = codecs.images(channels=channels)
    latents = jax.jit(model.encode)(params, images)
    assert latents.shape == (5, model.latent_channels, *model.latent_size((8, 12)))
    decode = jax.jit(model.decode, static_argnames="size")
    frames = decode(params, latents, size=(8, 12))
    assert frames.shape == images.shape
    assert np.isfinite(frames).all()
    assert model.adapts_channels == (channels == 2)
    assert model.adapts_channels == any(m.startswith("channel_adapter") for m in params)


def test_one_channel_is_repeated_as_colours_and_averaged():
    one, params = codecs.made(codecs.small(channels=1))
    three = codec.make(codecs.small(channels=3))
    images = codecs.images(channels=1)
    latents = one.encode(params, images)
    repeated = three.encode(params, jnp.repeat(images, 3, axis=1))
    np.testing.assert_allclose(latents, repeated, atol=1e-6)
    colours = three.decode(params, latents)
    np.testing.assert_allclose(
        one.decode(params, latents), colours.mean(1, keepdims=True), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["sd", pytest.param("rae", marks=pytest.mark.slow)])
def test_frames_at_once_do_not_matter(kind):
    images = codecs.images()
    found = []
    for count in (2, 8):
        model, params = codecs.made(codecs.small(kind, vae_batch_size=count))
        found.append(np.asarray(_reconstruct(model, params, images)))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-5)


@pytest.mark.parametrize(
    ("freeze_encoder", "freeze_decoder"),
    [
        (False, False),
        (True, True),
        pytest.param(True, False, marks=pytest.mark.slow),
        pytest.param(False, True, marks=pytest.mark.slow),
    ],
)
def test_gradients_of_frozen_parts_are_exactly_zero(freeze_encoder, freeze_decoder):
    frozen = {"freeze_encoder": freeze_encoder, "freeze_decoder": freeze_decoder}
    _check_gradients("sd", frozen | {"autoencoder": TINY})


def test_gradients_of_a_frozen_rae_are_exactly_zero():
    _check_gradients("rae", {"freeze_encoder": True, "freeze_decoder": True})


def _check_gradients(kind, changes):
    model, params = codecs.made(codecs.small(kind, 2, **changes))
    images = codecs.images(batch=1, channels=2, rows=4, columns=4)

    def loss(params):
        return jnp.mean(jnp.square(_reconstruct(model, params, images) - images))

    gradient = jax.jit(jax.grad(loss))(params)
    sizes = {
        root: sum(
            float(jnp.abs(leaf).sum())
            for module, held in gradient.items()
            if module.split("/")[0] == root
            for leaf in held.values()
        )
        for root in (*ROOTS[kind], "channel_adapter")
    }
    for part, root in zip(("encoder", "decoder"), ROOTS[kind]):
        assert (sizes[root] == 0) == changes[f"freeze_{part}"]
        assert model.frozen(f"{root}/mid") == changes[f"freeze_{part}"]
    assert sizes["channel_adapter"] > 0
    assert not model.frozen("channel_adapter/to_colours")


@pytest.mark.parametrize(("kind", "encoder_frozen"), [("sd", False), ("rae", True)])
def test_by_default_only_the_encoder_of_an_rae_is_frozen(kind, encoder_frozen):
    model = codec.make(codecs.small(kind))
    assert model.frozen(ROOTS[kind][0]) == encoder_frozen
    assert not model.frozen(ROOTS[kind][1])
    assert model.trains
    both = codecs.small(kind, freeze_encoder=True, freeze_decoder=True)
    assert not codec.make(both).trains


def test_a_key_draws_latent_fields_around_the_likeliest_ones():
    model, params = codecs.made(codecs.small())
    images = codecs.images()
    mode = model.encode(params, images)
    drawn = [model.encode(params, images, jax.random.key(n)) for n in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - mode).max() > 0
    assert np.abs(drawn[0] - drawn[2]).max() > 0


def test_the_factor_of_latent_fields_is_a_setting_and_undone():
    images = codecs.images()
    model, params = codecs.made(codecs.small())
    other = codec.make(codecs.small(scale_factor=2 * 0.18215))
    np.testing.assert_allclose(
        other.encode(params, images), 2 * model.encode(params, images), rtol=1e-6
    )
    np.testing.assert_allclose(
        _reconstruct(other, params, images),
        _reconstruct(model, params, images),
        atol=1e-5,
    )


def test_sides_that_do_not_fit_are_refused_or_filled_up():
    images = codecs.images(rows=7, columns=9)
    model, params = codecs.made(codecs.small())
    with pytest.raises(ValueError, match=r"multiples of 2, found 7x9; regrid to 8x10"):
        model.encode(params, images)
    filled = codec.make(codecs.small(fill_up=True))
    assert filled.latent_size((7, 9)) == (4, 5)
    assert _reconstruct(filled, params, images).shape == images.shape
    whole = jnp.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)), mode="edge")
    np.testing.assert_allclose(
        _reconstruct(filled, params, images),
        _reconstruct(model, params, whole)[..., :7, :9],
        atol=1e-6,
    )


def test_large_fields_are_worked_on_in_tiles():
    tiled = codec.make(codecs.small(tile_size=4, tile_overlap=2))
    model, params = codecs.made(codecs.small())
    images = codecs.images(batch=1, rows=16, columns=16)
    found = jax.jit(lambda x: _reconstruct(tiled, params, x))(images)
    assert found.shape == images.shape
    whole = _reconstruct(model, params, images)
    assert np.corrcoef(np.ravel(found), np.ravel(whole))[0, 1] > 0.8


def test_it_computes_in_bfloat16(strict_numerics):
    for kind in ("sd", "rae"):
        model, params = codecs.made(codecs.small(kind, channels=2))
        images = codecs.images(batch=1, channels=2)
        wide = _reconstruct(model, params, images)
        narrow = _reconstruct(model, params, images.astype(jnp.bfloat16))
        assert narrow.dtype == jnp.bfloat16
        a, b = np.ravel(wide), np.ravel(narrow.astype(jnp.float32))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


def test_the_published_sizes_are_the_defaults():
    model = codec.make(codec_config.CodecConfig(channels=1))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 83_653_863
    assert model.latent_size((512, 512)) == (64, 64)
    assert model.latent_size((32, 64)) == (4, 8)
    rae = codec.make(codec_config.CodecConfig(vae_type="rae", channels=1))
    assert rae.latent_channels == 768
    assert rae.latent_size((32, 64)) == (16, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vae_type": "vq"}, "neither sd nor rae"),
        ({"vae_batch_size": 0}, "vae_batch_size must be at least 1"),
        ({"scale_factor": 0.0}, "scale_factor must be positive"),
        ({"tile_size": 4, "tile_overlap": 4}, "tile_overlap must be from 0 to less"),
        ({"representation": codecs.SMALL_RAE}, "does not go with vae_type sd"),
        (
            {
                "autoencoder": autoencoder_config.AutoencoderConfig(
                    in_channels=1, out_channels=2
                )
            },
            "as many channels must come out",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        codec_config.CodecConfig(**changes)


def test_frames_and_latent_fields_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="channels: not known"):
        codec.make(codec_config.CodecConfig())
    with pytest.raises(ValueError, match="patch size 16 does not divide"):
        codec.make(
            codec_config.CodecConfig(
                vae_type="rae", channels=1, rae_encoder_input_size=250
            )
        )
    model, params = codecs.made(codecs.small())
    with pytest.raises(ValueError, match=r"frames have shape .* \[batch, 3, rows"):
        model.encode(params, codecs.images(channels=2))
    with pytest.raises(ValueError, match=r"latent fields have shape"):
        model.decode(params, codecs.images(channels=3))
    with pytest.raises(ValueError, match="4x6 do not become frames of 16x16"):
        model.decode(params, jnp.zeros((1, 4, 4, 6)), (16, 16))
