"""Tests of attention in blocks against attention at once, and of its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import attention


def draw(targets, sources, channels=4):
    rng = np.random.default_rng(0)
    shapes = [(2, n, 3, channels) for n in (targets, sources, sources)]
    return [jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes]


def plain(query, key, value):
    scores = np.einsum("bqhc,bkhc->bhqk", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhc->bqhc", weights, value)


@pytest.mark.parametrize(("targets", "sources"), [(5, 7), (12, 6), (1, 3)])
def test_each_query_finds_a_weighted_mean(targets, sources, strict_numerics):
    arrays = draw(targets, sources)
    found = attention.attend(*arrays)
    np.testing.assert_allclose(found, plain(*arrays), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("targets", "most"), [(12, 24), (7, 10), (12, 1)])
def test_blocks_change_neither_results_nor_gradients(
    targets, most, monkeypatch, strict_numerics
):
    arrays = draw(targets, 6)

    def loss(*arrays):
        return (attention.attend(*arrays) ** 2).sum()

    gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))
    expected = gradients(*arrays)
    monkeypatch.setattr(attention, "_BLOCK_SCORES", most)
    blocks = str(jax.make_jaxpr(loss)(*arrays)).count("scan")
    assert blocks
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        gradients(*arrays),
        expected,
    )
