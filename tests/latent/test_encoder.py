"""Tests of vision encoders against published numbers, and of their promises."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.latent import cases
from weatherlib.latent import encoder, published, shapes
from weatherlib.weights import vision


def _near(found, expected):
    np.testing.assert_allclose(found, expected, atol=tolerances.VISION_ATOL, rtol=0)


def _by_name(found, prefix):
    """Returns outputs by the names that the published numbers have."""
    return {
        "last_hidden_state": found.tokens,
        "features": found.tokens,
        "pooler_output": found.pooled,
        "pooled": found.pooled,
        "rae_tokens": found.patches,
        "patch_tokens": found.tokens[:, prefix:],
        "pos_embed": found.positions[np.newaxis],
        "embedded": found.hidden[0],
        "hidden_0": found.hidden[0],
        "hidden_1": found.hidden[1],
        "block0": found.hidden[1],
    }


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("dinov2", "56x98", 4),
        ("dinov2_registers", "42x56", 4),
        ("dinov2_swiglu", "42x56", 4),
        ("siglip2", "80x48", 4),
        ("timm_vit_giant_small", "42x56", 6),
        ("vit_mae", "96x64", 2),
    ],
)
def test_the_published_numbers_come_out(name, size, count, goldens, strict_numerics):
    folder = goldens / "vision" / name
    loaded = vision.load_encoder(folder)
    compared = 0
    with np.load(folder / "golden.npz") as held:
        images = jnp.asarray(held[f"x_{size}"])
        found = cases.run_encoder(loaded.config)(loaded.params, images)
        for key, value in _by_name(found, loaded.config.prefix_tokens).items():
            if f"{key}_{size}" in held:
                _near(value, held[f"{key}_{size}"])
                compared += 1
    assert compared == count


def test_the_published_numbers_of_packed_patches_come_out(goldens, strict_numerics):
    folder = goldens / "vision" / "siglip2_naflex"
    loaded = vision.load_encoder(folder)
    with np.load(folder / "golden.npz") as held:
        there = held["pixel_attention_mask"] == 1
        found = _packed(loaded.config)(
            loaded.params,
            jnp.asarray(held["pixel_values"]),
            jnp.asarray(there),
            jnp.asarray(held["spatial_shapes"], jnp.int32),
        )
        _near(np.asarray(found.tokens)[there], held["last_hidden_state"][there])
        _near(found.pooled, held["pooler_output"])


def _packed(sizes):
    run = hk.transform(lambda *args: encoder.PackedEncoder(sizes)(*args))
    return jax.jit(hk.without_apply_rng(run).apply)


def test_packed_patches_give_what_the_image_alone_gives(strict_numerics):
    sizes = cases.ENCODERS["siglip2"]
    params = cases.encoder_params(sizes)
    images = cases.images(8, 20)
    alone = cases.run_encoder(sizes)(params, images)
    found = _packed(sizes)(params, *encoder.pack(images, sizes, 14))
    _near(found.tokens[:, :10], alone.tokens)
    _near(found.pooled, alone.pooled)
    with pytest.raises(ValueError, match="10 patches does not fit into 9"):
        encoder.pack(images, sizes, 9)


@pytest.mark.parametrize("name", list(cases.ENCODERS))
def test_parameters_are_those_of_the_table(name):
    sizes = cases.ENCODERS[name]
    run = hk.transform(lambda x: encoder.Encoder(sizes)(x))
    found = jax.eval_shape(run.init, jax.random.key(0), cases.images())
    expected = shapes.encoder_shapes(sizes)
    assert {m: {n: v.shape for n, v in held.items()} for m, held in found.items()} == (
        expected
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("facebook/dinov2-base", 86_580_480),
        ("facebook/dinov2-with-registers-base", 86_583_552),
        pytest.param("vit_giant_patch14_dinov2", 1_136_479_232, marks=pytest.mark.slow),
        ("google/siglip2-base-patch16-256", 92_930_304),
        ("facebook/vit-mae-base", 85_798_656),
    ],
)
def test_published_models_have_their_published_size(name, count):
    sizes = published.ENCODERS[name]
    run = hk.transform(lambda x: encoder.Encoder(sizes)(x))
    side = sizes.image_size
    images = jax.ShapeDtypeStruct((1, 3, side, side), jnp.float32)
    params = jax.eval_shape(run.init, jax.random.key(0), images)
    assert sum(x.size for x in jax.tree.leaves(params)) == count
    table = {m: {n: v.shape for n, v in held.items()} for m, held in params.items()}
    assert table == shapes.encoder_shapes(sizes)


def test_first_parameters_are_small_and_norms_begin_as_identities():
    sizes = cases.ENCODERS["giant"].replace(hidden_size=32, intermediate_size=64)
    run = hk.transform(lambda x: encoder.Encoder(sizes)(x))
    params = jax.jit(run.init)(jax.random.key(0), cases.images())
    block = params["vision_encoder/block_0"]
    assert (block["gamma1"] == 1).all()
    assert (params["vision_encoder/norm"]["scale"] == 1).all()
    first = params["vision_encoder/block_0/mlp/fc1"]
    assert 0.015 < first["w"].std() < 0.025
    assert (first["b"] == 0).all()


@pytest.mark.parametrize(
    "name",
    [
        *("registers", "siglip2"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("dinov2", "giant", "timm", "siglip", "mae")
        ),
    ],
)
def test_it_runs_under_jit_grad_and_vmap(name, strict_numerics):
    sizes = cases.ENCODERS[name]
    params = cases.encoder_params(sizes)
    images = cases.images()
    run = cases.run_encoder(sizes)
    found = run(params, images)
    assert found.patches.shape == (2, 6, 8)
    assert found.tokens.shape == (2, 6 + sizes.prefix_tokens, 8)
    each = jax.vmap(lambda x: run(params, x[jnp.newaxis]).tokens[0])(images)
    np.testing.assert_allclose(each, found.tokens, atol=1e-5)

    def loss(params, images):
        held = run(params, images)
        pooled = 0.0 if held.pooled is None else jnp.square(held.pooled).mean()
        return jnp.sin(held.tokens).mean() + pooled

    gradients, inward = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, images)
    assert float(jnp.abs(inward).max()) > 0
    for module, held in gradients.items():
        for key, value in held.items():
            # The mask token is not used, and positions of masked autoencoders are
            # fixed.
            idle = key == "mask_token" or (key == "positions" and name == "mae")
            assert bool((value != 0).any()) is not idle, (module, key)


@pytest.mark.parametrize("name", ["giant", "siglip2"])
def test_it_computes_in_bfloat16(name, strict_numerics):
    sizes = cases.ENCODERS[name].replace(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2
    )
    images = cases.images()
    wide = cases.run_encoder(sizes)(cases.encoder_params(sizes), images).patches
    narrow = cases.encoder_params(sizes, dtype=jnp.bfloat16)
    found = cases.run_encoder(sizes)(narrow, images.astype(jnp.bfloat16)).patches
    assert found.dtype == jnp.bfloat16
    a, b = (np.asarray(x, np.float64).ravel() for x in (wide, found))
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    assert cosine > tolerances.VISION_BF16_COSINE


def test_computing_again_changes_no_gradient(strict_numerics):
    sizes = cases.ENCODERS["siglip2"]
    params, images = cases.encoder_params(sizes), cases.images()

    def gradient(remat):
        run = hk.transform(
            lambda x: encoder.Encoder(sizes, remat=remat)(x).tokens.sum()
        )
        return jax.jit(jax.grad(hk.without_apply_rng(run).apply))(params, images)

    for found, expected in zip(
        jax.tree.leaves(gradient(True)), jax.tree.leaves(gradient(False)), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_hidden_patches_are_not_seen(strict_numerics):
    sizes = cases.ENCODERS["dinov2"]
    params, images = cases.encoder_params(sizes), cases.images()
    run = hk.without_apply_rng(
        hk.transform(lambda x, m: encoder.Encoder(sizes)(x, masked=m).tokens)
    )
    run = jax.jit(run.apply)
    masked = np.arange(12).reshape(2, 6) % 6 == 0
    found = run(params, images, masked)
    changed = np.array(images)
    changed[:, :, :4, :4] += 3
    np.testing.assert_array_equal(found, run(params, changed, masked))
    seen = run(params, images, np.zeros_like(masked))
    assert np.abs(np.asarray(found) - np.asarray(seen)).max() > 0.1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (cases.images(8, 10), "patch size 4 does not divide an image of 8x10; 8x8"),
        (cases.images(2, 8), "patch size 4 does not divide an image of 2x8; 4x8"),
        (cases.images(channels=2), "images have 2 channels, but the encoder takes 3"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        cases.run_encoder(cases.TINY)(cases.encoder_params(cases.TINY), images)


def test_modes_that_an_encoder_lacks_are_refused():
    run = hk.transform(lambda x, m: encoder.Encoder(cases.TINY)(x, masked=m))
    with pytest.raises(ValueError, match="layout dinov2 has no mask token"):
        run.init(jax.random.key(0), cases.images(), jnp.zeros((2, 6), bool))
    packed = hk.transform(lambda: encoder.PackedEncoder(cases.TINY))
    with pytest.raises(ValueError, match="images of one size, not packed patches"):
        packed.init(jax.random.key(0))
