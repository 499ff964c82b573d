import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.baselines import config, network
from weatherlib.nn.edges import Edges

GLOBE = Edges(columns="around", over_first_row="on_pole", over_last_row="on_pole")
REGION = Edges()


def make(edges=GLOBE, rows=7, columns=8, dtype=jnp.float32, training=False, **changes):
    """Returns the transformed network, noisy parameters and an input."""
    settings = {"width": 6, "dilations": (1, 2), **changes}
    sizes = config.ResidualCnnConfig(**settings)
    places = np.linspace(-1, 1, rows * columns * 4, dtype=np.float32)
    places = places.reshape(rows, columns, 4)

    def run(x):
        net = network.ResidualCnnNetwork(sizes)
        return net(x, places, edges, 3, training)

    transformed = hk.transform(run)
    transformed = hk.Transformed(transformed.init, jax.jit(transformed.apply))
    x = jax.random.normal(jax.random.PRNGKey(2), (2, rows, columns, 5))
    params = jax.jit(transformed.init)(jax.random.PRNGKey(0), x)
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda a: a + 0.1 * rng.standard_normal(a.shape).astype(np.float32), params
    )
    return transformed, params, x.astype(dtype)


def test_parameters_have_these_names_and_shapes():
    _, params, _ = make(local_channels=2)
    shapes = {
        f"{module}/{name}": value.shape
        for module, entries in params.items()
        for name, value in entries.items()
    }
    block = {
        "conv/w": (3, 3, 6, 6), "conv/b": (6,), "mix/w": (6, 6), "mix/b": (6,),
        "norm/scale": (6,), "norm/offset": (6,),
    }  # fmt: skip
    member = {
        "embed/w": (3, 3, 11, 6), "embed/b": (6,), "norm/scale": (6,),
        "norm/offset": (6,), "head/w": (6, 3), "head/b": (3,),
        **{f"block_{i}_{k}": v for i in range(2) for k, v in block.items()},
    }  # fmt: skip
    expected = {f"residual_cnn/member_0/{k}": v for k, v in member.items()}
    assert shapes == {"residual_cnn/local_embed": (7, 8, 2), **expected}


def test_members_multiply_parameters_and_average():
    _, one, x = make()
    transformed, two, _ = make(members=2)
    assert hk.data_structures.tree_size(two) == 2 * hk.data_structures.tree_size(one)
    single, _, _ = make()
    parts = [
        {
            module.replace(f"member_{i}/", "member_0/"): entries
            for module, entries in two.items()
            if f"member_{i}/" in module
        }
        for i in range(2)
    ]
    mean = sum(single.apply(part, None, x) for part in parts) / 2
    np.testing.assert_allclose(transformed.apply(two, None, x), mean, atol=1e-5)


def test_members_see_shares_of_a_batch_in_training():
    transformed, params, x = make(members=2, training=True)
    found = transformed.apply(params, None, x)
    for i in range(2):
        one, _, _ = make()
        part = {
            module.replace(f"member_{i}/", "member_0/"): entries
            for module, entries in params.items()
            if f"member_{i}/" in module
        }
        expected = one.apply(part, None, x[i : i + 1])
        np.testing.assert_allclose(found[i : i + 1], expected, atol=1e-5)
    averaged, _, _ = make(members=2)
    np.testing.assert_allclose(
        transformed.apply(params, None, x[:1]),
        averaged.apply(params, None, x[:1]),
        atol=1e-5,
    )


def test_a_turned_globe_gives_a_turned_result():
    transformed, params, x = make(positions=False)
    for turn in (1, 3):
        found = transformed.apply(params, None, jnp.roll(x, turn, axis=2))
        expected = jnp.roll(transformed.apply(params, None, x), turn, axis=2)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_positions_tell_places_apart():
    transformed, params, x = make()
    found = transformed.apply(params, None, jnp.roll(x, 1, axis=2))
    expected = jnp.roll(transformed.apply(params, None, x), 1, axis=2)
    assert jnp.abs(found - expected).max() > 1e-2


