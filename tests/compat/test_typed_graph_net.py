import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib import typed_graph, typed_graph_net

UP = typed_graph.EdgeSetKey("up", ("low", "high"))
ACROSS = typed_graph.EdgeSetKey("across", ("high", "high"))
SENDERS = {UP: np.array([0, 1, 2, 2]), ACROSS: np.array([0, 1])}
RECEIVERS = {UP: np.array([0, 0, 1, 2]), ACROSS: np.array([1, 0])}
# Two graphs: which one each node and edge belongs to.
GRAPH_OF = {
    "low": np.array([0, 0, 1]),
    "high": np.array([0, 0, 1]),
    UP: np.array([0, 0, 0, 1]),
    ACROSS: np.array([0, 0]),
}


def _features(rows, seed):
    return np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)


def _graph() -> typed_graph.TypedGraph:
    def edge_set(key, seed):
        ends = typed_graph.EdgesIndices(SENDERS[key], RECEIVERS[key])
        counts = np.bincount(GRAPH_OF[key], minlength=2)
        return typed_graph.EdgeSet(counts, ends, _features(len(SENDERS[key]), seed))

    def node_set(name, seed):
        counts = np.bincount(GRAPH_OF[name], minlength=2)
        return typed_graph.NodeSet(counts, jnp.asarray(_features(3, seed)))

    return typed_graph.TypedGraph(
        typed_graph.Context(np.ones(2, int), jnp.asarray(_features(2, 0))),
        {"low": node_set("low", 1), "high": node_set("high", 2)},
        {UP: edge_set(UP, 3), ACROSS: edge_set(ACROSS, 4)},
    )


def _sums(rows, ids, count):
    out = np.zeros((count, rows.shape[1]), np.float32)
    np.add.at(out, ids, rows)
    return out


def test_a_graph_network_updates_edges_then_nodes_then_globals():
    graph = _graph()
    network = typed_graph_net.GraphNetwork(
        {"up": lambda e, s, r, g: e + 2 * s + 3 * r + 5 * g},
        {"high": lambda n, s, r, g: n + 2 * s["across"] + 3 * r["up"] + 5 * g},
        lambda n, e, g: g + 2 * n["high"] + 3 * e["up"] + 5 * n["low"] + e["across"],
    )
    result = jax.jit(network)(graph)
    low, high = (np.asarray(graph.nodes[name].features) for name in ("low", "high"))
    across, globals_ = graph.edges[ACROSS].features, graph.context.features
    up = graph.edges[UP].features + 2 * low[SENDERS[UP]] + 3 * high[RECEIVERS[UP]]
    up = up + 5 * np.asarray(globals_)[GRAPH_OF[UP]]
    np.testing.assert_allclose(result.edges[UP].features, up, rtol=1e-5)
    np.testing.assert_array_equal(result.edges[ACROSS].features, across)
    high = (
        high + 2 * _sums(across, SENDERS[ACROSS], 3) + 3 * _sums(up, RECEIVERS[UP], 3)
    )
    high = high + 5 * np.asarray(globals_)[GRAPH_OF["high"]]
    np.testing.assert_allclose(result.nodes["high"].features, high, rtol=1e-5)
    np.testing.assert_array_equal(result.nodes["low"].features, low)
    expected = globals_ + 2 * _sums(high, GRAPH_OF["high"], 2)
    expected += 3 * _sums(up, GRAPH_OF[UP], 2) + 5 * _sums(low, GRAPH_OF["low"], 2)
    expected += _sums(across, GRAPH_OF[ACROSS], 2)
    np.testing.assert_allclose(result.context.features, expected, rtol=1e-5)


def test_globals_stay_without_an_update():
    graph = _graph()
    result = typed_graph_net.GraphNetwork({}, {})(graph)
    assert result.context is graph.context
    assert result.nodes == graph.nodes


def test_globals_of_graphs_without_edge_features_can_be_updated():
    graph = _graph()
    edges = {key: e._replace(features=None) for key, e in graph.edges.items()}
    network = typed_graph_net.GraphNetwork(
        {}, {}, lambda n, e, g: n["low"] if e["up"] is None else g
    )
    result = network(graph._replace(edges=edges))
    expected = _sums(np.asarray(graph.nodes["low"].features), GRAPH_OF["low"], 2)
    np.testing.assert_allclose(result.context.features, expected, rtol=1e-6)


