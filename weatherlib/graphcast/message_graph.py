"""The geometry in the order in which the network works through it."""

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from weatherlib.geometry import grids
from weatherlib.geometry.graph import EdgeSet, GraphGeometry, build_graph
from weatherlib.graphcast.config import ModelConfig
from weatherlib.nn import segments
from weatherlib.typing import PathLike

__all__ = ["CORNERS", "MessageGraph", "build_geometry", "make_message_graph"]

# Corners of the triangle around a grid node, each of which sends one edge.
CORNERS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class MessageGraph:
    """Renumbered so that sums over edges need no scatter.

    Mesh nodes with equally many mesh edges stand together, so that the sums of mesh
    edges come out in the order of the nodes; grid nodes keep their order. The edges of
    each set follow the plan of its sums.

    Attributes:
      digest: Tells graphs and their features apart.
      arrays: `grid_features` and `mesh_features` [node, 3], or 4 if mirrored;
        `grid2mesh_` and `mesh_` `senders`, `receivers` [edge] and features [edge, 4];
        `mesh2grid_senders` [grid, 3] and `mesh2grid_features` [grid, 3, 4].
      grid2mesh_plan: How to sum grid-to-mesh edges.
      mesh_plan: How to sum mesh edges.
    """

    digest: str
    arrays: Mapping[str, np.ndarray]
    grid2mesh_plan: segments.SegmentPlan
    mesh_plan: segments.SegmentPlan

    @property
    def num_edges(self) -> int:
        """The size of the largest edge set."""
        return max(
            self.arrays["mesh2grid_senders"].size,
            len(self.arrays["mesh_senders"]),
            len(self.arrays["grid2mesh_senders"]),
        )


def build_geometry(
    latitude: np.ndarray,
    longitude: np.ndarray,
    config: ModelConfig,
    *,
    cache_dir: PathLike | None = None,
) -> GraphGeometry:
    """Returns the graphs of a model on a grid.

    Args:
      latitude: Grid rows, degrees north, shape [lat].
      longitude: Grid columns, degrees east, shape [lon].
      config: The architecture.
      cache_dir: A folder that keeps the edges between processes.

    Raises:
      ValueError: As `geometry.graph.build_graph`.
    """
    return build_graph(
        latitude,
        longitude,
        mesh_size=config.mesh_size,
        radius_query_fraction_edge_length=config.radius_query_fraction_edge_length,
        mesh2grid_edge_normalization_factor=config.mesh2grid_edge_normalization_factor,
        cache_dir=cache_dir,
    )


def make_message_graph(
    geometry: GraphGeometry, *, mirror: bool = False
) -> MessageGraph:
    """Returns `geometry` renumbered.

    Args:
      geometry: The graphs.
      mirror: Whether features tell of the distance and direction of the nearer pole in
        place of the northern one. A further feature of nodes tells which it is.
    """
    grid, mesh = geometry.grid_node_features, geometry.mesh_node_features
    num_mesh = len(mesh)
    to_mesh, on_mesh, to_grid = geometry.grid2mesh, geometry.mesh, geometry.mesh2grid
    if mirror:
        of_grid, of_mesh = (grids.poleward(nodes[:, 0]) for nodes in (grid, mesh))
        grid, mesh = _turned_nodes(grid, of_grid), _turned_nodes(mesh, of_mesh)
        to_mesh, on_mesh = (_turned_edges(e, of_mesh) for e in (to_mesh, on_mesh))
        to_grid = _turned_edges(to_grid, of_grid)
    # Every mesh node has mesh edges, so that this plan names each exactly once.
    new_to_old = segments.make_plan(on_mesh.receivers, num_mesh).piece_nodes
    old_to_new = np.empty_like(new_to_old)
    old_to_new[new_to_old] = np.arange(num_mesh, dtype=new_to_old.dtype)

    mesh_plan = segments.make_plan(old_to_new[on_mesh.receivers], num_mesh)
    grid2mesh_plan = segments.make_plan(old_to_new[to_mesh.receivers], num_mesh)
    first, second = grid2mesh_plan.order, mesh_plan.order
    arrays = {
        "grid_features": grid,
        "mesh_features": mesh[new_to_old],
        "grid2mesh_senders": to_mesh.senders[first],
        "grid2mesh_receivers": old_to_new[to_mesh.receivers[first]],
        "grid2mesh_features": to_mesh.features[first],
        "mesh_senders": old_to_new[on_mesh.senders[second]],
        "mesh_receivers": old_to_new[on_mesh.receivers[second]],
        "mesh_edge_features": on_mesh.features[second],
        "mesh2grid_senders": old_to_new[to_grid.senders].reshape(-1, CORNERS),
        "mesh2grid_features": to_grid.features.reshape(
            -1, CORNERS, to_grid.features.shape[-1]
        ),
    }
    digest = hashlib.sha256(geometry.digest.encode())
    for name in sorted(arrays):
        if name.endswith("features"):
            digest.update(np.ascontiguousarray(arrays[name]))
    return MessageGraph(digest.hexdigest(), arrays, grid2mesh_plan, mesh_plan)


def _turned_nodes(features: np.ndarray, poleward: np.ndarray) -> np.ndarray:
    sine = np.abs(features[:, :1])
    columns = [sine, features[:, 1:], poleward[:, np.newaxis]]
    return np.concatenate(columns, axis=1, dtype=features.dtype)


def _turned_edges(edges: EdgeSet, poleward: np.ndarray) -> EdgeSet:
    # The last feature is how far the sender lies to the north.
    features = edges.features.copy()
    features[:, -1] *= poleward[edges.receivers]
    return dataclasses.replace(edges, features=features)
