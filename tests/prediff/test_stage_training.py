"""Tests of training the autoencoder and the alignment network of PreDiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import stage_cases
from weatherlib.nn.autoencoder_config import DECODER, ENCODER, AutoencoderLossConfig
from weatherlib.prediff import alignment_predictor, autoencoder_predictor
from weatherlib.prediff.config import ALIGNMENT

KEY = stage_cases.KEY
PLAIN = stage_cases.AUTOENCODER
JUDGED = PLAIN.replace(
    loss=AutoencoderLossConfig(
        adversarial_weight=0.5,
        adversarial_start=10,
        gradient_weight=0.5,
        spectral_weight=0.1,
    )
)


@pytest.mark.slow
def test_updates_of_the_autoencoder_lower_its_loss():
    fresh = stage_cases.params(JUDGED)
    own = {ENCODER, DECODER, "autoencoder_loss"}
    assert stage_cases.roots(fresh) == {*own, "judge"}
    assert stage_cases.roots(stage_cases.params(PLAIN)) == own
    compute = stage_cases.gradient(JUDGED)
    begin = {"update": jnp.int32(0)}
    assert stage_cases.lowered(compute, fresh, updates=20, rate=0.02, **begin)


def _judged(update):
    compute = stage_cases.gradient(JUDGED)
    params = stage_cases.params(JUDGED)
    return compute(params, {}, KEY, stage_cases.sample(), update=jnp.int32(update))


def test_before_its_start_the_discriminator_neither_counts_nor_learns():
    (_, (numbers, _)), found = _judged(9)
    assert float(numbers["judge"]) == 0
    assert stage_cases.largest(found, autoencoder_predictor.JUDGE) == 0
    assert stage_cases.largest(found, ENCODER) > 0
    (_, (numbers, _)), found = _judged(10)
    assert float(numbers["judge"]) > 0
    assert stage_cases.largest(found, autoencoder_predictor.JUDGE) > 0


def test_the_discriminator_learns_by_its_own_loss_alone():
    compute, data = stage_cases.gradient(JUDGED), stage_cases.sample()
    params = stage_cases.params(JUDGED)
    module, late = "judge/conv_out", {"update": jnp.int32(10)}
    (_, (numbers, _)), found = compute(params, {}, KEY, data, **late)
    slope = found[module]["b"]

    def moved(by):
        changed = {**params, module: {**params[module], "b": params[module]["b"] + by}}
        return compute(changed, {}, KEY, data, **late)[0][1][0]

    ahead, behind = moved(0.01), moved(-0.01)
    # Decoded fields would seem more real; that term must not have a part in this.
    assert abs(float(ahead["adversarial"] - behind["adversarial"])) > 0.01
    difference = float(ahead["judge"] - behind["judge"]) / 0.02
    assert float(slope[0]) == pytest.approx(difference, abs=0.02)
    assert set(numbers) == {"error", "kl", "adversarial", "judge"}


def test_in_validation_the_discriminator_does_not_count():
    loss = stage_cases.objective(JUDGED, is_training=False).loss
    params, data = stage_cases.params(JUDGED), stage_cases.sample()
    _, (numbers, _) = jax.eval_shape(loss, params, {}, KEY, data)
    assert set(numbers) == {"error", "kl"}


@pytest.mark.slow
def test_a_whole_loss_in_bfloat16_is_near_float32():
    params, data = stage_cases.params(JUDGED), stage_cases.sample()
    exact = jax.jit(stage_cases.objective(JUDGED).loss)
    expected = float(exact(params, {}, KEY, data)[1][0]["error"])
    cast = jax.jit(stage_cases.objective(JUDGED, "bfloat16").loss)
    found = float(cast(params, {}, KEY, data)[1][0]["error"])
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
def test_updates_of_the_alignment_network_lower_its_loss_alone():
    config = stage_cases.ALIGNMENT
    compute = stage_cases.gradient(config)
    fresh = stage_cases.params(config)
    (loss, (numbers, _)), found = compute(fresh, {}, KEY, stage_cases.sample())
    assert float(numbers["rmse"]) == pytest.approx(float(loss) ** 0.5, rel=1e-5)
    assert stage_cases.largest(found, ENCODER) == 0
    assert stage_cases.largest(found, DECODER) == 0
    assert stage_cases.largest(found, ALIGNMENT) > 0
    assert stage_cases.lowered(compute, fresh, updates=15, rate=0.01)


def test_quantities_are_those_of_each_frame():
    frames = stage_cases.pixels()[..., None]
    mean = alignment_predictor.QUANTITIES["avg_x"](jnp.asarray(frames))
    largest = alignment_predictor.QUANTITIES["max_x"](jnp.asarray(frames))
    np.testing.assert_allclose(mean[..., 0], frames.mean((2, 3, 4)), rtol=1e-5)
    np.testing.assert_array_equal(largest[..., 0], frames.max((2, 3, 4)))


@pytest.mark.parametrize("config", [PLAIN, stage_cases.ALIGNMENT])
def test_parts_make_no_forecasts(config):
    made = stage_cases.make(config)
    with pytest.raises(ValueError, match="makes no forecasts"):
        made(*stage_cases.sample())
    with pytest.raises(ValueError, match="rollout to 1"):
        made.loss_and_predictions(*stage_cases.sample())


def _joins_frames(frames):
    return stage_cases.ALIGNMENT.network.replace(
        input_shape=(frames, 8, 8, 2), depth=(1, 1), downsample=(2, 1, 1)
    )


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (PLAIN, {"output_length": 0}, "output_length must be at least 1, found 0"),
        (
            PLAIN,
            {"autoencoder": stage_cases.CODER.replace(out_channels=2)},
            "as many channels must come out as go in, found 1 and 2",
        ),
        (stage_cases.ALIGNMENT, {"scale_factor": 0.0}, "scale_factor must be positive"),
        (
            stage_cases.ALIGNMENT,
            {"network": stage_cases.ALIGNMENT.network.replace(out_channels=2)},
            "out_channels must be 1, found 2",
        ),
        (
            stage_cases.ALIGNMENT,
            {"network": stage_cases.ALIGNMENT.network.replace(out_len=1)},
            "readout_seq must be true and out_len 2 or none",
        ),
        (
            stage_cases.ALIGNMENT,
            {"network": _joins_frames(2)},
            r"leaves 1 of 2 frames at the last level, .* such as \(1, 1, 1\)",
        ),
        (stage_cases.ALIGNMENT, {"network": _joins_frames(4)}, "leaves 2 of 4 frames"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config, change, message):
    with pytest.raises(ValueError, match=message):
        config.replace(**change)
