"""The backward pass of perceptrons that is written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.test_mlp import make_weights
from weatherlib.nn import mlp, reverse_mode


def loss(weights, x):
    """A number that depends on every output in its own way."""
    y = mlp.finish(weights, x)
    return jnp.sum(y * jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


def by_hand(weights, x):
    with reverse_mode.use():
        return loss(weights, x)


def case(sizes, with_norm, shape=(3, 5)):
    _, weights = make_weights(sizes, with_norm=with_norm)
    # Fresh scales are one and biases zero, which would hide a mistake.
    leaves, tree = jax.tree.flatten(weights)
    keys = jax.random.split(jax.random.PRNGKey(1), len(leaves))
    noisy = [v + 0.3 * jax.random.normal(k, v.shape) for v, k in zip(leaves, keys)]
    x = 2 * jax.random.normal(jax.random.PRNGKey(2), (*shape, sizes[1]))
    return jax.tree.unflatten(tree, noisy), x


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("with_norm", [True, False])
@pytest.mark.parametrize("sizes", [(5, 8, 4), (5, 8, 8, 4), (5, 4)])
def test_values_and_gradients_are_those_of_the_layers(sizes, with_norm):
    weights, x = case(sizes, with_norm)
    expected = jax.value_and_grad(loss, (0, 1))(weights, x)
    found = jax.jit(jax.value_and_grad(by_hand, (0, 1)))(weights, x)
    assert_same(found, expected)


def test_it_is_really_used_and_only_inside():
    weights, x = case((5, 8, 4), True)

    def forward_mode(function):
        return jax.jvp(lambda x: function(weights, x), (x,), (x,))

    assert np.isfinite(forward_mode(loss)[1])
    with pytest.raises(TypeError, match="forward-mode"):
        forward_mode(by_hand)
    assert not reverse_mode.is_active()


@pytest.mark.parametrize("wrap", [jax.checkpoint, lambda f: jax.vmap(f, (None, 0))])
def test_it_goes_with_other_transformations(wrap):
    weights, x = case((5, 8, 4), True)

    def total(function):
        return lambda w, x: jnp.sum(wrap(function)(w, x))

    expected = jax.grad(total(loss))(weights, x)
    found = jax.grad(total(by_hand))(weights, x)
    assert_same(found, expected)


def test_gradients_can_be_differentiated_again():
    weights, x = case((5, 8, 4), True)

    def product(function):
        grad = jax.grad(function, 1)
        return jax.jvp(lambda x: grad(weights, x), (x,), (jnp.cos(x),))[1]

    np.testing.assert_allclose(product(by_hand), product(loss), rtol=1e-3, atol=1e-4)


def test_other_types_keep_to_the_layers():
    _, weights = make_weights((5, 8, 4), jnp.bfloat16)
    x = jnp.ones((3, 8), jnp.bfloat16)
    with reverse_mode.use():
        assert not reverse_mode.suits(x.dtype)
        assert mlp.finish(weights, x).dtype == jnp.bfloat16