def test_features_may_be_trees():
    graph = _graph()
    nodes = {
        name: x._replace(features={"x": x.features, "y": (x.features,)})
        for name, x in graph.nodes.items()
    }
    network = typed_graph_net.GraphNetwork(
        {"up": lambda e, s, r, g: {"sent": s["x"], "received": r["y"][0]}},
        {"high": lambda n, s, r, g: r["up"]},
    )
    result = network(graph._replace(nodes=nodes))
    expected = _sums(
        np.asarray(graph.nodes["low"].features)[SENDERS[UP]], RECEIVERS[UP], 3
    )
    np.testing.assert_allclose(
        result.nodes["high"].features["sent"], expected, rtol=1e-6
    )


@pytest.mark.parametrize("include_sent", [False, True])
def test_an_interaction_network_leaves_globals_out(include_sent):
    graph = _graph()

    def update_node(nodes, *edges):
        assert len(edges) == 1 + include_sent
        return nodes + edges[-1]["up"] + (edges[0]["across"] if include_sent else 0)

    network = typed_graph_net.InteractionNetwork(
        {"across": lambda e, s, r: e + s - r},
        {"high": update_node},
        include_sent_messages_in_node_update=include_sent,
    )
    result = network(graph)
    high = np.asarray(graph.nodes["high"].features)
    across = graph.edges[ACROSS].features + high[SENDERS[ACROSS]]
    across = across - high[RECEIVERS[ACROSS]]
    expected = high + _sums(graph.edges[UP].features, RECEIVERS[UP], 3)
    if include_sent:
        expected = expected + _sums(across, SENDERS[ACROSS], 3)
    np.testing.assert_allclose(result.edges[ACROSS].features, across, rtol=1e-5)
    np.testing.assert_allclose(result.nodes["high"].features, expected, rtol=1e-5)
    assert result.context is graph.context


def test_mapping_features_passes_no_messages():
    graph = _graph()
    result = typed_graph_net.GraphMapFeatures(
        {"up": lambda x: 2 * x}, {"low": lambda x: 3 * x}, lambda x: 4 * x
    )(graph)
    np.testing.assert_allclose(result.edges[UP].features, 2 * graph.edges[UP].features)
    np.testing.assert_allclose(
        result.nodes["low"].features, 3 * graph.nodes["low"].features
    )
    np.testing.assert_allclose(result.context.features, 4 * graph.context.features)
    assert result.edges[ACROSS] is graph.edges[ACROSS]
    assert result.nodes["high"] is graph.nodes["high"]
    assert typed_graph_net.GraphMapFeatures()(graph) == graph


def test_unknown_names_are_refused():
    for network in (
        typed_graph_net.GraphNetwork({"x": lambda *_: None}, {}),
        typed_graph_net.GraphMapFeatures({"x": lambda x: x}),
    ):
        with pytest.raises(KeyError, match="invalid edge key 'x'"):
            network(_graph())


def test_nodes_to_update_need_features():
    graph = _graph()
    nodes = {**graph.nodes, "high": graph.nodes["high"]._replace(features=None)}
    network = typed_graph_net.GraphNetwork({}, {"high": lambda *_: None})
    with pytest.raises(ValueError, match="node set 'high' has no features"):
        network(graph._replace(nodes=nodes))


def test_aggregations_reduce_rows_by_segment():
    rows = np.array([[1.0, 2], [3, 8], [5, 6]], np.float32)
    ids = np.array([0, 2, 0])
    for function, first, second in (
        (typed_graph_net.segment_sum, [6, 8], [0, 0]),
        (typed_graph_net.segment_mean, [3, 4], [0, 0]),
        (typed_graph_net.segment_max, [5, 6], [-np.inf, -np.inf]),
        (typed_graph_net.segment_min, [1, 2], [np.inf, np.inf]),
        (typed_graph_net.segment_max_or_constant, [5, 6], [0, 0]),
        (typed_graph_net.segment_min_or_constant, [1, 2], [0, 0]),
    ):
        result = function(jnp.asarray(rows), ids, 3)
        np.testing.assert_array_equal(result, [first, second, [3, 8]])
        assert result.dtype == np.float32
