"""Tests of attention in blocks against attention at once, and of its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import attention, mlp, partition


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


@pytest.mark.parametrize("most", [2**22, 24])
def test_dropped_weights_are_those_of_the_key_and_the_rest_is_scaled(
    most, monkeypatch, strict_numerics
):
    """With values that name their source, what is found shows which were dropped."""
    targets, sources = 12, 6
    query, key, _ = draw(targets, sources, channels=sources)
    shape = (2, sources, 3, sources)
    value = jnp.broadcast_to(jnp.eye(sources)[None, :, None], shape)
    monkeypatch.setattr(attention, "_BLOCK_SCORES", most)
    plain_weights = attention.attend(query, key, value)
    drop_key = jax.random.PRNGKey(0)
    found = attention.attend(query, key, value, drop_rate=0.25, drop_key=drop_key)
    ratio = np.asarray(found / plain_weights)
    near = np.minimum(np.abs(ratio), np.abs(ratio - 1 / 0.75))
    assert near.max() < 1e-5
    assert 0.15 < (ratio < 0.5).mean() < 0.35
    # No block draws the numbers of another.
    blocks = (ratio[:, :4] < 0.5, ratio[:, 4:8] < 0.5, ratio[:, 8:] < 0.5)
    assert (blocks[0] != blocks[1]).any() and (blocks[1] != blocks[2]).any()
    still = attention.attend(query, key, value, drop_rate=0.25)
    np.testing.assert_array_equal(still, plain_weights)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (3, 2, 5), (0, 4, 5)])
def test_layers_act_on_the_last_axis(shape, strict_numerics):
    rng = np.random.default_rng(0)
    w, b, x = (rng.standard_normal(s).astype("f4") for s in ((5, 4), (4,), shape))
    weights = mlp.LinearWeights(jnp.asarray(w), jnp.asarray(b))
    found = attention.linear(jnp.asarray(x), weights)
    np.testing.assert_allclose(found, x @ w + b, rtol=1e-5, atol=1e-6)


def test_rows_that_are_cut_among_devices_are_not_merged():
    class Cut:
        def constrain(self, array, axes):
            return array

        def parts(self, axis):
            return 2 if axis == partition.LAT else 1

    weights = mlp.LinearWeights(jnp.ones((5, 4)), jnp.ones((4,)))

    def program():
        x = jnp.ones((3, 2, 5))
        return str(jax.make_jaxpr(lambda x: attention.linear(x, weights))(x))

    assert "6,4" in program()
    with partition.use(Cut()):
        assert "6,4" not in program()


@pytest.mark.parametrize("most", [2**22, 6])
def test_what_is_masked_is_not_seen(most, monkeypatch, strict_numerics):
    monkeypatch.setattr(attention, "_BLOCK_SCORES", most)
    query, key, value = draw(4, 6)
    mask = jnp.asarray([[True] * 4 + [False] * 2, [True] * 6])
    found = attention.attend(query, key, value, mask=mask)
    expected = plain(query[:1], key[:1, :4], value[:1, :4])
    np.testing.assert_allclose(found[:1], expected, rtol=1e-5, atol=1e-6)
    expected = plain(query[1:], key[1:], value[1:])
    np.testing.assert_allclose(found[1:], expected, rtol=1e-5, atol=1e-6)
