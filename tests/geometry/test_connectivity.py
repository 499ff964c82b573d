import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import GOLDENS
from weatherlib.geometry import connectivity, icosahedral_mesh, sphere

CASES = json.loads((GOLDENS / "geometry" / "counts.json").read_text())["cases"]
MESHES = icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere(5)


def global_grid(case):
    lat = np.linspace(-90, 90, case["n_lat"]).astype(np.float32)
    lon = (np.arange(case["n_lon"]) * (360 / case["n_lon"])).astype(np.float32)
    return lat, lon


def barycentric(positions, faces, mesh):
    corners = np.swapaxes(mesh.vertices[mesh.faces[faces]].astype(np.float64), 1, 2)
    weights = np.linalg.solve(corners, positions[..., None])[..., 0]
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_edges_within_a_radius_are_the_published_ones(case):
    lat, lon = global_grid(case)
    mesh = MESHES[case["splits"]]
    grid, nodes = connectivity.radius_query_indices(
        grid_latitude=lat, grid_longitude=lon, mesh=mesh, radius=case["query_radius"]
    )
    sample = case["grid2mesh_sample"]
    assert len(grid) == len(nodes) == case["grid2mesh_edges"]
    np.testing.assert_array_equal(grid[sample["edge"]], sample["grid"])
    np.testing.assert_array_equal(nodes[sample["edge"]], sample["mesh"])
    without = len(lat) * len(lon) - len(np.unique(grid))
    assert without == case["grid_nodes_without_mesh_edge"]
    without = len(mesh.vertices) - len(np.unique(nodes))
    assert without == case["mesh_nodes_without_grid_edge"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_edges_from_the_triangle_around_are_the_published_ones(case):
    lat, lon = global_grid(case)
    grid, nodes = connectivity.in_mesh_triangle_indices(
        grid_latitude=lat, grid_longitude=lon, mesh=MESHES[case["splits"]]
    )
    sample = case["mesh2grid_sample"]
    assert len(grid) == len(nodes) == case["mesh2grid_edges"]
    np.testing.assert_array_equal(grid, np.repeat(np.arange(len(lat) * len(lon)), 3))
    np.testing.assert_array_equal(grid[sample["edge"]], sample["grid"])
    np.testing.assert_array_equal(nodes[sample["edge"]], sample["mesh"])


@settings(max_examples=25, deadline=None)
@given(
    splits=st.integers(0, 5),
    south=st.sampled_from([-90, -75, -30, 0, 12.3]),
    west=st.sampled_from([-180, -7.5, 0, 31.7, 340]),
    step=st.sampled_from([0.7, 1.5, 3, 5.625, 7.5]),
    descending=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_every_triangle_is_the_one_that_a_search_of_all_finds(
    splits, south, west, step, descending, dtype
):
    lat = np.arange(south, min(90.01, south + 24 * step), step).astype(dtype)
    lon = (west + step * np.arange(24)).astype(dtype)
    lat = lat[::-1] if descending else lat
    points = sphere.grid_positions(lat, lon).reshape(-1, 3)
    np.testing.assert_array_equal(
        connectivity.containing_faces(points, MESHES[splits]),
        connectivity._closest_faces(points, MESHES[splits]),
    )


@pytest.mark.parametrize("splits", range(6))
def test_points_by_the_sides_of_triangles_are_decided_as_published(splits):
    mesh = MESHES[splits]
    random = np.random.default_rng(splits)
    corners = mesh.vertices[mesh.faces[random.integers(len(mesh.faces), size=3000)]]
    along = random.random(3000)
    # As far as three times the widest border on which both searches were seen to
    # disagree.
    inward = random.random(3000) * max(1e-4, 0.02 * len(mesh.faces) ** -1.0)
    weights = np.stack([(1 - along) * (1 - inward), along * (1 - inward), inward], 1)
    points = np.einsum("pc,pcx->px", weights, corners.astype(np.float64))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_array_equal(
        connectivity.containing_faces(points, mesh),
        connectivity._closest_faces(points, mesh),
    )


def test_few_points_need_the_slow_search(monkeypatch):
    asked = []
    slow = connectivity._closest_faces

    def counting(positions, mesh):
        asked.append(len(positions))
        return slow(positions, mesh)

    monkeypatch.setattr(connectivity, "_closest_faces", counting)
    random = np.random.default_rng(0)
    points = random.normal(size=(20_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = connectivity.containing_faces(points, MESHES[4])
    assert sum(asked) < 200
    assert barycentric(points, faces, MESHES[4]).min() > -1e-3


def test_mesh_nodes_within_the_radius_are_all_found():
    lat, lon = np.linspace(-80, 85, 12), np.arange(0, 360, 20.0)
    mesh, radius = MESHES[3], 0.17
    grid, nodes = connectivity.radius_query_indices(
        grid_latitude=lat, grid_longitude=lon, mesh=mesh, radius=radius
    )
    points = sphere.grid_positions(lat, lon).reshape(-1, 3)
    distance = np.linalg.norm(points[:, None] - mesh.vertices, axis=-1)
    assert np.abs(distance - radius).min() > 1e-6
    expected_grid, expected_nodes = np.nonzero(distance < radius)
    np.testing.assert_array_equal(grid, expected_grid)
    np.testing.assert_array_equal(nodes, expected_nodes)


def test_working_in_parts_changes_nothing(monkeypatch):
    arguments = {
        "grid_latitude": np.linspace(-90, 90, 13),
        "grid_longitude": np.arange(24) * 15.0,
        "mesh": MESHES[2],
    }
    whole = (
        connectivity.radius_query_indices(**arguments, radius=0.2),
        connectivity.in_mesh_triangle_indices(**arguments),
    )
    monkeypatch.setattr(connectivity, "_CHUNK", 17)
    parts = (
        connectivity.radius_query_indices(**arguments, radius=0.2),
        connectivity.in_mesh_triangle_indices(**arguments),
    )
    for expected, found in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("change", ["hole", "large", "uneven"])
def test_other_surfaces_are_searched_for_the_closest_point(change):
    mesh = MESHES[2]
    vertices = mesh.vertices.copy()
    if change == "hole":
        mesh = mesh._replace(faces=mesh.faces[5:])
    elif change == "large":
        mesh = mesh._replace(vertices=vertices * 2)
    else:
        vertices[40] += 0.7 * (vertices[41] - vertices[40])
        vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
        mesh = mesh._replace(vertices=vertices)
    points = sphere.grid_positions(
        np.linspace(-89, 89, 20), np.linspace(0, 350, 36)
    ).reshape(-1, 3)
    np.testing.assert_array_equal(
        connectivity.containing_faces(points, mesh),
        connectivity._closest_faces(points, mesh),
    )


def test_renumbered_vertices_give_the_same_triangles():
    banded = icosahedral_mesh.permute_to_banded(MESHES[3])
    points = sphere.grid_positions(
        np.linspace(-88, 88, 30), np.arange(0, 360, 7.0)
    ).reshape(-1, 3)
    np.testing.assert_array_equal(
        connectivity.containing_faces(points, banded),
        connectivity.containing_faces(points, MESHES[3]),
    )
