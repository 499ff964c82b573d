"""Which mesh nodes a grid point talks to.

Both searches give the edges of the published GraphCast package (version 0.2), in its
order, in a fraction of its time and memory.
"""

from __future__ import annotations

import itertools
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import spatial

from weatherlib.geometry import icosahedral_mesh, sphere

__all__ = ["containing_faces", "in_mesh_triangle_indices", "radius_query_indices"]

# Points handled at once, which bounds the memory at any resolution.
_CHUNK = 1 << 17


def radius_query_indices(
    *,
    grid_latitude: Num[np.ndarray, " lat"],
    grid_longitude: Num[np.ndarray, " lon"],
    mesh: icosahedral_mesh.TriangularMesh,
    radius: SupportsFloat,
) -> tuple[Int[np.ndarray, " edge"], Int[np.ndarray, " edge"]]:
    """Returns the edges between grid points and all mesh nodes within a distance.

    Args:
      grid_latitude: Degrees north, shape [lat].
      grid_longitude: Degrees east, shape [lon].
      mesh: Only its vertices matter.
      radius: Longest edge, straight through space, for a sphere of radius 1. Edges of
        just this length count.

    Returns:
      Grid index (`lat_index * num_lon + lon_index`) and mesh index of each edge, both
      of shape [edge]. Grid indices rise, and mesh indices rise within a grid point.
    """
    positions = sphere.grid_positions(grid_latitude, grid_longitude).reshape(-1, 3)
    # The leaf size of the published tree, so that rounding at the radius is the same.
    tree = spatial.KDTree(mesh.vertices, leafsize=16)
    counts, neighbours = [], []
    for start in range(0, len(positions), _CHUNK):
        chunk = positions[start : start + _CHUNK]
        found = tree.query_ball_point(chunk, float(radius), return_sorted=True)
        counts.append(np.fromiter(map(len, found), np.int64, len(found)))
        total = int(counts[-1].sum())
        flat = itertools.chain.from_iterable(found)
        neighbours.append(np.fromiter(flat, np.int64, total))
    grid_indices = np.repeat(np.arange(len(positions)), np.concatenate(counts))
    return grid_indices, np.concatenate(neighbours)


def in_mesh_triangle_indices(
    *,
    grid_latitude: Num[np.ndarray, " lat"],
    grid_longitude: Num[np.ndarray, " lon"],
    mesh: icosahedral_mesh.TriangularMesh,
) -> tuple[Int[np.ndarray, " edge"], Int[np.ndarray, " edge"]]:
    """Returns the edges between grid points and the corners of the triangle around.

    Args:
      grid_latitude: Degrees north, shape [lat].
      grid_longitude: Degrees east, shape [lon].
      mesh: A closed mesh around the unit sphere.

    Returns:
      Grid index (`lat_index * num_lon + lon_index`) and mesh index of each edge, both
      of shape [3 * grid]: three edges for each grid point, in the order of the corners
      of its triangle.
    """
    positions = sphere.grid_positions(grid_latitude, grid_longitude).reshape(-1, 3)
    corners = mesh.faces[containing_faces(positions, mesh)]
    return np.repeat(np.arange(len(positions)), 3), corners.ravel()


def containing_faces(
    positions: Float[np.ndarray, "point 3"], mesh: icosahedral_mesh.TriangularMesh
) -> Int[np.ndarray, " point"]:
    """Returns the face of `mesh` closest to each point.

    For a point of the unit sphere this is the face that a ray from the centre meets,
    except near the sides of faces. Where exactly the published choice falls there
    depends on rounding in `trimesh.proximity.closest_point`, and moving such points
    changes forecasts, so they (and all points, where the mesh is not of this kind) are
    left to that function.

    Args:
      positions: Points of the unit sphere, shape [point, 3].
      mesh: Triangles.

    Returns:
      Face indices, shape [point].
    """
    faces = np.full(len(positions), -1, np.int64)
    if _is_regular_sphere(mesh):
        search = _RadialSearch(mesh)
        for start in range(0, len(positions), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            faces[chunk] = search(positions[chunk])
    undecided = np.flatnonzero(faces < 0)
    if undecided.size:
        faces[undecided] = _closest_faces(positions[undecided], mesh)
    return faces


def _closest_faces(
    positions: Float[np.ndarray, "point 3"], mesh: icosahedral_mesh.TriangularMesh
) -> Int[np.ndarray, " point"]:
    # Imported here because it costs half a second that most calls do not need.
    import trimesh

    surface = trimesh.Trimesh(vertices=mesh.vertices, faces=mesh.faces)
    return trimesh.proximity.closest_point(surface, positions)[2]


def _is_regular_sphere(mesh: icosahedral_mesh.TriangularMesh) -> bool:
    """Tells whether nearly equal triangles close around the unit sphere.

    Closed by Euler's formula, and sides that differ by less than the 1.2 of refined
    icosahedra and a little more. On such meshes the margin below was measured.
    """
    if len(mesh.faces) != 2 * len(mesh.vertices) - 4:
        return False
    norms = np.linalg.norm(mesh.vertices, axis=-1)
    senders, receivers = icosahedral_mesh.faces_to_edges(mesh.faces)
    sides = np.linalg.norm(mesh.vertices[senders] - mesh.vertices[receivers], axis=-1)
    return bool(np.allclose(norms, 1, atol=1e-5) and sides.max() < 1.5 * sides.min())


class _RadialSearch:
    """Finds the face that the ray from the centre through a point meets.

    The barycentric coordinates of a point on a face are the solution of
    `corners @ coordinates = point`, so one inverse per face serves every point. Only
    faces around the nearest vertex are tried.
    """

    def __init__(self, mesh: icosahedral_mesh.TriangularMesh) -> None:
        corners = np.swapaxes(mesh.vertices[mesh.faces].astype(np.float64), 1, 2)
        self._inverse = np.linalg.inv(corners)
        self._tree = spatial.KDTree(mesh.vertices)
        self._faces_around = _faces_around_vertices(mesh)
        # Below this smallest coordinate the choice is left to trimesh. The ray and the
        # closest point were seen to disagree up to 4e-5 by rounding and up to 0.0072
        # times the squared side, because neighbours of different shape do not share a
        # side as seen from above just where they do as seen from the centre.
        self._margin = max(1e-3, 0.02 * icosahedral_mesh.max_edge_length(mesh) ** 2)

    def __call__(
        self, positions: Float[np.ndarray, "point 3"]
    ) -> Int[np.ndarray, " point"]:
        """Returns face indices, with -1 for points too close to a side."""
        nearest = np.asarray(self._tree.query(positions)[1])
        found = np.full(len(positions), -1, np.int64)
        for slot in range(self._faces_around.shape[1]):
            open_points = np.flatnonzero(found < 0)
            face = self._faces_around[nearest[open_points], slot]
            coordinates = np.einsum(
                "pij,pj->pi", self._inverse[face], positions[open_points]
            )
            coordinates /= coordinates.sum(axis=1, keepdims=True)
            inside = coordinates.min(axis=1) >= self._margin
            found[open_points[inside]] = face[inside]
        return found


def _faces_around_vertices(
    mesh: icosahedral_mesh.TriangularMesh,
) -> Int[np.ndarray, "vertex around"]:
    """Returns the faces that share each vertex, the first repeated to fill up."""
    vertex = mesh.faces.ravel()
    order = np.argsort(vertex, kind="stable")
    counts = np.bincount(vertex, minlength=len(mesh.vertices))
    starts = np.cumsum(counts) - counts
    place = np.arange(counts.max())
    place = np.where(place < counts[:, None], place, 0)
    return order[starts[:, None] + place] // 3