def test_a_region_has_no_far_side():
    transformed, params, x = make(REGION, dilations=(1,))
    found = transformed.apply(params, None, x.at[:, :, -1].add(5.0))
    changed = jnp.abs(found - transformed.apply(params, None, x)).max((0, 1, 3))
    assert (changed[:3] < 1e-6).all() and changed[-1] > 1e-3
    transformed, params, x = make(GLOBE, dilations=(1,))
    found = transformed.apply(params, None, x.at[:, :, -1].add(5.0))
    changed = jnp.abs(found - transformed.apply(params, None, x)).max((0, 1, 3))
    assert changed[0] > 1e-3


def test_dropout_acts_in_training_only():
    transformed, params, x = make(training=True, dropout=0.5)
    first, second = (
        transformed.apply(params, jax.random.PRNGKey(seed), x) for seed in (0, 1)
    )
    assert jnp.abs(first - second).max() > 1e-2
    calm, _, _ = make(dropout=0.5)
    never, _, _ = make()
    np.testing.assert_array_equal(
        calm.apply(params, None, x), never.apply(params, None, x)
    )
    with pytest.raises(ValueError, match="non-None PRNGKey"):
        transformed.apply(params, None, x)


def test_the_first_forecast_is_near_zero():
    transformed, _, x = make(width=32)
    params = jax.jit(transformed.init)(jax.random.PRNGKey(0), x)
    assert jnp.abs(transformed.apply(params, None, x)).max() < 0.5


@pytest.mark.parametrize(
    ("normalization", "edges"),
    [
        ("layer", GLOBE),
        pytest.param("layer", REGION, marks=pytest.mark.slow),
        pytest.param("none", GLOBE, marks=pytest.mark.slow),
        ("none", REGION),
    ],
)
def test_it_runs_under_jit_grad_and_vmap(edges, normalization, strict_numerics):
    transformed, params, x = make(edges, normalization=normalization, local_channels=1)
    plain = transformed.apply(params, None, x)
    single = jax.vmap(lambda one: transformed.apply(params, None, one[None])[0])(x)
    np.testing.assert_allclose(single, plain, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda p: (transformed.apply(p, None, x) ** 2).sum()))(
        params
    )
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_it_computes_in_bfloat16(strict_numerics):
    transformed, params, x = make(dtype=jnp.bfloat16)
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    found = transformed.apply(narrow, None, x)
    assert found.dtype == jnp.bfloat16
    expected = transformed.apply(params, None, x.astype(jnp.float32))
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.1)


@pytest.mark.parametrize(
    ("edges", "rows", "columns", "message"),
    [
        (GLOBE, 4, 8, "reaches 4 grid points, and the grid has only 4 rows"),
        (GLOBE, 7, 2, "the grid has only 2 columns; use smaller"),
    ],
)
def test_a_dilation_beyond_the_grid_is_an_error(edges, rows, columns, message):
    with pytest.raises(ValueError, match=message):
        make(edges, rows, columns, dilations=(4,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width must be at least 1, found 0"),
        ({"members": 0}, "members must be at least 1"),
        ({"dilations": ()}, "dilations must be at least one number"),
        ({"dilations": (1, 0)}, "dilations must be"),
        ({"kernel": 2}, "kernel must be an odd number, found 2"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"local_channels": -1}, "local_channels must not be negative"),
        ({"differences": -1.0}, "differences must be a number from 0 on, found -1"),
        ({"differences": float("nan")}, "differences must be a number from 0 on"),
        ({"resolution": -1.0}, "resolution must not be negative"),
    ],
)
def test_sizes_that_make_no_network_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        config.ResidualCnnConfig(**change)


def test_differences_of_neighbours_are_inputs():
    places = np.zeros((7, 8, 4), np.float32)
    x = jax.random.normal(jax.random.PRNGKey(2), (2, 7, 8, 5))
    # Beyond the columns lies the other side of the globe, beyond a row on a pole what
    # is half-way round.
    east, west = jnp.roll(x, -1, axis=2), jnp.roll(x, 1, axis=2)
    over = jnp.roll(x, 4, axis=2)
    below = jnp.concatenate([x[:, 1:], over[:, -2:-1]], axis=1)
    above = jnp.concatenate([over[:, 1:2], x[:, :-1]], axis=1)
    curvature = east + west + below + above - 4 * x
    parts = [x, 3 * (east - west), 3 * (below - above), 6 * curvature]
    joined = jnp.concatenate(parts, axis=-1)
    outputs, params = [], None
    for differences, field in ((3.0, x), (0.0, joined)):
        sizes = config.ResidualCnnConfig(
            width=6, dilations=(1, 2), positions=False, differences=differences
        )

        def run(x, sizes=sizes):
            return network.ResidualCnnNetwork(sizes)(x, places, GLOBE, 3)

        transformed = hk.without_apply_rng(hk.transform(run))
        if params is None:
            params = transformed.init(jax.random.PRNGKey(0), field)
        outputs.append(transformed.apply(params, field))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-6)
    assert params["residual_cnn/member_0/embed"]["w"].shape[2] == 20


