"""Rounds of message passing whose first layers are folded.

An edge perceptron reads [edge, sender, receiver]. Its first layer is applied as three
products, those over nodes before they are gathered to the edges, so that no array of
all three is ever built and nodes with many edges are multiplied once.
"""

from typing import NamedTuple

from jaxtyping import Array, Float

from weatherlib.nn import mlp

__all__ = ["EdgeUpdate", "NodeUpdate", "fold_edges", "fold_nodes"]


class EdgeUpdate(NamedTuple):
    """An edge perceptron with its first matrix cut into parts [latent, hidden]."""

    edge: Array
    sender: Array
    receiver: Array
    perceptron: mlp.MlpWeights

    def edge_part(
        self, edges: Float[Array, "*rows latent"]
    ) -> Float[Array, "*rows hidden"]:
        """Returns what the edges themselves add to the first layer, with its bias.

        Takes shape [..., latent], returns shape [..., hidden].
        """
        return mlp.add_bias(edges @ self.edge, self.perceptron.layers[0].b)

    def messages(
        self, *terms: Float[Array, "*#rows hidden"]
    ) -> Float[Array, "*rows latent"]:
        """Returns the messages, given all terms of the first layer.

        Takes shapes [..., hidden], where axes may be 1, and returns [..., latent].
        """
        return mlp.finish(self.perceptron, mlp.sum_terms(terms))


class NodeUpdate(NamedTuple):
    """A node perceptron with its first matrix cut into parts [latent, hidden]."""

    node: Array
    received: Array
    perceptron: mlp.MlpWeights

    def node_part(
        self, nodes: Float[Array, "*rows latent"]
    ) -> Float[Array, "*rows hidden"]:
        """Returns what the nodes themselves add to the first layer, with its bias.

        Takes shape [..., latent], returns shape [..., hidden].
        """
        return mlp.add_bias(nodes @ self.node, self.perceptron.layers[0].b)

    def update(
        self,
        node_part: Float[Array, "*node_rows hidden"],
        received: Float[Array, "*rows latent"],
    ) -> Float[Array, "*rows latent"]:
        """Returns what to add to the nodes, given the sums of their messages.

        Args:
          node_part: From `node_part`, shape [..., hidden].
          received: Sums of messages, shape [..., latent].

        Returns:
          Shape [..., latent].
        """
        return mlp.finish(self.perceptron, node_part + received @ self.received)


def fold_edges(perceptron: mlp.MlpWeights, latent: int) -> EdgeUpdate:
    """Returns the perceptron over [edge, sender, receiver] in parts."""
    edge, sender, receiver = mlp.split_rows(perceptron, [latent] * 3)
    return EdgeUpdate(edge, sender, receiver, perceptron)


def fold_nodes(perceptron: mlp.MlpWeights, latent: int) -> NodeUpdate:
    """Returns the perceptron over [node, sum of messages] in parts."""
    node, received = mlp.split_rows(perceptron, [latent] * 2)
    return NodeUpdate(node, received, perceptron)
