"""Tests of transformer layers against loops in float64, and of what they drop."""

import functools
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import transformer

WIDTH, HIDDEN, HEADS = 6, 10, 2
ENCODER = ("self_attn",)
DECODER = ("self_attn", "cross_attn")
SPACE_TIME = ("spatial_attn", "temporal_attn")


def draw(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(values, jnp.float32)


def make(attentions, seed=1):
    """Returns the weights of a layer away from any symmetry."""
    transformed = hk.transform(
        lambda: transformer.Layer(attentions, HIDDEN)(WIDTH, jnp.float32)
    )
    params = transformed.init(jax.random.PRNGKey(0))
    rng = np.random.default_rng(seed)
    noisy = jax.tree.map(
        lambda a: a + 0.4 * jnp.asarray(rng.standard_normal(a.shape), a.dtype), params
    )
    return transformed.apply(noisy, None)


def wide(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def plain_attention(weights, x, memory):
    """Returns what the rows of `x` find in those of `memory`, head by head."""
    (w, b), (w_out, b_out) = weights
    size = WIDTH // HEADS
    found = []
    for head in range(HEADS):
        q, k, v = (
            source @ w[:, i * WIDTH + head * size :][:, :size]
            + b[i * WIDTH + head * size :][:size]
            for i, source in enumerate((x, memory, memory))
        )
        scores = np.exp(q @ k.T / math.sqrt(size))
        found.append(scores / scores.sum(1, keepdims=True) @ v)
    return np.concatenate(found, axis=1) @ w_out + b_out


def plain_norm(weights, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weights.scale + weights.offset


def plain_end(weights, x):
    hidden = np.maximum(x @ weights.linear1.w + weights.linear1.b, 0)
    return plain_norm(
        weights.norms[-1], x + hidden @ weights.linear2.w + weights.linear2.b
    )


def test_an_encoder_layer_gives_what_loops_over_heads_give(strict_numerics):
    weights, x = make(ENCODER), draw(3, 5, WIDTH)
    found = jax.jit(functools.partial(transformer.encode, heads=HEADS))(weights, x)
    weights = wide(weights)
    for one, expected in zip(wide(x), found, strict=True):
        y = one + plain_attention(weights.attention[0], one, one)
        y = plain_end(weights, plain_norm(weights.norms[0], y))
        np.testing.assert_allclose(expected, y, atol=1e-5)


@pytest.mark.parametrize("alike", [False, True])
def test_a_decoder_layer_gives_what_loops_over_heads_give(alike, strict_numerics):
    weights, memory = make(DECODER), draw(3, 5, WIDTH)
    queries = draw(1 if alike else 3, 4, WIDTH, seed=2)
    run = functools.partial(transformer.decode, heads=HEADS)
    found = jax.jit(run)(weights, queries, transformer.KEEP, memory)
    assert found.shape == (3, 4, WIDTH)
    weights = wide(weights)
    for i, expected in enumerate(found):
        y = wide(queries[0 if alike else i])
        y = plain_norm(
            weights.norms[0], y + plain_attention(weights.attention[0], y, y)
        )
        seen = plain_attention(weights.attention[1], y, wide(memory[i]))
        y = plain_end(weights, plain_norm(weights.norms[1], y + seen))
        np.testing.assert_allclose(expected, y, atol=1e-5)


def test_attention_in_space_and_time_gives_what_loops_give(strict_numerics):
    times, places = 3, 4
    weights, x = make(SPACE_TIME), draw(2, times, places, WIDTH)
    run = functools.partial(transformer.encode_space_time, heads=HEADS)
    found = jax.jit(run)(weights, x)
    weights, space, time = wide(weights), *wide(make(SPACE_TIME).attention)
    for one, expected in zip(wide(x), found, strict=True):
        y = np.stack([plain_attention(space, one[t], one[t]) for t in range(times)])
        y = plain_norm(weights.norms[0], one + y)
        z = np.stack(
            [plain_attention(time, y[:, n], y[:, n]) for n in range(places)], axis=1
        )
        y = plain_end(weights, plain_norm(weights.norms[1], y + z))
        np.testing.assert_allclose(expected, y, atol=1e-5)


def test_layers_are_run_first_to_last_and_computed_again_on_request():
    layers = [make(ENCODER, seed) for seed in (1, 2)]
    x = draw(2, 3, WIDTH)
    encode = functools.partial(transformer.encode, heads=HEADS)
    once = jax.jit(encode)
    expected = once(layers[1], once(layers[0], x))

    def loss(layers, remat):
        return (transformer.through(layers, x, encode, remat=remat) ** 3).sum()

    found = jax.jit(lambda w: transformer.through(w, x, encode))(layers)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    gradients = [
        jax.jit(jax.grad(functools.partial(loss, remat=remat)))(layers)
        for remat in (False, True)
    ]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        *gradients,
    )
    programs = [
        str(jax.make_jaxpr(lambda w, m=remat: loss(w, m))(layers))
        for remat in (False, True)
    ]
    assert ["remat" in program for program in programs] == [False, True]


def test_what_is_dropped_differs_between_layers_and_keys():
    layers = [make(ENCODER)] * 2
    x = draw(2, 3, WIDTH)
    seen = []

    def record(weights, x, drop):
        seen.append(drop(jnp.ones((50,))))
        return x

    for seed in (0, 1):
        drop = transformer.Drop(jax.random.PRNGKey(seed), 0.5)
        transformer.through(layers, x, record, drop)
    for i, first in enumerate(seen):
        assert set(np.unique(first)) == {0.0, 2.0}
        assert all((first != other).any() for other in seen[i + 1 :])
    drop = transformer.Drop(jax.random.PRNGKey(0), 0.5)
    assert (drop(jnp.ones((50,)), 0) != drop(jnp.ones((50,)), 1)).any()
    np.testing.assert_array_equal(transformer.KEEP(x), x)
    np.testing.assert_array_equal(transformer.Drop(drop.key, 0.0)(x), x)


def test_weights_of_attention_are_dropped_where_they_may_be():
    query, key, value = (draw(1, 40, 3, 2, seed=i) for i in range(3))
    plain = transformer.KEEP.attend(query, key, value)
    without = transformer.Drop(jax.random.PRNGKey(0), 0.5, of_weights=False)
    np.testing.assert_array_equal(without.attend(query, key, value), plain)
    found = transformer.Drop(jax.random.PRNGKey(0), 0.5).attend(query, key, value)
    assert jnp.abs(found - plain).max() > 1e-2
    keys = jax.random.split(jax.random.PRNGKey(1), 100)
    draws = jax.vmap(lambda k: transformer.Drop(k, 0.5).attend(query, key, value))(keys)
    np.testing.assert_allclose(draws.mean(0), plain, atol=0.35)


def test_queries_that_are_alike_are_dropped_apart():
    weights = make(DECODER)
    memory = jnp.broadcast_to(draw(1, 5, WIDTH), (2, 5, WIDTH))
    query = draw(1, 4, WIDTH, seed=2)
    drop = transformer.Drop(jax.random.PRNGKey(0), 0.5)
    run = functools.partial(transformer.decode, heads=HEADS)
    found = jax.jit(run)(weights, query, drop, memory)
    assert jnp.abs(found[0] - found[1]).max() > 1e-2


@pytest.mark.parametrize("attentions", [ENCODER, DECODER, SPACE_TIME])
def test_norms_and_scores_keep_their_precision_in_bfloat16(attentions, strict_numerics):
    weights = make(attentions)
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), weights)
    shape = (2, 3, 4, WIDTH) if attentions == SPACE_TIME else (2, 4, WIDTH)
    x = draw(*shape)

    @jax.jit
    def run(weights, x):
        if attentions == SPACE_TIME:
            return transformer.encode_space_time(weights, x, heads=HEADS)
        if attentions == ENCODER:
            return transformer.encode(weights, x, heads=HEADS)
        return transformer.decode(weights, x, transformer.KEEP, x, heads=HEADS)

    found = run(narrow, x.astype(jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), run(weights, x), atol=0.08)
    far = transformer.normalize(
        narrow.norms[0], (1000 + 8 * x).astype(jnp.bfloat16)
    ).astype(jnp.float32)
    exact = (1000 + 8 * x).astype(jnp.bfloat16).astype(jnp.float32)
    near = transformer.normalize(weights.norms[0], exact)
    np.testing.assert_allclose(far, near, atol=0.05)


