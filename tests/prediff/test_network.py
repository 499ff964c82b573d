"""Tests of the denoiser against published numbers, and against a plain one."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import networks, plain, published
from weatherlib.prediff import published as settings
from weatherlib.prediff.config import EarthformerUNetConfig

TINY = EarthformerUNetConfig(
    input_shape=(2, 3, 4, 3),
    target_shape=(2, 3, 4, 3),
    base_units=4,
    depth=(1,),
    block_attn_patterns="full",
    num_heads=2,
    time_embed_channels_mult=2,
)
VECTORS = TINY.replace(num_global_vectors=2, use_global_self_attn=True)
OTHERS = {
    "three levels of different depths and patterns": TINY.replace(
        input_shape=(3, 9, 7, 2),
        target_shape=(2, 9, 7, 2),
        depth=(1, 2, 1),
        block_attn_patterns=("video_swin_2x4", "full", "divided_space_time"),
        padding_type="nearest",
        ffn_activation="leaky",
    ),
    "lists of cuboids that are larger than the data": TINY.replace(
        block_attn_patterns=None,
        block_cuboid_size=((3, 2, 8), (8, 2, 3)),
        block_cuboid_strategy=(("l", "d", "l"), ("l", "l", "d")),
        block_cuboid_shift_size=((1, 1, 2), (2, 1, 0)),
        pos_embed_type="t+hw",
        padding_type="ignore",
    ),
    "lists for each level": TINY.replace(
        depth=(1, 1),
        block_attn_patterns=None,
        block_cuboid_size=(((3, 2, 2),), ((2, 2, 1), (4, 1, 2))),
        block_cuboid_strategy=((("l", "l", "l"),), (("d",) * 3, ("l",) * 3)),
        block_cuboid_shift_size=(((1, 1, 1),), ((0, 0, 0), (0, 0, 1))),
        use_inter_ffn=False,
        unet_res_connect=False,
        time_embed_use_scale_shift_norm=True,
    ),
    "vectors with layers of their own that ignore each other": VECTORS.replace(
        depth=(2,),
        separate_global_qkv=True,
        use_global_self_attn=False,
        global_dim_ratio=3,
        use_global_vector_ffn=False,
        block_attn_patterns=None,
        block_cuboid_size=((3, 2, 3),),
        block_cuboid_strategy=(("l", "d", "l"),),
        block_cuboid_shift_size=((1, 0, 1),),
        padding_type="ignore",
        published_quirks=False,
        gated_ffn=True,
    ),
    "vectors that share layers, positions of every level": VECTORS.replace(
        depth=(1, 1),
        block_attn_patterns="video_swin_3x2",
        padding_type="ignore",
        use_inter_ffn=False,
        ffn_activation="relu",
        hierarchical_pos_embed=True,
        scale_alpha=0.0,
        upsample_kernel_size=5,
    ),
    # The published code has no way back up from coarser times.
    "32 channels, coarser times, no places and projections": TINY.replace(
        base_units=32,
        block_units=(32, 48),
        depth=(1, 1),
        downsample=(2, 3, 3),
        use_relative_pos=False,
        self_attn_use_final_proj=False,
    ),
}


@pytest.mark.parametrize("name", ["unet_a", "unet_b"])
def test_the_published_prediction_comes_out(name, strict_numerics):
    sizes, arrays, case = networks.golden(name)
    held = {}

    def watch(function, args, kwargs, context):
        found = function(*args, **kwargs)
        if context.method_name == "__call__":
            first = found[0] if isinstance(found, tuple) else found
            held.setdefault(context.module.module_name, first)
        return found

    def run(params, *inputs):
        held.clear()
        with hk.intercept_methods(watch):
            found = hk.transform(lambda *i: _call(sizes, *i)).apply(
                params, None, *inputs
            )
        return found, dict(held)

    inputs = [jnp.asarray(case[key]) for key in ("x", "t", "cond")]
    found, seen = jax.jit(run)(networks.params_of(sizes, arrays), *inputs)
    published.close(found, case["out"])
    for key, module in {
        "dbg_first_proj_ncthw": "first_proj",
        "dbg_pos_embed": "positions",
        "dbg_time_embed": "time_embed",
        "dbg_down_time_block0_ncthw": "down_0/time",
        "dbg_down_self_block0": "down_0/block_0",
    }.items():
        expected = case[key]
        if key.endswith("ncthw"):
            expected = expected.transpose(0, 2, 3, 4, 1)
        published.close(seen[f"earthformer_unet/{module}"], expected)


def _call(sizes, *inputs):
    from weatherlib.prediff import network

    return network.EarthformerUNet(sizes)(*inputs)


def test_the_plain_network_is_the_published_one():
    """So that what it says about other settings can be believed."""
    sizes, arrays, case = networks.golden("unet_b")
    found = plain.unet(arrays, sizes, case["x"][1:], case["t"][1:], case["cond"][1:])
    published.close(found, case["out"][1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_settings_give_what_a_plain_network_does(name, strict_numerics):
    sizes = OTHERS[name]
    arrays, inputs = networks.sources(sizes), networks.inputs_of(sizes)
    run = networks.make(sizes)
    made = jax.eval_shape(run.init, jax.random.key(0), *inputs)
    assert networks.shapes_of(made) == networks.named_shapes(sizes)
    found = run.apply(networks.params_of(sizes, arrays), None, *inputs)
    published.close(found, plain.unet(arrays, sizes, *map(np.asarray, inputs)))


def test_the_published_model_has_our_parameters():
    sizes = settings.PUBLISHED_UNET
    inputs = (
        jax.ShapeDtypeStruct((1, *sizes.target_shape), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
        jax.ShapeDtypeStruct((1, *sizes.input_shape), jnp.float32),
    )
    made = jax.eval_shape(networks.make(sizes).init, jax.random.key(0), *inputs)
    assert networks.shapes_of(made) == networks.named_shapes(sizes)
    assert hk.data_structures.tree_size(made) == 136_817_538


def test_nothing_is_predicted_before_training():
    run, inputs = networks.make(TINY), networks.inputs_of(TINY)
    params = run.init(jax.random.key(0), *inputs)
    assert not any(x.any() for x in params["earthformer_unet/final_proj"].values())
    spread = jnp.std(params["earthformer_unet/positions"]["time"])
    assert 0.005 < spread < 0.05


def test_it_runs_under_vmap(strict_numerics):
    run, inputs = networks.make(VECTORS), networks.inputs_of(VECTORS)
    arrays = networks.sources(VECTORS)
    params = networks.params_of(VECTORS, arrays)
    single = lambda *each: run.apply(params, None, *(x[None] for x in each))[0]  # noqa: E731
    expected = plain.unet(arrays, VECTORS, *map(np.asarray, inputs))
    published.close(jax.jit(jax.vmap(single))(*inputs), expected)


@pytest.mark.slow
def test_every_weight_that_is_used_has_a_gradient_and_memory_changes_none(
    strict_numerics,
):
    sizes = VECTORS.replace(padding_type="ignore", time_embed_use_scale_shift_norm=True)
    inputs = networks.inputs_of(sizes, batch=1)
    params = networks.params_of(sizes, networks.sources(sizes))
    first, second = (
        jax.jit(jax.grad(lambda p, r=run: (r.apply(p, None, *inputs) ** 2).sum()))(
            params
        )
        for run in (networks.make(sizes), networks.make(sizes, remat=True))
    )
    # What the last block tells global vectors is not used any more.
    unused = ("up_0/block_0/attn_0/global_proj", "up_0/block_0/global_ffn_0")
    for module, entries in first.items():
        for name, value in entries.items():
            other = second[module][name]
            np.testing.assert_allclose(other, value, rtol=1e-3, atol=1e-5)
            assert jnp.isfinite(value).all()
            # A norm of single channels removes what is added to them before.
            if module.endswith("conv_in") and name == "b":
                assert jnp.abs(value).max() < 1e-4
                continue
            dead = any(part in module for part in unused)
            assert (jnp.abs(value).max() > 0) != dead, (module, name)


@pytest.mark.parametrize("level", [0, 1])
def test_the_published_setting_for_memory_is_followed(level):
    sizes = VECTORS.replace(checkpoint_level=level)
    inputs = networks.inputs_of(sizes, batch=1)
    params = networks.params_of(sizes, networks.sources(sizes))
    run = networks.make(sizes)
    loss = lambda p: run.apply(p, None, *inputs).sum()  # noqa: E731
    text = str(jax.make_jaxpr(jax.grad(loss))(params))
    assert ("checkpoint" in text or "remat" in text) == bool(level)


def test_bfloat16_comes_close_to_float32():
    noisy, steps, context = inputs = networks.inputs_of(TINY)
    arrays = networks.sources(TINY)
    expected = plain.unet(arrays, TINY, *map(np.asarray, inputs))
    cast = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), tree)  # noqa: E731
    params = cast(networks.params_of(TINY, arrays))
    found = networks.make(TINY).apply(params, None, cast(noisy), steps, cast(context))
    assert found.dtype == jnp.bfloat16
    published.close(found.astype(jnp.float32), expected, 0.1)


def test_dropout_acts_in_training_only():
    sizes = VECTORS.replace(
        attn_drop=0.2, proj_drop=0.2, ffn_drop=0.2, time_embed_dropout=0.2
    )
    inputs = networks.inputs_of(sizes)
    params = networks.params_of(sizes, networks.sources(sizes))
    calm = jax.make_jaxpr(networks.make(sizes).apply)(params, None, *inputs)
    assert "random_bits" not in str(calm)
    run = networks.make(sizes, training=True)
    first, again, other = (
        run.apply(params, jax.random.key(i), *inputs) for i in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("past", "ahead", "message"),
    [
        (
            (3, 3, 4, 3),
            (2, 3, 4, 3),
            "context .input_shape.*2 frames .* found 3 frames",
        ),
        ((2, 3, 6, 3), (2, 3, 6, 3), "of 3x4 points .* of 3x6 points"),
        (
            (2, 3, 4, 3),
            (1, 3, 4, 3),
            "target .target_shape.*2 frames .* found 1 frames",
        ),
        ((2, 3, 4, 4), (2, 3, 4, 4), "3 channels, found .* 4 channels"),
    ],
)
def test_frames_that_do_not_fit_are_refused(past, ahead, message):
    with pytest.raises(ValueError, match=message):
        networks.make(TINY).init(
            jax.random.key(0), jnp.ones((1, *ahead)), jnp.ones(1), jnp.ones((1, *past))
        )
