"""Linear layers and norms begin and act as published ones."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import projections


@pytest.mark.parametrize(
    ("mode", "spread", "largest"),
    [
        ("0", 0.1, None),
        ("1", (2 / 1.01 / 300) ** 0.5, None),
        ("2", 0, 0),
        ("torch", 0.1 / 3**0.5, 0.1),
    ],
)
def test_weights_begin_as_the_mode_says(mode, spread, largest):
    layer = lambda x: projections.Projection(300, "it", init=mode)(x)  # noqa: E731
    params = hk.transform(layer).init(jax.random.key(0), jnp.ones((2, 100)))["it"]
    assert jnp.std(params["w"]) == pytest.approx(spread, rel=0.05)
    if largest is not None:
        assert jnp.abs(params["w"]).max() <= largest
    assert params["b"].any() == (mode == "torch")


def test_a_projection_may_lack_a_bias():
    layer = lambda x: projections.Projection(3, "it", bias=False)(x)  # noqa: E731
    run = hk.transform(layer)
    x = jax.random.normal(jax.random.key(0), (2, 4))
    params = run.init(jax.random.key(0), x)
    assert list(params["it"]) == ["w"]
    np.testing.assert_allclose(run.apply(params, None, x), x @ params["it"]["w"])


def plain_group_norm(x, groups, scale, offset):
    x = np.asarray(x, np.float64)
    cut = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    cut = cut - cut.mean((1, 3), keepdims=True)
    cut = cut / np.sqrt((cut**2).mean((1, 3), keepdims=True) + 1e-5)
    return cut.reshape(x.shape) * scale + offset


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("shape", [(2, 8), (2, 5, 8), (3, 2, 3, 4, 8)])
def test_groups_get_mean_0_and_variance_1(groups, shape, strict_numerics):
    x = 3 + 2 * jax.random.normal(jax.random.key(0), shape)
    scale, offset = jnp.arange(8.0) + 1, jnp.arange(8.0)
    norm = jax.jit(projections.group_norm, static_argnums=1)
    found = norm(x, groups, scale, offset)
    expected = plain_group_norm(x, groups, np.asarray(scale), np.asarray(offset))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="3 groups do not divide 8 channels"):
        projections.group_norm(jnp.ones((1, 8)), 3, jnp.ones(8), jnp.ones(8))


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (65, 65), (16, 16)])
def test_the_number_of_groups_is_the_published_one(channels, groups):
    assert projections.group_count(channels) == groups


@pytest.mark.parametrize("kind", ["layer", "group"])
def test_norms_of_bfloat16_are_computed_in_float32(kind):
    """Means of large numbers would lose everything in bfloat16."""
    x = 300 + jax.random.normal(jax.random.key(0), (2, 400, 8))
    x = x.astype(jnp.bfloat16)
    if kind == "layer":
        run = hk.transform(lambda x: projections.LayerNorm("it")(x))
    else:
        run = hk.transform(lambda x: projections.GroupNorm(2, "it")(x))
    params = run.init(jax.random.key(0), x)
    assert params["it"]["scale"].dtype == jnp.bfloat16
    found = run.apply(params, None, x)
    assert found.dtype == jnp.bfloat16
    exact = run.apply(
        jax.tree.map(lambda a: a.astype(jnp.float32), params),
        None,
        x.astype(jnp.float32),
    )
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=0.01, atol=0.01)
