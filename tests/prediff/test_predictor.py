"""Tests of PreDiff as a predictor."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import stage_cases
from weatherlib import autoregressive, diffusion
from weatherlib.diffusion import guidance
from weatherlib.nn.autoencoder_config import DECODER, ENCODER
from weatherlib.prediff import ensembles, latent_diffusion, latent_stage, predictor
from weatherlib.prediff.config import EARTHFORMER_UNET

CONFIG, KEY = stage_cases.DENOISER, stage_cases.KEY


@pytest.fixture
def toy(monkeypatch):
    """Puts functions without networks in place of those that take long to compile."""
    monkeypatch.setattr(latent_stage, "forecast_model", stage_cases.toy_model)


def _params():
    return stage_cases.params(CONFIG)


def _members(count, key=KEY, **options):
    draw = stage_cases.forecast(CONFIG, members=count, **options)
    return draw(_params(), key, *stage_cases.sample())["vil"]


def test_members_differ_and_lie_along_sample(toy):
    found = _members(3, members_at_once=2)
    inputs, targets, _ = stage_cases.sample()
    assert found.dims == ("sample", *targets["vil"].dims)
    assert found.shape == (3, *targets["vil"].shape)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found["time"], targets["time"])
    np.testing.assert_array_equal(found["lat"], inputs["lat"])
    values = found.values
    assert values.min() >= 0 and values.max() <= 255
    for one in range(3):
        for other in range(one):
            assert np.abs(values[one] - values[other]).max() > 1


def test_the_same_key_draws_the_same_and_another_does_not(toy):
    once, again = _members(3, members_at_once=2), _members(3, members_at_once=2)
    np.testing.assert_array_equal(once.values, again.values)
    other = _members(3, jax.random.PRNGKey(1), members_at_once=2)
    assert np.abs(other.values - once.values).max() > 1


def test_one_future_is_the_first_member_without_sample(toy):
    single = _members(None)
    assert "sample" not in single.dims
    several = _members(3, members_at_once=2).isel(sample=0)
    np.testing.assert_allclose(single.values, several.values, atol=0.02)


def test_it_draws_what_the_ensemble_sampler_draws(toy):
    model = latent_stage.forecast_model(CONFIG)
    steps = diffusion.make_sampler(CONFIG.sampler, model.schedule, "epsilon")
    draw = ensembles.EnsembleSampler(model, steps, stage_cases.AHEAD)
    params = latent_diffusion.Params(
        latent_stage.part(_params(), ENCODER, DECODER),
        latent_stage.part(_params(), EARTHFORMER_UNET),
    )
    context = stage_cases.sample()[0]["vil"].values[..., None] * np.float32(1 / 255)

    def key_of(inputs, targets, forcings):
        del inputs, targets, forcings
        return hk.next_rng_key()

    key = hk.transform(key_of).apply({}, KEY, None, None, None)
    expected = draw(params, context, key, 3).clip(0, 1) * 255
    found = _members(3, members_at_once=2).values
    np.testing.assert_allclose(found, expected[..., 0], atol=0.05)


@pytest.mark.slow
def test_the_autoencoder_gets_no_gradient_at_all():
    (_, (numbers, _)), found = stage_cases.gradient(CONFIG)(
        _params(), {}, KEY, stage_cases.sample()
    )
    assert stage_cases.largest(found, ENCODER) == 0
    assert stage_cases.largest(found, DECODER) == 0
    assert stage_cases.largest(found, EARTHFORMER_UNET) > 0
    assert stage_cases.largest(found, predictor.LOG_VARIANCE) > 0
    assert set(numbers) == {"simple", "log_variance"}


def test_a_few_updates_lower_the_loss():
    compute = stage_cases.gradient(CONFIG)
    assert stage_cases.lowered(compute, _params(), updates=20, rate=0.02)


def test_validation_judges_without_dropout():
    dropped = CONFIG.replace(denoiser=CONFIG.denoiser.replace(attn_drop=0.5))

    def traced(config, is_training):
        loss = stage_cases.objective(config, is_training=is_training).loss
        return str(jax.make_jaxpr(loss)(_params(), {}, KEY, stage_cases.sample()))

    assert traced(CONFIG, False) == traced(dropped, False)
    assert traced(CONFIG, True) != traced(dropped, True)


def test_bfloat16_is_near_float32():
    data = stage_cases.sample()
    expected, _ = stage_cases.gradient(CONFIG)(_params(), {}, KEY, data)[0]
    cast = jax.jit(stage_cases.objective(CONFIG, "bfloat16").loss)
    loss, _ = cast(_params(), {}, KEY, data)
    assert float(loss) != float(expected)
    assert float(loss) == pytest.approx(float(expected), rel=0.05)
    shapes = jax.eval_shape(
        stage_cases.objective(CONFIG, "bfloat16").forecast, _params(), {}, KEY, data
    )
    assert shapes["vil"].dtype == np.float32


def test_steps_go_on_from_their_own_frames(toy):
    data = stage_cases.sample(ahead=2 * stage_cases.AHEAD)

    def run(*data):
        return autoregressive.Predictor(stage_cases.make(CONFIG))(*data)

    found = jax.jit(hk.transform(run).apply)(_params(), KEY, *data)["vil"]
    assert found.sizes["time"] == 2 * stage_cases.AHEAD
    assert np.isfinite(found.values).all()
    values = found.transpose("time", ...).values
    assert np.abs(values[2:] - values[:2]).max() > 1


def test_guidance_without_a_number_makes_the_forecast_missing(toy):
    guide = guidance.Guidance(energy=lambda x, t, _: jnp.sqrt(-jnp.abs(x)).sum())
    draw = stage_cases.forecast(CONFIG, guide=guide)
    found = draw(_params(), KEY, *stage_cases.sample())["vil"]
    assert np.isnan(found.values).all()


def _with(change):
    inputs, targets, forcings = stage_cases.sample()
    return change(inputs, targets, forcings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda i, t, f: (i.isel(time=slice(1, None)), t, f),
            r"vil has 2 frame\(s\), and the model reads 3",
        ),
        (
            lambda i, t, f: tuple(d.isel(lat=slice(4)) for d in (i, t, f)),
            "frames have 4x8 points, and the model works on 8x8",
        ),
        (
            lambda i, t, f: (i, t.isel(time=[0]), f),
            "vil has 1 times, but the model predicts 2",
        ),
        (lambda i, t, f: (i.assign(dry=i["vil"]), t, f), "has dry beside"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(change, message):
    draw = stage_cases.forecast(CONFIG)
    with pytest.raises(ValueError, match=message):
        draw(_params(), KEY, *_with(change))


def test_without_a_task_other_inputs_are_refused_too():
    inputs, targets, forcings = stage_cases.sample()

    def run(*data):
        return predictor.PreDiff(CONFIG)(*data)

    apply = hk.transform(run).apply
    with pytest.raises(ValueError, match="dry: PreDiff reads past frames of what"):
        apply(_params(), KEY, inputs.assign(dry=inputs["vil"]), targets, forcings)
    other = targets.rename(vil="rain")
    with pytest.raises(ValueError, match="vil: PreDiff reads past frames of what"):
        apply(_params(), KEY, inputs, other, forcings)


def test_sizes_and_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="members must be at least 1, found 0"):
        predictor.PreDiff(CONFIG, members=0)
    with pytest.raises(ValueError, match="3 latent channels, and the network works on"):
        CONFIG.replace(latent=dataclasses.replace(stage_cases.CODER, latent_channels=3))
    with pytest.raises(ValueError, match="the lower one first"):
        CONFIG.replace(value_range=(1.0, 0.0))
    with pytest.raises(ValueError, match="sizes of the autoencoder are not known"):
        predictor.PreDiff(CONFIG.replace(latent=None))(*stage_cases.sample())


def test_longer_losses_are_refused():
    with pytest.raises(ValueError, match="set rollout to 1"):
        predictor.PreDiff(CONFIG).loss_and_predictions(*stage_cases.sample())
