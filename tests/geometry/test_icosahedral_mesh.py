import itertools
import json

import numpy as np
import pytest

from tests import tolerances
from tests.conftest import GOLDENS
from weatherlib.geometry import icosahedral_mesh

FOLDER = GOLDENS / "geometry"


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "icosahedral_meshes.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def meshes():
    return icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere(6)


@pytest.mark.parametrize("splits", range(4))
def test_meshes_are_the_published_ones_to_the_last_bit(golden, meshes, splits):
    np.testing.assert_array_equal(meshes[splits].vertices, golden[f"vertices_{splits}"])
    np.testing.assert_array_equal(meshes[splits].faces, golden[f"faces_{splits}"])
    assert meshes[splits].vertices.dtype == np.float32
    assert meshes[splits].faces.dtype == np.int32


@pytest.mark.parametrize("splits", range(4, 7))
def test_samples_of_fine_meshes_are_the_published_ones(golden, meshes, splits):
    vertices = meshes[splits].vertices[golden[f"sample_vertex_index_{splits}"]]
    faces = meshes[splits].faces[golden[f"sample_face_index_{splits}"]]
    np.testing.assert_array_equal(vertices, golden[f"sample_vertices_{splits}"])
    np.testing.assert_array_equal(faces, golden[f"sample_faces_{splits}"])


@pytest.mark.parametrize("splits", range(4))
def test_multimesh_edges_run_from_coarse_to_fine_as_published(golden, meshes, splits):
    merged = icosahedral_mesh.merge_meshes(meshes[: splits + 1])
    senders, receivers = icosahedral_mesh.faces_to_edges(merged.faces)
    np.testing.assert_array_equal(senders, golden[f"multimesh_senders_{splits}"])
    np.testing.assert_array_equal(receivers, golden[f"multimesh_receivers_{splits}"])


@pytest.mark.parametrize("splits", range(1, 4))
def test_banded_meshes_are_the_published_ones(golden, meshes, splits):
    banded = icosahedral_mesh.permute_to_banded(meshes[splits])
    np.testing.assert_array_equal(banded.vertices, golden[f"banded_vertices_{splits}"])
    np.testing.assert_array_equal(banded.faces, golden[f"banded_faces_{splits}"])


def test_banding_brings_neighbours_close(meshes):
    def bandwidth(mesh):
        senders, receivers = icosahedral_mesh.faces_to_edges(mesh.faces)
        return np.abs(senders - receivers).max()

    banded = icosahedral_mesh.permute_to_banded(meshes[4])
    assert bandwidth(banded) < bandwidth(meshes[4]) / 5
    np.testing.assert_array_equal(
        banded.vertices[banded.faces], meshes[4].vertices[meshes[4].faces]
    )


def test_counts_and_longest_edges_are_the_published_ones(meshes):
    for row in json.loads((FOLDER / "counts.json").read_text())["meshes"]:
        mesh = meshes[row["splits"]]
        merged = icosahedral_mesh.merge_meshes(meshes[: row["splits"] + 1])
        assert len(mesh.vertices) == row["vertices"]
        assert len(mesh.faces) == row["faces"]
        assert 3 * len(mesh.faces) == row["finest_edges"]
        assert 3 * len(merged.faces) == row["multimesh_edges"]
        assert icosahedral_mesh.max_edge_length(mesh) == pytest.approx(
            row["max_edge_distance"], abs=tolerances.GEOMETRY
        )


def test_each_mesh_starts_with_the_vertices_of_the_one_before(meshes):
    for coarse, fine in itertools.pairwise(meshes):
        np.testing.assert_array_equal(
            fine.vertices[: len(coarse.vertices)], coarse.vertices
        )


def test_faces_close_around_the_unit_sphere_and_look_outward(meshes):
    for mesh in meshes:
        np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1, rtol=1e-6)
        first, second, third = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
        normal = np.cross(second - first, third - first)
        assert ((normal * (first + second + third)).sum(axis=1) > 0).all()
        senders, receivers = (
            ends.astype(np.int64)
            for ends in icosahedral_mesh.faces_to_edges(mesh.faces)
        )
        forth = np.unique(senders * len(mesh.vertices) + receivers)
        back = np.unique(receivers * len(mesh.vertices) + senders)
        assert len(forth) == len(senders)
        np.testing.assert_array_equal(forth, back)


def test_children_cover_their_parent(meshes):
    centres = [m.vertices[m.faces].astype(np.float64).mean(axis=1) for m in meshes[:2]]
    middle_children = centres[1][3::4]
    cosines = (centres[0] * middle_children).sum(axis=1)
    cosines /= np.linalg.norm(centres[0], axis=1)
    cosines /= np.linalg.norm(middle_children, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_a_caller_cannot_change_the_icosahedron_of_others():
    icosahedral_mesh.get_icosahedron().faces[:] = 0
    assert icosahedral_mesh.get_icosahedron().faces.max() == 11


def test_last_mesh_is_the_end_of_the_hierarchy(meshes):
    last = icosahedral_mesh.get_last_triangular_mesh_for_sphere(3)
    np.testing.assert_array_equal(last.vertices, meshes[3].vertices)


def test_edges_go_round_each_face_one_side_after_the_other():
    senders, receivers = icosahedral_mesh.faces_to_edges(
        np.array([[0, 1, 2], [3, 4, 5]])
    )
    np.testing.assert_array_equal(senders, [0, 3, 1, 4, 2, 5])
    np.testing.assert_array_equal(receivers, [1, 4, 2, 5, 0, 3])


def test_faces_that_are_no_triangles_are_refused():
    with pytest.raises(ValueError, match=r"\[face, 3\], got \(2, 4\)"):
        icosahedral_mesh.faces_to_edges(np.zeros((2, 4), int))


@pytest.mark.parametrize("splits", [-1, 11, 2.5, True, None, "3"])
def test_refinements_out_of_range_are_refused(splits):
    with pytest.raises(ValueError, match="splits must be an integer from 0 to 10"):
        icosahedral_mesh.check_splits(splits)


def test_too_many_refinements_are_refused_before_they_fill_the_memory():
    with pytest.raises(ValueError, match="splits must be an integer"):
        icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere(40)


def test_numpy_integers_count_as_refinements():
    assert icosahedral_mesh.check_splits(np.int64(3)) == 3


def test_meshes_from_fine_to_coarse_do_not_merge(meshes):
    with pytest.raises(ValueError, match="mesh 1 does not start with the vertices"):
        icosahedral_mesh.merge_meshes([meshes[2], meshes[1]])


def test_meshes_of_different_hierarchies_do_not_merge(meshes):
    moved = meshes[1]._replace(vertices=-meshes[1].vertices)
    with pytest.raises(ValueError, match="order the meshes from coarse to fine"):
        icosahedral_mesh.merge_meshes([meshes[0], moved])


def test_nothing_does_not_merge():
    with pytest.raises(ValueError, match="at least one mesh"):
        icosahedral_mesh.merge_meshes([])
