import functools
import re

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import unfolded_graphcast
from tests.graphcast import models
from weatherlib.geometry import graph
from weatherlib.graphcast import message_graph, network
from weatherlib.graphcast.config import MemoryConfig
from weatherlib.nn import prepared

WINDOW = np.arange(62.0, 30.0, -4.0), np.arange(-10.0, 30.0, 5.0)


@functools.cache
def geometry(kind, mesh_size):
    lat, lon = {
        "globe": (np.arange(-90.0, 91, 20), np.arange(0.0, 360, 20)),
        "north first": (np.arange(80.0, -81, -20), np.arange(0.0, 360, 30)),
        "window": WINDOW,
    }[kind]
    return graph.build_graph(
        lat, lon, mesh_size=mesh_size, radius_query_fraction_edge_length=0.6
    )


def make(kind="globe", mesh_size=1, batch=1, memory=None, dtype=jnp.float32, **changes):
    """Returns the transformed network, noisy parameters and an input."""
    config = models.replace(models.CONFIG, mesh_size=mesh_size, **changes)
    shape = geometry(kind, mesh_size)
    nodes = message_graph.make_message_graph(shape)

    def run(x):
        return network.GraphCastNetwork(config, memory)(nodes, x, 5)

    transformed = hk.without_apply_rng(hk.transform(run))
    x = jax.random.normal(
        jax.random.PRNGKey(2), (len(shape.grid_node_features), batch, 7)
    )
    params = jax.jit(transformed.init)(jax.random.PRNGKey(0), x)
    return transformed, models.noisy(params), x.astype(dtype)


@pytest.mark.parametrize(
    ("kind", "mesh_size", "batch", "changes"),
    [
        ("globe", 1, 1, {}),
        ("north first", 0, 2, {"hidden_layers": 2, "gnn_msg_steps": 1}),
        ("window", 2, 1, {"hidden_layers": 0, "gnn_msg_steps": 3}),
    ],
)
def test_folding_changes_nothing(kind, mesh_size, batch, changes):
    transformed, params, x = make(kind, mesh_size, batch, **changes)
    config = models.replace(models.CONFIG, **changes)
    plain = unfolded_graphcast.UnfoldedGraphCast(
        params,
        geometry(kind, mesh_size),
        config.hidden_layers,
        config.gnn_msg_steps,
    )
    found = jax.jit(transformed.apply)(params, x)
    np.testing.assert_allclose(found, jax.jit(plain)(x), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(MemoryConfig(block=50), marks=pytest.mark.slow),
        pytest.param(MemoryConfig(remat=True), marks=pytest.mark.slow),
        MemoryConfig(block=64, remat=True, store_static=False),
    ],
)
def test_memory_settings_change_neither_values_nor_gradients(memory):
    def value_and_gradient(memory):
        transformed, params, x = make(memory=memory)

        def loss(params, x):
            return (transformed.apply(params, x) ** 2).mean()

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)

    found, expected = map(value_and_gradient, (memory, MemoryConfig()))
    assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(assert_close, found, expected)


def test_memory_settings_change_the_program():
    def count(memory, words):
        transformed, params, x = make(memory=memory)
        program = str(jax.make_jaxpr(transformed.apply)(params, x))
        return len(re.findall(rf"= ({words})\[", program))

    assert count(MemoryConfig(remat=True), "checkpoint|remat2?") > 0
    assert count(MemoryConfig(), "checkpoint|remat2?") == 0
    assert count(MemoryConfig(block=50), "scan") > count(MemoryConfig(), "scan")


@pytest.mark.parametrize("store_static", [True, False])
def test_prepared_parts_give_the_same_and_depend_on_weights_only(store_static):
    memory = MemoryConfig(store_static=store_static)
    transformed, params, x = make(memory=memory)

    @jax.jit
    def prepare(params, x):
        with prepared.record() as parts:
            transformed.apply(params, x)
        return parts

    @jax.jit
    def step(params, parts, x):
        with prepared.use(parts):
            return transformed.apply(params, x)

    parts = prepare(params, jnp.zeros_like(x))
    names = {key.rpartition("/")[2] for key in parts}
    stored = {"grid2mesh", "mesh2grid"} if store_static else set()
    assert names == {"graph", "mesh_nodes", "mesh_edges", "mesh_rounds"} | stored
    expected = jax.jit(transformed.apply)(params, x)
    np.testing.assert_allclose(step(params, parts, x), expected, atol=1e-5)


def test_parts_of_another_graph_are_refused():
    first, params, x = make()

    def prepare(params, x):
        with prepared.record() as parts:
            first.apply(params, x)
        return parts

    parts = jax.eval_shape(prepare, params, x)
    other, other_params, other_x = make("window", 2)
    with (
        prepared.use(parts),
        pytest.raises(ValueError, match="recorded for another model"),
    ):
        other.apply(other_params, other_x)


def test_weights_without_effect_exist_and_have_zero_gradient():
    transformed, params, x = make()
    gradient = jax.jit(jax.grad(lambda p: (transformed.apply(p, x) ** 2).sum()))(params)
    for module, arrays in gradient.items():
        unused = "mesh2grid_gnn" in module and "processor_nodes_0_mesh_nodes" in module
        for name, value in arrays.items():
            assert bool((value == 0).all()) == unused, (module, name)


def test_the_network_passes_strict_numerics_in_bfloat16(strict_numerics):
    transformed, params, x = make(batch=2, dtype=jnp.bfloat16)
    low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    found = jax.jit(transformed.apply)(low, x)
    assert found.dtype == jnp.bfloat16
    precise = jax.jit(transformed.apply)(params, x.astype(jnp.float32))
    error = np.asarray(found, np.float32) - np.asarray(precise)
    # A single output of an untrained network may be far off; the bulk may not.
    assert np.sqrt(np.mean(error**2)) < 0.03 * np.std(precise)


def test_batch_members_and_vmap_see_the_same_network():
    transformed, params, x = make(batch=3)
    together = jax.jit(transformed.apply)(params, x)
    mapped = jax.jit(
        jax.vmap(lambda member: transformed.apply(params, member[:, None]), 1, 1)
    )(x)
    np.testing.assert_allclose(together, mapped[:, :, 0], atol=1e-5)