@pytest.mark.parametrize("rows,differences", [(7, 0.0), (8, 0.0), (21, 2.0)])
def test_with_mirror_an_upside_down_world_gives_upside_down_weather(rows, differences):
    kind = "on_pole" if rows % 2 else "pole"
    edges = Edges(columns="around", over_first_row=kind, over_last_row=kind)
    parity = network.Parity(
        inputs=np.array([1.0, -1, 1, 1, -1]), outputs=np.array([1.0, -1, 1])
    )
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.standard_normal((2, rows, 8, 5)), jnp.float32)
    sizes = config.ResidualCnnConfig(
        width=6, dilations=(1, 2), mirror=True, differences=differences
    )
    places = rng.standard_normal((rows, 8, 4)).astype(np.float32)
    # The sine of latitude, and what is the same in both hemispheres.
    places[..., 0] = np.linspace(-1, 1, rows)[:, np.newaxis]
    places = (places + places[::-1] * np.array([-1, 1, 1, 1], np.float32)) / 2

    def run(x):
        net = network.ResidualCnnNetwork(sizes)
        return net(x, places, edges, 3, parity=parity)

    transformed = hk.without_apply_rng(hk.transform(run))
    params = transformed.init(jax.random.PRNGKey(0), x)
    params = jax.tree.map(
        lambda a: a + 0.2 * rng.standard_normal(a.shape).astype(np.float32), params
    )
    flag = params["residual_cnn/member_0/embed"]["w"]
    assert flag.shape[2] == (20 if differences else 5) + 4 + 1

    def apply(x, flag):
        embed = {**params["residual_cnn/member_0/embed"], "w": flag}
        changed = {**params, "residual_cnn/member_0/embed": embed}
        return np.asarray(jax.jit(transformed.apply)(changed, x))

    def mirrored(x, signs):
        return x[:, ::-1] * jnp.asarray(signs, jnp.float32)

    alike = flag.at[:, :, -1].set(0)
    found = apply(mirrored(x, parity.inputs), alike)
    expected = mirrored(apply(x, alike), parity.outputs)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    # With their own channel the hemispheres may differ.
    found = apply(mirrored(x, parity.inputs), flag)
    expected = mirrored(apply(x, flag), parity.outputs)
    assert np.abs(found - expected).max() > 1e-2


def test_with_mirror_the_northern_half_is_that_of_the_whole_globe():
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.standard_normal((1, 21, 8, 5)), jnp.float32)
    places = np.zeros((21, 8, 4), np.float32)
    outputs, params = {}, None
    for mirror in (True, False):
        sizes = config.ResidualCnnConfig(width=6, dilations=(1, 2), mirror=mirror)
        extra = jnp.ones((1, 21, 8, 0 if mirror else 1))

        def run(x, extra, sizes=sizes, mirror=mirror):
            # The channel that mirror adds stands last, after the positions.
            own = places if mirror else np.zeros((21, 8, 4), np.float32)
            field = x if mirror else jnp.concatenate([x, own[np.newaxis], extra], -1)
            if not mirror:
                sizes = dataclasses.replace(sizes, positions=False)
            return network.ResidualCnnNetwork(sizes)(field, own, GLOBE, 3)

        transformed = hk.without_apply_rng(hk.transform(run))
        if params is None:
            params = transformed.init(jax.random.PRNGKey(0), x, extra)
            params = jax.tree.map(
                lambda a: a + 0.2 * rng.standard_normal(a.shape).astype(np.float32),
                params,
            )
        outputs[mirror] = np.asarray(transformed.apply(params, x, extra))
    np.testing.assert_allclose(outputs[True][:, :10], outputs[False][:, :10], atol=1e-5)
    assert np.abs(outputs[True][:, 11:] - outputs[False][:, 11:]).max() > 1e-2
