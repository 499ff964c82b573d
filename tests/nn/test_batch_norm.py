import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib import casting
from weatherlib.nn import batch_norm

X = jax.random.normal(jax.random.key(0), (3, 4, 5, 2)) * 2 + 7
PARAMS = {
    "norm": {
        "scale": jnp.array([1.5, -0.5]),
        "offset": jnp.array([0.25, 2.0]),
        "moving_mean": jnp.array([6.0, 8.0]),
        "moving_variance": jnp.array([3.0, 0.5]),
    }
}


def _run(x, is_training=False):
    return batch_norm.BatchNorm(name="norm")(x, is_training)


NORM = hk.without_apply_rng(hk.transform(_run))


def _normed(mean, variance):
    held = jax.tree.map(np.asarray, PARAMS["norm"])
    scaled = (np.asarray(X) - mean) / np.sqrt(np.asarray(variance) + 1e-5)
    return scaled * held["scale"] + held["offset"]


def test_parameters_begin_as_those_of_pytorch():
    params = NORM.init(jax.random.key(0), X)
    assert {name: np.asarray(a).tolist() for name, a in params["norm"].items()} == {
        "scale": [1, 1],
        "offset": [0, 0],
        "moving_mean": [0, 0],
        "moving_variance": [1, 1],
    }
    assert set(batch_norm.RUNNING) <= set(params["norm"])


def test_in_training_the_statistics_are_those_of_the_batch(strict_numerics):
    found = NORM.apply(PARAMS, X, True)
    expected = _normed(np.asarray(X).mean((0, 1, 2)), np.asarray(X).var((0, 1, 2)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_in_a_forecast_they_are_the_running_ones(strict_numerics):
    found = NORM.apply(PARAMS, X)
    held = jax.tree.map(np.asarray, PARAMS["norm"])
    expected = _normed(held["moving_mean"], held["moving_variance"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(NORM.apply(PARAMS, X[:1]), found[:1])


@pytest.mark.parametrize("weight", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint])
def test_running_statistics_have_the_gradient_that_follows_the_batch(weight, wrap):
    def loss(params):
        return weight * jnp.sum(wrap(lambda p: NORM.apply(p, X, True))(params) ** 2)

    gradient = jax.jit(jax.grad(loss))(PARAMS)["norm"]
    held = PARAMS["norm"]
    mean, variance = X.mean((0, 1, 2)), X.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(
        gradient["moving_mean"], held["moving_mean"] - mean, rtol=1e-5
    )
    np.testing.assert_allclose(
        gradient["moving_variance"], held["moving_variance"] - variance, rtol=1e-5
    )


def test_the_other_gradients_go_through_the_statistics():
    def ours(scale, x):
        held = {**PARAMS["norm"], "scale": scale}
        return jnp.sum(jnp.sin(NORM.apply({"norm": held}, x, True)))

    def theirs(scale, x):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        y = (x - mean) / jnp.sqrt(variance + 1e-5) * scale
        return jnp.sum(jnp.sin(y + PARAMS["norm"]["offset"]))

    point = PARAMS["norm"]["scale"], jnp.asarray(X)
    for got, expected in zip(*(jax.grad(f, (0, 1))(*point) for f in (ours, theirs))):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_in_a_forecast_running_statistics_have_no_gradient():
    gradient = jax.grad(lambda p: jnp.sum(NORM.apply(p, X) ** 2))(PARAMS)["norm"]
    for name in batch_norm.RUNNING:
        np.testing.assert_array_equal(gradient[name], 0)
    assert np.abs(gradient["scale"]).min() > 0


def test_a_cast_to_bfloat16_leaves_running_statistics_alone():
    def run(x):
        with casting.bfloat16_variable_view():
            return _run(x, True)

    def loss(params):
        found = hk.transform(run).apply(params, None, jnp.asarray(X, jnp.bfloat16))
        assert found.dtype == jnp.bfloat16
        return jnp.sum(found.astype(jnp.float32) ** 2)

    gradient = jax.grad(loss)(PARAMS)["norm"]
    narrow = np.asarray(jnp.asarray(X, jnp.bfloat16), np.float32)
    expected = PARAMS["norm"]["moving_mean"] - narrow.mean((0, 1, 2))
    np.testing.assert_allclose(gradient["moving_mean"], expected, atol=1e-5)


def test_one_value_of_each_channel_has_no_statistics():
    with pytest.raises(ValueError, match=r"more than one value.*\(1, 1, 1, 2\)"):
        NORM.apply(PARAMS, X[:1, :1, :1], True)
    assert NORM.apply(PARAMS, X[:1, :1, :1]).shape == (1, 1, 1, 2)
