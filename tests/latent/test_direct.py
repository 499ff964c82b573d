"""Tests of direct forecasts by a vision encoder."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.latent import cases
from tests.training import toys
from weatherlib import baselines, latent, training, xarray_jax
from weatherlib.latent import direct

SIZES = latent.RAEConfig(
    input_length=3,
    output_length=2,
    in_channels_history=2,
    out_channels_future=2,
    token_dim=8,
    patch_size=4,
    decoder_hidden_size=8,
    decoder_num_hidden_layers=1,
    decoder_num_attention_heads=2,
    decoder_intermediate_size=12,
)


def _forecast(x, **options):
    encode = latent.ExternalRepEncoder(
        **{"backbone": cases.TINY, "in_chans": 6, "target_hw": (8, 12), **options}
    )
    z, rows, columns = encode(x)
    return latent.RAEDiffusionWeather(SIZES).decode(z, rows, columns, *x.shape[2:])


def _transformed(**options):
    return hk.without_apply_rng(hk.transform(lambda x: _forecast(x, **options)))


def _history(batch=2):
    return cases.images(5, 7, batch=batch, channels=SIZES.in_chans)


def test_the_published_example_has_its_shapes():
    # Fewer blocks have the same shapes.
    config = latent.RAEConfig(decoder_num_hidden_layers=1)
    backbone = latent.ENCODERS["vit_giant_patch14_dinov2"].replace(num_hidden_layers=1)

    def forecast(x):
        encode = latent.ExternalRepEncoder(
            backbone, 1536, 14, 12, True, True, (518, 518)
        )
        z, rows, columns = encode(x.reshape(8, 12, 64, 32))
        assert (z.shape, rows, columns) == ((8, 1369, 1536), 37, 37)
        return latent.RAEDiffusionWeather(config).decode(z, rows, columns, 64, 32)

    run = hk.transform(forecast)
    history = jax.ShapeDtypeStruct((8, 12, 1, 64, 32), jnp.float32)
    params = jax.eval_shape(run.init, jax.random.key(0), history)
    assert params[direct.IN_ADAPTER]["w"].shape == (12, 3)
    found = jax.eval_shape(run.apply, params, None, history)
    assert found.shape == (8, 4, 1, 64, 32)


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({}, {"vision_encoder"}),
        pytest.param(
            {"train_in_adapter": False},
            {"vision_encoder", "in_adapter"},
            marks=pytest.mark.slow,
        ),
        pytest.param({"freeze": False}, set(), marks=pytest.mark.slow),
    ],
)
def test_gradients_of_frozen_parts_are_exactly_zero(options, frozen, strict_numerics):
    run = _transformed(**options)
    x = _history()
    params = jax.eval_shape(run.init, jax.random.key(0), x)
    table = {m: {n: v.shape for n, v in held.items()} for m, held in params.items()}
    params = cases.drawn(table)
    found = jax.jit(run.apply)(params, x)
    assert found.shape == (2, 2, 2, 5, 7)

    def loss(params):
        return jnp.square(run.apply(params, x)).mean()

    gradients = jax.jit(jax.grad(loss))(params)
    roots = {"vision_encoder", "in_adapter", "vision_decoder"}
    assert {module.split("/")[0] for module in gradients} == roots
    for root in roots:
        moves = any(
            bool((value != 0).any())
            for module, held in gradients.items()
            for value in held.values()
            if module.split("/")[0] == root
        )
        assert moves is (root not in frozen), root


def test_tokens_are_those_of_the_encoder_after_resizing(strict_numerics):
    sizes = cases.ENCODERS["registers"]
    options = {"backbone": sizes, "target_hw": (8, 12), "mean": (0.1, 0.2, 0.3)}

    def encode(x, remove):
        module = latent.ExternalRepEncoder(
            **options, std=(2.0, 2.0, 2.0), remove_cls=remove
        )
        return module(x)[0]

    run = hk.without_apply_rng(hk.transform(encode))
    images = cases.images()
    params = {
        **cases.encoder_params(sizes),
        direct.IN_ADAPTER: {"w": jnp.eye(3), "b": jnp.zeros(3)},
    }
    found = jax.jit(run.apply, static_argnums=2)(params, images, False)
    mean = jnp.asarray([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1)
    expected = cases.run_encoder(sizes)(params, (images - mean) / jnp.asarray(2.0))
    np.testing.assert_allclose(found, expected.tokens, atol=1e-5)
    patches = jax.jit(run.apply, static_argnums=2)(params, images, True)
    np.testing.assert_allclose(patches, expected.tokens[:, 3:], atol=1e-5)


def test_it_is_a_predictor_of_several_frames():
    task = toys.TASK.replace(input_duration="18h")
    batch = training.Frames(toys.weather(), task).batch(np.arange(2), 2)

    def forecast(inputs, targets, forcings):
        encode = latent.ExternalRepEncoder(cases.TINY, target_hw=(8, 8))
        network = latent.DirectNetwork(encode, SIZES)
        model = baselines.GridPredictor(
            baselines.FrameModelConfig(input_length=3, output_length=2), network, task
        )
        assert model.frames_per_step == 2
        (loss, _), found = model.loss_and_predictions(inputs, targets, forcings)
        return xarray_jax.unwrap_data(loss), found

    run = hk.transform(forecast)
    params = jax.jit(run.init)(jax.random.key(0), *batch)
    loss, found = jax.jit(run.apply)(params, None, *batch)
    targets = batch[1]
    assert loss.shape == (2,) and np.isfinite(loss).all()
    assert set(found) == set(targets)
    for name in found:
        assert found[name].sizes == targets[name].sizes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backbone": "vit_giant_patch14_dinov3"},
            "no published encoder 'vit_giant_pa",
        ),
        ({"token_dim": 4}, "token_dim is 4, but the backbone has 8"),
        ({"patch_size": 16}, "patch_size is 16, but the backbone has 4"),
        ({"target_hw": (8, 10)}, "target_hw: patch size 4 does not divide"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean and std are given together"),
        ({"mean": (0.5,), "std": (0.5,)}, "mean needs 3 numbers, found 1"),
        ({"in_chans": 5}, "6 channels side by side, but in_chans is 5"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(_transformed(**options).init, jax.random.key(0), _history())


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="output_length must be at least 1, found 0"):
        SIZES.replace(output_length=0)
    with pytest.raises(ValueError, match="decoder_hidden_size 10 must be a multiple"):
        SIZES.replace(decoder_hidden_size=10, decoder_num_attention_heads=4)
    with pytest.raises(ValueError, match="5 tokens do not fill a grid of 2x3"):
        latent.RAEDecoder(SIZES)(jnp.zeros((1, 5, 8)), (2, 3), (4, 4))
    encode = latent.ExternalRepEncoder(cases.TINY)
    with pytest.raises(ValueError, match="token_dim is 1536, but the backbone has 8"):
        latent.DirectNetwork(encode, latent.RAEConfig())
