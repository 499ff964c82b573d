"""Cells follow their equations, and layers of them are cells one after the other."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib import casting
from weatherlib.nn import convlstm
from weatherlib.nn.edges import ZERO, Edges

GLOBE = Edges(columns="around", over_first_row="pole", over_last_row="pole")


def draw(*shape, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)


def noisy(params, seed=9):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: p + 0.3 * rng.standard_normal(p.shape).astype(np.float32), params
    )


def one(edges=ZERO, **options):
    """Returns a cell of three channels as a transformed function."""

    def step(x, hidden, memory):
        cell = convlstm.Cell(3, name="cell", **options)
        return cell(x, convlstm.State(hidden, memory), edges)

    return compiled(hk.without_apply_rng(hk.transform(step)))


def compiled(transformed):
    return hk.Transformed(jax.jit(transformed.init), jax.jit(transformed.apply))


def given(rows=5, columns=6):
    return (
        draw(2, rows, columns, 2),
        draw(2, rows, columns, 3, seed=1),
        draw(2, rows, columns, 3, seed=2),
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def correlated(x, w, dilation=1):
    """Returns a convolution with zeros around, point by point."""
    reach = dilation * (w.shape[0] // 2)
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (reach,) * 2, (reach,) * 2, (0, 0)))
    rows, columns = x.shape[1] - 2 * reach, x.shape[2] - 2 * reach
    total = 0.0
    for i, j in np.ndindex(w.shape[:2]):
        top, left = i * dilation, j * dilation
        total = total + x[:, top : top + rows, left : left + columns] @ w[i, j]
    return total


def by_hand(params, x, hidden, memory, dilation=1):
    """Returns the state that the equations give, in double precision."""
    entries = {name: np.asarray(p, np.float64) for name, p in params["cell"].items()}
    joined = np.concatenate([x, hidden], axis=-1)
    gates = correlated(joined, entries["w"], dilation)
    if "scale" in entries:
        apart = gates.reshape(*gates.shape[:-1], 4, 3)
        centred = apart - apart.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        gates = (centred / spread).reshape(gates.shape)
        gates = gates * entries["scale"] + entries["offset"]
    else:
        gates = gates + entries["b"]
    i, f, g, o = np.split(gates, 4, axis=-1)
    memory = np.asarray(memory, np.float64)
    if "peephole_i" in entries:
        i = i + entries["peephole_i"] * memory
        f = f + entries["peephole_f"] * memory
    memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
    if "peephole_o" in entries:
        o = o + entries["peephole_o"] * memory
    return sigmoid(o) * np.tanh(memory), memory


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel_size": 5},
        {"kernel_size": 1},
        {"dilation": 2},
        {"normalize": True},
        {"peepholes": "channel"},
        {"peepholes": "point", "normalize": True},
    ],
    ids=str,
)
def test_a_cell_follows_its_equations(options, strict_numerics):
    step, data = one(**options), given()
    params = noisy(step.init(jax.random.PRNGKey(0), *data))
    found = step.apply(params, *data)
    expected = by_hand(params, *data, dilation=options.get("dilation", 1))
    np.testing.assert_allclose(found.hidden, expected[0], atol=1e-5)
    np.testing.assert_allclose(found.memory, expected[1], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, {"w": (3, 3, 5, 12), "b": (12,)}),
        ({"normalize": True}, {"w": (3, 3, 5, 12), "scale": (12,), "offset": (12,)}),
        (
            {"peepholes": "channel"},
            {
                "w": (3, 3, 5, 12),
                "b": (12,),
                **{f"peephole_{gate}": (3,) for gate in "ifo"},
            },
        ),
        (
            {"peepholes": "point", "kernel_size": 1},
            {
                "w": (1, 1, 5, 12),
                "b": (12,),
                **{f"peephole_{gate}": (5, 6, 3) for gate in "ifo"},
            },
        ),
    ],
    ids=str,
)
def test_parameters_have_these_names_and_shapes(options, shapes):
    params = jax.eval_shape(one(**options).init, jax.random.PRNGKey(0), *given())
    assert {name: p.shape for name, p in params["cell"].items()} == shapes


@pytest.mark.parametrize("name", ["b", "offset"])
def test_the_forget_gate_starts_open(name):
    step = one(normalize=name == "offset", forget_bias=2.5)
    params = step.init(jax.random.PRNGKey(0), *given())
    expected = [0] * 3 + [2.5] * 3 + [0] * 6
    np.testing.assert_array_equal(params["cell"][name], expected)


@pytest.mark.parametrize("dilation", [1, 2])
def test_on_a_globe_a_turned_field_gives_a_turned_state(dilation):
    step, data = one(GLOBE, dilation=dilation), given(5, 8)
    params = noisy(step.init(jax.random.PRNGKey(0), *data))
    found = step.apply(params, *data)
    turned = step.apply(params, *(jnp.roll(x, 3, axis=2) for x in data))
    for ours, theirs in zip(found, turned):
        np.testing.assert_allclose(jnp.roll(ours, 3, axis=2), theirs, atol=1e-6)
    with_zeros = one(ZERO, dilation=dilation).apply(params, *data)
    assert np.abs(with_zeros.hidden - found.hidden).max() > 1e-2


def test_a_kernel_that_reaches_over_the_grid_is_refused():
    with pytest.raises(ValueError, match="at least 4 columns"):
        one(GLOBE, dilation=4).init(jax.random.PRNGKey(0), *given(8, 3))


@functools.cache
def layers(edges=ZERO, *, remat=False, between=None):
    """Returns two layers, of three and two channels, as a transformed function."""

    def read(frames, states=None):
        cells = [convlstm.Cell(n, name=f"cell_{i}") for i, n in enumerate((3, 2))]
        if states is None:
            states = [cell.start(frames[:, 0]) for cell in cells]
        return convlstm.run(cells, frames, states, edges, between=between, remat=remat)

    return compiled(hk.transform(read))


def test_layers_are_cells_one_after_the_other():
    frames = draw(2, 4, 5, 6, 2)
    read = layers()
    params = noisy(read.init(jax.random.PRNGKey(0), frames))
    states = [jnp.zeros((2, 2, 5, 6, n)) for n in (3, 2)]
    for t in range(4):
        x = frames[:, t]
        for i, channels in enumerate((3, 2)):

            def step(x, hidden, memory, channels=channels):
                cell = convlstm.Cell(channels, name="cell")
                return cell(x, convlstm.State(hidden, memory), ZERO)

            own = {"cell": params[f"cell_{i}"]}
            states[i] = jax.jit(hk.transform(step).apply)(own, None, x, *states[i])
            x = states[i].hidden
    found = read.apply(params, None, frames)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, tuple(states)
    )


def test_frames_in_parts_give_the_state_of_all_at_once():
    frames = draw(2, 5, 5, 6, 2)
    read = layers()
    params = noisy(read.init(jax.random.PRNGKey(0), frames))
    states = None
    for part in (frames[:, :1], frames[:, 1:4], frames[:, 4:]):
        states = read.apply(params, None, part, states)
    expected = read.apply(params, None, frames)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), states, expected
    )


def test_what_lies_between_layers_is_changed_and_nothing_else():
    frames = draw(1, 3, 4, 4, 2)
    params = layers().init(jax.random.PRNGKey(0), frames)
    plain = layers().apply(params, None, frames)
    cut = layers(between=lambda x: 0 * x).apply(params, None, frames)
    np.testing.assert_array_equal(plain[0].hidden, cut[0].hidden)
    assert np.abs(plain[1].hidden - cut[1].hidden).max() > 1e-3


def gradient(remat):
    frames = draw(2, 3, 5, 6, 2)
    read = layers(remat=remat)
    params = noisy(read.init(jax.random.PRNGKey(0), frames))

    def loss(params, frames):
        return jnp.sum(jnp.sin(read.apply(params, None, frames)[-1].hidden))

    return loss, params, frames


def test_computing_again_gives_the_same_gradients():
    results = []
    for remat in (False, True):
        loss, params, frames = gradient(remat)
        results.append(jax.jit(jax.grad(loss, (0, 1)))(params, frames))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results
    )


def test_gradients_are_differences_of_losses():
    loss, params, frames = gradient(False)
    grad = jax.grad(loss)(params, frames)
    rng = np.random.default_rng(4)
    way = jax.tree.map(
        lambda p: jnp.asarray(rng.standard_normal(p.shape), p.dtype), params
    )
    at = [
        loss(jax.tree.map(lambda p, w, s=sign: p + s * 1e-3 * w, params, way), frames)
        for sign in (1, -1)
    ]
    slope = sum(jnp.vdot(g, w) for g, w in zip(*map(jax.tree.leaves, (grad, way))))
    np.testing.assert_allclose((at[0] - at[1]) / 2e-3, slope, rtol=2e-2)


def convolutions(function, *arguments):
    """Returns how many convolutions a program has, those in loops counted once."""
    text = str(jax.make_jaxpr(function)(*arguments))
    return text.count("conv_general_dilated[")


def test_the_backward_pass_computes_convolutions_again_only_if_told_to():
    counts = []
    for remat in (False, True):
        loss, params, frames = gradient(remat)
        counts.append(convolutions(jax.grad(loss), params, frames))
    assert counts[1] - counts[0] == 2  # one for each layer


def test_with_remat_less_is_kept():
    kept = []
    for remat in (False, True):
        loss, params, frames = gradient(remat)
        _, pull = jax.vjp(loss, params, frames)
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(pull)))
    assert kept[1] < 0.6 * kept[0]


def test_memory_and_gates_are_float32_in_bfloat16():
    data = [x.astype(jnp.bfloat16) for x in given()]
    data[2] = data[2].astype(jnp.float32)
    step = one(normalize=True, peepholes="channel")
    full = noisy(step.init(jax.random.PRNGKey(0), *given()))
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), full)
    found = step.apply(params, *data)
    assert found.hidden.dtype == jnp.bfloat16
    assert found.memory.dtype == jnp.float32
    expected = step.apply(full, *given())
    np.testing.assert_allclose(found.memory, expected.memory, atol=0.05)


def test_gradients_add_up_over_frames_in_float32():
    """In bfloat16 a sum over many frames would stop growing at 256 of them."""
    frames = jnp.ones((1, 400, 1, 1, 1), jnp.bfloat16)

    def read(frames):
        with casting.bfloat16_variable_view():
            cell = convlstm.Cell(1, 1, name="cell")
            states = [cell.start(frames[:, 0])]
            state = convlstm.run([cell], frames, states, ZERO)[0]
        return jnp.sum(state.memory)

    transformed = hk.without_apply_rng(hk.transform(read))
    # Nothing is forgotten, and each frame adds the same.
    params = {
        "cell": {
            "w": jnp.zeros((1, 1, 2, 4)),
            "b": jnp.array([0.0, 100.0, 1.0, 0.0]),
        }
    }
    grad = jax.grad(transformed.apply)(params, frames)
    assert grad["cell"]["b"].dtype == jnp.float32
    expected = 400 * 0.5 * (1 - np.tanh(1) ** 2)
    np.testing.assert_allclose(grad["cell"]["b"][2], expected, rtol=1e-2)


def test_members_of_a_batch_do_not_mix():
    frames = draw(3, 3, 5, 6, 2)
    read = layers()
    params = noisy(read.init(jax.random.PRNGKey(0), frames))
    found = read.apply(params, None, frames)[-1].hidden
    alone = jax.vmap(lambda x: read.apply(params, None, x[None])[-1].hidden[0])(frames)
    np.testing.assert_allclose(found, alone, atol=1e-6)
