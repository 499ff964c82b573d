import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import norm, unet
from weatherlib.nn.convolutions import Conv2D
from weatherlib.nn.edges import ZERO, Edges

GLOBE = Edges(columns="around", over_first_row="pole", over_last_row="pole")
ON_POLES = Edges(columns="around", over_first_row="on_pole", over_last_row="on_pole")


def _draw(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@functools.cache
def _make(edges=ZERO, rows=8, columns=16, embedded=0, **changes):
    """Returns the compiled network, random parameters and its arguments."""
    sizes = {"base_channels": 4, "depth": 2, "groups": 2, **changes}

    def run(x, embedding=None):
        return unet.UNet(3, **sizes)(x, edges, embedding)

    transformed = hk.without_apply_rng(hk.transform(run))
    arguments = [_draw(2, rows, columns, 5)]
    if embedded:
        arguments.append(_draw(2, embedded, seed=1))
    shapes = jax.eval_shape(transformed.init, jax.random.key(0), *arguments)
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda a: 0.3 * rng.standard_normal(a.shape).astype(np.float32), shapes
    )
    return jax.jit(transformed.apply), params, arguments


def _shapes(params):
    return {
        f"{module}/{name}": value.shape
        for module, entries in params.items()
        for name, value in entries.items()
    }


def _block(inputs, outputs, embedded=0):
    shapes = {
        "conv_0/w": (3, 3, inputs, outputs), "conv_0/b": (outputs,),
        "norm_0/scale": (outputs,), "norm_0/offset": (outputs,),
        "conv_1/w": (3, 3, outputs, outputs), "conv_1/b": (outputs,),
        "norm_1/scale": (outputs,), "norm_1/offset": (outputs,),
    }  # fmt: skip
    if embedded:
        shapes |= {
            "embedding/w": (embedded, outputs),
            "embedding/b": (outputs,),
        }
    return shapes


@pytest.mark.parametrize("embedded", [0, 7])
def test_parameters_have_these_names_and_shapes(embedded):
    blocks = {
        "down_0": (4, 4), "down_1": (4, 8), "bottleneck": (8, 16), "up_0": (16, 8),
        "up_1": (8, 4),
    }  # fmt: skip
    expected = {
        "unet/input/w": (3, 3, 5, 4), "unet/input/b": (4,),
        "unet/up_0_finer/w": (2, 2, 16, 8), "unet/up_0_finer/b": (8,),
        "unet/up_1_finer/w": (2, 2, 8, 4), "unet/up_1_finer/b": (4,),
        "unet/output/w": (1, 1, 4, 3), "unet/output/b": (3,),
    }  # fmt: skip
    for name, sizes in blocks.items():
        block = _block(*sizes, embedded)
        expected |= {f"unet/{name}/{k}": v for k, v in block.items()}
    _, params, _ = _make(embedded=embedded)
    assert _shapes(params) == expected


def test_a_block_is_convolution_norm_and_silu_twice():
    x, embedding = _draw(2, 4, 6, 3), _draw(2, 7, seed=1)

    def blocks(embedding):
        ours = unet.ConvBlock(4, 2, ZERO, name="block")(x, embedding)
        with hk.experimental.name_scope("block"):
            y = Conv2D(4, 3, edges=ZERO, name="conv_0")(x)
            y = jax.nn.silu(norm.GroupNorm(2, name="norm_0")(y))
            if embedding is not None:
                added = hk.Linear(4, name="embedding")(jax.nn.silu(embedding))
                y = y + added[:, None, None]
            y = Conv2D(4, 3, edges=ZERO, name="conv_1")(y)
            theirs = jax.nn.silu(norm.GroupNorm(2, name="norm_1")(y))
        return ours, theirs

    for given in (None, embedding):
        transformed = hk.without_apply_rng(hk.transform(blocks))
        # Names are taken twice, so that the second copy has its own parameters.
        params = transformed.init(jax.random.key(0), given)
        shared = {m: params[m.replace("block_1/", "block/")] for m in params}
        ours, theirs = transformed.apply(shared, given)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_embedding_changes_its_own_member():
    apply, params, (x, embedding) = _make(embedded=7)
    found = apply(params, x, embedding)
    other = apply(params, x, embedding.at[0].add(1.0))
    assert jnp.abs(found - other)[0].max() > 1e-2
    np.testing.assert_array_equal(found[1], other[1])


@pytest.mark.parametrize("edges", [GLOBE, ON_POLES])
def test_a_turned_globe_gives_a_turned_result(edges):
    apply, params, (x,) = _make(edges)
    found = apply(params, jnp.roll(x, 4, axis=2))
    expected = jnp.roll(apply(params, x), 4, axis=2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_zeros_around_a_field_have_an_edge():
    apply, params, (x,) = _make(ZERO)
    found = apply(params, jnp.roll(x, 4, axis=2))
    expected = jnp.roll(apply(params, x), 4, axis=2)
    assert jnp.abs(found - expected).max() > 1e-2


@pytest.mark.parametrize("edges", [ZERO, GLOBE, Edges()])
def test_sides_that_cannot_be_halved_are_filled_up_with_their_edge(edges):
    apply, params, (x,) = _make(edges, rows=7, columns=14)
    filled = jnp.pad(x, ((0, 0), (0, 1), (0, 2), (0, 0)), mode="edge")
    found = apply(params, x)
    assert found.shape == (2, 7, 14, 3)
    expected = apply(params, filled)[:, :7, :14]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_field_of_a_quarter_of_its_points_is_seen_as_a_whole():
    apply, params, (x,) = _make(depth=3, rows=16, columns=16)
    changed = jnp.abs(apply(params, x.at[0, 0, 0].add(3.0)) - apply(params, x))
    assert changed[0].max(-1).min() > 0
    assert changed[1].max() == 0


def test_a_coarse_point_holds_the_largest_of_four():
    x = _draw(2, 4, 6, 3)
    cut = np.asarray(x).reshape(2, 2, 2, 3, 2, 3)
    np.testing.assert_array_equal(unet._pooled(x), cut.max((2, 4)))


@pytest.mark.slow
def test_blocks_computed_again_give_the_same_gradients():
    gradients = []
    for remat in (False, True):
        apply, params, arguments = _make(embedded=7, depth=1, remat=remat)

        def loss(params, apply=apply, arguments=arguments):
            return jnp.sum(apply(params, *arguments) ** 2)

        gradients.append(jax.jit(jax.grad(loss))(params))
    for a, b in zip(*map(jax.tree.leaves, gradients)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "columns", "depth", "fits"), [(3, 6, 4, 2), (8, 1, 3, 1), (4, 8, 4, 3)]
)
def test_a_grid_too_small_for_the_depth_is_refused(rows, columns, depth, fits):
    message = f"needs at least {2 ** (depth - 1)} rows and columns, found {rows} x"
    with pytest.raises(ValueError, match=message + f".*at most {fits} fits"):
        _make(rows=rows, columns=columns, depth=depth)
    _make(rows=rows, columns=columns, depth=fits)


def test_a_row_on_a_pole_needs_one_behind_it():
    with pytest.raises(ValueError, match="at least 2 rows"):
        _make(ON_POLES, rows=1, depth=1)
