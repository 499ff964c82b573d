"""Tests of the blocks around cuboid attention against published numbers."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import published
from weatherlib.geometry.cuboid_patterns import Cuboid
from weatherlib.nn import cuboid_attention, cuboid_blocks
from weatherlib.nn.cuboid_blocks import FeedForwardSettings

FFN = {"ffn_1": "linear_0", "ffn_2": "linear_1", "ffn_1_gate": "gate"}
FFN["layer_norm"] = "norm"


def module(make):
    """Returns a module as jitted functions."""
    transformed = hk.transform(lambda *inputs: make()(*inputs))
    return hk.Transformed(jax.jit(transformed.init), jax.jit(transformed.apply))


def run_case(name, make, names):
    """Asserts that a module gives published numbers, with just their weights."""
    run = module(make)
    params = published.params(published.weights(name), names, "it")
    x = published.arrays()[f"{name}_in"]
    made = jax.eval_shape(run.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, made)
    found = run.apply(params, None, x)
    published.close(found, published.arrays()[f"{name}_out"])


@pytest.mark.parametrize("name", ["ffn0", "ffn1", "ffn2"])
def test_perceptrons_give_the_published_numbers(name, strict_numerics):
    case = published.listed()[name]
    settings = FeedForwardSettings(
        activation=case["activation"],
        gated=case.get("gated_proj", False),
        norm_before=case["pre_norm"],
    )
    hidden = case["hidden_size"]
    run_case(name, lambda: cuboid_blocks.FeedForward(hidden, settings, "it"), FFN)


@pytest.mark.parametrize("name", ["merge0", "merge1", "merge2"])
def test_merging_gives_the_published_numbers(name, strict_numerics):
    case = published.listed()[name]
    factor, width = tuple(case["downsample"]), case["out_dim"]
    make = lambda: cuboid_blocks.PatchMerge(width, factor, case["padding_type"], "it")  # noqa: E731
    run_case(name, make, {"norm": "norm", "reduction": "reduction"})


@pytest.mark.parametrize("name", ["up0", "up1"])
def test_upsampling_gives_the_published_numbers(name, strict_numerics):
    case = published.listed()[name]
    shape, width = tuple(case["target_size"]), case["out_dim"]
    run_case(name, lambda: cuboid_blocks.Upsample(width, shape, "it"), {"conv": "conv"})


@pytest.mark.parametrize("name", ["pos0", "pos1"])
def test_position_tables_give_the_published_numbers(name, strict_numerics):
    case = published.listed()[name]
    shape = (case["maxT"], case["maxH"], case["maxW"])
    held = published.weights(name)
    names = {"T": "time", "H": "row", "W": "column", "HW": "place"}
    tables = {new: held.get(f"{old}_embed.weight") for old, new in names.items()}
    params = {"it": {name: t for name, t in tables.items() if t is not None}}
    run = module(lambda: cuboid_blocks.PositionEmbed(shape, case["typ"], "it"))
    x = published.arrays()[f"{name}_in"]
    made = jax.eval_shape(run.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, made)
    np.testing.assert_allclose(
        run.apply(params, None, x), published.arrays()[f"{name}_out"], atol=1e-6
    )


@pytest.mark.parametrize("kind", ["zeros", "ignore", "nearest"])
def test_padding_and_its_removal_are_the_published_ones(kind):
    from weatherlib.geometry import cuboids

    data = published.arrays()
    layout = cuboids.layout((3, 4, 5), Cuboid((4, 3, 3)), kind)
    # The cuboid is 3x3x3 of the 3x6x6 padded points; the golden pads time by 1 too.
    layout = dataclasses.replace(
        layout,
        padded=(4, 6, 6),
        cuboid=Cuboid((4, 6, 6)),
        stretch=_indices((3, 4, 5), (4, 6, 6)) if kind == "nearest" else None,
        shrink=_indices((4, 6, 6), (3, 4, 5)) if kind == "nearest" else None,
    )
    padded = cuboid_attention._cut(jnp.asarray(data["pad_in"]), layout)
    expected = data[f"pad_{kind}"]
    np.testing.assert_array_equal(padded.reshape(expected.shape), expected)
    back = cuboid_attention._joined(padded, layout)
    np.testing.assert_array_equal(back, data[f"unpad_{kind}"])


def _indices(old, new):
    from weatherlib.geometry import cuboids

    return tuple(cuboids.nearest_indices(a, b) for a, b in zip(old, new))


def noisy(run, *inputs):
    """Returns parameters away from their first values, from which much is zero."""
    made = jax.eval_shape(run.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: 0.3 * rng.standard_normal(a.shape, np.float32), made)


STACK = [Cuboid((2, 1, 1)), Cuboid((1, 2, 3), ("l", "d", "d"))]


def stack(vectors=None, **options):
    attention = cuboid_attention.Settings(heads=2, global_vectors=vectors)
    return module(
        lambda: cuboid_blocks.CuboidStack(
            STACK, attention, FeedForwardSettings(), name="it", **options
        )
    )


def test_a_stack_is_its_layers_one_after_the_other():
    vectors = cuboid_attention.GlobalSettings()
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 3, 4, 5, 4), np.float32)
    g = rng.standard_normal((2, 2, 4), np.float32)
    for inner in (True, False):
        run = stack(vectors, inner=inner)
        params = noisy(run, x, g)
        names = {name.split("/")[1] for name in params}
        numbers = (0, 1) if inner else (0,)
        assert names == {"attn_0", "attn_1"} | {
            f"{kind}_{i}" for kind in ("ffn", "global_ffn") for i in numbers
        }

        def plain(inner=inner, numbers=numbers):
            def call(x, g):
                settings = cuboid_attention.Settings(heads=2, global_vectors=vectors)
                for i, cuboid in enumerate(STACK):
                    layer = cuboid_attention.CuboidAttention(
                        cuboid, settings, f"attn_{i}"
                    )
                    found, answer = layer(x, g)
                    x, g = x + found, g + answer
                    if inner or i == 1:
                        number = i if inner else 0
                        make = cuboid_blocks.FeedForward
                        x = make(16, FeedForwardSettings(), f"ffn_{number}")(x)
                        name = f"global_ffn_{number}"
                        g = make(16, FeedForwardSettings(), name)(g)
                return x, g

            return call

        held = {name.removeprefix("it/"): value for name, value in params.items()}
        expected = module(plain).apply(held, None, x, g)
        for ours, theirs in zip(run.apply(params, None, x, g), expected):
            published.close(ours, np.asarray(theirs), 1e-6)


def test_vectors_may_go_without_perceptrons():
    vectors = cuboid_attention.GlobalSettings()
    run = stack(vectors, of_vectors=False)
    x, g = jnp.ones((1, 2, 2, 3, 4)), jnp.ones((1, 2, 4))
    assert not any("global_ffn" in name for name in noisy(run, x, g))


@pytest.mark.slow
def test_computing_again_changes_no_gradient():
    vectors = cuboid_attention.GlobalSettings()
    rng = np.random.default_rng(2)
    inputs = (
        rng.standard_normal((2, 3, 4, 5, 4), np.float32),
        np.ones((2, 2, 4), "f4"),
    )
    found = []
    for remat in (False, True):
        run = stack(vectors, remat=remat)
        params = noisy(run, *inputs)
        loss = lambda p, r=run: (r.apply(p, None, *inputs)[0] ** 2).sum()  # noqa: E731
        found.append(jax.jit(jax.grad(loss))(params))
        text = str(jax.make_jaxpr(jax.grad(loss))(params))
        assert ("checkpoint" in text or "remat" in text) == remat
    jax.tree.map(lambda a, b: published.close(a, np.asarray(b), 1e-5), *found)


@pytest.mark.parametrize("padding", ["zeros", "ignore", "nearest"])
def test_time_alone_is_padded_too(padding):
    """The published code fails on that."""
    x = np.random.default_rng(2).standard_normal((1, 5, 2, 3, 2), np.float32)
    whole = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
    if padding == "nearest":
        whole = x[:, [0, 0, 1, 2, 3, 4]]
    run = module(lambda: cuboid_blocks.PatchMerge(2, (2, 1, 1), padding, "it"))
    params = noisy(run, x)
    found = run.apply(params, None, x)
    assert found.shape == (1, 3, 2, 3, 2)
    np.testing.assert_array_equal(found, run.apply(params, None, whole))


def test_upsampling_stretches_time_as_well():
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, 2, 3))
    run = module(lambda: cuboid_blocks.Upsample(3, (4, 3, 4), "it", size=1))
    params = {"it/conv": {"w": jnp.eye(3)[None, None], "b": jnp.zeros(3)}}
    found = run.apply(params, None, x)
    expected = np.asarray(x)[:, [0, 0, 1, 1]][:, :, [0, 0, 1]][:, :, :, [0, 0, 1, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["t+h+w", "t+hw"])
def test_more_points_than_positions_are_refused(kind):
    run = module(lambda: cuboid_blocks.PositionEmbed((2, 3, 4), kind, "it"))
    with pytest.raises(ValueError, match="2x4x4 points is larger than the 2x3x4"):
        run.init(jax.random.key(0), jnp.ones((1, 2, 4, 4, 2)))


def test_unknown_position_tables_are_refused():
    with pytest.raises(ValueError, match=r"there are t.h.w and t.hw"):
        module(lambda: cuboid_blocks.PositionEmbed((1, 1, 1), "thw", "it")).init(
            jax.random.key(0), jnp.ones((1, 1, 1, 1, 2))
        )


@pytest.mark.parametrize("name", cuboid_blocks.ACTIVATIONS)
def test_activations_are_the_ones_of_their_names(name):
    x = np.linspace(-3, 3, 7)
    from scipy import special

    expected = {
        "gelu": x * special.ndtr(x), "leaky": np.where(x > 0, x, 0.1 * x),
        "relu": np.maximum(x, 0), "elu": np.where(x > 0, x, np.expm1(x)),
        "sigmoid": special.expit(x), "tanh": np.tanh(x),
        "softplus": np.log1p(np.exp(x)), "softrelu": np.log1p(np.exp(x)),
        "softsign": x / (1 + np.abs(x)), "identity": x,
    }[name]  # fmt: skip
    found = cuboid_blocks.activate(name, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-6)
