"""The edges between grid and mesh, kept apart from all that follows from them.

Rounding decides which triangle owns a grid point on a side of two, and library
versions round differently. A forecast changes with that choice, so a topology can be
stored with the weights, compared with what a search finds now, and used instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import io
import logging
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int32

from weatherlib import writing
from weatherlib.geometry import connectivity, icosahedral_mesh
from weatherlib.typing import PathLike

__all__ = [
    "Topology",
    "TopologyDifference",
    "cache_path",
    "compare",
    "read",
    "search",
    "write",
]

_logger = logging.getLogger(__name__)

# Raise this when the search changes what it finds; old cache files are then ignored.
_SEARCH_VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Topology:
    """Which grid and mesh nodes are joined.

    Attributes:
      grid2mesh_senders: Grid node of each grid-to-mesh edge, shape [edge].
      grid2mesh_receivers: Mesh node of each grid-to-mesh edge, shape [edge].
      mesh2grid_senders: Mesh nodes of the three edges of each grid node in turn, shape
        [3 * grid].
    """

    grid2mesh_senders: Int32[np.ndarray, " edge"]
    grid2mesh_receivers: Int32[np.ndarray, " edge"]
    mesh2grid_senders: Int32[np.ndarray, " corner"]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays, as hexadecimal digits."""
        digest = hashlib.sha256()
        for name, array in self.to_arrays().items():
            digest.update(f"{name} {len(array)}".encode())
            digest.update(array.astype("<i4").tobytes())
        return digest.hexdigest()

    def to_arrays(self) -> dict[str, Int32[np.ndarray, " index"]]:
        """Returns the arrays by name, for a checkpoint or a file."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Topology:
        """Returns the topology that `to_arrays` took apart.

        Args:
          arrays: Holds the names of this class; others are ignored.

        Raises:
          ValueError: A name is missing, an array is no list of integers, or edges lack
            an end.
        """
        values = {}
        for field in dataclasses.fields(cls):
            if field.name not in arrays:
                raise ValueError(
                    f"the stored topology lacks {field.name}; it holds "
                    f"{', '.join(sorted(arrays)) or 'nothing'}"
                )
            array = np.asarray(arrays[field.name])
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise ValueError(
                    f"{field.name} of the stored topology must be a list of integers, "
                    f"got {array.dtype} of shape {array.shape}"
                )
            values[field.name] = array.astype(np.int32)
        ends = len(values["grid2mesh_senders"]), len(values["grid2mesh_receivers"])
        if ends[0] != ends[1]:
            raise ValueError(
                "the stored topology has grid2mesh edges with only one end: "
                f"{ends[0]} senders, {ends[1]} receivers"
            )
        return cls(**values)

    def check(self, *, num_grid: int, num_mesh: int) -> None:
        """Raises a ValueError unless the topology fits a grid and a mesh.

        Args:
          num_grid: Grid nodes.
          num_mesh: Mesh nodes.
        """
        if len(self.mesh2grid_senders) != 3 * num_grid:
            raise ValueError(
                f"the stored topology is for {len(self.mesh2grid_senders) // 3} grid "
                f"nodes, but the grid has {num_grid}"
            )
        for name, limit in (
            ("grid2mesh_senders", num_grid),
            ("grid2mesh_receivers", num_mesh),
            ("mesh2grid_senders", num_mesh),
        ):
            array = getattr(self, name)
            if array.size and not 0 <= array.min() <= array.max() < limit:
                raise ValueError(
                    f"{name} of the stored topology must lie in [0, {limit}), found "
                    f"[{array.min()}, {array.max()}]; it belongs to another mesh or "
                    "grid"
                )


@dataclasses.dataclass(frozen=True)
class TopologyDifference:
    """How many edges two topologies do not share.

    Attributes:
      grid2mesh_edges: Edges that only one of the two has.
      mesh2grid_edges: Edges whose sender differs.
      grid_nodes: Grid nodes that any of these edges touch.
    """

    grid2mesh_edges: int
    mesh2grid_edges: int
    grid_nodes: int

    def __bool__(self) -> bool:
        """Tells whether the topologies differ at all."""
        return self.grid2mesh_edges > 0 or self.mesh2grid_edges > 0

    def __str__(self) -> str:
        """Returns one line for a report."""
        if not self:
            return "same edges"
        return (
            f"{self.grid2mesh_edges} grid2mesh and {self.mesh2grid_edges} mesh2grid "
            f"edges differ, at {self.grid_nodes} grid nodes"
        )


def compare(first: Topology, second: Topology) -> TopologyDifference:
    """Returns how many edges differ between two topologies of one grid and mesh.

    Raises:
      ValueError: They have different numbers of grid nodes.
    """
    if len(first.mesh2grid_senders) != len(second.mesh2grid_senders):
        raise ValueError(
            "the topologies are for different grids, of "
            f"{len(first.mesh2grid_senders) // 3} and "
            f"{len(second.mesh2grid_senders) // 3} nodes"
        )
    unshared = np.setxor1d(_edge_keys(first), _edge_keys(second))
    moved = np.flatnonzero(first.mesh2grid_senders != second.mesh2grid_senders)
    touched = np.union1d(unshared >> 32, moved // 3)
    return TopologyDifference(unshared.size, moved.size, touched.size)


def _edge_keys(topology: Topology) -> Int[np.ndarray, " edge"]:
    """Returns one number for each grid-to-mesh edge, with the grid node in front."""
    senders = topology.grid2mesh_senders.astype(np.int64)
    return (senders << 32) | topology.grid2mesh_receivers


def search(
    lat: Float32[np.ndarray, " lat"],
    lon: Float32[np.ndarray, " lon"],
    mesh: icosahedral_mesh.TriangularMesh,
    radius: float,
) -> Topology:
    """Returns the edges of a grid and a mesh.

    Args:
      lat: Degrees north, shape [lat].
      lon: Degrees east, shape [lon].
      mesh: The finest mesh.
      radius: Of the grid-to-mesh query, straight through space.

    Raises:
      ValueError: No mesh node lies within the radius of any grid node.
    """
    grid_indices, mesh_indices = connectivity.radius_query_indices(
        grid_latitude=lat, grid_longitude=lon, mesh=mesh, radius=radius
    )
    if not grid_indices.size:
        raise ValueError(
            f"no mesh node lies within {radius:g} sphere radii of any of the "
            f"{lat.size * lon.size} grid nodes; raise radius_query_fraction_edge_length"
        )
    _, corners = connectivity.in_mesh_triangle_indices(
        grid_latitude=lat, grid_longitude=lon, mesh=mesh
    )
    return Topology(
        grid_indices.astype(np.int32),
        mesh_indices.astype(np.int32),
        corners.astype(np.int32),
    )


def cache_path(cache_dir: PathLike, *arguments: object) -> pathlib.Path:
    """Returns the file that keeps what a search with these arguments finds.

    The name also depends on the versions of all code that decides ties, so that a file
    never brings back what a search would not find now.

    Args:
      cache_dir: The folder.
      *arguments: All that the result depends on, with telling `repr`.
    """
    versions = [importlib.metadata.version(p) for p in ("numpy", "scipy", "trimesh")]
    key = repr((_SEARCH_VERSION, versions, arguments))
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return pathlib.Path(cache_dir) / f"topology-{name}.npz"


def read(path: pathlib.Path) -> Topology | None:
    """Returns the topology in a file, or None where there is none to be read.

    A damaged file is removed, so that the next `write` replaces it.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = Topology.from_arrays(file)
            if str(file["digest"]) == found.digest:
                return found
    # Damage can raise nearly anything in the zip and npy readers; all of it means that
    # the file has to be made again.
    except Exception:
        _logger.debug("cannot read %s", path, exc_info=True)
    _logger.info("%s is damaged and will be made again", path)
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def write(path: pathlib.Path, topology: Topology) -> None:
    """Writes a file that other processes see complete or not at all.

    A folder that cannot be written to brings a RuntimeWarning, because a forecast need
    not fail for it.
    """
    arrays: dict[str, Any] = {**topology.to_arrays()}
    arrays["digest"] = np.array(topology.digest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            writing.replacing(path, shared=True) as partial,
            partial.open("wb") as file,
        ):
            np.savez(file, **arrays)
    except OSError as error:
        warnings.warn(
            f"the graph is not kept on disk: {error}", RuntimeWarning, stacklevel=3
        )
