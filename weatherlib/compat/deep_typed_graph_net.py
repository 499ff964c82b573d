"""A deep graph network over typed graphs, under the published parameter names.

Sources: Sanchez-Gonzalez et al. 2020, arXiv:2002.09405; Pfaff et al. 2021,
arXiv:2010.03409.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import haiku as hk
import jax
import jax.numpy as jnp

from weatherlib import mlp, typed_graph, typed_graph_net

__all__ = ["DeepTypedGraphNet", "GraphToGraphNetwork"]

GraphToGraphNetwork = Callable[[typed_graph.TypedGraph], typed_graph.TypedGraph]

_ArrayFn = Callable[..., jax.Array]
_Networks = tuple[GraphToGraphNetwork, list[GraphToGraphNetwork], GraphToGraphNetwork]

_AGGREGATIONS = {
    function.__name__: function
    for function in (
        typed_graph_net.segment_sum,
        typed_graph_net.segment_mean,
        typed_graph_net.segment_max,
        typed_graph_net.segment_min,
        typed_graph_net.segment_max_or_constant,
        typed_graph_net.segment_min_or_constant,
    )
}


class DeepTypedGraphNet(hk.Module):
    """Embeds a graph, passes messages with residual connections, and decodes it.

    Every node and edge set has perceptrons of its own, and every message passing step
    as well; `num_processor_repetitions` runs the same steps again.
    """

    def __init__(  # noqa: PLR0913 (published signature)
        self,
        *,
        node_latent_size: Mapping[str, int],
        edge_latent_size: Mapping[str, int],
        mlp_hidden_size: int,
        mlp_num_hidden_layers: int,
        num_message_passing_steps: int,
        num_processor_repetitions: int = 1,
        embed_nodes: bool = True,
        embed_edges: bool = True,
        node_output_size: Mapping[str, int] | None = None,
        edge_output_size: Mapping[str, int] | None = None,
        include_sent_messages_in_node_update: bool = False,
        use_layer_norm: bool = True,
        use_norm_conditioning: bool = False,
        activation: str = "relu",
        f32_aggregation: bool = False,
        aggregate_edges_for_nodes_fn: str = "segment_sum",
        aggregate_normalization: float | None = None,
        name: str = "DeepTypedGraphNet",
    ) -> None:
        """Configures the network.

        Args:
          node_latent_size: Latent channels by node set. Sets left out are neither
            embedded nor updated.
          edge_latent_size: The same by edge set.
          mlp_hidden_size: Channels of hidden layers.
          mlp_num_hidden_layers: Hidden layers of each perceptron.
          num_message_passing_steps: Steps with weights of their own.
          num_processor_repetitions: How often all steps run.
          embed_nodes: Whether nodes go through an encoder first.
          embed_edges: Whether edges do.
          node_output_size: Output channels by node set. Sets left out come as they are
            after the last step.
          edge_output_size: The same by edge set.
          include_sent_messages_in_node_update: Whether nodes see the edges they send.
          use_layer_norm: Whether encoders and steps end in a layer norm.
          use_norm_conditioning: Whether scale and offset of the norms come from
            `global_norm_conditioning` instead of being parameters.
          activation: A function of `jax.nn` or `jax.numpy`, or "identity".
          f32_aggregation: Whether to aggregate in float32 whatever the features are.
          aggregate_edges_for_nodes_fn: One of the `segment_...` functions of
            `typed_graph_net`, by name.
          aggregate_normalization: What to divide sums by.
          name: Of the module.

        Raises:
          ValueError: The activation or aggregation is unknown, norms are to be
            conditioned but absent, or something else than sums is to be divided.
        """
        super().__init__(name=name)
        if use_norm_conditioning and not use_layer_norm:
            raise ValueError(
                "`norm_conditioning` can only be used when `use_layer_norm` is true."
            )
        if aggregate_normalization and aggregate_edges_for_nodes_fn != "segment_sum":
            raise ValueError(
                "`aggregate_normalization` only makes sense with `segment_sum`, not "
                f"with `{aggregate_edges_for_nodes_fn}`."
            )
        self._node_latent_size = node_latent_size
        self._edge_latent_size = edge_latent_size
        self._hidden_sizes = [mlp_hidden_size] * mlp_num_hidden_layers
        self._num_steps = num_message_passing_steps
        self._num_repetitions = num_processor_repetitions
        self._embed_nodes = embed_nodes
        self._embed_edges = embed_edges
        self._node_output_size = node_output_size or {}
        self._edge_output_size = edge_output_size or {}
        self._include_sent = include_sent_messages_in_node_update
        self._use_layer_norm = use_layer_norm
        self._use_norm_conditioning = use_norm_conditioning
        self._activation = _find_activation(activation)
        self._aggregate = _make_aggregation(
            aggregate_edges_for_nodes_fn, f32_aggregation, aggregate_normalization
        )

    def __call__(
        self,
        input_graph: typed_graph.TypedGraph,
        global_norm_conditioning: jax.Array | None = None,
    ) -> typed_graph.TypedGraph:
        """Returns the graph with updated features.

        Args:
          input_graph: Each set has one feature array, [row, ..., channel]. A feature
            array of the context is joined to all nodes.
          global_norm_conditioning: What the norms depend on, for all nodes and edges.
            Shape [..., feature] without the node axis.

        Raises:
          ValueError: `global_norm_conditioning` is missing or not expected, or the
            context has several arrays.
        """
        if self._use_norm_conditioning and global_norm_conditioning is None:
            raise ValueError(
                "When using norm conditioning, `global_norm_conditioning` must be "
                "passed to the call method."
            )
        if not self._use_norm_conditioning and global_norm_conditioning is not None:
            raise ValueError(
                "`global_norm_conditioning` was passed, but `norm_conditioning` is not "
                "enabled."
            )
        embed, steps, decode = self._networks_builder(
            input_graph, global_norm_conditioning
        )
        graph = embed(_join_context_to_nodes(input_graph))
        for step in steps * self._num_repetitions:
            graph = _add_features(graph, step(graph))
        return decode(graph)

    # The name of this method is part of the published parameter paths.
    def _networks_builder(
        self, graph: typed_graph.TypedGraph, condition: jax.Array | None
    ) -> _Networks:
        """Returns the encoder, the message passing steps and the decoder."""
        node_names = list(graph.nodes)
        edge_names = [key.name for key in graph.edges]

        def build(
            prefix: str,
            names: Iterable[str],
            sizes: Mapping[str, int],
            normalise: bool = self._use_layer_norm,
        ) -> dict[str, _ArrayFn]:
            return {
                name: _make_perceptron(
                    prefix + name,
                    [*self._hidden_sizes, sizes[name]],
                    self._activation,
                    normalise,
                    condition,
                )
                for name in names
                if name in sizes
            }

        embed = typed_graph_net.GraphMapFeatures(
            build("encoder_edges_", edge_names, self._edge_latent_size)
            if self._embed_edges
            else None,
            build("encoder_nodes_", node_names, self._node_latent_size)
            if self._embed_nodes
            else None,
        )
        steps = [
            typed_graph_net.InteractionNetwork(
                build(f"processor_edges_{i}_", edge_names, self._edge_latent_size),
                build(f"processor_nodes_{i}_", node_names, self._node_latent_size),
                self._aggregate,
                self._include_sent,
            )
            for i in range(self._num_steps)
        ]
        decode = typed_graph_net.GraphMapFeatures(
            build("decoder_edges_", edge_names, self._edge_output_size, False),
            build("decoder_nodes_", node_names, self._node_output_size, False),
        )
        return embed, steps, decode


def _make_perceptron(
    name: str,
    sizes: list[int],
    activation: _ArrayFn,
    normalise: bool,
    condition: jax.Array | None,
) -> _ArrayFn:
    """Returns a function of features, joined along channels, to features."""
    stages = [hk.nets.MLP(sizes, activation=activation, name=f"{name}_mlp")]
    if normalise:
        own = condition is None
        stages.append(hk.LayerNorm(-1, own, own, name=f"{name}_layer_norm"))
    if normalise and condition is not None:
        conditioning = mlp.LinearNormConditioning(name=f"{name}_norm_conditioning")
        stages.append(
            functools.partial(conditioning, norm_conditioning=condition[None])
        )

    def apply(*features: Any) -> jax.Array:
        x = jnp.concatenate(jax.tree.leaves(features), axis=-1)
        for stage in stages:
            x = stage(x)
        return x

    return apply


def _join_context_to_nodes(graph: typed_graph.TypedGraph) -> typed_graph.TypedGraph:
    """Returns the graph with the context's features appended to those of all nodes."""
    leaves = jax.tree.leaves(graph.context.features)
    if not leaves:
        return graph
    if len(leaves) > 1:
        raise ValueError(
            f"the context has {len(leaves)} feature arrays; join them into one"
        )
    nodes = {}
    for name, node_set in graph.nodes.items():
        context = jnp.repeat(
            leaves[0],
            node_set.n_node,
            axis=0,
            total_repeat_length=node_set.features.shape[0],
        )
        joined = jnp.concatenate([node_set.features, context], axis=-1)
        nodes[name] = node_set._replace(features=joined)
    return graph._replace(nodes=nodes, context=graph.context._replace(features=()))


