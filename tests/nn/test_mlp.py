import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import mlp


def make_weights(sizes, dtype=jnp.float32, with_norm=True):
    def create():
        layers = mlp.Mlp(sizes[1:], name="net").weights(sizes[0], dtype)
        norm = mlp.LayerNorm(name="norm").weights(sizes[-1], dtype)
        return mlp.MlpWeights(layers, norm if with_norm else None)

    transformed = hk.without_apply_rng(hk.transform(create))
    params = transformed.init(jax.random.PRNGKey(3))
    return params, transformed.apply(params)


@pytest.mark.parametrize("sizes", [(5, 8, 4), (5, 4), (5, 8, 8, 4)])
def test_weights_have_the_paths_and_values_of_haiku(sizes):
    def haiku(x):
        x = hk.nets.MLP(sizes[1:], activation=jax.nn.swish, name="net")(x)
        return hk.LayerNorm(-1, True, True, name="norm")(x)

    x = jax.random.normal(jax.random.PRNGKey(0), (7, 5))
    reference = hk.without_apply_rng(hk.transform(haiku))
    expected = reference.init(jax.random.PRNGKey(3), x)
    params, weights = make_weights(sizes)
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    np.testing.assert_allclose(
        mlp.apply(weights, x), reference.apply(expected, x), atol=2e-6
    )


def test_inputs_in_parts_give_what_their_concatenation_gives():
    _, weights = make_weights((9, 8, 4))
    x = jax.random.normal(jax.random.PRNGKey(0), (3, 7, 9))
    parts = x[..., :2], x[..., 2:5], x[..., 5:]
    np.testing.assert_allclose(mlp.apply(weights, *parts), mlp.apply(weights, x), 1e-4)


def test_inputs_that_do_not_fill_the_first_layer_are_refused():
    _, weights = make_weights((9, 8, 4))
    with pytest.raises(ValueError, match=r"\(3, 5\) channels do not fill the 9 rows"):
        mlp.split_rows(weights, [3, 5])


def test_normalised_channels_have_mean_zero_and_variance_one():
    x = 5 + 3 * jax.random.normal(jax.random.PRNGKey(0), (11, 64))
    weights = mlp.NormWeights(jnp.full(64, 2.0), jnp.full(64, 1.0))
    found = mlp.normalize(weights, x)
    np.testing.assert_allclose(found.mean(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.std(-1), 2, rtol=1e-4)


def test_without_a_norm_the_last_layer_is_the_output():
    _, weights = make_weights((5, 4), with_norm=False)
    x = jax.random.normal(jax.random.PRNGKey(0), (7, 5))
    layer = weights.layers[0]
    np.testing.assert_allclose(mlp.apply(weights, x), x @ layer.w + layer.b, rtol=1e-5)


def test_bfloat16_stays_bfloat16(strict_numerics):
    _, weights = make_weights((5, 8, 4), jnp.bfloat16)
    assert mlp.apply(weights, jnp.ones((7, 1, 5), jnp.bfloat16)).dtype == jnp.bfloat16


def test_terms_whose_axes_are_one_are_broadcast():
    terms = jnp.ones((3, 1, 2)), jnp.ones((1, 4, 2)), jnp.ones((3, 4, 2))
    np.testing.assert_array_equal(mlp.sum_terms(terms), jnp.full((3, 4, 2), 3.0))


def test_a_bias_is_added_without_rank_promotion(strict_numerics):
    found = mlp.add_bias(jnp.zeros((2, 3, 4)), jnp.arange(4.0))
    np.testing.assert_array_equal(found[1, 2], jnp.arange(4.0))
