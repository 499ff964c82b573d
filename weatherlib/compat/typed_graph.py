"""Graphs whose nodes and edges come in named sets.

The containers of the published `typed_graph` module. They are named tuples, and so
JAX trees; all edge and node sets of a batch of graphs are laid end to end, and the
`n_*` counts say where each graph ends.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "ArrayLike",
    "ArrayLikeTree",
    "Context",
    "EdgeSet",
    "EdgeSetKey",
    "EdgesIndices",
    "NodeSet",
    "TypedGraph",
]

ArrayLike = Any
ArrayLikeTree = Any


class NodeSet(NamedTuple):
    """Nodes of one kind.

    Attributes:
      n_node: How many belong to each graph. Shape [graph].
      features: One array or a tree of them. Shape [node, ...].
    """

    n_node: ArrayLike
    features: ArrayLikeTree


class EdgesIndices(NamedTuple):
    """The ends of edges, as places in the node sets they connect.

    Attributes:
      senders: Where each edge begins. Shape [edge].
      receivers: Where each edge ends. Shape [edge].
    """

    senders: ArrayLike
    receivers: ArrayLike


class EdgeSet(NamedTuple):
    """Edges of one kind.

    Attributes:
      n_edge: How many belong to each graph. Shape [graph].
      indices: Their ends.
      features: One array or a tree of them. Shape [edge, ...].
    """

    n_edge: ArrayLike
    indices: EdgesIndices
    features: ArrayLikeTree


class Context(NamedTuple):
    """What belongs to graphs as a whole.

    Attributes:
      n_graph: Ones, as many as there are graphs. Shape [graph].
      features: An array, a tree of them, or an empty tree. Shape [graph, ...].
    """

    n_graph: ArrayLike
    features: ArrayLikeTree


class EdgeSetKey(NamedTuple):
    """Identifies an edge set.

    Attributes:
      name: Its name.
      node_sets: The names of the node sets that send and receive.
    """

    name: str
    node_sets: tuple[str, str]


class TypedGraph(NamedTuple):
    """A batch of graphs.

    Attributes:
      context: What belongs to whole graphs.
      nodes: Node sets by name.
      edges: Edge sets by key.
    """

    context: Context
    nodes: Mapping[str, NodeSet]
    edges: Mapping[EdgeSetKey, EdgeSet]

    def edge_key_by_name(self, name: str) -> EdgeSetKey:
        """Returns the key of the edge set called `name`.

        Raises:
          KeyError: No edge set is called so, or several are.
        """
        found = [key for key in self.edges if key.name == name]
        if len(found) != 1:
            available = ", ".join(key.name for key in self.edges)
            raise KeyError(f"invalid edge key '{name}'. Available edges: [{available}]")
        return found[0]

    def edge_by_name(self, name: str) -> EdgeSet:
        """Returns the edge set called `name`.

        Raises:
          KeyError: No edge set is called so, or several are.
        """
        return self.edges[self.edge_key_by_name(name)]
