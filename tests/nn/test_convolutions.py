"""Convolutions equal those of JAX and Haiku, and so do their gradients."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import convolutions


def _reference(x, w, dilation):
    return jax.lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        "VALID",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _draw(*shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (3, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_values_and_gradients_are_those_of_jax(kernel, dilation):
    x, w = _draw(2, 11, 13, 4), _draw(*kernel, 4, 5, seed=1)

    def loss(convolve, x, w):
        return jnp.sum(jnp.sin(convolve(x, w, dilation)))

    got = jax.value_and_grad(loss, (1, 2))(convolutions.convolve, x, w)
    expected = jax.value_and_grad(loss, (1, 2))(_reference, x, w)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), 1), ((5, 3), 2), ((3, 3), 2)])
def test_zeros_around_a_field_are_those_of_a_larger_field(kernel, padding):
    x, w = _draw(2, 6, 7, 4), _draw(*kernel, 4, 5, seed=1)
    beyond = ((0, 0), (padding, padding), (padding, padding), (0, 0))

    def padded(x, w):
        return jnp.sum(jnp.sin(convolutions.convolve(x, w, padding=padding)))

    def larger(x, w):
        return jnp.sum(jnp.sin(_reference(jnp.pad(x, beyond), w, 1)))

    got = jax.value_and_grad(padded, (0, 1))(x, w)
    expected = jax.value_and_grad(larger, (0, 1))(x, w)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_second_derivatives_are_those_of_jax():
    x, w = _draw(1, 6, 6, 2), _draw(3, 3, 2, 3, seed=1)

    def of_gradient(convolve, w):
        gradient = jax.grad(lambda x: jnp.sum(convolve(x, w, 1) ** 2))(x)
        return jnp.sum(jnp.cos(gradient))

    got = jax.grad(of_gradient, 1)(convolutions.convolve, w)
    expected = jax.grad(of_gradient, 1)(_reference, w)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_gradients_in_a_loop_have_the_order_that_is_fast_on_a_cpu():
    x, w = _draw(1, 8, 9, 4), _draw(3, 3, 4, 4, seed=1)

    def loss(w):
        def step(x, _):
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            return jnp.tanh(convolutions.convolve(x, w, 1)), None

        return jnp.sum(jax.lax.scan(step, x, None, length=3)[0])

    found = list(_convolutions(jax.make_jaxpr(jax.grad(loss))(w).jaxpr))
    assert len(found) == 2  # forward, and the gradient of the field
    for equation in found:
        numbers = equation.params["dimension_numbers"]
        assert numbers.lhs_spec == numbers.out_spec == (0, 3, 1, 2)
        assert numbers.rhs_spec == (3, 2, 0, 1)


def _convolutions(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda value: hasattr(value, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _convolutions(inner)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_layer_is_that_of_haiku(dtype):
    x = _draw(2, 9, 10, 4, dtype=dtype)
    ours = hk.without_apply_rng(
        hk.transform(lambda x: convolutions.Conv2D(5, 3, 2, name="layer")(x))
    )
    theirs = hk.without_apply_rng(
        hk.transform(
            lambda x: hk.Conv2D(5, 3, rate=2, padding="VALID", name="layer")(x)
        )
    )
    params = ours.init(jax.random.key(3), x)
    expected = theirs.init(jax.random.key(3), x)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    params["layer"]["b"] = jnp.arange(5, dtype=dtype)
    np.testing.assert_array_equal(ours.apply(params, x), theirs.apply(params, x))
