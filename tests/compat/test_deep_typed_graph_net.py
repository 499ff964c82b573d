import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib import deep_typed_graph_net, mlp, typed_graph

UP = typed_graph.EdgeSetKey("up", ("low", "high"))
ACROSS = typed_graph.EdgeSetKey("across", ("high", "high"))
EDGES = {
    UP: (np.array([0, 1, 2, 2, 0]), np.array([0, 0, 1, 2, 2])),
    ACROSS: (np.array([0, 1, 2]), np.array([1, 2, 2])),
}
SIZES = {
    "node_latent_size": {"low": 8, "high": 8},
    "edge_latent_size": {"up": 8, "across": 8},
    "mlp_hidden_size": 8,
    "mlp_num_hidden_layers": 1,
    "num_message_passing_steps": 1,
}


def _graph(context=False, dtype=np.float32) -> typed_graph.TypedGraph:
    generator = np.random.default_rng(0)

    def features(rows, channels):
        return jnp.asarray(generator.normal(size=(rows, 2, channels)), dtype)

    return typed_graph.TypedGraph(
        typed_graph.Context(np.array([1]), features(1, 3) if context else ()),
        {
            "low": typed_graph.NodeSet(np.array([3]), features(3, 5)),
            "high": typed_graph.NodeSet(np.array([3]), features(3, 4)),
        },
        {
            key: typed_graph.EdgeSet(
                np.array([len(ends[0])]),
                typed_graph.EdgesIndices(*ends),
                features(len(ends[0]), 2),
            )
            for key, ends in EDGES.items()
        },
    )


def _transform(**settings):
    def forward(graph, condition=None):
        config = {**SIZES, **settings}
        return deep_typed_graph_net.DeepTypedGraphNet(**config, name="net")(
            graph, condition
        )

    network = hk.without_apply_rng(hk.transform(forward))
    return hk.Transformed(network.init, jax.jit(network.apply))


def _shapes(network, *args):
    return jax.eval_shape(network.init, jax.random.PRNGKey(0), *args)


def _init(network, *args):
    """Random parameters, biases and scales included."""
    generator = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: jnp.asarray(generator.normal(0.2, 0.3, x.shape), x.dtype),
        _shapes(network, *args),
    )


class _Plain:
    """The network in NumPy, written out for the graph of these tests."""

    def __init__(self, params):
        self._params = params

    def mlp(self, name, *inputs, norm=True):
        x = np.concatenate(inputs, -1)
        base = f"net/~_networks_builder/{name}"
        for layer in range(2):
            weights = self._params[f"{base}_mlp/~/linear_{layer}"]
            x = np.maximum(x, 0) if layer else x
            x = x @ weights["w"] + weights["b"]
        if norm:
            weights = self._params[f"{base}_layer_norm"]
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
                x.var(-1, keepdims=True) + 1e-5
            )
            x = x * weights["scale"] + weights["offset"]
        return x

    def __call__(self, graph):
        nodes = {n: np.asarray(x.features) for n, x in graph.nodes.items()}
        edges = {k: np.asarray(x.features) for k, x in graph.edges.items()}
        nodes = {n: self.mlp(f"encoder_nodes_{n}", x) for n, x in nodes.items()}
        edges = {k: self.mlp(f"encoder_edges_{k.name}", x) for k, x in edges.items()}
        for step in range(2):
            messages = {
                key: self.mlp(
                    f"processor_edges_{step}_{key.name}",
                    x,
                    nodes[key.node_sets[0]][EDGES[key][0]],
                    nodes[key.node_sets[1]][EDGES[key][1]],
                )
                for key, x in edges.items()
            }
            updates = {}
            for name, x in nodes.items():
                received = []
                for key in sorted(messages):
                    if key.node_sets[1] == name:
                        total = np.zeros((3, *messages[key].shape[1:]), np.float32)
                        np.add.at(total, EDGES[key][1], messages[key])
                        received.append(total)
                updates[name] = self.mlp(f"processor_nodes_{step}_{name}", x, *received)
            nodes = {n: x + updates[n] for n, x in nodes.items()}
            edges = {k: x + messages[k] for k, x in edges.items()}
        return nodes, edges


def test_numbers_are_those_of_the_network_written_out():
    network = _transform(node_output_size={"low": 3}, num_message_passing_steps=2)
    graph = _graph()
    params = _init(network, graph)
    result = jax.jit(network.apply)(params, graph)
    plain = _Plain(jax.tree.map(np.asarray, params))
    nodes, edges = plain(graph)
    decoded = plain.mlp("decoder_nodes_low", nodes["low"], norm=False)
    np.testing.assert_allclose(
        result.nodes["low"].features, decoded, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        result.nodes["high"].features, nodes["high"], rtol=1e-4, atol=1e-5
    )
    for key, expected in edges.items():
        np.testing.assert_allclose(
            result.edges[key].features, expected, rtol=1e-4, atol=1e-5
        )


