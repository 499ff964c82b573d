import jax
import numpy as np
import pytest

from tests.graphcast import models
from weatherlib.geometry import graph
from weatherlib.graphcast import message_graph


@pytest.fixture(scope="module")
def geometry():
    lat, lon = np.arange(-90.0, 91, 10), np.arange(0.0, 360, 10)
    return graph.build_graph(
        lat, lon, mesh_size=2, radius_query_fraction_edge_length=0.6
    )


def rows(*columns):
    """Returns the rows of columns side by side, in an order of their own."""
    table = np.concatenate([c.reshape(len(c), -1) for c in columns], 1)
    return table[np.lexsort(table.T)]


def test_renumbering_keeps_every_edge_with_its_ends_and_features(geometry):
    renumbered = message_graph.make_message_graph(geometry)
    arrays = renumbered.arrays
    mesh, grid = geometry.mesh_node_features, geometry.grid_node_features
    for name, old, senders, features in (
        ("grid2mesh", geometry.grid2mesh, grid, "grid2mesh_features"),
        ("mesh", geometry.mesh, mesh, "mesh_edge_features"),
    ):
        new_senders = grid if name == "grid2mesh" else arrays["mesh_features"]
        np.testing.assert_array_equal(
            rows(
                new_senders[arrays[f"{name}_senders"]],
                arrays["mesh_features"][arrays[f"{name}_receivers"]],
                arrays[features],
            ),
            rows(senders[old.senders], mesh[old.receivers], old.features),
        )
    np.testing.assert_array_equal(
        arrays["mesh_features"][arrays["mesh2grid_senders"]].reshape(-1, 3),
        mesh[geometry.mesh2grid.senders],
    )
    assert renumbered.num_edges == 3 * len(grid)


def test_sums_of_mesh_edges_come_out_in_the_order_of_nodes(geometry):
    assert message_graph.make_message_graph(geometry).mesh_plan.in_node_order


def test_three_edges_in_turn_lead_to_each_grid_node(geometry):
    nodes = np.arange(len(geometry.grid_node_features))
    np.testing.assert_array_equal(geometry.mesh2grid.receivers, np.repeat(nodes, 3))


def test_the_digest_tells_features_apart(geometry):
    scaled = graph.build_graph(
        geometry.grid_latitude,
        geometry.grid_longitude,
        mesh_size=2,
        radius_query_fraction_edge_length=0.6,
        mesh2grid_edge_normalization_factor=0.5,
    )
    first = message_graph.make_message_graph(geometry).digest
    assert first == message_graph.make_message_graph(geometry).digest
    assert first != message_graph.make_message_graph(scaled).digest


def test_the_predictor_keeps_its_edges_in_the_folder_it_is_given(tmp_path):
    inputs, targets, forcings = models.make_data()
    transformed = models.transform(graph_cache=tmp_path)
    jax.eval_shape(transformed.init, jax.random.key(0), inputs, targets, forcings)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
