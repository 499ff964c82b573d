"""Tests of the tables of noise against published ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tolerances
from tests.diffusion import cases
from weatherlib import config, diffusion
from weatherlib.diffusion import schedules

# The names of PreDiff, and what its file of settings says.
_CASES = {
    "published": (diffusion.ScheduleConfig(kind="scaled_linear"), "epsilon"),
    "cosine": (diffusion.ScheduleConfig(kind="cosine", steps=50), "epsilon"),
    "sqrt_linear": (
        diffusion.ScheduleConfig(kind=schedules.PREDIFF_KINDS["sqrt_linear"], steps=20),
        "epsilon",
    ),
    "sqrt": (diffusion.ScheduleConfig(kind="sqrt", steps=20), "epsilon"),
    "x0_v": (
        diffusion.ScheduleConfig(kind="scaled_linear", steps=30, posterior_mix=0.4),
        "x0",
    ),
}


@pytest.mark.parametrize("name", _CASES)
def test_every_table_is_the_published_one(name):
    settings, prediction = _CASES[name]
    expected = cases.arrays("schedules")
    made = diffusion.make_schedule(settings)
    np.testing.assert_allclose(made.betas, expected[f"f64_{name}/betas"], rtol=1e-13)
    compared = 0
    for key, table in expected.items():
        folder, _, buffer = key.partition("/")
        if folder != name:
            continue
        if buffer == "lvlb_weights":
            found = made.lvlb_weights(prediction)
        else:
            found = getattr(made, buffer)
        assert found.dtype == np.float64
        np.testing.assert_allclose(
            found, table, rtol=tolerances.DIFFUSION_TABLE_RTOL, atol=1e-30
        )
        compared += 1
    assert compared >= 12


def test_the_linear_tables_of_the_published_samplers_come_out():
    expected = cases.arrays("samplers")
    made = cases.linear()
    np.testing.assert_allclose(made.betas, expected["betas"], rtol=1e-5)
    np.testing.assert_allclose(
        made.alphas_cumprod, expected["alphas_cumprod"], rtol=1e-4
    )


@given(
    kind=st.sampled_from(["linear", "scaled_linear", "sqrt", "cosine"]),
    steps=st.integers(2, 300),
    mix=st.floats(0, 1),
)
def test_noise_grows_with_every_step_and_variances_are_possible(kind, steps, mix):
    made = diffusion.make_schedule(
        diffusion.ScheduleConfig(kind=kind, steps=steps, posterior_mix=mix)
    )
    assert (np.diff(made.alphas_cumprod) < 0).all()
    assert (made.posterior_variance <= made.betas * (1 + 1e-12)).all()
    total = made.sqrt_alphas_cumprod**2 + made.sqrt_one_minus_alphas_cumprod**2
    np.testing.assert_allclose(total, 1)
    # What is left of x_0 in the mean of x_{t-1} is what x_{t-1} holds of it.
    through = made.posterior_mean_coef1 + (
        made.posterior_mean_coef2 * made.sqrt_alphas_cumprod
    )
    np.testing.assert_allclose(through, np.sqrt(made.alphas_cumprod_prev), rtol=1e-9)


def test_weights_of_the_bound_for_v_follow_from_the_errors_of_noise():
    made = cases.linear()
    ratio = made.lvlb_weights("v")[1:] / made.lvlb_weights("epsilon")[1:]
    np.testing.assert_allclose(ratio, made.alphas_cumprod[1:], rtol=1e-6)


@pytest.mark.parametrize(
    ("spacing", "steps", "first", "last"),
    [("leading", 10, 900, 0), ("linspace", 10, 999, 0), ("trailing", 10, 999, 99)],
)
def test_fewer_steps_are_spread_over_all_noise(spacing, steps, first, last):
    found = schedules.spaced_timesteps(1000, steps, spacing)
    assert (found[0], found[-1], len(found)) == (first, last, steps)


@given(
    total=st.integers(1, 300),
    share=st.floats(0, 1),
    spacing=st.sampled_from(["leading", "linspace", "trailing", "truncated"]),
)
def test_spaced_steps_fall_and_stay_in_the_schedule(total, share, spacing):
    steps = 1 + int(share * (total - 1))
    found = schedules.spaced_timesteps(total, steps, spacing)
    assert found.shape == (steps,)
    assert (np.diff(found) < 0).all()
    assert found.min() >= 0
    assert found.max() < total


@given(total=st.integers(1, 300), share=st.floats(0, 1))
def test_even_ratios_fall_from_one_end_to_the_other(total, share):
    schedule = cases.prediff(steps=total)
    steps = 1 + int(share * (total - 1))
    found = schedules.log_snr_timesteps(schedule, steps)
    assert found.shape == (steps,)
    assert (np.diff(found) < 0).all()
    assert found[0] == total - 1
    assert steps == 1 or found[-1] == 0


def test_ratios_are_even_where_the_schedule_has_such_steps():
    schedule = cases.prediff()
    left = schedule.alphas_cumprod
    ratios = np.log(left / (1 - left))[schedules.log_snr_timesteps(schedule, 10)]
    widths = np.diff(ratios)
    np.testing.assert_allclose(widths, widths.mean(), rtol=0.2)
    with pytest.raises(ValueError, match="0 steps do not fit a schedule of 1000"):
        schedules.log_snr_timesteps(schedule, 0)


def test_truncated_steps_begin_below_the_noisiest():
    found = schedules.spaced_timesteps(1000, 3, "truncated")
    assert found.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "squared"}, "kind 'squared' is no schedule; there are cosine"),
        ({"steps": 0}, "steps must be at least 1, found 0"),
        ({"start": 0.0}, "0 < start <= end < 1, found 0.0 and 0.02"),
        ({"start": 0.1, "end": 0.01}, "0 < start <= end < 1"),
        ({"posterior_mix": 1.5}, r"posterior_mix must be in \[0, 1\], found 1.5"),
        ({"cosine_offset": -1.0}, "cosine_offset must not be negative"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        diffusion.ScheduleConfig(**changes)


def test_settings_are_read_from_yaml_like_mappings():
    made = config.from_dict(
        diffusion.DiffusionConfig,
        {"schedule": {"kind": "cosine", "steps": 8}, "prediction": "v"},
    )
    assert made.schedule == diffusion.ScheduleConfig(kind="cosine", steps=8)
    with pytest.raises(ValueError, match="prediction"):
        config.from_dict(diffusion.DiffusionConfig, {"prediction": "noise"})
    with pytest.raises(ValueError, match="loss 'huber' is neither"):
        diffusion.DiffusionConfig(loss="huber")
    with pytest.raises(ValueError, match="bound_weight must not be negative"):
        diffusion.DiffusionConfig(bound_weight=-1.0)


@pytest.mark.parametrize("betas", [[0.0, 0.1], [0.1, 1.0], [np.nan], [[0.1]], []])
def test_betas_that_are_none_are_refused(betas):
    with pytest.raises(ValueError, match="betas must"):
        diffusion.NoiseSchedule(np.asarray(betas, np.float64).reshape(np.shape(betas)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 11, "leading"), "11 steps do not fit a schedule of 10"),
        ((10, 0, "leading"), "0 steps do not fit"),
        ((10, 5, "even"), "spacing 'even' is unknown"),
        ((10, 5, "leading", 2), "an offset of 2 leads out"),
    ],
)
def test_steps_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedules.spaced_timesteps(*arguments)


def test_the_bound_needs_two_steps():
    with pytest.raises(ValueError, match="at least 2 steps"):
        diffusion.NoiseSchedule(np.array([0.1])).lvlb_weights("epsilon")
    with pytest.raises(ValueError, match="PreDiff calls"):
        cases.linear().lvlb_weights("eps")
