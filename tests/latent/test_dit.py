"""Tests of diffusion transformers on latent fields."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.latent import codecs
from weatherlib import latent
from weatherlib.latent import dit, dit_config, latent_diffusion

TINY = dit_config.DiTConfig(
    hidden_size=8,
    depth=1,
    num_heads=2,
    head_hidden_size=12,
    head_depth=1,
    head_num_heads=3,
)
KINDS = {"dit": dit.DiT, "dh_dit": dit.WideHeadDiT}


def _transformed(kind, config=TINY, **options):
    run = hk.transform(lambda *given: KINDS[kind](config, **options)(*given))
    return hk.without_apply_rng(run)


def _given(rows=3, columns=4, targets=4, past=6, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    noisy, condition = (
        jnp.asarray(rng.standard_normal((2, n, rows, columns)), dtype)
        for n in (targets, past)
    )
    return noisy, condition, jnp.array([3, 700])


def _moved(params):
    """Returns parameters away from the zeros that they begin with."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: x + jnp.asarray(0.2 * rng.standard_normal(x.shape), x.dtype), params
    )


@functools.cache
def _compiled(kind, config=TINY):
    """Returns compiled functions that make parameters, and that apply them."""
    run = _transformed(kind, config)
    return jax.jit(run.init), jax.jit(run.apply)


def _count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize("kind", KINDS)
def test_it_predicts_zero_at_first_and_then_sees_all_it_is_given(kind):
    (init, apply), given = _compiled(kind), _given()
    params = init(jax.random.key(0), *given)
    first = apply(params, *given)
    assert first.shape == (2, 4, 3, 4)
    np.testing.assert_array_equal(first, np.zeros(first.shape))
    params = _moved(params)
    found = apply(params, *given)
    noisy, condition, t = given
    others = {
        "noisy": (noisy.at[0, 0, 0, 0].add(1.0), condition, t),
        "condition": (noisy, condition.at[0, 5, 2, 3].add(1.0), t),
        "timestep": (noisy, condition, t.at[0].add(50)),
    }
    for name, changed in others.items():
        difference = np.abs(np.asarray(apply(params, *changed) - found))
        assert difference[0].min() > 0, name
        # The other member of the batch does not notice.
        np.testing.assert_allclose(difference[1], 0, atol=1e-6)


def test_places_are_told_apart():
    (init, apply), given = _compiled("dit"), _given()
    params = _moved(init(jax.random.key(0), *given))
    noisy, condition, t = given
    rolled = apply(params, *(jnp.roll(x, 1, -1) for x in (noisy, condition)), t)
    assert np.abs(rolled - jnp.roll(apply(params, *given), 1, -1)).max() > 1e-3


@pytest.mark.parametrize(
    "kind", ["dit", pytest.param("dh_dit", marks=pytest.mark.slow)]
)
def test_patches_cut_what_they_filled_up(kind):
    config = TINY.replace(patch_size=2)
    run, given = _transformed(kind, config), _given(rows=3, columns=5)
    params = jax.eval_shape(run.init, jax.random.key(0), *given)
    assert jax.eval_shape(run.apply, params, *given).shape == (2, 4, 3, 5)
    assert params["latent_denoiser/last/projection"]["w"].shape[1] == 4 * 4
    root = "latent_denoiser/embed/projection"
    assert params[root]["w"].shape == ((4 + 6) * 4, 8)


def _published_count(kind, size, latent):
    config = dit_config.DIT_SIZES[size]
    fields = (jax.ShapeDtypeStruct((1, n * latent, 16, 16), "float32") for n in (4, 12))
    steps = jax.ShapeDtypeStruct((1,), "int32")
    shapes = jax.eval_shape(
        _transformed(kind, config).init, jax.random.key(0), *fields, steps
    )
    return _count(shapes)


@pytest.mark.parametrize(
    ("kind", "size", "latent"), [("dit", "S", 4), ("dh_dit", "S", 768)]
)
def test_parameters_of_published_sizes_are_counted(kind, size, latent):
    config = dit_config.DIT_SIZES[size]

    def linear(inputs, outputs):
        return inputs * outputs + outputs

    def blocks(width, told, depth, hidden, gate):
        attention = linear(width, 3 * width) + linear(width, width)
        inner = linear(width, gate * hidden) + linear(hidden, width)
        return depth * (attention + inner + linear(told, 6 * width))

    width, outputs = config.hidden_size, 4 * latent
    total = linear(256, width) + linear(width, width) + linear(16 * latent, width)
    if kind == "dit":
        total += blocks(width, width, config.depth, 4 * width, 1)
        total += linear(width, 2 * width) + linear(width, outputs)
    else:
        head = config.head_hidden_size
        total += blocks(width, width, config.depth, width * 8 // 3, 2)
        total += linear(width, head) + linear(outputs, head)
        total += blocks(head, head, config.head_depth, head * 8 // 3, 2)
        total += linear(head, 2 * head) + linear(head, outputs)
    assert _published_count(kind, size, latent) == total


@pytest.mark.parametrize(
    "kind", ["dit", pytest.param("dh_dit", marks=pytest.mark.slow)]
)
def test_it_learns_one_batch_by_heart(kind):
    run, given = _transformed(kind), _given(past=4)
    params = jax.jit(run.init)(jax.random.key(0), *given)
    wanted = given[1]
    optimizer = optax.adam(2e-2)

    def loss(params):
        return jnp.square(run.apply(params, *given) - wanted).mean()

    def step(held, _):
        params, state = held
        value, gradients = jax.value_and_grad(loss)(params)
        changes, state = optimizer.update(gradients, state)
        return (optax.apply_updates(params, changes), state), value

    held = (params, optimizer.init(params))
    losses = jax.jit(lambda held: jax.lax.scan(step, held, None, 60)[1])(held)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_blocks_computed_again_give_the_same_gradients():
    given = _given()
    found = []
    for remat in (False, True):
        run = _transformed("dh_dit", remat=remat)
        params = _moved(run.init(jax.random.key(0), *given))
        gradients = jax.grad(lambda p, run=run: run.apply(p, *given).sum())(params)
        found.append(gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *found)


@pytest.mark.parametrize(("kind", "width"), [("dit", 8), ("dh_dit", 12)])
def test_they_are_denoisers_of_latent_diffusion(kind, width):
    config = latent.LatentDiffusionConfig(
        **codecs.SIZES["rae"], channels=1, denoiser=kind, dit=TINY, input_length=3
    )
    shapes = jax.eval_shape(
        lambda key: latent_diffusion.first_params(config, key), jax.random.key(0)
    )
    # 3 past and 4 future frames of 8 channels are read, 4 of them predicted.
    assert shapes["latent_denoiser/embed/projection"]["w"].shape == (7 * 8, 8)
    assert shapes["latent_denoiser/last/projection"]["w"].shape == (width, 4 * 8)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="head_hidden_size 10 must be a multiple of 4"):
        dit_config.DiTConfig(head_hidden_size=10)
    with pytest.raises(ValueError, match="depth must be positive, found 0"):
        dit_config.DiTConfig(depth=0)
