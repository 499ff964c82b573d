"""The GraphCast network on arrays: grid to mesh, over the mesh, back to the grid.

The first layer of an edge perceptron over [edge, sender, receiver] is applied as three
products, those over nodes before they are gathered to the edges. What depends only on
weights and geometry goes through `prepared.once`.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from weatherlib.geometry import graph as geometry_graph
from weatherlib.graphcast.config import ModelConfig
from weatherlib.nn import graph_net, mlp, prepared, segments

__all__ = ["GraphCastNetwork", "MessageGraph", "make_message_graph"]

_T = TypeVar("_T")
_GRID, _MESH = "grid_nodes", "mesh_nodes"
_CORNERS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class MessageGraph:
    """The geometry in the order in which the network works.

    Mesh nodes are renumbered so that those with equally many mesh edges stand
    together; the edges of each set follow the plan of its sums.

    Attributes:
      digest: Of the geometry.
      grid_features: [sin lat, cos lon, sin lon] of grid nodes. Shape [grid, 3].
      mesh_features: The same of mesh nodes. Shape [mesh, 3].
      arrays: Ends and features of the edges, by edge set and kind.
      grid2mesh_plan: How to sum grid-to-mesh edges.
      mesh_plan: How to sum mesh edges.
    """

    digest: str
    arrays: dict[str, np.ndarray]
    grid2mesh_plan: segments.SegmentPlan
    mesh_plan: segments.SegmentPlan


def make_message_graph(geometry: geometry_graph.GraphGeometry) -> MessageGraph:
    """Returns `geometry` in the order in which the network works."""
    num_mesh = len(geometry.mesh_node_features)
    first_plan = segments.make_plan(np.asarray(geometry.mesh.receivers), num_mesh)
    new_to_old = first_plan.piece_nodes
    old_to_new = np.empty_like(new_to_old)
    old_to_new[new_to_old] = np.arange(num_mesh, dtype=new_to_old.dtype)

    mesh_plan = segments.make_plan(old_to_new[geometry.mesh.receivers], num_mesh)
    grid2mesh_plan = segments.make_plan(
        old_to_new[geometry.grid2mesh.receivers], num_mesh
    )
    to_mesh, on_mesh = grid2mesh_plan.order, mesh_plan.order
    arrays = {
        "grid_features": geometry.grid_node_features,
        "mesh_features": geometry.mesh_node_features[new_to_old],
        "grid2mesh_senders": geometry.grid2mesh.senders[to_mesh],
        "grid2mesh_receivers": old_to_new[geometry.grid2mesh.receivers[to_mesh]],
        "grid2mesh_features": geometry.grid2mesh.features[to_mesh],
        "mesh_senders": old_to_new[geometry.mesh.senders[on_mesh]],
        "mesh_receivers": old_to_new[geometry.mesh.receivers[on_mesh]],
        "mesh_features_edges": geometry.mesh.features[on_mesh],
        "mesh2grid_senders": old_to_new[geometry.mesh2grid.senders],
        "mesh2grid_features": geometry.mesh2grid.features,
    }
    return MessageGraph(geometry.digest, arrays, grid2mesh_plan, mesh_plan)


class GraphCastNetwork:
    """Maps the channels of each grid node to the predicted channels.

    A plain class, so that parameter paths begin with the three graph networks.
    """

    def __init__(self, config: ModelConfig) -> None:
        def gnn(name: str, **kwargs: object) -> graph_net.GraphNet:
            spec = graph_net.GraphNetSpec(
                latent_size=config.latent_size,
                hidden_layers=config.hidden_layers,
                **kwargs,
            )
            return graph_net.GraphNet(spec, name=name)

        self._latent = config.latent_size
        self._encoder = gnn(
            "grid2mesh_gnn",
            nodes=(_GRID, _MESH),
            edges={"grid2mesh": graph_net.EdgeSetSpec(senders=_GRID, receivers=_MESH)},
            steps=1,
            embed_nodes=True,
        )
        self._processor = gnn(
            "mesh_gnn",
            nodes=(_MESH,),
            edges={"mesh": graph_net.EdgeSetSpec(senders=_MESH, receivers=_MESH)},
            steps=config.gnn_msg_steps,
            embed_nodes=False,
        )
        self._decoder = gnn(
            "mesh2grid_gnn",
            nodes=(_GRID, _MESH),
            edges={"mesh2grid": graph_net.EdgeSetSpec(senders=_MESH, receivers=_GRID)},
            steps=1,
            embed_nodes=False,
        )

    def __call__(
        self,
        graph: MessageGraph,
        grid_inputs: Float[Array, "grid batch channel"],
        output_size: int,
    ) -> Float[Array, "grid batch output"]:
        """Returns the outputs for each grid node.

        Args:
          graph: From `make_message_graph`.
          grid_inputs: The data, without structural features.
          output_size: Channels to predict.
        """
        dtype = grid_inputs.dtype
        latent = self._latent
        structural = graph.arrays["grid_features"].shape[-1]
        edge = graph.arrays["mesh2grid_features"].shape[-1]
        node = grid_inputs.shape[-1] + structural
        nodes = {_GRID: latent, _MESH: latent}
        encoder = self._encoder(
            edge_sizes={"grid2mesh": edge},
            node_sizes={_GRID: node, _MESH: node},
            dtype=dtype,
        )
        processor = self._processor(
            edge_sizes={"mesh": edge}, node_sizes=nodes, dtype=dtype
        )
        decoder = self._decoder(
            edge_sizes={"mesh2grid": edge},
            node_sizes=nodes,
            output_sizes={_GRID: output_size},
            dtype=dtype,
        )
        key = f"graphcast/{graph.digest}/{dtype.name}"

        def once(name: str, compute: Callable[[], _T]) -> _T:
            return prepared.once(f"{key}/{name}", compute)

        arrays = once(
            "arrays",
            lambda: {
                name: jnp.asarray(
                    value, dtype if np.issubdtype(value.dtype, np.floating) else None
                )
                for name, value in graph.arrays.items()
            },
        )
        grid, mesh = _grid_to_mesh(encoder, graph, arrays, grid_inputs, once)
        mesh = _over_mesh(processor, graph, arrays, mesh, once)
        return _mesh_to_grid(decoder, arrays, mesh, grid, once)


def _grid_to_mesh(weights, graph, arrays, grid_inputs, once):
    step = weights.steps[0]
    edge_mlp = step.edges["grid2mesh"]
    mesh_mlp = step.nodes[_MESH]
    latent = edge_mlp.layers[-1].w.shape[-1]
    w_edge, w_sender, w_receiver = mlp.split_rows(edge_mlp, [latent] * 3)
    w_node, w_sum = mlp.split_rows(mesh_mlp, [latent] * 2)

    def static():
        channels = grid_inputs.shape[-1]
        features = arrays["mesh_features"]
        _, w_structural = mlp.split_rows(
            weights.node_encoders[_MESH], [channels, features.shape[-1]]
        )
        first = weights.node_encoders[_MESH].layers[0]
        mesh = mlp.finish(
            weights.node_encoders[_MESH], features @ w_structural + first.b[None]
        )
        edges = mlp.apply(
            weights.edge_encoders["grid2mesh"], arrays["grid2mesh_features"]
        )
        to_edges = (mesh @ w_receiver)[arrays["grid2mesh_receivers"]]
        return {
            "mesh": mesh,
            "mesh_part": mesh @ w_node + mesh_mlp.layers[0].b[None],
            "edge_part": edges @ w_edge + to_edges + edge_mlp.layers[0].b[None],
        }

    parts = once("grid2mesh", static)
    batch = grid_inputs.shape[1]
    structural = jnp.broadcast_to(
        arrays["grid_features"][:, None], (grid_inputs.shape[0], batch, 3)
    )
    grid = mlp.apply(
        weights.node_encoders[_GRID],
        jnp.concatenate([grid_inputs, structural], -1),
    )
    sent = (grid @ w_sender)[arrays["grid2mesh_senders"]]
    messages = mlp.finish(edge_mlp, parts["edge_part"][:, None] + sent)
    # The published network sums these messages, and only these, in float32.
    total = segments.segment_sum(messages.astype(jnp.float32), graph.grid2mesh_plan)
    total = total.astype(messages.dtype)
    mesh = parts["mesh"][:, None] + mlp.finish(
        mesh_mlp, parts["mesh_part"][:, None] + total @ w_sum
    )
    grid = grid + mlp.apply(step.nodes[_GRID], grid)
    return grid, mesh


def _over_mesh(weights, graph, arrays, mesh, once):
    latent = mesh.shape[-1]

    def static():
        return mlp.apply(weights.edge_encoders["mesh"], arrays["mesh_features_edges"])

    edges = once("mesh", static)[:, None]
    for i, step in enumerate(weights.steps):
        edge_mlp, node_mlp = step.edges["mesh"], step.nodes[_MESH]
        w_edge, w_sender, w_receiver = mlp.split_rows(edge_mlp, [latent] * 3)
        w_node, w_sum = mlp.split_rows(node_mlp, [latent] * 2)
        pre = (
            edges @ w_edge
            + (mesh @ w_sender)[arrays["mesh_senders"]]
            + (mesh @ w_receiver)[arrays["mesh_receivers"]]
            + edge_mlp.layers[0].b[None, None]
        )
        messages = mlp.finish(edge_mlp, pre)
        total = segments.segment_sum(messages, graph.mesh_plan)
        mesh = mesh + mlp.finish(
            node_mlp, mesh @ w_node + total @ w_sum + node_mlp.layers[0].b[None, None]
        )
        if i + 1 < len(weights.steps):
            edges = edges + messages
    return mesh


def _mesh_to_grid(weights, arrays, mesh, grid, once):
    step = weights.steps[0]
    edge_mlp, grid_mlp = step.edges["mesh2grid"], step.nodes[_GRID]
    latent = mesh.shape[-1]
    w_edge, w_sender, w_receiver = mlp.split_rows(edge_mlp, [latent] * 3)

    def static():
        edges = mlp.apply(
            weights.edge_encoders["mesh2grid"], arrays["mesh2grid_features"]
        )
        part = edges @ w_edge + edge_mlp.layers[0].b[None]
        return part.reshape(-1, _CORNERS, latent)

    sent = (mesh @ w_sender)[arrays["mesh2grid_senders"].reshape(-1, _CORNERS)]
    pre = once("mesh2grid", static)[:, :, None] + sent + (grid @ w_receiver)[:, None]
    total = mlp.finish(edge_mlp, pre).sum(1)
    grid = grid + mlp.apply(grid_mlp, grid, total)
    return mlp.apply(weights.decoders[_GRID], grid)
