"""Triangular meshes made by splitting the faces of an icosahedron.

Names, order of vertices and faces, and values to the last bit are those of the
published GraphCast package (version 0.2): trained weights depend on the order.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

__all__ = [
    "MAX_SPLITS",
    "TriangularMesh",
    "faces_to_edges",
    "get_hierarchy_of_triangular_meshes_for_sphere",
    "get_icosahedron",
    "get_last_triangular_mesh_for_sphere",
    "max_edge_length",
    "merge_meshes",
    "permute_to_banded",
]

# Ten splits make 10.5 million vertices about 7 km apart, past any weather model.
MAX_SPLITS = 10

_GOLDEN_RATIO = (1 + np.sqrt(5)) / 2

# Published order of the 20 faces, counter-clockwise seen from outside; each triple
# holds three vertices.
_ICOSAHEDRON_FACES = np.array(
    [
        *[(0, 1, 2), (0, 6, 1), (8, 0, 2), (8, 4, 0), (3, 8, 2)],
        *[(3, 2, 7), (7, 2, 1), (0, 4, 6), (4, 11, 6), (6, 11, 5)],
        *[(1, 5, 7), (4, 10, 11), (4, 8, 10), (10, 8, 3), (10, 3, 9)],
        *[(11, 10, 9), (11, 9, 5), (5, 9, 7), (9, 3, 7), (1, 6, 5)],
    ],
    np.int32,
)


class TriangularMesh(NamedTuple):
    """Triangles in space.

    Attributes:
      vertices: Positions, shape [vertex, dimension].
      faces: Corners of each triangle as indices into `vertices`, shape [face, 3].
    """

    vertices: Float[np.ndarray, "vertex dimension"]
    faces: Int[np.ndarray, "face 3"]


def get_icosahedron() -> TriangularMesh:
    """Returns the icosahedron on the unit sphere that has a face across each pole.

    Returns:
      12 vertices (float32) and 20 faces (int32), counter-clockwise from outside.
    """
    corners = [
        np.roll((one, ratio * _GOLDEN_RATIO, 0.0), shift)
        for one, ratio in itertools.product((1.0, -1.0), repeat=2)
        for shift in range(3)
    ]
    # Rounded to float32 before and after the rotation, as published.
    rounded = np.array(corners, np.float32) / np.linalg.norm([1, _GOLDEN_RATIO])
    unit = rounded.astype(np.float32)
    dihedral = 2 * np.arcsin(_GOLDEN_RATIO / np.sqrt(3))
    cos, sin = np.cos((np.pi - dihedral) / 2), np.sin((np.pi - dihedral) / 2)
    upright = unit @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return TriangularMesh(upright.astype(np.float32), _ICOSAHEDRON_FACES.copy())


def get_hierarchy_of_triangular_meshes_for_sphere(
    splits: SupportsIndex,
) -> list[TriangularMesh]:
    """Returns the icosahedron and its refinements, from coarse to fine.

    Each refinement splits every face into four and moves the new vertices out to the
    unit sphere. Its leading vertices are those of the mesh before.

    Args:
      splits: How often to refine, from 0 to `MAX_SPLITS`.

    Returns:
      `splits + 1` meshes. Mesh `s` has `10 * 4**s + 2` vertices and `20 * 4**s` faces.

    Raises:
      ValueError: `splits` is no integer in that range.
    """
    count = check_splits(splits)
    meshes = [get_icosahedron()]
    for _ in range(count):
        meshes.append(_split_faces(meshes[-1]))
    return meshes


def get_last_triangular_mesh_for_sphere(splits: SupportsIndex) -> TriangularMesh:
    """Returns the icosahedron refined `splits` times.

    Raises:
      ValueError: `splits` is no integer from 0 to `MAX_SPLITS`.
    """
    return get_hierarchy_of_triangular_meshes_for_sphere(splits)[-1]


def check_splits(splits: object, name: str = "splits") -> int:
    """Returns the number of refinements as an int.

    Raises:
      ValueError: It is no integer from 0 to `MAX_SPLITS`.
    """
    try:
        count = operator.index(splits)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if isinstance(splits, bool) or not 0 <= count <= MAX_SPLITS:
        raise ValueError(
            f"{name} must be an integer from 0 to {MAX_SPLITS}, got {splits!r}"
        )
    return count


def _split_faces(mesh: TriangularMesh) -> TriangularMesh:
    """Splits each face into three at its corners and one in the middle, in this order.

    New vertices are numbered as the edges (0, 1), (1, 2), (2, 0) of one face after the
    other first meet them.
    """
    faces, num_old = mesh.faces, len(mesh.vertices)
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    edge_key = edges.min(axis=1).astype(np.int64) * num_old + edges.max(axis=1)
    _, first_seen, edge_id = np.unique(edge_key, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first_seen)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(rank))
    parents = edges[first_seen[by_appearance]]
    vertices = np.concatenate([mesh.vertices, _midpoints(mesh.vertices, parents)])
    new = (num_old + rank[edge_id.ravel()]).reshape(-1, 3)
    corner0, corner1, corner2 = faces.T
    side01, side12, side20 = new.T
    children = [
        (corner0, side01, side20),
        (side01, corner1, side12),
        (side20, side12, corner2),
        (side01, side12, side20),
    ]
    stacked = np.stack([np.stack(child, axis=-1) for child in children], axis=1)
    return TriangularMesh(vertices, stacked.reshape(-1, 3).astype(np.int32))


def _midpoints(
    vertices: Float[np.ndarray, "vertex 3"], parents: Int[np.ndarray, "edge 2"]
) -> Float[np.ndarray, "edge 3"]:
    """Returns the points of the unit sphere halfway along each edge, as float32."""
    middle = (vertices[parents[:, 0]] + vertices[parents[:, 1]]) / np.float32(2)
    # float32 products, added up in float64: the rounding of the published dot product,
    # spelled out so that it does not depend on the BLAS at hand.
    squares = (middle * middle).sum(axis=1, keepdims=True, dtype=np.float64)
    return middle / np.sqrt(squares.astype(np.float32))


def merge_meshes(mesh_list: Sequence[TriangularMesh]) -> TriangularMesh:
    """Returns the multi-mesh: the finest vertices with the faces of all levels.

    Args:
      mesh_list: From coarse to fine; each starts with the vertices of the one before.

    Raises:
      ValueError: There is no mesh, or a mesh does not start with the vertices of the
        one before.
    """
    if not mesh_list:
        raise ValueError("merge_meshes needs at least one mesh")
    for level, (coarse, fine) in enumerate(itertools.pairwise(mesh_list)):
        leading = fine.vertices[: len(coarse.vertices)]
        if leading.shape != coarse.vertices.shape or not np.allclose(
            leading, coarse.vertices
        ):
            raise ValueError(
                f"mesh {level + 1} does not start with the vertices of mesh {level}; "
                "order the meshes from coarse to fine"
            )
    return TriangularMesh(
        mesh_list[-1].vertices, np.concatenate([mesh.faces for mesh in mesh_list])
    )


def faces_to_edges(
    faces: Int[np.ndarray, "face corner"],
) -> tuple[Int[np.ndarray, " edge"], Int[np.ndarray, " edge"]]:
    """Returns senders and receivers of the edges along the sides of all faces.

    A closed surface with consistent orientation yields each edge in both directions.

    Args:
      faces: Corner indices, shape [face, 3].

    Returns:
      Two arrays of shape [3 * face]: the first sides (corner 0 to 1) of all faces, then
      the second (1 to 2), then the third (2 to 0).

    Raises:
      ValueError: `faces` are no triangles.
    """
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces must have shape [face, 3], got {faces.shape}")
    return faces.T.ravel(), np.roll(faces, -1, axis=1).T.ravel()


def max_edge_length(mesh: TriangularMesh) -> float:
    """Returns the length of the longest side of any face, straight through space."""
    senders, receivers = faces_to_edges(mesh.faces)
    sides = mesh.vertices[senders] - mesh.vertices[receivers]
    # In the dtype of the vertices, because the published radius is rounded to it.
    return float(np.linalg.norm(sides, axis=-1).max())


def permute_to_banded(mesh: TriangularMesh) -> TriangularMesh:
    """Returns `mesh` with vertices renumbered so that neighbours have close numbers.

    Faces keep their order. GenCast's sparse attention runs on meshes of this kind.

    Source: reverse Cuthill-McKee ordering of the adjacency matrix, as SciPy has it.
    """
    senders, receivers = faces_to_edges(mesh.faces)
    size = len(mesh.vertices)
    adjacency = sparse.csr_matrix(
        (np.ones(len(senders)), (senders, receivers)), shape=(size, size)
    )
    order = sparse.csgraph.reverse_cuthill_mckee(adjacency, symmetric_mode=True)
    new_number = np.empty(size, mesh.faces.dtype)
    new_number[order] = np.arange(size)
    return TriangularMesh(mesh.vertices[order], new_number[mesh.faces])