def test_parameter_names_and_shapes_are_the_published_ones():
    network = _transform(edge_output_size={"up": 2})
    params = _shapes(network, _graph(context=True))
    inputs = {
        "encoder_edges_up": 2,
        "encoder_edges_across": 2,
        "encoder_nodes_low": 8,
        "encoder_nodes_high": 7,
        "processor_edges_0_up": 24,
        "processor_edges_0_across": 24,
        "processor_nodes_0_low": 8,
        "processor_nodes_0_high": 24,
        "decoder_edges_up": 8,
    }
    expected = {}
    for name, size in inputs.items():
        base, decoder = f"net/~_networks_builder/{name}", name.startswith("decoder")
        output = 2 if decoder else 8
        expected[f"{base}_mlp/~/linear_0"] = {"w": (size, 8), "b": (8,)}
        expected[f"{base}_mlp/~/linear_1"] = {"w": (8, output), "b": (output,)}
        if not decoder:
            expected[f"{base}_layer_norm"] = {"scale": (8,), "offset": (8,)}
    assert jax.tree.map(lambda x: x.shape, params) == expected


def test_steps_can_run_again_with_the_same_weights():
    graph = _graph()
    once, twice = _transform(), _transform(num_processor_repetitions=2)
    assert _shapes(once, graph) == _shapes(twice, graph)
    encode = _transform(num_message_passing_steps=0)
    process = _transform(embed_nodes=False, embed_edges=False)
    params = _init(once, graph)
    expected = encode.apply(params, graph)
    for _ in range(2):
        expected = process.apply(params, expected)
    np.testing.assert_allclose(
        twice.apply(params, graph).nodes["high"].features,
        expected.nodes["high"].features,
        rtol=1e-4,
        atol=1e-5,
    )


def test_context_features_reach_all_nodes():
    graph = _graph(context=True)
    network = _transform()
    params = _init(network, graph)
    other = graph._replace(context=graph.context._replace(features=np.zeros((1, 2, 3))))
    results = [network.apply(params, g) for g in (graph, other)]
    assert results[0].context.features == ()
    for name in ("low", "high"):
        a, b = (r.nodes[name].features for r in results)
        assert np.abs(a - b).max() > 1e-3


def test_several_context_arrays_are_refused():
    graph = _graph(context=True)
    features = [graph.context.features] * 2
    graph = graph._replace(context=graph.context._replace(features=features))
    with pytest.raises(ValueError, match="the context has 2 feature arrays"):
        _shapes(_transform(), graph)


def test_sets_without_latent_size_keep_their_features():
    graph = _graph()
    network = _transform(
        node_latent_size={"high": 8},
        edge_latent_size={"across": 8},
        num_message_passing_steps=0,
    )
    result = network.apply(_init(network, graph), graph)
    np.testing.assert_array_equal(
        result.nodes["low"].features, graph.nodes["low"].features
    )
    assert result.nodes["high"].features.shape == (3, 2, 8)


@pytest.mark.parametrize("what", ["nodes", "edges"])
def test_encoders_can_be_left_out(what):
    network = _transform(**{f"embed_{what}": False}, num_message_passing_steps=0)
    params = _shapes(network, _graph())
    assert not any(f"encoder_{what}" in path for path in params)
    assert any("encoder_" in path for path in params)


def test_sent_messages_can_be_included():
    network = _transform(include_sent_messages_in_node_update=True)
    params = _shapes(network, _graph())
    base = "net/~_networks_builder/processor_nodes_0_{}_mlp/~/linear_0"
    assert params[base.format("low")]["w"].shape == (16, 8)
    assert params[base.format("high")]["w"].shape == (32, 8)


def test_norms_can_be_left_out():
    params = _shapes(_transform(use_layer_norm=False), _graph())
    assert not any("norm" in path for path in params)


def test_norms_can_depend_on_a_condition():
    network = _transform(use_norm_conditioning=True)
    graph, condition = _graph(), jnp.ones((2, 3))
    params = _init(network, graph, condition)
    base = "net/~_networks_builder/encoder_edges_up"
    assert f"{base}_layer_norm" not in params
    assert params[f"{base}_norm_conditioning/linear"]["w"].shape == (3, 16)
    a = network.apply(params, graph, condition).nodes["high"].features
    b = network.apply(params, graph, condition.at[0].set(2)).nodes["high"].features
    np.testing.assert_array_equal(a[:, 1], b[:, 1])
    assert np.abs(a[:, 0] - b[:, 0]).max() > 1e-3


