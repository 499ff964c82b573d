"""The three graphs between a grid and a multi-mesh, built once per grid.

Edges and features are those of the published GraphCast package (version 0.2).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import threading
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from weatherlib.geometry import (
    edge_features,
    grids,
    icosahedral_mesh,
    sphere,
    topology,
)
from weatherlib.typing import PathLike

__all__ = ["EdgeSet", "GraphGeometry", "build_graph"]

# A geometry of a 0.25 degree grid weighs about 0.15 GB.
_MEMORY_SLOTS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class EdgeSet:
    """Edges of one kind in their published order.

    Attributes:
      senders: Node each edge starts from, shape [edge].
      receivers: Node each edge leads to, shape [edge].
      features: [length, x, y, z] in the receiver's frame, shape [edge, 4].
      num_receivers: How many receiving nodes there are, with or without edges.
    """

    senders: Int32[np.ndarray, " edge"]
    receivers: Int32[np.ndarray, " edge"]
    features: Float32[np.ndarray, "edge 4"]
    num_receivers: int


@dataclasses.dataclass(frozen=True, eq=False)
class GraphGeometry:
    """All that a mesh network knows about places. Arrays are read-only.

    Grid node `lat_index * num_lon + lon_index` lies in row `lat_index` of the grid.

    Attributes:
      grid_latitude: Degrees north of the rows, shape [lat].
      grid_longitude: Degrees east of the columns, shape [lon].
      mesh_latitude: Degrees north of the mesh nodes, shape [mesh].
      mesh_longitude: Degrees east of the mesh nodes, in [0, 360), shape [mesh].
      grid_node_features: [sin lat, cos lon, sin lon], shape [grid, 3].
      mesh_node_features: The same of mesh nodes, shape [mesh, 3].
      grid2mesh: Edges from grid to mesh nodes within the query radius.
      mesh: Edges among mesh nodes, of all levels from coarse to fine.
      mesh2grid: Three edges for each grid node in turn, from the corners of the
        triangle around it.
      mesh_size: Refinements of the finest mesh.
      radius: Query radius, straight through space, on a sphere of radius 1.
      digest: SHA-256 of the index arrays, as hexadecimal digits.
    """

    grid_latitude: Float[np.ndarray, " lat"]
    grid_longitude: Float[np.ndarray, " lon"]
    mesh_latitude: Float[np.ndarray, " mesh"]
    mesh_longitude: Float[np.ndarray, " mesh"]
    grid_node_features: Float32[np.ndarray, "grid 3"]
    mesh_node_features: Float32[np.ndarray, "mesh 3"]
    grid2mesh: EdgeSet
    mesh: EdgeSet
    mesh2grid: EdgeSet
    mesh_size: int
    radius: float
    digest: str

    @functools.cached_property
    def topology(self) -> topology.Topology:
        """The index arrays that depend on rounding, for a checkpoint to keep."""
        return topology.Topology(
            grid2mesh_senders=self.grid2mesh.senders,
            grid2mesh_receivers=self.grid2mesh.receivers,
            mesh2grid_senders=self.mesh2grid.senders,
        )


@dataclasses.dataclass(frozen=True)
class _Request:
    """A checked order for a graph; equal orders share one geometry."""

    latitude: bytes
    longitude: bytes
    mesh_size: int
    radius_fraction: float
    mesh2grid_factor: float | None
    topology_digest: str | None


_memory: dict[_Request, GraphGeometry] = {}
_memory_lock = threading.Lock()


def build_graph(
    latitude: Any,
    longitude: Any,
    *,
    mesh_size: SupportsIndex | float,
    radius_query_fraction_edge_length: SupportsFloat,
    mesh2grid_edge_normalization_factor: SupportsFloat | None = None,
    cache_dir: PathLike | None = None,
    stored_topology: topology.Topology | None = None,
) -> GraphGeometry:
    """Returns the graphs that connect a grid and a multi-mesh.

    The last few results are kept in the process, so equal arguments return the same
    object. Any thread may call this; builds wait for each other.

    Args:
      latitude: Grid rows in either order, degrees north, shape [lat].
      longitude: Grid columns, degrees east, shape [lon].
      mesh_size: Refinements of the finest mesh.
      radius_query_fraction_edge_length: Query radius of `grid2mesh` as a fraction of
        the longest edge of the finest mesh.
      mesh2grid_edge_normalization_factor: Divides the edge features of `mesh2grid` in
        place of its longest edge, for weights trained on another grid.
      cache_dir: A folder that keeps topologies between processes.
      stored_topology: Edges to use as they are, such as those a checkpoint was trained
        with, instead of searching.

    Raises:
      ValueError: The grid is empty, uneven, not finite, repeats a place or leaves
        [-90, 90]; a number is out of range; or `stored_topology` belongs to another
        grid or mesh.
    """
    lat, lon = grids.check_latitude(latitude), grids.check_longitude(longitude)
    request = _Request(
        lat.tobytes(),
        lon.tobytes(),
        icosahedral_mesh.check_splits(mesh_size, "mesh_size"),
        _check_positive(
            "radius_query_fraction_edge_length", radius_query_fraction_edge_length
        ),
        None
        if mesh2grid_edge_normalization_factor is None
        else _check_positive(
            "mesh2grid_edge_normalization_factor", mesh2grid_edge_normalization_factor
        ),
        None if stored_topology is None else stored_topology.digest,
    )
    cache_file = None
    if cache_dir is not None and stored_topology is None:
        cache_file = topology.cache_path(cache_dir, request)
    with _memory_lock:
        geometry = _memory.pop(request, None)
        if geometry is None:
            found = topology.read(cache_file) if cache_file else stored_topology
            geometry = _build(lat, lon, request, found)
        # Put in last, where the oldest use comes first.
        _memory[request] = geometry
        while len(_memory) > _MEMORY_SLOTS:
            del _memory[next(iter(_memory))]
    if cache_file and not cache_file.exists():
        topology.write(cache_file, geometry.topology)
    return geometry


def _check_positive(name: str, value: SupportsFloat) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return number


def _build(
    lat: Float[np.ndarray, " lat"],
    lon: Float[np.ndarray, " lon"],
    request: _Request,
    found: topology.Topology | None,
) -> GraphGeometry:
    """Returns the geometry; edges between grid and mesh are searched if not given."""
    meshes = icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere(
        request.mesh_size
    )
    # float32 as published: a float64 radius moves edges that end on it.
    radius = float(
        np.float32(icosahedral_mesh.max_edge_length(meshes[-1]))
        * np.float32(request.radius_fraction)
    )
    if found is None:
        found = topology.search(
            lat.astype(np.float32), lon.astype(np.float32), meshes[-1], radius
        )
    found.check(num_grid=lat.size * lon.size, num_mesh=len(meshes[-1].vertices))
    return _assemble(lat, lon, request, meshes, radius, found)


def _assemble(
    lat: Float[np.ndarray, " lat"],
    lon: Float[np.ndarray, " lon"],
    request: _Request,
    meshes: list[icosahedral_mesh.TriangularMesh],
    radius: float,
    found: topology.Topology,
) -> GraphGeometry:
    """Returns the geometry with the features of all nodes and edges."""
    # Degrees, angles and positions are float32 as published. Rotations are float64, and
    # so are the features of edges until they are finished.
    mesh_lat, mesh_lon = sphere.degrees_from_angles(
        *sphere.angles_from_positions(*meshes[-1].vertices.T)
    )
    grid_lat, grid_lon = (
        axis.ravel().astype(np.float32) for axis in np.meshgrid(lat, lon, indexing="ij")
    )
    grid, mesh = _Nodes(grid_lat, grid_lon), _Nodes(mesh_lat, mesh_lon)
    merged = icosahedral_mesh.merge_meshes(meshes)
    mesh_senders, mesh_receivers = icosahedral_mesh.faces_to_edges(merged.faces)
    grid2mesh = _edge_set(
        grid, mesh, found.grid2mesh_senders, found.grid2mesh_receivers
    )
    mesh_edges = _edge_set(mesh, mesh, mesh_senders, mesh_receivers)
    mesh2grid = _edge_set(
        mesh,
        grid,
        found.mesh2grid_senders,
        np.repeat(np.arange(len(grid_lat), dtype=np.int32), 3),
        request.mesh2grid_factor,
    )
    return GraphGeometry(
        *(
            _read_only(degrees.astype(np.float64))
            for degrees in (lat, lon, mesh_lat, mesh_lon)
        ),
        *(_read_only(nodes.features) for nodes in (grid, mesh)),
        grid2mesh=grid2mesh,
        mesh=mesh_edges,
        mesh2grid=mesh2grid,
        mesh_size=request.mesh_size,
        radius=radius,
        digest=_digest(grid2mesh, mesh_edges, mesh2grid),
    )


class _Nodes:
    """Angles and positions of nodes, computed when first needed."""

    def __init__(
        self, lat: Float32[np.ndarray, " node"], lon: Float32[np.ndarray, " node"]
    ) -> None:
        self.phi, self.theta = sphere.angles_from_degrees(lat, lon)
        self.features = edge_features.node_features(lat, lon)

    @functools.cached_property
    def positions(self) -> Float32[np.ndarray, "node 3"]:
        return np.stack(sphere.positions_from_angles(self.phi, self.theta), axis=-1)

    @functools.cached_property
    def rotations(self) -> Float[np.ndarray, "node 3 3"]:
        return edge_features.rotations_to_local(self.phi, self.theta)


def _edge_set(
    from_nodes: _Nodes,
    to_nodes: _Nodes,
    senders: Int[np.ndarray, " edge"],
    receivers: Int[np.ndarray, " edge"],
    factor: float | None = None,
) -> EdgeSet:
    relative = edge_features.relative_positions(
        senders,
        receivers,
        from_nodes.positions,
        to_nodes.positions,
        to_nodes.rotations,
    )
    features = edge_features.edge_features(relative, factor)
    return EdgeSet(
        _read_only(senders.astype(np.int32)),
        _read_only(receivers.astype(np.int32)),
        _read_only(features.astype(np.float32)),
        len(to_nodes.phi),
    )


def _digest(*edge_sets: EdgeSet) -> str:
    digest = hashlib.sha256()
    for edges in edge_sets:
        digest.update(f"{len(edges.senders)} {edges.num_receivers}".encode())
        digest.update(edges.senders.astype("<i4").tobytes())
        digest.update(edges.receivers.astype("<i4").tobytes())
    return digest.hexdigest()


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
