"""Convolutions over time, rows and columns equal those of JAX."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import convolutions_3d


def draw(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def reference(x, w):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 5), (5, 1, 1)])
def test_values_and_gradients_are_those_of_jax(kernel, strict_numerics):
    x, w = draw(2, 4, 5, 6, 3), draw(*kernel, 3, 4, seed=1)

    def loss(convolve):
        run = jax.value_and_grad(lambda x, w: jnp.sin(convolve(x, w)).sum(), (0, 1))
        return jax.jit(run)(x, w)

    got, expected = loss(convolutions_3d.fold_time), loss(reference)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


def test_the_way_depends_on_the_backend_and_the_result_does_not(monkeypatch):
    x, w = draw(2, 4, 5, 6, 3), draw(3, 3, 3, 3, 4, seed=1)
    on_cpu = convolutions_3d.convolve_3d(x, w)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    elsewhere = convolutions_3d.convolve_3d(x, w)
    np.testing.assert_allclose(on_cpu, elsewhere, rtol=1e-4, atol=2e-5)
    text = str(jax.make_jaxpr(convolutions_3d.convolve_3d)(x, w))
    assert text.count("conv_general_dilated") == 1
    assert "concatenate" not in text


@pytest.mark.parametrize("rank", [4, 5])
def test_frames_are_convolved_each_for_itself(rank):
    x = draw(*(2, 3)[: rank - 3], 5, 6, 3)
    w = draw(3, 3, 3, 4, seed=1)
    found = convolutions_3d.convolve_2d(x, w)
    frames = x.reshape(-1, 5, 6, 3)
    expected = jax.lax.conv_general_dilated(
        frames, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(
        found.reshape(expected.shape), expected, rtol=1e-4, atol=2e-5
    )


@pytest.mark.parametrize(
    ("layer", "shape", "kernel"),
    [
        (convolutions_3d.Conv2D, (1, 4, 5, 3), (3, 3)),
        (convolutions_3d.Conv3D, (1, 2, 4, 5, 3), (3, 3, 3)),
    ],
)
def test_layers_begin_as_those_of_pytorch(layer, shape, kernel):
    run = hk.transform(lambda x: layer(400, "it")(x))
    x = draw(*shape)
    params = run.init(jax.random.key(0), x)["it"]
    assert params["w"].shape == (*kernel, 3, 400)
    bound = (np.prod(kernel) * 3) ** -0.5
    for array in params.values():
        assert bound * 0.98 < jnp.abs(array).max() <= bound
    found = run.apply({"it": params}, None, x)
    assert found.shape == (*shape[:-1], 400)
    moved = params | {"b": params["b"] + 1}
    np.testing.assert_allclose(
        run.apply({"it": moved}, None, x), found + 1, rtol=1e-4, atol=1e-5
    )
