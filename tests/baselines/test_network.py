import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import toys
from weatherlib.baselines import config, network

GLOBE = network.Edges(periodic=True, over_first_row="on_pole", over_last_row="on_pole")
REGION = network.Edges()


@pytest.fixture(autouse=True, scope="module")
def quick():
    with toys.quick_compilation():
        yield


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


@pytest.mark.parametrize(("kind", "first_behind"), [("on_pole", 1), ("pole", 0)])
def test_over_a_pole_lies_the_other_side(kind, first_behind):
    x = jnp.arange(5 * 8.0).reshape(1, 5, 8, 1)
    edges = network.Edges(periodic=True, over_first_row=kind, over_last_row=kind)
    wide = network.surround(x, 2, edges)[0, :, 2:-2, 0]
    field = x[0, :, :, 0]
    for reach in (1, 2):
        behind = first_behind + reach - 1
        np.testing.assert_array_equal(wide[2 - reach], jnp.roll(field[behind], 4))
        np.testing.assert_array_equal(wide[-3 + reach], jnp.roll(field[-1 - behind], 4))
    np.testing.assert_array_equal(wide[2:-2], field)


def test_at_the_edges_of_a_region_values_are_repeated():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    wide = network.surround(x, 1, REGION)[0, :, :, 0]
    np.testing.assert_array_equal(wide, np.pad(x[0, :, :, 0], 1, mode="edge"))


def test_a_globe_goes_on_with_its_first_column():
    x = jnp.arange(24.0).reshape(1, 3, 8, 1)
    wide = network.surround(x, 2, GLOBE)[0, 2:-2, :, 0]
    np.testing.assert_array_equal(wide, np.pad(x[0, :, :, 0], ((0, 0), (2, 2)), "wrap"))


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


@pytest.mark.parametrize("edges", [GLOBE, REGION])
@pytest.mark.parametrize("normalization", ["layer", "none"])
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
        ({"resolution": -1.0}, "resolution must not be negative"),
    ],
)
def test_sizes_that_make_no_network_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        config.ResidualCnnConfig(**change)
