"""Tests of the decoder and of masked autoencoding."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.latent import cases
from weatherlib.latent import config, decoder, published, shapes
from weatherlib.weights import vision


def _tokens(count=6):
    rng = np.random.default_rng(2)
    return jnp.asarray(rng.standard_normal((2, count, 8)), jnp.float32)


def test_the_published_masked_autoencoder_comes_out(goldens, strict_numerics):
    folder = goldens / "vision" / "vit_mae"
    outer, inner = vision.load_encoder(folder), vision.load_decoder(folder)
    params = {**outer.params, **inner.params}
    sizes = (outer.config, inner.config)
    run = hk.without_apply_rng(
        hk.transform(lambda *args: decoder.reconstruct_masked(sizes, *args))
    )
    near = {"atol": tolerances.VISION_ATOL, "rtol": 0}
    with np.load(folder / "golden.npz") as held:
        images = jnp.asarray(held["x_64x64"])
        found = jax.jit(run.apply)(params, images, jnp.asarray(held["noise"]))
        np.testing.assert_allclose(found.loss, held["masked_loss"][0], **near)
        np.testing.assert_allclose(found.pixels, held["masked_logits"], **near)
        np.testing.assert_array_equal(found.mask, held["masked_mask"])
        np.testing.assert_array_equal(found.restore, held["masked_ids_restore"])
        tokens = cases.run_encoder(outer.config)(outer.params, images).tokens
        pixels = cases.run_decoder(inner.config)(inner.params, tokens)
        whole = decoder.to_images(pixels, inner.config)
        np.testing.assert_allclose(whole, held["full_unpatchified"], **near)


def test_patches_of_images_go_there_and_back():
    images = cases.images(4, 6)
    targets = decoder.patch_targets(images, 2)
    assert targets.shape == (2, 6, 12)
    # The pixels of a patch row by row, their channels last.
    np.testing.assert_array_equal(targets[0, 1, 3:6], images[0, :, 0, 3])
    np.testing.assert_array_equal(decoder.to_images(targets, cases.DECODER), images)


@pytest.mark.parametrize("source", ["trainable", "encoded"])
def test_parameters_are_those_of_the_table(source):
    sizes = cases.DECODER.replace(class_source=source)
    run = hk.transform(lambda x: decoder.Decoder(sizes)(x))
    tokens = _tokens(6 if source == "trainable" else 7)
    params = jax.jit(run.init)(jax.random.key(0), tokens)
    assert {m: {n: v.shape for n, v in held.items()} for m, held in params.items()} == (
        shapes.decoder_shapes(sizes)
    )
    table = params["vision_decoder"]["positions"]
    assert (table[0] == 0).all()
    # Column 0 in the first half, row 1 in the second.
    np.testing.assert_allclose(table[4, :4], [0, 0, 1, 1])
    np.testing.assert_allclose(table[4, 4], np.sin(1), rtol=1e-6)


def test_the_published_decoder_has_its_published_size():
    sizes = published.DECODERS["ViTXL"]
    run = hk.transform(lambda x: decoder.Decoder(sizes)(x))
    tokens = jax.ShapeDtypeStruct((1, 256, 768), jnp.float32)
    params = jax.eval_shape(run.init, jax.random.key(0), tokens)
    assert sum(x.size for x in jax.tree.leaves(params)) == 415_352_704
    assert sizes.image_size == (256, 256)


def test_it_runs_under_jit_grad_and_vmap(strict_numerics):
    params, tokens = cases.decoder_params(cases.DECODER), _tokens()
    run = cases.run_decoder(cases.DECODER)
    found = run(params, tokens)
    assert found.shape == (2, 6, 12)
    each = jax.vmap(lambda x: run(params, x[jnp.newaxis])[0])(tokens)
    np.testing.assert_allclose(each, found, atol=1e-5)
    gradients = jax.jit(jax.grad(lambda p: jnp.sin(run(p, tokens)).mean()))(params)
    for module, held in gradients.items():
        for name, value in held.items():
            # Positions are fixed.
            assert bool((value != 0).any()) is (name != "positions"), (module, name)


def test_it_computes_in_bfloat16(strict_numerics):
    sizes = cases.DECODER.replace(decoder_hidden_size=32)
    wide = cases.run_decoder(sizes)(cases.decoder_params(sizes), _tokens())
    narrow = cases.decoder_params(sizes, dtype=jnp.bfloat16)
    found = cases.run_decoder(sizes)(narrow, _tokens().astype(jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    a, b = (np.asarray(x, np.float64).ravel() for x in (wide, found))
    assert a @ b / np.sqrt((a @ a) * (b @ b)) > tolerances.VISION_BF16_COSINE


def test_tokens_of_another_grid_are_brought_to_that_of_the_decoder(strict_numerics):
    params = cases.decoder_params(cases.DECODER)

    def run(tokens, grid):
        module = hk.transform(lambda x: decoder.Decoder(cases.DECODER)(x, grid=grid))
        return jax.jit(hk.without_apply_rng(module).apply)(params, tokens)

    one = _tokens(1)
    same = run(jnp.broadcast_to(one, (2, 6, 8)), None)
    np.testing.assert_allclose(run(one, None), same, atol=1e-5)
    np.testing.assert_allclose(run(one.repeat(8, 1), (2, 4)), same, atol=1e-5)
    with pytest.raises(ValueError, match="5 tokens do not fill a grid of 2x2"):
        run(_tokens(5), None)


@pytest.mark.parametrize(
    ("sizes", "tokens", "message"),
    [
        (
            cases.DECODER,
            jnp.zeros((1, 6, 4)),
            "tokens have 4 channels, but the decoder",
        ),
        (
            cases.DECODER.replace(class_source="encoded"),
            jnp.zeros((1, 6, 8)),
            "5 tokens do not fill the 2x3 grid",
        ),
    ],
)
def test_tokens_that_do_not_fit_are_refused(sizes, tokens, message):
    with pytest.raises(ValueError, match=message):
        cases.run_decoder(sizes)(cases.decoder_params(sizes), tokens)


def test_sizes_that_are_no_masked_autoencoder_are_refused():
    with pytest.raises(ValueError, match="an encoder of layout mae, and a decoder"):
        decoder.reconstruct_masked(
            (cases.TINY, cases.DECODER), cases.images(), jnp.zeros((2, 6))
        )
    outer = cases.ENCODERS["mae"]
    inner = cases.DECODER.replace(class_source="encoded", patch_size=4)
    with pytest.raises(ValueError, match=r"mask_ratio 0\.9 must leave some of the 6"):
        decoder.reconstruct_masked(
            (outer, inner), cases.images(), jnp.zeros((2, 6)), 0.9
        )


@pytest.mark.parametrize(
    ("cls", "changes", "message"),
    [
        (
            config.EncoderConfig,
            {"hidden_size": 10},
            "hidden_size 10 must be a multiple",
        ),
        (config.EncoderConfig, {"patch_size": 0}, "patch_size must be at least 1"),
        (config.EncoderConfig, {"image_size": 8}, "image_size 8 is less than a patch"),
        (config.EncoderConfig, {"pooling_head": True}, "dinov2 has no pooling_head"),
        (
            config.EncoderConfig,
            {"layout": "mae", "num_register_tokens": 4},
            "num_register_tokens 4 does not go with layout mae",
        ),
        (config.EncoderConfig, {"layer_norm_eps": 0.0}, "layer_norm_eps must be pos"),
        (
            config.DecoderConfig,
            {"decoder_hidden_size": 6, "decoder_num_attention_heads": 2},
            "decoder_hidden_size must be a multiple of 4",
        ),
        (config.DecoderConfig, {"grid": (0, 3)}, "grid needs rows and columns"),
        (
            config.DecoderConfig,
            {"decoder_num_attention_heads": 7},
            "decoder_hidden_size 512 must be a multiple of decoder_num_attention_heads",
        ),
    ],
)
def test_sizes_out_of_range_are_refused(cls, changes, message):
    with pytest.raises(ValueError, match=message):
        cls(**changes)
