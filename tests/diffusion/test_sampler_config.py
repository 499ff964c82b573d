"""Tests of samplers by name."""

import numpy as np
import pytest

from weatherlib import diffusion
from weatherlib.diffusion import samplers

SCHEDULE = diffusion.make_schedule(diffusion.ScheduleConfig(steps=100))


@pytest.mark.parametrize(
    ("settings", "steps", "random"),
    [
        ({"kind": "ancestral"}, 100, True),
        ({"kind": "ancestral", "steps": 10}, 10, True),
        ({"kind": "ddim"}, 50, False),
        ({"kind": "ddim", "steps": 7, "eta": 1.0}, 7, True),
        ({"kind": "dpm_solver"}, 20, False),
        ({"kind": "dpm_solver", "steps": 9, "stochastic": True}, 9, True),
        ({"kind": "dpm_solver", "spacing": "log_snr"}, 20, False),
        ({"kind": "ancestral", "steps": 9, "spacing": "log_snr"}, 9, True),
    ],
)
def test_settings_name_a_sampler(settings, steps, random):
    made = diffusion.make_sampler(
        diffusion.SamplerConfig(**settings), SCHEDULE, "epsilon"
    )
    assert (made.steps, made.is_random) == (steps, random)


def test_defaults_are_those_of_the_samplers():
    for kind in ("ddim", "dpm_solver"):
        settings = diffusion.SamplerConfig(kind=kind)
        found = diffusion.make_sampler(settings, SCHEDULE, "epsilon")
        expected = getattr(samplers, kind)(SCHEDULE)
        np.testing.assert_array_equal(found.of_x0, expected.of_x0)


def test_fewer_published_steps_are_truncated_where_asked_for():
    settings = diffusion.SamplerConfig(kind="ancestral", steps=3, spacing="truncated")
    found = diffusion.make_sampler(settings, SCHEDULE, "epsilon")
    assert found.timesteps.tolist() == [2, 1, 0]
    spread = diffusion.SamplerConfig(kind="ancestral", steps=4)
    found = diffusion.make_sampler(spread, SCHEDULE, "epsilon")
    assert found.timesteps.tolist() == [75, 50, 25, 0]


def test_short_schedules_have_as_many_steps_as_they_can():
    short = diffusion.make_schedule(diffusion.ScheduleConfig(steps=5))
    found = diffusion.make_sampler(diffusion.SamplerConfig(), short, "epsilon")
    assert found.steps == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "dpm_solvr"}, "no sampler 'dpm_solvr' .did you mean 'dpm_solver'"),
        ({"steps": 0}, "steps must be at least 1, found 0"),
        ({"spacing": "truncated"}, "truncated is of ancestral and ddim only"),
        ({"kind": "ddim", "eta": 2.0}, r"eta must be in \[0, 1\], found 2.0"),
        ({"kind": "ddim", "steps": 101}, "sampler.steps 101: the schedule has 100"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        diffusion.make_sampler(diffusion.SamplerConfig(**settings), SCHEDULE, "epsilon")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("ancestral", {"kind": "ancestral"}),
        ("ddim:50", {"kind": "ddim", "steps": 50}),
        ("ddim:50:eta=0.5", {"kind": "ddim", "steps": 50, "eta": 0.5}),
        ("ddpm:truncated", {"kind": "ddpm", "spacing": "truncated"}),
        (
            "ancestral:100:truncated",
            {"kind": "ancestral", "steps": 100, "spacing": "truncated"},
        ),
        (
            "dpm_solver:20:stochastic:spacing=log_snr:order=3",
            {"steps": 20, "stochastic": True, "spacing": "log_snr", "order": 3},
        ),
        ("dpm_solver:stochastic=false", {"stochastic": False}),
    ],
)
def test_a_word_says_how_samples_are_drawn(text, settings):
    found = diffusion.SamplerConfig.parse(text)
    assert found == diffusion.SamplerConfig(**settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dpm_solvr:5", "sampler 'dpm_solvr:5': .*did you mean 'dpm_solver'"),
        ("ddim:many", r"expected KIND\[:STEPS\].*, found 'many' in 'ddim:many'"),
        ("ddim:", "found '' in 'ddim:'"),
        ("ddim:0", "steps must be at least 1"),
        ("ddim:5:etta=1", "did you mean 'eta'"),
        ("ddim:5:eta=all", "eta.*expected a number, found 'all'"),
        ("ddim:5:spacing=log", "spacing: "),
        ("ddim:5:steps=6", "each setting once"),
        ("dpm_solver:20:truncated", "of ancestral and ddim only"),
    ],
)
def test_a_word_that_says_nothing_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        diffusion.SamplerConfig.parse(text)
