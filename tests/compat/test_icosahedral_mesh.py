import inspect

import numpy as np
import pytest

from weatherlib import icosahedral_mesh
from weatherlib.geometry import icosahedral_mesh as geometry_mesh


@pytest.mark.parametrize("name", icosahedral_mesh.__all__)
def test_published_names_are_those_of_geometry(name):
    assert getattr(icosahedral_mesh, name) is getattr(geometry_mesh, name)


def test_published_code_can_take_meshes_apart():
    meshes = icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere(splits=2)
    vertices, faces = icosahedral_mesh.merge_meshes(mesh_list=meshes)
    assert vertices.shape == (162, 3)
    assert faces.shape == (20 + 80 + 320, 3)
    senders, receivers = icosahedral_mesh.faces_to_edges(faces=faces)
    assert senders.shape == receivers.shape == (1260,)


def test_a_mesh_is_a_named_tuple_of_vertices_and_faces():
    mesh = icosahedral_mesh.TriangularMesh(
        vertices=np.eye(3), faces=np.array([[0, 1, 2]])
    )
    assert mesh._fields == ("vertices", "faces")
    signature = inspect.signature(icosahedral_mesh.get_last_triangular_mesh_for_sphere)
    assert list(signature.parameters) == ["splits"]