def test_norm_conditioning_begins_as_the_identity():
    layer = hk.without_apply_rng(
        hk.transform(lambda x, c: mlp.LinearNormConditioning()(x, c))
    )
    x, condition = jnp.arange(6.0).reshape(2, 3), jnp.ones((2, 4))
    params = layer.init(jax.random.PRNGKey(0), x, condition)
    assert set(params) == {"norm_conditioning/linear"}
    np.testing.assert_allclose(layer.apply(params, x, condition), x, atol=1e-6)
    weights = {"w": jnp.zeros((4, 6)), "b": jnp.ones(6)}
    params = {"norm_conditioning/linear": weights}
    np.testing.assert_allclose(layer.apply(params, x, condition), 2 * x + 1)


@pytest.mark.parametrize(
    ("settings", "condition", "message"),
    [
        ({"use_norm_conditioning": True}, None, "must be passed to the call method"),
        ({}, np.ones((2, 3)), "was passed, but `norm_conditioning` is not enabled"),
        (
            {"use_norm_conditioning": True, "use_layer_norm": False},
            None,
            "`norm_conditioning` can only be used when",
        ),
        (
            {"aggregate_edges_for_nodes_fn": "segment_mode"},
            None,
            "Unknown aggregate_edges_for_nodes_fn function segment_mode specified. "
            "Choose one of segment_sum, segment_mean",
        ),
        (
            {
                "aggregate_edges_for_nodes_fn": "segment_mean",
                "aggregate_normalization": 2.0,
            },
            None,
            "`aggregate_normalization` only makes sense with `segment_sum`, not with "
            "`segment_mean`",
        ),
        ({"activation": "swosh"}, None, "Unknown activation function swosh specified"),
        ({"activation": "pi"}, None, "Unknown activation function pi specified"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, condition, message):
    with pytest.raises(ValueError, match=message):
        _shapes(_transform(**settings), _graph(), condition)


@pytest.mark.parametrize("activation", ["identity", "swish", "sin"])
def test_activations_of_jax_are_known_by_name(activation):
    graph = _graph()
    results = []
    for name in (activation, "gelu"):
        network = _transform(activation=name, use_layer_norm=False)
        params = network.init(jax.random.PRNGKey(0), graph)
        results.append(network.apply(params, graph).nodes["high"].features)
    assert not np.allclose(results[0], results[1], rtol=1e-3)


def test_sums_can_be_divided_and_taken_in_float32():
    graph = _graph()
    network = _transform()
    params = _init(network, graph)
    path = "net/~_networks_builder/processor_nodes_0_high_mlp/~/linear_0"
    weights = params[path]["w"]
    # Dividing the sums is dividing the rows of the matrix that reads them.
    divided = {**params, path: {**params[path], "w": weights.at[8:].divide(4)}}
    expected = network.apply(divided, graph).nodes["high"].features
    network = _transform(aggregate_normalization=4.0)
    result = network.apply(params, graph).nodes["high"].features
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_bfloat16_with_sums_in_float32():
    graph = _graph(dtype=jnp.bfloat16)
    network = _transform(f32_aggregation=True)
    params = _init(_transform(), _graph())
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    text = str(jax.make_jaxpr(network.apply)(params, graph))
    assert "scatter-add" in text
    sums = [line for line in text.splitlines() if "scatter-add" in line]
    assert all("f32" in line and "bf16" not in line for line in sums)
    assert network.apply(params, graph).nodes["low"].features.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ["segment_mean", "segment_max_or_constant"])
def test_other_aggregations_give_other_numbers(name):
    graph = _graph()
    network = _transform()
    params = _init(network, graph)
    other = _transform(aggregate_edges_for_nodes_fn=name)
    difference = (
        network.apply(params, graph).nodes["high"].features
        - other.apply(params, graph).nodes["high"].features
    )
    assert np.abs(difference).max() > 1e-3


def test_gradients_reach_all_parameters_of_decoded_sets():
    graph = _graph()
    network = _transform(
        node_output_size={"high": 1},
        edge_output_size={"across": 1},
        num_message_passing_steps=2,
    )
    params = _init(network, graph)

    def loss(params):
        result = network.apply(params, graph)
        across = result.edges[ACROSS].features
        return (result.nodes["high"].features ** 2).sum() + (across**2).sum()

    gradients = jax.tree.map(lambda g: float(jnp.abs(g).max()), jax.grad(loss)(params))
    silent = {
        path
        for path, module in gradients.items()
        for value in module.values()
        if value == 0
    }
    # The last update of the set that is not decoded reaches nothing.
    assert all("processor_nodes_1_low" in path for path in silent)
