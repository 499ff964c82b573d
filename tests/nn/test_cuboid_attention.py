"""Tests of cuboid attention against published numbers and a plain one."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import published
from weatherlib.geometry import cuboids
from weatherlib.geometry.cuboid_patterns import Cuboid
from weatherlib.nn import cuboid_attention
from weatherlib.nn.cuboid_attention import GlobalSettings, Settings

NAMES = {
    "qkv": "qkv",
    "proj": "proj",
    "norm": "norm",
    "global_qkv": "global_qkv",
    "global_proj": "global_proj",
    "global_vec_norm": "global_norm",
    "l2g_q_net": "l2g_query",
    "l2g_global_kv_net": "l2g_key_value",
    "g2l_global_q_net": "g2l_query",
    "g2l_k_net": "g2l_key",
    "g2l_v_net": "g2l_value",
    "g2g_global_qkv_net": "g2g_qkv",
}


def settings_of(case):
    vectors = None
    if case["n_global"]:
        vectors = GlobalSettings(
            self_attention=case.get("use_global_self_attn", False),
            separate=case.get("separate_global_qkv", False),
            ratio=case.get("global_dim_ratio", 1),
        )
    return Settings(
        heads=case["num_heads"],
        padding=case["padding_type"],
        bias=case.get("qkv_bias", False),
        relative_positions=case.get("use_relative_pos", True),
        final_projection=case.get("use_final_proj", True),
        global_vectors=vectors,
    )


def cuboid_of(case):
    shift = tuple(case.get("shift_size", (0, 0, 0)))
    return Cuboid(tuple(case["cuboid_size"]), tuple(case["strategy"]), shift)


def attention(cuboid, settings, training=False):
    """Returns the layer as a function of points and global vectors."""

    def run(x, vectors=None):
        layer = cuboid_attention.CuboidAttention(cuboid, settings, name="attn")
        return layer(x, vectors, training)

    transformed = hk.transform(run)
    return hk.Transformed(jax.jit(transformed.init), jax.jit(transformed.apply))


def published_params(name):
    held = published.weights(name)
    params = published.params(held, NAMES, "attn")
    if "relative_position_bias_table" in held:
        params["attn"] = {"relative_bias": held["relative_position_bias_table"]}
    return params


@pytest.mark.parametrize("number", range(12))
def test_layers_give_the_published_numbers(number, strict_numerics):
    name = f"layer{number}"
    case, data = published.listed()[name], published.arrays()
    run = attention(cuboid_of(case), settings_of(case))
    vectors = data[f"{name}_g_in"] if case["n_global"] else None
    params = published_params(name)
    x = data[f"{name}_in"]
    made = jax.eval_shape(run.init, jax.random.key(0), x, vectors)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, made)
    found, answer = run.apply(params, None, x, vectors)
    published.close(found, data[f"{name}_out"])
    if vectors is not None:
        published.close(answer, data[f"{name}_g_out"])


def test_the_masked_softmax_is_the_published_one(strict_numerics):
    data = published.arrays()
    mask = jnp.asarray(data["msoftmax_mask"])[jnp.newaxis]
    scores = jnp.asarray(data["msoftmax_score"])
    found = cuboid_attention.masked_softmax(scores, mask)
    published.close(found, data["msoftmax_out"])
    nothing = jnp.zeros((1, 4), bool)
    assert not cuboid_attention.masked_softmax(jnp.ones((1, 4)), nothing).any()


def noisy(run, *inputs, seed=0):
    """Returns parameters away from their first values, from which much is zero."""
    made = jax.eval_shape(run.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(seed)
    drawn = {
        module: {
            name: 0.4 * rng.standard_normal(a.shape) + (name == "scale")
            for name, a in entries.items()
        }
        for module, entries in made.items()
    }
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), drawn)


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def normalised(x, entries):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * entries["scale"] + entries["offset"]


def plain_attention(params, cuboid, settings, x, vectors):
    """Returns the layer for one batch member, point by point, in float64.

    Data must be whole cuboids, and a vector sees what is data and nothing else.
    """
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    x = normalised(np.asarray(x, np.float64), p["attn/norm"])
    shape = x.shape[:3]
    heads, width = settings.heads, x.shape[-1]
    scale = (width // heads) ** -0.5
    split = lambda a: a.reshape(*a.shape[:-1], heads, -1)  # noqa: E731
    q, k, v = (split(a) for a in np.split(x @ p["attn/qkv"]["w"], 3, -1))
    blocks = [n // s for n, s in zip(shape, cuboid.size)]

    def number(place):
        found = []
        for axis, letter in enumerate(cuboid.strategy):
            old = (place[axis] - cuboid.shift[axis]) % shape[axis]
            block = old // cuboid.size[axis] if letter == "l" else old % blocks[axis]
            inner = old % cuboid.size[axis] if letter == "l" else old // blocks[axis]
            wrapped = old + cuboid.shift[axis] >= shape[axis]
            found.append((block, inner, wrapped))
        return [tuple(row) for row in zip(*found)]

    told = None
    if vectors is not None:
        g = normalised(np.asarray(vectors, np.float64), p["attn/global_norm"])
        told = [split(a) for a in np.split(g @ p["attn/global_qkv"]["w"], 3, -1)]
    spans = [2 * n - 1 for n in cuboid.size]
    numbers = {place: number(place) for place in np.ndindex(*shape)}
    out = np.zeros(x.shape)
    for a in np.ndindex(*shape):
        block, inner, wrapped = numbers[a]
        seen = [
            b for b in numbers if numbers[b][0] == block and numbers[b][2] == wrapped
        ]
        for head in range(heads):
            scores, values = [], []
            for b in seen:
                rows = [
                    i - j + n - 1 for i, j, n in zip(inner, numbers[b][1], cuboid.size)
                ]
                row = np.ravel_multi_index(rows, spans)
                bias = p["attn"]["relative_bias"][row, head]
                scores.append(scale * q[a][head] @ k[b][head] + bias)
                values.append(v[b][head])
            if told is not None:
                scores += [scale * q[a][head] @ key for key in told[1][:, head]]
                values += list(told[2][:, head])
            found = softmax(np.array(scores)) @ np.array(values)
            out[a].reshape(heads, -1)[head] = found
    out = out @ p["attn/proj"]["w"] + p["attn/proj"]["b"]
    if told is None:
        return out, None
    answer = np.zeros(g.shape)
    for i in range(len(g)):
        for head in range(heads):
            keys = [k[b][head] for b in numbers]
            values = [v[b][head] for b in numbers]
            if settings.global_vectors.self_attention:
                keys += list(told[1][:, head])
                values += list(told[2][:, head])
            scores = scale * np.array(keys) @ told[0][i, head]
            answer[i].reshape(heads, -1)[head] = softmax(scores) @ np.array(values)
    return out, answer @ p["attn/global_proj"]["w"] + p["attn/global_proj"]["b"]


PLAIN = {
    "local": (Cuboid((2, 2, 1)), None),
    "shifted": (Cuboid((2, 2, 3), shift=(1, 1, 2)), None),
    "dilated": (Cuboid((1, 2, 3), ("d", "d", "d")), None),
    "mixed": (Cuboid((2, 2, 2), ("l", "d", "l"), (1, 0, 1)), None),
    "vectors": (Cuboid((2, 2, 3), shift=(0, 1, 0)), GlobalSettings()),
    "vectors among themselves": (
        Cuboid((4, 1, 2), ("l", "l", "d")),
        GlobalSettings(self_attention=True),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_attention_is_what_a_plain_one_gives(name, strict_numerics):
    cuboid, vectors = PLAIN[name]
    settings = Settings(heads=2, padding="ignore", global_vectors=vectors)
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.standard_normal((2, 4, 4, 6, 8)), "f4")
    g = None if vectors is None else jnp.asarray(rng.standard_normal((2, 3, 8)), "f4")
    run = attention(cuboid, settings)
    params = noisy(run, x, g)
    found, answer = run.apply(params, None, x, g)
    for i in range(2):
        expected, told = plain_attention(
            params, cuboid, settings, x[i], None if g is None else g[i]
        )
        published.close(found[i], expected)
        if told is not None:
            published.close(answer[i], told)


def test_global_vectors_do_not_see_padding_when_counted_by_cuboids():
    """Unlike in the published order, which hides some data and shows some padding."""
    cuboid = Cuboid((2, 2, 2), shift=(0, 1, 1))
    right = GlobalSettings(self_attention=True, separate=True, published_order=False)
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.standard_normal((1, 3, 5, 4, 8)), "f4")
    g = jnp.asarray(rng.standard_normal((1, 2, 8)), "f4")
    settings = Settings(heads=2, padding="ignore", global_vectors=right)
    run = attention(cuboid, settings)
    params = noisy(run, x, g)
    params["attn/norm"]["offset"] += 1
    _, answer = run.apply(params, None, x, g)
    # One cuboid of just the data: no padding, and vectors see all of it.
    whole = attention(Cuboid((3, 5, 4)), settings)
    params["attn"]["relative_bias"] = jnp.zeros((5 * 9 * 7, 2))
    _, expected = whole.apply(params, None, x, g)
    published.close(answer, np.asarray(expected))
    quirky = dataclasses.replace(right, published_order=True)
    settings = dataclasses.replace(settings, global_vectors=quirky)
    params = noisy(attention(cuboid, settings), x, g)
    params["attn/norm"]["offset"] += 1
    _, other = attention(cuboid, settings).apply(params, None, x, g)
    assert np.abs(other - answer).max() > 1e-3


def test_long_cuboids_are_worked_on_in_blocks(monkeypatch, strict_numerics):
    vectors = GlobalSettings(self_attention=True)
    cuboid = Cuboid((3, 5, 4), shift=(1, 2, 2))
    settings = Settings(heads=2, padding="ignore", global_vectors=vectors)
    rng = np.random.default_rng(5)
    x = jnp.asarray(rng.standard_normal((2, 4, 7, 9, 8)), "f4")
    g = None if vectors is None else jnp.asarray(rng.standard_normal((2, 3, 8)), "f4")
    run = attention(cuboid, settings)
    params = noisy(run, x, g)

    def outputs(run):
        def loss(p, x):
            found = run.apply(p, None, x, g)
            return sum((a**2).sum() for a in found if a is not None)

        gradient = jax.jit(jax.grad(loss, (0, 1)))(params, x)
        return run.apply(params, None, x, g), gradient

    expected = outputs(run)
    monkeypatch.setattr(cuboid_attention, "_BLOCK_SCORES", 2**13)
    run = attention(cuboid, settings)
    text = str(jax.make_jaxpr(run.apply)(params, None, x, g))
    assert "scan" in text or "while" in text
    jax.tree.map(
        lambda a, b: published.close(a, np.asarray(b), 1e-5), outputs(run), expected
    )


def test_attention_in_bfloat16_keeps_its_type_and_close_to_float32():
    cuboid = Cuboid((2, 2, 3), shift=(1, 1, 1))
    settings = Settings(heads=2, global_vectors=GlobalSettings(separate=True, ratio=2))
    rng = np.random.default_rng(6)
    x = jnp.asarray(rng.standard_normal((2, 3, 4, 5, 8)), jnp.float32)
    g = jnp.asarray(rng.standard_normal((2, 3, 16)), jnp.float32)
    run = attention(cuboid, settings)
    params = noisy(run, x, g)
    expected = run.apply(params, None, x, g)
    cast = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), tree)  # noqa: E731
    found = run.apply(cast(params), None, cast(x), cast(g))
    for ours, theirs in zip(found, expected):
        assert ours.dtype == jnp.bfloat16
        published.close(ours.astype(jnp.float32), np.asarray(theirs), 0.05)


def test_dropout_in_training_silences_weights_and_results():
    cuboid = Cuboid((2, 2, 2))
    x = jax.random.normal(jax.random.key(0), (1, 2, 4, 4, 8))
    still = Settings(heads=2, projection_init="0")
    params = noisy(attention(cuboid, still), x)
    plain = attention(cuboid, still).apply(params, None, x)[0]
    for name in ("drop_rate", "projection_drop_rate"):
        settings = dataclasses.replace(still, **{name: 0.5})
        run = attention(cuboid, settings, training=True)
        first = run.apply(params, jax.random.key(1), x)[0]
        assert (first == run.apply(params, jax.random.key(1), x)[0]).all()
        assert (first != run.apply(params, jax.random.key(2), x)[0]).any()
        calm = attention(cuboid, settings).apply(params, None, x)[0]
        np.testing.assert_array_equal(calm, plain)
        keys = jax.random.split(jax.random.key(3), 100)
        many = jax.vmap(lambda key, r=run: r.apply(params, key, x)[0])(keys)
        error = np.abs(many.mean(0) - plain).mean() / np.abs(plain).mean()
        assert error < 0.3


def test_first_weights_are_drawn_as_published():
    vectors = GlobalSettings()
    x, g = jnp.zeros((1, 2, 4, 4, 64)), jnp.zeros((1, 3, 64))
    run = attention(Cuboid((2, 2, 2)), Settings(heads=4, global_vectors=vectors))
    params = run.init(jax.random.key(0), x, g)
    for name in ("qkv", "global_qkv"):
        assert jnp.std(params[f"attn/{name}"]["w"]) == pytest.approx(1 / 8, rel=0.05)
    assert not params["attn/proj"]["w"].any()
    assert not params["attn/proj"]["b"].any()
    assert jnp.abs(params["attn/global_proj"]["w"]).max() <= 1 / 8
    assert params["attn/global_proj"]["b"].any()
    assert jnp.std(params["attn"]["relative_bias"]) == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize(
    ("settings", "vectors", "message"),
    [
        (Settings(heads=3), None, "3 heads do not divide 8 channels"),
        (Settings(heads=2), jnp.ones((1, 2, 8)), "go together"),
        (Settings(heads=2, global_vectors=GlobalSettings()), None, "go together"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(settings, vectors, message):
    run = attention(Cuboid((2, 2, 2)), settings)
    with pytest.raises(ValueError, match=message):
        run.init(jax.random.key(0), jnp.ones((1, 2, 2, 2, 8)), vectors)


def test_vectors_of_other_channels_need_layers_of_their_own():
    with pytest.raises(ValueError, match=r"separate_global_qkv.* found 2"):
        GlobalSettings(ratio=2)


@pytest.mark.parametrize("name", ["full", "video_swin_2x3", "axial_space_dilate_2"])
def test_a_trace_holds_no_table_larger_than_the_data(name):
    from weatherlib.geometry import cuboid_patterns

    shape = (3, 12, 10)
    cuboid = cuboid_patterns.pattern(name, shape)[-1]
    x = jnp.ones((1, *shape, 4))
    run = attention(cuboid, Settings(heads=1, padding="ignore"))
    params = noisy(run, x)
    traced = jax.make_jaxpr(run.apply)(params, None, x)
    padded = cuboids.layout(shape, cuboid, "ignore").padded
    for constant in traced.consts:
        assert np.size(constant) <= np.prod(padded)
