"""Tests of losses of autoencoders and of their discriminator."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import (
    autoencoder,
    autoencoder_config,
    autoencoder_training,
    discriminator,
    reconstruction,
)

SIZES = autoencoder_config.AutoencoderConfig(
    in_channels=1,
    out_channels=1,
    latent_channels=2,
    block_out_channels=(4,),
    layers_per_block=1,
    norm_num_groups=2,
    mid_block_add_attention=False,
)
MODEL = autoencoder.Autoencoder(sizes=SIZES)
PARAMS = {
    module: {
        name: jnp.asarray(
            0.2 * np.random.default_rng(len(module)).standard_normal(shape)
            + (name == "scale"),
            jnp.float32,
        )
        for name, shape in held.items()
    }
    for module, held in autoencoder_config.parameter_shapes(SIZES).items()
}
JUDGE = hk.without_apply_rng(
    hk.transform(lambda x: discriminator.PatchDiscriminator(8, 2, 4)(x))
)
PLAIN = autoencoder_config.AutoencoderLossConfig()


def _fields(seed=0, size=16):
    rows, columns = np.indices((size, size))
    phases = np.random.default_rng(seed).uniform(0, 6, (2, 1, 1))
    waves = np.sin(rows / 2 + phases) * np.cos(columns / 3 + phases)
    return jnp.asarray(waves[..., None], jnp.float32)


def _loss(settings, params=PARAMS, judge=None, **options):
    return jax.jit(
        lambda p: autoencoder_training.autoencoder_loss(
            MODEL, settings, p, _fields(), jax.random.key(0), judge=judge, **options
        )
    )(params)


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_the_loss_is_error_and_divergence(kind, strict_numerics):
    found = _loss(PLAIN.replace(reconstruction=kind, kl_weight=0.25))
    held = MODEL.encode(PARAMS, _fields())
    decoded = MODEL.decode(PARAMS, held.draw(jax.random.key(0)))
    np.testing.assert_allclose(found.decoded, decoded, atol=1e-5)
    off = np.asarray(decoded - _fields())
    error = np.abs(off).mean() if kind == "l1" else (off**2).mean()
    np.testing.assert_allclose(found.error, error, rtol=1e-4)
    np.testing.assert_allclose(found.kl, held.kl().mean(), rtol=1e-4)
    np.testing.assert_allclose(found.loss, 256 * error + 0.25 * found.kl, rtol=1e-4)
    assert float(found.adversarial) == float(found.slopes) == 0


def test_the_expected_error_divides_the_error_and_has_a_best_value():
    found = _loss(PLAIN, log_variance=jnp.float32(0.7))
    expected = 256 * (float(found.error) / np.exp(0.7) + 0.7) + 1e-6 * float(found.kl)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)

    def loss(log_variance):
        return autoencoder_training.autoencoder_loss(
            MODEL,
            PLAIN,
            PARAMS,
            _fields(),
            jax.random.key(0),
            log_variance=log_variance,
        ).loss

    best = jnp.log(found.error)
    assert abs(float(jax.grad(loss)(best))) < 1e-2


def test_slopes_and_spectra_count_where_asked(strict_numerics):
    found = _loss(PLAIN.replace(gradient_weight=0.5, spectral_weight=0.1))
    slopes = reconstruction.gradient_difference(found.decoded, _fields()).mean()
    spectrum = reconstruction.spectral_difference(found.decoded, _fields()).mean()
    np.testing.assert_allclose(found.slopes, slopes, rtol=1e-4)
    np.testing.assert_allclose(found.spectrum, spectrum, rtol=1e-3)
    seen = found.error + 0.5 * slopes + 0.1 * spectrum
    np.testing.assert_allclose(found.loss, 256 * seen + 1e-6 * found.kl, rtol=1e-3)


@pytest.mark.slow
def test_the_judge_weighs_as_much_as_the_error_once_it_begins(strict_numerics):
    held = jax.jit(JUDGE.init)(jax.random.key(0), _fields())

    def judge(fields):
        return JUDGE.apply(held, fields)

    settings = PLAIN.replace(adversarial_weight=0.5, adversarial_start=10)
    early = _loss(settings, judge=judge, step=jnp.asarray(9))
    late = _loss(settings, judge=judge, step=jnp.asarray(10))
    assert float(early.adversarial_weight) == 0
    np.testing.assert_allclose(
        late.loss - early.loss,
        late.adversarial_weight * late.adversarial,
        rtol=1e-2,
    )

    def gradient(function):
        name = "vae_decoder/conv_out"

        def of_last(w):
            params = {**PARAMS, name: {**PARAMS[name], "w": w}}
            latents = MODEL.encode(PARAMS, _fields()).draw(jax.random.key(0))
            return function(MODEL.decode(params, latents))

        return jax.grad(of_last)(PARAMS[name]["w"])

    lengths = [
        float(jnp.linalg.norm(gradient(function).ravel()))
        for function in (
            lambda x: 256 * jnp.abs(x - _fields()).mean(),
            lambda x: -judge(x).mean(),
        )
    ]
    expected = 0.5 * lengths[0] / (lengths[1] + 1e-4)
    np.testing.assert_allclose(late.adversarial_weight, expected, rtol=1e-3)
    with pytest.raises(ValueError, match="so a discriminator is needed"):
        _loss(settings)


@pytest.mark.slow
def test_all_parts_have_gradients_for_all_parameters():
    held = jax.jit(JUDGE.init)(jax.random.key(0), _fields())
    settings = PLAIN.replace(
        gradient_weight=0.1, spectral_weight=0.1, adversarial_weight=1.0
    )

    def loss(params):
        return autoencoder_training.autoencoder_loss(
            MODEL,
            settings,
            params,
            _fields(),
            jax.random.key(0),
            judge=lambda x: JUDGE.apply(held, x),
        ).loss

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(PARAMS)):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


def test_a_judge_learns_to_tell_fields_apart():
    real, decoded = (
        _fields(),
        0.3 * jax.random.normal(jax.random.key(1), (2, 16, 16, 1)),
    )
    held = jax.jit(JUDGE.init)(jax.random.key(0), real)

    def loss(held, step=100):
        return autoencoder_training.judge_loss(
            PLAIN.replace(adversarial_start=100),
            lambda x: JUDGE.apply(held, x),
            real,
            decoded,
            jnp.asarray(step),
        )

    assert float(loss(held, 99)) == 0
    follow = jax.jit(
        lambda held: jax.tree.map(lambda p, g: p - 0.3 * g, held, jax.grad(loss)(held))
    )
    first = float(loss(held))
    for _ in range(30):
        held = follow(held)
    assert first > 0.8
    assert float(loss(held)) < 0.3
    assert float(JUDGE.apply(held, real).mean()) > float(
        JUDGE.apply(held, decoded).mean()
    )


def test_no_gradient_of_the_judge_reaches_the_decoder():
    held = jax.jit(JUDGE.init)(jax.random.key(0), _fields())
    gradient = jax.grad(
        lambda x: autoencoder_training.judge_loss(
            PLAIN, lambda y: JUDGE.apply(held, y), _fields(), x
        )
    )(_fields(1))
    assert not np.asarray(gradient).any()


def test_the_hinge_asks_for_no_more_than_one():
    sure, unsure = jnp.full((1, 2, 2), 5.0), jnp.zeros((1, 2, 2))
    assert float(discriminator.discriminator_loss(sure, -sure)) == 0
    assert float(discriminator.discriminator_loss(unsure, unsure)) == 1
    assert float(discriminator.discriminator_loss(-sure, sure)) == 6
    assert float(discriminator.adversarial_loss(sure)) == -5


def test_the_weight_has_a_limit_and_no_gradient():
    zeros, ones = jnp.zeros(4), jnp.ones(4)
    assert float(discriminator.adaptive_weight({"w": 9 * ones}, {"w": zeros})) == 1e4
    found = discriminator.adaptive_weight([ones, ones], [2 * ones, 2 * ones])
    np.testing.assert_allclose(found, 0.5, rtol=1e-3)
    slope = jax.grad(lambda x: discriminator.adaptive_weight(x, ones))(ones)
    assert not np.asarray(slope).any()


def test_a_judge_sees_patches_alike_in_any_batch(strict_numerics):
    held = jax.jit(JUDGE.init)(jax.random.key(0), _fields())
    whole = JUDGE.apply(held, _fields())
    assert whole.shape[0] == 2
    np.testing.assert_allclose(
        JUDGE.apply(held, _fields()[1:]), whole[1:], rtol=1e-4, atol=1e-6
    )
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), held)
    assert JUDGE.apply(narrow, _fields().astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert JUDGE.apply(held, _fields()[:, :12, :12]).shape == (2, 1, 1)
    with pytest.raises(ValueError, match="at least 12x12 points, found 8x16"):
        JUDGE.apply(held, _fields()[:, :8])
    with pytest.raises(ValueError, match="found width 8, layers 2, groups 3"):
        hk.transform(lambda: discriminator.PatchDiscriminator(8, 2, 3)).init(None)


def test_a_judge_has_the_published_layers():
    made = jax.eval_shape(
        hk.transform(lambda x: discriminator.PatchDiscriminator()(x)).init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32),
    )
    shapes = [made[f"judge/conv_{i}"]["w"].shape for i in (0, 1, 2, 3, "out")]
    assert shapes == [
        (4, 4, 1, 64),
        (4, 4, 64, 128),
        (4, 4, 128, 256),
        (4, 4, 256, 512),
        (4, 4, 512, 1),
    ]


def test_slopes_do_not_see_a_constant_and_see_blur(strict_numerics):
    fields = _fields()
    same = reconstruction.gradient_difference(fields + 3, fields)
    np.testing.assert_allclose(same, 0, atol=1e-5)
    doubled = reconstruction.gradient_difference(2 * fields, fields, scales=1)
    slopes = [np.abs(np.diff(fields, axis=a)).mean((1, 2, 3)) for a in (1, 2)]
    np.testing.assert_allclose(doubled, (slopes[0] + slopes[1]) / 2, rtol=1e-5)
    assert reconstruction.gradient_difference(fields, fields[::-1], 9).shape == (2,)
    with pytest.raises(ValueError, match="at least one scale and 2x2 points"):
        reconstruction.gradient_difference(fields[:, :1], fields[:, :1])


@pytest.mark.parametrize("shape", [(16, 16), (15, 24)])
def test_a_wave_has_power_at_its_own_number(shape, strict_numerics):
    _, columns = np.indices(shape)
    shorter = min(shape)
    wave = np.sin(2 * np.pi * 5 * columns / shorter)
    fields = jnp.asarray(wave[None, ..., None], jnp.float32)
    power = np.asarray(reconstruction.radial_power(fields))[0, :, 0]
    assert power.shape == (shorter // 2,)
    assert np.argmax(power) == 4


def test_spectra_do_not_see_where_things_are_and_see_blur(strict_numerics):
    noise = jax.random.normal(jax.random.key(0), (2, 32, 32, 1))
    moved = jnp.roll(noise, (5, 7), (1, 2))
    blurred = (noise + jnp.roll(noise, 1, 1) + jnp.roll(noise, 1, 2)) / 3
    of_moved, of_blurred = (
        float(reconstruction.spectral_difference(x, noise).mean())
        for x in (moved, blurred)
    )
    assert of_blurred > 5 * of_moved
    zeros = jnp.zeros((1, 8, 8, 1))
    gradient = jax.grad(lambda x: reconstruction.spectral_difference(x, x + 1).sum())
    assert np.isfinite(gradient(zeros)).all()
    with pytest.raises(ValueError, match="at least 2x2 points, found 1x8"):
        reconstruction.spectral_difference(zeros[:, :1], zeros[:, :1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reconstruction": "l3"}, "reconstruction 'l3' is neither"),
        ({"kl_weight": -1.0}, "kl_weight must not be negative"),
        ({"scales": 0}, "scales must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **changes)
