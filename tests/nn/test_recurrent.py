"""Tests of LSTM layers against loops in float64, and of sequences in parts."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import recurrent

BATCH, TIME, INPUT, HIDDEN = 2, 5, 3, 4


def draw(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(values, jnp.float32)


def make(num_layers=2, *, bidirectional=False):
    """Returns weights away from any symmetry."""
    transformed = hk.transform(
        lambda: recurrent.Lstm(HIDDEN, num_layers, bidirectional=bidirectional)(
            INPUT, jnp.float32
        )
    )
    params = transformed.init(jax.random.PRNGKey(0))
    rng = np.random.default_rng(1)
    noisy = jax.tree.map(
        lambda a: jnp.asarray(rng.standard_normal(a.shape), jnp.float32), params
    )
    return transformed.apply(noisy, None)


def plain_direction(cell, x, hidden, memory, order):
    """Returns outputs and the last state of one layer, gate by gate."""
    w_input, w_hidden, b_input, b_hidden = (np.asarray(a, np.float64) for a in cell)
    outputs = np.zeros((*x.shape[:2], HIDDEN))

    def logistic(a):
        return 1 / (1 + np.exp(-a))

    for t in order:
        gates = x[:, t] @ w_input + b_input + hidden @ w_hidden + b_hidden
        i, f, g, o = (gates[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
        memory = logistic(f) * memory + logistic(i) * np.tanh(g)
        hidden = logistic(o) * np.tanh(memory)
        outputs[:, t] = hidden
    return outputs, hidden, memory


def plain(weights, x, state):
    x = np.asarray(x, np.float64)
    ends = []
    for cells, begun in zip(weights, state, strict=True):
        parts = []
        for j, (cell, (hidden, memory)) in enumerate(zip(cells, begun, strict=True)):
            order = range(TIME)[:: -1 if j else 1]
            start = np.asarray(hidden, np.float64), np.asarray(memory, np.float64)
            outputs, *end = plain_direction(cell, x, *start, order)
            parts.append(outputs)
            ends.append(end)
        x = np.concatenate(parts, axis=-1)
    return x, ends


def some_state(weights):
    return jax.tree.map(
        lambda a: draw(*a.shape, seed=3), recurrent.initial_state(weights, BATCH)
    )


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_layers_give_what_a_loop_over_gates_gives(
    bidirectional, begun, strict_numerics
):
    weights = make(bidirectional=bidirectional)
    x = draw(BATCH, TIME, INPUT)
    state = some_state(weights) if begun else None
    outputs, end = jax.jit(recurrent.read)(weights, x, state)
    expected, ends = plain(weights, x, state or recurrent.initial_state(weights, BATCH))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    found = [one for layer in end for one in layer]
    for (hidden, memory), (last, kept) in zip(found, ends, strict=True):
        np.testing.assert_allclose(hidden, last, atol=1e-5)
        np.testing.assert_allclose(memory, kept, atol=1e-5)


def test_a_sequence_may_come_in_parts_or_step_by_step(strict_numerics):
    weights = make()
    x = draw(BATCH, TIME, INPUT)
    read, step = jax.jit(recurrent.read), jax.jit(recurrent.step)
    whole, end = read(weights, x)
    first, state = read(weights, x[:, :2])
    second, after = read(weights, x[:, 2:], state)
    joined = jnp.concatenate([first, second], axis=1)
    np.testing.assert_allclose(joined, whole, atol=1e-6)
    state = recurrent.initial_state(weights, BATCH)
    for t in range(TIME):
        output, state = step(weights, x[:, t], state)
        np.testing.assert_allclose(output, whole[:, t], atol=1e-6)
    for one in (after, state):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, end)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_computing_gates_again_changes_no_gradient(bidirectional, strict_numerics):
    weights = make(bidirectional=bidirectional)
    x = draw(BATCH, TIME, INPUT)

    def loss(weights, remat):
        return (recurrent.read(weights, x, remat=remat)[0] ** 2).sum()

    gradients = [
        jax.jit(jax.grad(functools.partial(loss, remat=remat)))(weights)
        for remat in (False, True)
    ]
    assert "remat" in str(
        jax.make_jaxpr(lambda w: recurrent.read(w, x, remat=True))(weights)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *gradients)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients[0]))


def test_outputs_are_dropped_between_layers_and_nowhere_else(strict_numerics):
    x = draw(BATCH, TIME, INPUT)
    key = jax.random.PRNGKey(4)
    single = make(1)
    still, _ = recurrent.read(single, x)
    dropped, _ = recurrent.read(single, x, drop_rate=0.5, key=key)
    np.testing.assert_array_equal(dropped, still)
    weights = make(2)
    outputs, state = recurrent.read(weights, x, drop_rate=0.5, key=key)
    below, _ = recurrent.read(weights[:1], x)
    kept = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, below.shape)
    expected, _ = recurrent.read(weights[1:], jnp.where(kept, 2 * below, 0.0))
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    below_state = recurrent.read(weights[:1], x)[1]
    jax.tree.map(np.testing.assert_array_equal, state[:1], below_state)
    one, _ = recurrent.step(
        weights,
        x[:, 0],
        recurrent.initial_state(weights, BATCH),
        drop_rate=0.5,
        key=key,
    )
    calm, _ = recurrent.step(
        weights, x[:, 0], recurrent.initial_state(weights, BATCH), drop_rate=0.5
    )
    assert jnp.abs(one - calm).max() > 1e-3
    np.testing.assert_allclose(calm, recurrent.read(weights, x)[0][:, 0], atol=1e-6)


def test_cells_stay_in_float32_where_all_else_is_bfloat16(strict_numerics):
    weights = make()
    x = draw(BATCH, TIME, INPUT)
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), weights)
    outputs, state = recurrent.read(narrow, x.astype(jnp.bfloat16))
    assert outputs.dtype == jnp.bfloat16
    for layer in state:
        assert layer[0].hidden.dtype == jnp.bfloat16
        assert layer[0].cell.dtype == jnp.float32
    expected, _ = recurrent.read(weights, x)
    np.testing.assert_allclose(outputs.astype(jnp.float32), expected, atol=0.05)
    continued, after = recurrent.read(narrow, x.astype(jnp.bfloat16), state)
    assert continued.dtype == jnp.bfloat16
    assert after[0][0].cell.dtype == jnp.float32


def test_weights_begin_evenly_spread_over_the_range_of_pytorch():
    transformed = hk.transform(
        lambda: recurrent.Lstm(64, 1, bidirectional=True)(50, jnp.float32)
    )
    params = transformed.init(jax.random.PRNGKey(0))
    assert set(params) == {"lstm/layer_0", "lstm/layer_0_reverse"}
    for entries in params.values():
        for value in entries.values():
            assert 0.115 < jnp.abs(value).max() <= 0.125
            assert float(value.std()) == pytest.approx(0.125 / 3**0.5, rel=0.15)
