"""Tests of ensembles of futures, and of constraints on them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import latent_cases
from weatherlib.diffusion import guidance, samplers
from weatherlib.prediff import ensembles, guides


def _sampler(steps=8, members_at_once=4, **options):
    model, params = latent_cases.toy_model()
    table = samplers.dpm_solver(model.schedule, steps)
    made = ensembles.EnsembleSampler(
        model, table, 2, members_at_once=members_at_once, **options
    )
    return made, params


def test_members_are_futures_of_their_context():
    draw, params = _sampler()
    context = latent_cases.toy_context()
    found = draw(params, context, jax.random.key(0), 40)
    assert found.shape == (40, 2, 2, 4, 6, 1)
    last = context[:, -1:, ::2, ::2].repeat(2, 2).repeat(2, 3)
    off = found - last
    assert abs(off.mean()) < 0.05
    assert abs(off.std() - 0.5) < 0.08
    assert np.abs(found[0] - found[1]).max() > 0.1
    assert np.abs(off[:, 0] - off[:, 1]).max() > 0.1


@pytest.mark.parametrize("members_at_once", [1, 2, 5, 9])
def test_a_member_does_not_depend_on_how_many_are_drawn(members_at_once):
    context = latent_cases.toy_context()
    draw, params = _sampler()
    expected = draw(params, context, jax.random.key(0), 5)
    other, _ = _sampler(members_at_once=members_at_once)
    found = other(params, context, jax.random.key(0), 3)
    np.testing.assert_allclose(found, expected[:3], atol=1e-5)


def test_contexts_with_keys_of_their_own_may_be_in_any_batch():
    draw, params = _sampler(members_at_once=2)
    context = latent_cases.toy_context()
    keys = jax.random.split(jax.random.key(0), 2)
    both = draw(params, context, keys, 3)
    alone = draw(params, context[1:], keys[1:], 3)
    np.testing.assert_allclose(both[:, 1:], alone, atol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 0.1
    raw = draw(params, context, jax.random.key_data(keys), 3)
    np.testing.assert_array_equal(raw, both)
    with pytest.raises(ValueError, match=r"one for each of 2 contexts, found \(3,\)"):
        draw(params, context, jax.random.split(jax.random.key(0), 3), 3)


def test_it_compiles_once_for_any_number_of_members():
    traces = []
    model, params = latent_cases.toy_model()
    inner = model.denoise

    def denoise(*arguments):
        traces.append(arguments[1].shape)
        return inner(*arguments)

    counted = dataclasses.replace(model, denoise=denoise)
    draw = ensembles.EnsembleSampler(
        counted, samplers.ddim(model.schedule, 5), 2, members_at_once=3
    )
    for members, seed in ((3, 0), (7, 1), (4, 2)):
        context = latent_cases.toy_context(seed=seed)
        found = draw(params, context, jax.random.key(seed), members)
        assert len(found) == members
    assert traces == [(6, 2, 2, 3, 1)]


def test_progress_runs_over_all_members():
    told = []
    draw, params = _sampler(
        members_at_once=2, progress=lambda done, total: told.append((done, total))
    )
    draw(params, latent_cases.toy_context(), jax.random.key(0), 5)
    assert sorted(told) == [(i, 24) for i in range(1, 25)]


def _wet(frames, target):
    """Returns how badly the mean of frames is the target."""
    return 40 * (frames.mean((1, 2, 3, 4)) - target) ** 2


@pytest.mark.parametrize("through_denoiser", [True, False])
def test_a_constraint_on_frames_moves_every_member(through_denoiser):
    model, params = latent_cases.toy_model()
    draw, _ = _sampler(steps=20)
    context = latent_cases.toy_context()
    free = draw(params, context, jax.random.key(0), 6).mean((2, 3, 4, 5))
    wanted = np.asarray([1.5, -0.5], np.float32)
    guide = guides.frame_guidance(
        model,
        params.autoencoder,
        _wet,
        target=wanted,
        through_denoiser=through_denoiser,
    )
    found = draw(params, context, jax.random.key(0), 6, guidance=guide)
    found = found.mean((2, 3, 4, 5))
    assert np.abs(found - wanted).mean() < 0.6 * np.abs(free - wanted).mean()
    assert ((found > free) == (wanted > free)).all()


def test_guidance_of_a_batch_is_that_of_its_members_alone():
    model, params = latent_cases.toy_model()
    draw, _ = _sampler()
    context = latent_cases.toy_context()
    wanted = np.asarray([1.5, -0.5], np.float32)

    def run(context, wanted):
        guide = guides.frame_guidance(model, params.autoencoder, _wet, target=wanted)
        return draw(params, context, jax.random.key(0), 2, guidance=guide)

    both, first = run(context, wanted), run(context[:1], wanted[:1])
    np.testing.assert_allclose(both[:, :1], first, atol=1e-5)


def test_constraints_made_anew_do_not_compile_anew():
    model, params = latent_cases.toy_model()
    traces = []

    def energy(frames, target):
        traces.append(frames.shape)
        return _wet(frames, target)

    draw, _ = _sampler()
    for goal in (0.1, 0.2):
        guide = guides.frame_guidance(
            model, params.autoencoder, energy, target=np.full(2, goal, np.float32)
        )
        draw(params, latent_cases.toy_context(), jax.random.key(0), 4, guidance=guide)
    assert len(traces) == 1


def test_an_alignment_network_guides_members_one_by_one():
    read_of = []

    def read(params, x, t, key):
        read_of.append(key)
        return params["gain"] * x.mean((2, 3, 4))[..., None]

    draw, params = _sampler(steps=20)
    context = latent_cases.toy_context()
    wanted = np.asarray([[2.0], [-1.0]], np.float32)
    guide = guides.intensity_guidance(
        read, {"gain": jnp.float32(1.0)}, wanted, scale=3.0
    )
    free = draw(params, context, jax.random.key(0), 4).mean((2, 3, 4, 5))
    found = draw(params, context, jax.random.key(0), 4, guidance=guide)
    found = found.mean((2, 3, 4, 5))
    assert (found[:, 0] > free[:, 0]).all()
    assert (found[:, 1] < free[:, 1]).all()
    assert set(read_of) == {None}


def test_guidance_without_a_number_is_one_clear_error():
    draw, params = _sampler()
    guide = guidance.Guidance(energy=lambda x, t, _: jnp.sqrt(-jnp.abs(x)).sum())
    with pytest.raises(ValueError, match="not finite in step 1 of 8"):
        draw(params, latent_cases.toy_context(), jax.random.key(0), 2, guidance=guide)


def test_missing_values_in_a_context_are_refused():
    draw, params = _sampler()
    context = latent_cases.toy_context()
    context[0, 1, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"0\.7% of the context is missing; fill it"):
        draw(params, context, jax.random.key(0), 2)
    context[1, 2] = np.nan
    with pytest.raises(ValueError, match="frame 2 of context 1 has no values at all"):
        draw(params, context, jax.random.key(0), 2)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda draw, p, x, k: draw(p, x, k, 0), "members must be at least 1, found 0"),
        (lambda draw, p, x, k: draw(p, x[0], k, 1), r"found shape \(3, 4, 6, 1\)"),
        (
            lambda draw, p, x, k: draw(
                p, x, k, 1, guidance=guidance.Guidance(energy=len, target=jnp.zeros(3))
            ),
            r"an entry for each of 2 contexts, found shape \(3,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(run, message):
    draw, params = _sampler()
    with pytest.raises(ValueError, match=message):
        run(draw, params, latent_cases.toy_context(), jax.random.key(0))


@pytest.mark.parametrize(("frames", "at_once"), [(0, 1), (1, 0)])
def test_numbers_that_are_not_positive_are_refused(frames, at_once):
    model, _ = latent_cases.toy_model()
    table = samplers.ddim(model.schedule, 5)
    with pytest.raises(ValueError, match="must be at least 1, found 0"):
        ensembles.EnsembleSampler(model, table, frames, members_at_once=at_once)
