import inspect

import numpy as np
import pytest

from weatherlib import grid_mesh_connectivity, icosahedral_mesh

PUBLISHED = {
    "radius_query_indices": ["grid_latitude", "grid_longitude", "mesh", "radius"],
    "in_mesh_triangle_indices": ["grid_latitude", "grid_longitude", "mesh"],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_arguments_are_the_published_keywords(name):
    parameters = inspect.signature(getattr(grid_mesh_connectivity, name)).parameters
    assert list(parameters) == PUBLISHED[name]
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_both_queries_work_on_published_meshes():
    grid = {
        "grid_latitude": np.linspace(-75, 75, 6),
        "grid_longitude": np.arange(12) * 30.0,
        "mesh": icosahedral_mesh.get_last_triangular_mesh_for_sphere(3),
    }
    points, nodes = grid_mesh_connectivity.radius_query_indices(**grid, radius=0.2)
    assert len(points) == len(nodes) > 72
    points, nodes = grid_mesh_connectivity.in_mesh_triangle_indices(**grid)
    np.testing.assert_array_equal(points, np.repeat(np.arange(72), 3))


def test_the_private_name_of_the_published_tests_gives_positions():
    positions = grid_mesh_connectivity._grid_lat_lon_to_coordinates(
        np.array([0.0, 90.0]), np.array([90.0])
    )
    np.testing.assert_allclose(positions, [[[0, 1, 0]], [[0, 0, 1]]], atol=1e-15)
