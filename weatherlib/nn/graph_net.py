"""The weights of a deep graph network over named node and edge sets.

Paths, order of creation and initial values are those of the published networks
(Pfaff et al. 2021, arXiv:2010.03409, with several node and edge sets). How they are
applied is up to each family, because what can be skipped or prepared differs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import haiku as hk

from weatherlib.nn import mlp

__all__ = ["EdgeSetSpec", "GraphNet", "GraphNetSpec", "GraphNetWeights", "StepWeights"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EdgeSetSpec:
    """Which node sets a set of edges connects."""

    senders: str
    receivers: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphNetSpec:
    """The architecture of one graph network.

    Attributes:
      nodes: Names of the node sets.
      edges: Edge set name to its ends.
      latent_size: Channels of every latent node, edge and hidden layer.
      hidden_layers: Hidden layers of every perceptron.
      steps: Rounds of message passing, each with weights of its own.
      embed_nodes: Whether the nodes arrive raw and are embedded first. Edges always do.
    """

    nodes: tuple[str, ...]
    edges: Mapping[str, EdgeSetSpec]
    latent_size: int
    hidden_layers: int
    steps: int
    embed_nodes: bool


@dataclasses.dataclass(frozen=True)
class StepWeights:
    """One round of message passing: perceptrons by edge set and by node set.

    An edge perceptron reads [edge, sender, receiver], a node perceptron [node, sum of
    each edge set it receives].
    """

    edges: Mapping[str, mlp.MlpWeights]
    nodes: Mapping[str, mlp.MlpWeights]


@dataclasses.dataclass(frozen=True)
class GraphNetWeights:
    """All weights of one graph network, by name of edge set or node set."""

    edge_encoders: Mapping[str, mlp.MlpWeights]
    node_encoders: Mapping[str, mlp.MlpWeights]
    steps: tuple[StepWeights, ...]
    decoders: Mapping[str, mlp.MlpWeights]


class GraphNet(hk.Module):
    """Creates the weights of a graph network."""

    def __init__(self, spec: GraphNetSpec, name: str | None = None) -> None:
        super().__init__(name=name)
        self._spec = spec

    def __call__(
        self,
        *,
        edge_sizes: Mapping[str, int],
        node_sizes: Mapping[str, int],
        output_sizes: Mapping[str, int] | None = None,
        dtype: Any,
    ) -> GraphNetWeights:
        """Returns the weights.

        Args:
          edge_sizes: Edge set name to channels of its features.
          node_sizes: Node set name to channels; the latent size unless embedded here.
          output_sizes: Node set name to channels, for the node sets that are decoded.
          dtype: Of the activations; a getter may hold the weights in another.
        """
        return self._networks_builder(edge_sizes, node_sizes, output_sizes or {}, dtype)

    # The name is part of every published parameter path.
    def _networks_builder(
        self,
        edge_sizes: Mapping[str, int],
        node_sizes: Mapping[str, int],
        output_sizes: Mapping[str, int],
        dtype: Any,
    ) -> GraphNetWeights:
        spec, latent = self._spec, self._spec.latent_size

        def build(name: str, input_size: int) -> mlp.MlpWeights:
            layers = _perceptron(spec, name, latent).weights(input_size, dtype)
            norm = mlp.LayerNorm(name=f"{name}_layer_norm").weights(latent, dtype)
            return mlp.MlpWeights(layers, norm)

        edge_encoders = {
            name: build(f"encoder_edges_{name}", edge_sizes[name])
            for name in spec.edges
        }
        node_encoders = {
            name: build(f"encoder_nodes_{name}", node_sizes[name])
            for name in spec.nodes
            if spec.embed_nodes
        }
        received = {
            name: sum(edge.receivers == name for edge in spec.edges.values())
            for name in spec.nodes
        }
        # The order of creation decides the initial values: within a round, edges, then
        # node sets by name.
        steps = tuple(
            StepWeights(
                edges={
                    name: build(f"processor_edges_{i}_{name}", 3 * latent)
                    for name in sorted(spec.edges)
                },
                nodes={
                    name: build(
                        f"processor_nodes_{i}_{name}", (1 + received[name]) * latent
                    )
                    for name in sorted(spec.nodes)
                },
            )
            for i in range(spec.steps)
        )
        decoders = {
            name: mlp.MlpWeights(
                _perceptron(spec, f"decoder_nodes_{name}", size).weights(latent, dtype),
                norm=None,
            )
            for name, size in output_sizes.items()
        }
        return GraphNetWeights(edge_encoders, node_encoders, steps, decoders)


# Not a method: the name of a method would become part of the parameter paths.
def _perceptron(spec: GraphNetSpec, name: str, output_size: int) -> mlp.Mlp:
    hidden = [spec.latent_size] * spec.hidden_layers
    return mlp.Mlp([*hidden, output_size], name=f"{name}_mlp")