@pytest.mark.parametrize("start", ["TORCH", "NARROW"])
def test_weights_begin_as_is_said(start):
    width, hidden = 64, 256
    transformed = hk.transform(
        lambda: transformer.Layer(DECODER, hidden, getattr(transformer, start))(
            width, jnp.float32
        )
    )
    params = transformed.init(jax.random.PRNGKey(0))
    spread = {
        "qkv": (6 / (4 * width)) ** 0.5 / 3**0.5,
        "proj": width**-0.5 / 3**0.5,
        "linear1": width**-0.5 / 3**0.5,
        "linear2": hidden**-0.5 / 3**0.5,
    }
    for module, entries in params.items():
        last = module.rsplit("/", 1)[-1]
        if last.startswith("norm"):
            np.testing.assert_array_equal(entries["scale"], 1)
            np.testing.assert_array_equal(entries["offset"], 0)
            continue
        expected = spread[last] if start == "TORCH" else 0.02
        assert float(entries["w"].std()) == pytest.approx(expected, rel=0.05), module
        if start == "TORCH" and last.startswith("linear"):
            assert float(entries["b"].std()) == pytest.approx(expected, rel=0.2)
        else:
            np.testing.assert_array_equal(entries["b"], 0)
    paths = {"self_attn/qkv", "self_attn/proj", "cross_attn/qkv", "cross_attn/proj"}
    paths |= {"linear1", "linear2", "norm1", "norm2", "norm3"}
    assert set(params) == {f"layer/{path}" for path in paths}