def _add_features(
    a: typed_graph.TypedGraph, b: typed_graph.TypedGraph
) -> typed_graph.TypedGraph:
    """Returns `b` with the node and edge features of `a` added to its own."""
    nodes = {
        name: x._replace(features=a.nodes[name].features + x.features)
        for name, x in b.nodes.items()
    }
    edges = {
        key: x._replace(features=a.edges[key].features + x.features)
        for key, x in b.edges.items()
    }
    return b._replace(nodes=nodes, edges=edges)


def _find_activation(name: str) -> _ArrayFn:
    if name == "identity":
        return lambda x: x
    for module in (jax.nn, jnp):
        function = getattr(module, name, None)
        if callable(function):
            return cast(_ArrayFn, function)
    raise ValueError(f"Unknown activation function {name} specified.")


def _make_aggregation(
    name: str, in_float32: bool, normalization: float | None
) -> _ArrayFn:
    """Returns the function that aggregates edges for nodes."""
    if name not in _AGGREGATIONS:
        raise ValueError(
            f"Unknown aggregate_edges_for_nodes_fn function {name} specified. "
            f"Choose one of {', '.join(_AGGREGATIONS)}."
        )
    function = _AGGREGATIONS[name]

    def aggregate(data: jax.Array, ids: jax.Array, count: int) -> jax.Array:
        rows = data.astype(jnp.float32) if in_float32 else data
        result = function(rows, ids, count)
        if normalization:
            result = result / normalization
        return result.astype(data.dtype)

    return aggregate
