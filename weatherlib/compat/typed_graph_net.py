"""Message passing on typed graphs, as in the published `typed_graph_net` module.

Each function here takes update functions by name of edge or node set, and returns a
function from graph to graph. Features may be arrays or trees of them.

Source: Algorithm 1 of Battaglia et al. 2018, arXiv:1806.01261, with several node and
edge sets, and with sent edges beside received ones.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from weatherlib import typed_graph

__all__ = [
    "EdgeFeatures",
    "GNUpdateGlobalFn",
    "GNUpdateNodeFn",
    "Globals",
    "GraphMapFeatures",
    "GraphNetwork",
    "InteractionNetwork",
    "InteractionUpdateNodeFn",
    "InteractionUpdateNodeFnNoSentEdges",
    "NodeFeatures",
    "ReceiverFeatures",
    "SenderFeatures",
    "segment_max",
    "segment_max_or_constant",
    "segment_mean",
    "segment_min",
    "segment_min_or_constant",
    "segment_sum",
]

# Arrays, or trees of arrays, with one row per node, edge or graph.
NodeFeatures = EdgeFeatures = SenderFeatures = ReceiverFeatures = Globals = Any

_NodesByName = Mapping[str, NodeFeatures]
_EdgesByName = Mapping[str, EdgeFeatures]
_GraphFn = Callable[[typed_graph.TypedGraph], typed_graph.TypedGraph]
_AggregateFn = Callable[[jax.Array, jax.Array, int], jax.Array]

_UpdateEdgeFn = Callable[
    [EdgeFeatures, SenderFeatures, ReceiverFeatures, Globals], EdgeFeatures
]
# (nodes, sent edges, received edges, globals) -> nodes
GNUpdateNodeFn = Callable[
    [NodeFeatures, _EdgesByName, _EdgesByName, Globals], NodeFeatures
]
GNUpdateGlobalFn = Callable[[_NodesByName, _EdgesByName, Globals], Globals]

_InteractionUpdateEdgeFn = Callable[
    [EdgeFeatures, SenderFeatures, ReceiverFeatures], EdgeFeatures
]
# (nodes, sent edges, received edges) -> nodes
InteractionUpdateNodeFn = Callable[
    [NodeFeatures, _EdgesByName, _EdgesByName], NodeFeatures
]
# (nodes, received edges) -> nodes
InteractionUpdateNodeFnNoSentEdges = Callable[
    [NodeFeatures, _EdgesByName], NodeFeatures
]


def segment_sum(data: jax.Array, segment_ids: jax.Array, num_segments: int) -> Any:
    """Returns the sum of the rows of each segment. Shape [segment, ...].

    Args:
      data: Shape [row, ...].
      segment_ids: Segment of each row, shape [row].
      num_segments: How many there are.
    """
    return jax.ops.segment_sum(data, segment_ids, num_segments)


def segment_mean(data: jax.Array, segment_ids: jax.Array, num_segments: int) -> Any:
    """Returns the mean of the rows of each segment, zero where there are none.

    Shape [segment, ...], as for `segment_sum`.
    """
    total = segment_sum(data, segment_ids, num_segments)
    ones = jnp.ones((data.shape[0],) + (1,) * (data.ndim - 1), data.dtype)
    count = segment_sum(ones, segment_ids, num_segments)
    return total / jnp.maximum(count, jnp.ones((), data.dtype))


def segment_max(data: jax.Array, segment_ids: jax.Array, num_segments: int) -> Any:
    """Returns the largest row of each segment, -inf where there are none.

    Shape [segment, ...], as for `segment_sum`.
    """
    return jax.ops.segment_max(data, segment_ids, num_segments)


def segment_min(data: jax.Array, segment_ids: jax.Array, num_segments: int) -> Any:
    """Returns the smallest row of each segment, inf where there are none.

    Shape [segment, ...], as for `segment_sum`.
    """
    return jax.ops.segment_min(data, segment_ids, num_segments)


def segment_max_or_constant(
    data: jax.Array,
    segment_ids: jax.Array,
    num_segments: int,
    constant: float = 0.0,
) -> Any:
    """Returns the largest row of each segment, `constant` where there are none."""
    largest = segment_max(data, segment_ids, num_segments)
    return _replace_infinity(largest, constant)


def segment_min_or_constant(
    data: jax.Array,
    segment_ids: jax.Array,
    num_segments: int,
    constant: float = 0.0,
) -> Any:
    """Returns the smallest row of each segment, `constant` where there are none."""
    smallest = segment_min(data, segment_ids, num_segments)
    return _replace_infinity(smallest, constant)


def _replace_infinity(x: jax.Array, constant: float) -> jax.Array:
    return jnp.where(jnp.isinf(x), jnp.asarray(constant, x.dtype), x)


def GraphNetwork(
    update_edge_fn: Mapping[str, _UpdateEdgeFn],
    update_node_fn: Mapping[str, GNUpdateNodeFn],
    update_global_fn: GNUpdateGlobalFn | None = None,
    aggregate_edges_for_nodes_fn: _AggregateFn = segment_sum,
    aggregate_nodes_for_globals_fn: _AggregateFn = segment_sum,
    aggregate_edges_for_globals_fn: _AggregateFn = segment_sum,
) -> _GraphFn:
    """Returns a function that updates edges, then nodes, then globals.

    Sets that are not named keep their features.

    Args:
      update_edge_fn: By edge set, `(edges, senders, receivers, globals) -> edges`, all
        of shape [edge, ...].
      update_node_fn: By node set, `(nodes, sent, received, globals) -> nodes`, where
        `sent` and `received` hold the aggregated edges by edge set. Shapes [node, ...].
      update_global_fn: `(nodes, edges, globals) -> globals`, where nodes and edges are
        aggregated by set. Shapes [graph, ...]. None keeps the globals.
      aggregate_edges_for_nodes_fn: `(rows, ids, number of ids) -> aggregated rows`.
      aggregate_nodes_for_globals_fn: The same for nodes of a graph.
      aggregate_edges_for_globals_fn: The same for edges of a graph.
    """

    def apply(graph: typed_graph.TypedGraph) -> typed_graph.TypedGraph:
        edges = dict(graph.edges)
        for name, function in update_edge_fn.items():
            key = graph.edge_key_by_name(name)
            edges[key] = _update_edges(graph, key, function)
        graph = graph._replace(edges=edges)
        updated = {
            name: _update_nodes(graph, name, function, aggregate_edges_for_nodes_fn)
            for name, function in update_node_fn.items()
        }
        graph = graph._replace(nodes={**graph.nodes, **updated})
        if update_global_fn is None:
            return graph
        nodes = {
            name: _per_graph(
                graph, nodes.features, nodes.n_node, aggregate_nodes_for_globals_fn
            )
            for name, nodes in graph.nodes.items()
        }
        aggregated_edges = {
            key.name: _per_graph(
                graph, edges.features, edges.n_edge, aggregate_edges_for_globals_fn
            )
            for key, edges in graph.edges.items()
        }
        features = update_global_fn(nodes, aggregated_edges, graph.context.features)
        return graph._replace(context=graph.context._replace(features=features))

    return apply


def InteractionNetwork(
    update_edge_fn: Mapping[str, _InteractionUpdateEdgeFn],
    update_node_fn: Mapping[
        str, InteractionUpdateNodeFn | InteractionUpdateNodeFnNoSentEdges
    ],
    aggregate_edges_for_nodes_fn: _AggregateFn = segment_sum,
    include_sent_messages_in_node_update: bool = False,
) -> _GraphFn:
    """Returns a function that updates edges, then nodes, without globals.

    Args:
      update_edge_fn: By edge set, `(edges, senders, receivers) -> edges`.
      update_node_fn: By node set, `(nodes, received) -> nodes`, or
        `(nodes, sent, received) -> nodes` with `include_sent_messages_in_node_update`.
      aggregate_edges_for_nodes_fn: As in `GraphNetwork`.
      include_sent_messages_in_node_update: Whether nodes see the edges they send.

    Source: Battaglia et al. 2016, arXiv:1612.00222.
    """

    def without_globals(function: Callable[..., Any]) -> _UpdateEdgeFn:
        return lambda edges, senders, receivers, _: function(edges, senders, receivers)

    def node_update(function: Callable[..., Any]) -> GNUpdateNodeFn:
        if include_sent_messages_in_node_update:
            return without_globals(function)
        return lambda nodes, sent, received, _: function(nodes, received)

    return GraphNetwork(
        {name: without_globals(fn) for name, fn in update_edge_fn.items()},
        {name: node_update(fn) for name, fn in update_node_fn.items()},
        aggregate_edges_for_nodes_fn=aggregate_edges_for_nodes_fn,
    )


def GraphMapFeatures(
    embed_edge_fn: Mapping[str, Callable[[Any], Any]] | None = None,
    embed_node_fn: Mapping[str, Callable[[Any], Any]] | None = None,
    embed_global_fn: Callable[[Any], Any] | None = None,
) -> _GraphFn:
    """Returns a function that maps features set by set, without message passing.

    Args:
      embed_edge_fn: By edge set, a function of its features.
      embed_node_fn: By node set, a function of its features.
      embed_global_fn: A function of the globals.
    """

    def apply(graph: typed_graph.TypedGraph) -> typed_graph.TypedGraph:
        edges, nodes, context = dict(graph.edges), dict(graph.nodes), graph.context
        for name, function in (embed_edge_fn or {}).items():
            key = graph.edge_key_by_name(name)
            edges[key] = edges[key]._replace(features=function(edges[key].features))
        for name, function in (embed_node_fn or {}).items():
            nodes[name] = nodes[name]._replace(features=function(nodes[name].features))
        if embed_global_fn is not None:
            context = context._replace(features=embed_global_fn(context.features))
        return typed_graph.TypedGraph(context, nodes, edges)

    return apply


def _update_edges(
    graph: typed_graph.TypedGraph,
    key: typed_graph.EdgeSetKey,
    function: _UpdateEdgeFn,
) -> typed_graph.EdgeSet:
    edges = graph.edges[key]
    senders, receivers = edges.indices
    sending, receiving = (graph.nodes[name].features for name in key.node_sets)
    features = function(
        edges.features,
        jax.tree.map(lambda x: x[senders], sending),
        jax.tree.map(lambda x: x[receivers], receiving),
        _repeat(graph.context.features, edges.n_edge, senders.shape[0]),
    )
    return edges._replace(features=features)


def _update_nodes(
    graph: typed_graph.TypedGraph,
    name: str,
    function: GNUpdateNodeFn,
    aggregate: _AggregateFn,
) -> typed_graph.NodeSet:
    nodes = graph.nodes[name]
    leaves = jax.tree.leaves(nodes.features)
    if not leaves:
        raise ValueError(f"node set '{name}' has no features to tell its size by")
    count = leaves[0].shape[0]
    # Edge features by name, for the edges that nodes send and those they receive.
    aggregated: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for key, edges in graph.edges.items():
        for end, node_set, ids in zip(aggregated, key.node_sets, edges.indices):
            if node_set == name:
                end[key.name] = _aggregate(aggregate, edges.features, ids, count)
    everywhere = _repeat(graph.context.features, nodes.n_node, count)
    features = function(nodes.features, *aggregated, everywhere)
    return nodes._replace(features=features)


def _per_graph(
    graph: typed_graph.TypedGraph,
    features: Any,
    counts: jax.Array,
    aggregate: _AggregateFn,
) -> Any:
    """Returns the features of nodes or edges aggregated over each graph."""
    leaves = jax.tree.leaves(features)
    if not leaves:
        return features
    num_graphs = graph.context.n_graph.shape[0]
    ids = _repeat(jnp.arange(num_graphs), counts, leaves[0].shape[0])
    return _aggregate(aggregate, features, ids, num_graphs)


def _aggregate(
    aggregate: _AggregateFn, features: Any, ids: jax.Array, count: int
) -> Any:
    return jax.tree.map(lambda x: aggregate(x, ids, count), features)


def _repeat(features: Any, counts: jax.Array, total: int) -> Any:
    """Returns the row of each graph once for each of its nodes or edges."""
    return jax.tree.map(
        lambda x: jnp.repeat(x, counts, axis=0, total_repeat_length=total), features
    )
