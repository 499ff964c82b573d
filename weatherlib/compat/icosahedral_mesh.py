"""The published module `icosahedral_mesh`, kept in `geometry.icosahedral_mesh`."""

from weatherlib.geometry.icosahedral_mesh import (
    TriangularMesh,
    faces_to_edges,
    get_hierarchy_of_triangular_meshes_for_sphere,
    get_icosahedron,
    get_last_triangular_mesh_for_sphere,
    merge_meshes,
)

__all__ = [
    "TriangularMesh",
    "faces_to_edges",
    "get_hierarchy_of_triangular_meshes_for_sphere",
    "get_icosahedron",
    "get_last_triangular_mesh_for_sphere",
    "merge_meshes",
]
