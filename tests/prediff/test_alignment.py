"""Tests of the alignment network against published numbers, and a plain one."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.prediff import networks, plain, published
from weatherlib.prediff import alignment
from weatherlib.prediff import published as settings
from weatherlib.prediff.config import AlignmentConfig

TINY = AlignmentConfig(
    input_shape=(3, 3, 4, 3),
    base_units=4,
    depth=(1,),
    block_attn_patterns="full",
    num_heads=2,
    time_embed_channels_mult=2,
)
VECTORS = TINY.replace(num_global_vectors=2, out_len=2)
OTHERS = {
    "all frames together, vectors attend to each other": VECTORS.replace(
        readout_seq=False,
        out_len=None,
        use_global_self_attn=True,
        separate_global_qkv=True,
        block_attn_patterns="video_swin_2x2",
        padding_type="ignore",
    ),
    "coarser time, several numbers": TINY.replace(
        downsample=(2, 2, 2), out_channels=3, depth=(1, 2), pos_embed_type="t+hw"
    ),
    "vectors of the same batch member": VECTORS.replace(published_quirks=False),
    "vectors of another batch member": VECTORS,
    "three levels, positions of every level": TINY.replace(
        depth=(1, 1, 1),
        padding_type="nearest",
        hierarchical_pos_embed=True,
        scale_alpha=0.0,
        gated_ffn=True,
    ),
}


def energy(sizes):
    """Returns energy, numbers and gradient by latents, as a jitted function."""
    run = networks.make(sizes)

    def value(z, params, t, wanted, counts):
        predicted = run.apply(params, None, z, t)
        energy = alignment.intensity_energy(
            predicted * counts[:, None, None], wanted * counts[:, None]
        )
        return energy, predicted

    return jax.jit(jax.value_and_grad(value, has_aux=True))


@pytest.mark.parametrize(
    "name", ["align_a", pytest.param("align_b", marks=pytest.mark.slow)]
)
def test_the_published_numbers_and_guidance_come_out(name, strict_numerics):
    sizes, arrays, case = networks.golden(name)
    scale = published.listed("config")[name]["guide_scale"]
    params = networks.params_of(sizes, arrays)
    z, t, wanted = (jnp.asarray(case[key]) for key in ("zt", "t", "avg_x_gt"))
    run = energy(sizes)
    (found, predicted), gradient = run(z, params, t, wanted, jnp.ones(2))
    published.close(predicted, case["pred"])
    assert found == pytest.approx(case["U"], rel=1e-5)
    share = tolerances.PREDIFF_GRADIENT
    published.close(scale * gradient, case["mean_shift"], share)
    if sizes.num_global_vectors:
        # Batch members are mixed, so the first has to be really alone.
        z, t, wanted = z[:1], t[:1], wanted[:1]
    (found, _), gradient = run(z, params, t, wanted, jnp.eye(len(z))[0])
    assert found == pytest.approx(case["U_first_only"], rel=1e-5)
    published.close(scale * gradient[:1], case["mean_shift_first_only"], share)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_settings_give_what_a_plain_network_does(name, strict_numerics):
    sizes = OTHERS[name]
    arrays, inputs = networks.sources(sizes), networks.inputs_of(sizes, batch=3)
    run = networks.make(sizes)
    made = jax.eval_shape(run.init, jax.random.key(0), *inputs)
    assert networks.shapes_of(made) == networks.named_shapes(sizes)
    found = run.apply(networks.params_of(sizes, arrays), None, *inputs)
    published.close(found, plain.alignment(arrays, sizes, *map(np.asarray, inputs)))


def test_the_plain_network_is_the_published_one():
    sizes, arrays, case = networks.golden("align_b")
    found = plain.alignment(arrays, sizes, case["zt"], case["t"])
    published.close(found, case["pred"])


def test_the_published_model_has_our_parameters():
    sizes = settings.PUBLISHED_ALIGNMENT
    latents = jax.ShapeDtypeStruct((1, *sizes.input_shape), jnp.float32)
    steps = jax.ShapeDtypeStruct((1,), jnp.int32)
    made = jax.eval_shape(networks.make(sizes).init, jax.random.key(0), latents, steps)
    assert networks.shapes_of(made) == networks.named_shapes(sizes)
    assert hk.data_structures.tree_size(made) == 8_937_033


@pytest.mark.slow
def test_it_runs_under_grad_and_vmap(strict_numerics):
    sizes = VECTORS.replace(
        published_quirks=False, time_embed_use_scale_shift_norm=True
    )
    inputs = networks.inputs_of(sizes)
    arrays = networks.sources(sizes)
    params = networks.params_of(sizes, arrays)
    run = networks.make(sizes)
    single = lambda *each: run.apply(params, None, *(x[None] for x in each))[0]  # noqa: E731
    expected = plain.alignment(arrays, sizes, *map(np.asarray, inputs))
    published.close(jax.jit(jax.vmap(single))(*inputs), expected)
    run = networks.make(sizes, remat=True)
    gradient = jax.jit(jax.grad(lambda p: (run.apply(p, None, *inputs) ** 2).sum()))
    for module, entries in gradient(params).items():
        for value in entries.values():
            assert jnp.isfinite(value).all() and jnp.abs(value).max() > 0, module


def test_bfloat16_comes_close_to_float32():
    z, t = networks.inputs_of(TINY)
    arrays = networks.sources(TINY)
    expected = plain.alignment(arrays, TINY, np.asarray(z), np.asarray(t))
    cast = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), tree)  # noqa: E731
    params = cast(networks.params_of(TINY, arrays))
    found = networks.make(TINY).apply(params, None, cast(z), t)
    assert found.dtype == jnp.bfloat16
    published.close(found.astype(jnp.float32), expected, 0.1)


def test_the_mean_of_each_frame_is_what_the_network_learns():
    frames = jnp.arange(24.0).reshape(1, 2, 3, 2, 2)
    np.testing.assert_allclose(
        alignment.frame_intensity(frames), [[[5.5], [17.5]]], rtol=1e-6
    )


def test_the_energy_has_a_gradient_where_nothing_differs():
    predicted = jnp.ones((2, 3, 1))
    value, gradient = jax.value_and_grad(alignment.intensity_energy)(
        predicted, jnp.ones((2, 1))
    )
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    value, gradient = jax.value_and_grad(alignment.intensity_energy)(
        predicted, jnp.array([[1.0], [4.0]])
    )
    assert value == pytest.approx(3)
    np.testing.assert_allclose(gradient[1], -1 / 3, rtol=1e-6)
    np.testing.assert_array_equal(gradient[0], 0)


def test_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"latents .input_shape.*found 2 frames"):
        networks.make(TINY).init(
            jax.random.key(0), jnp.ones((1, 2, 3, 4, 3)), jnp.ones(1)
        )
