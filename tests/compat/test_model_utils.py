import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import jax.scipy.spatial.transform as jax_transform
import numpy as np
import pytest

from tests import tolerances
from weatherlib import model_utils
from weatherlib.geometry import edge_features, graph

RANDOM = np.random.default_rng(0)
LAT = np.array([90, -90, 0, 12, -67, 45, 80.0])
LON = np.array([0, 30, 180, 34, 200, 359, 271.0])
SENDERS, RECEIVERS = RANDOM.integers(len(LAT), size=(2, 40))
PHI, THETA = model_utils.lat_lon_deg_to_spherical(LAT, LON)
FLAGS = {
    "add_node_positions": False,
    "add_node_latitude": True,
    "add_node_longitude": True,
    "add_relative_positions": True,
    "relative_longitude_local_coordinates": True,
    "relative_latitude_local_coordinates": True,
}


def features(**kwargs):
    return model_utils.get_graph_spatial_features(
        node_lat=LAT,
        node_lon=LON,
        senders=SENDERS,
        receivers=RECEIVERS,
        **(FLAGS | kwargs),
    )


@pytest.mark.parametrize("name", model_utils.__all__)
def test_every_listed_name_exists(name):
    assert getattr(model_utils, name) is not None


def test_positions_go_to_degrees_and_back():
    positions = model_utils.lat_lon_to_cartesian(LAT, LON)
    lat, lon = model_utils.cartesian_to_lat_lon(*positions)
    np.testing.assert_allclose(lat, LAT, atol=1e-9)
    np.testing.assert_allclose(lon[2:], LON[2:], atol=1e-9)
    np.testing.assert_allclose(
        np.stack(model_utils.spherical_to_cartesian(PHI, THETA)), np.stack(positions)
    )
    again = model_utils.cartesian_to_spherical(*positions)
    np.testing.assert_allclose(
        model_utils.spherical_to_lat_lon(*again), (lat, lon), atol=1e-9
    )


def test_features_of_a_whole_graph_are_those_of_geometry():
    geometry = graph.build_graph(
        np.linspace(-90, 90, 19),
        np.arange(36) * 10.0,
        mesh_size=1,
        radius_query_fraction_edge_length=0.6,
    )
    grid_lat, grid_lon = (
        axis.ravel().astype(np.float32)
        for axis in np.meshgrid(
            geometry.grid_latitude, geometry.grid_longitude, indexing="ij"
        )
    )
    grid, mesh, edges = model_utils.get_bipartite_graph_spatial_features(
        senders_node_lat=grid_lat,
        senders_node_lon=grid_lon,
        senders=geometry.grid2mesh.senders,
        receivers_node_lat=geometry.mesh_latitude.astype(np.float32),
        receivers_node_lon=geometry.mesh_longitude.astype(np.float32),
        receivers=geometry.grid2mesh.receivers,
        **FLAGS,
    )
    for found, expected in (
        (grid, geometry.grid_node_features),
        (mesh, geometry.mesh_node_features),
        (edges, geometry.grid2mesh.features),
    ):
        np.testing.assert_allclose(found, expected, atol=tolerances.GEOMETRY)


@pytest.mark.parametrize(
    ("positions", "latitude", "longitude"), list(itertools.product([0, 1], repeat=3))
)
def test_nodes_get_the_features_asked_for(positions, latitude, longitude):
    nodes, _ = features(
        add_node_positions=bool(positions),
        add_node_latitude=bool(latitude),
        add_node_longitude=bool(longitude),
    )
    xyz = np.stack(model_utils.lat_lon_to_cartesian(LAT, LON), -1)
    rest = edge_features.node_features(LAT, LON)
    parts = [xyz] * positions + [rest[:, :1]] * latitude + [rest[:, 1:]] * longitude
    expected = np.concatenate([np.zeros((len(LAT), 0)), *parts], axis=-1)
    np.testing.assert_allclose(nodes, expected, atol=1e-15)


def test_edges_without_relative_positions_have_no_features():
    assert features(add_relative_positions=False)[1].shape == (40, 0)


@pytest.mark.parametrize(("latitude", "longitude"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_edges_are_seen_from_the_frame_asked_for(latitude, longitude):
    _, edges = features(
        relative_latitude_local_coordinates=bool(latitude),
        relative_longitude_local_coordinates=bool(longitude),
        edge_normalization_factor=2.0,
    )
    positions = np.stack(model_utils.lat_lon_to_cartesian(LAT, LON), -1)
    frames = None
    if latitude or longitude:
        frames = edge_features.rotations_to_local(
            PHI,
            THETA,
            rotate_latitude=bool(latitude),
            rotate_longitude=bool(longitude),
        )
    vectors = edge_features.relative_positions(
        SENDERS, RECEIVERS, positions, positions, frames
    )
    np.testing.assert_allclose(edges[:, 1:], vectors / 2, atol=1e-14)
    np.testing.assert_allclose(
        edges[:, 0], np.linalg.norm(vectors, axis=1) / 2, atol=1e-14
    )


def test_edges_are_in_units_of_the_longest_one():
    _, edges = features()
    assert edges[:, 0].max() == 1


def test_sines_and_cosines_replace_features():
    plain_nodes, plain_edges = features()
    nodes, edges = features(
        sine_cosine_encoding=True,
        encoding_num_freqs=3,
        encoding_multiplicative_factor=2.0,
    )
    assert nodes.shape == (7, 3 * 6)
    assert edges.shape == (40, 4 * 6)
    np.testing.assert_allclose(nodes[:, :3], np.sin(plain_nodes[:, :1] * [1, 2, 4]))
    np.testing.assert_allclose(edges[:, -3:], np.cos(plain_edges[:, -1:] * [1, 2, 4]))


def test_rotations_take_places_to_the_equator_at_greenwich():
    matrices = model_utils.get_rotation_matrices_to_local_coordinates(
        PHI, THETA, rotate_latitude=True, rotate_longitude=True
    )
    positions = np.stack(model_utils.spherical_to_cartesian(PHI, THETA), -1)
    turned = model_utils.rotate_with_matrices(matrices, positions)
    np.testing.assert_allclose(turned, [[1, 0, 0]] * len(LAT), atol=1e-15)


def test_rotating_nothing_is_refused():
    with pytest.raises(ValueError, match="longitude and latitude should be rotated"):
        model_utils.get_rotation_matrices_to_local_coordinates(
            PHI, THETA, rotate_latitude=False, rotate_longitude=False
        )


def test_relative_positions_work_on_jax_arrays_too():
    def relative(phi, theta, **modules):
        return model_utils.get_relative_position_in_receiver_local_coordinates(
            phi, theta, SENDERS, RECEIVERS, True, True, **modules
        )

    on_jax = functools.partial(relative, np_=jnp, transform_=jax_transform)
    np.testing.assert_allclose(
        jax.jit(on_jax)(PHI, THETA), relative(PHI, THETA), atol=1e-6
    )


def test_latitudes_of_different_precision_are_refused():
    with pytest.raises(ValueError, match="same dtype, got float32 and float64"):
        model_utils.get_bipartite_graph_spatial_features(
            senders_node_lat=LAT.astype(np.float32),
            senders_node_lon=LON,
            senders=SENDERS,
            receivers_node_lat=LAT,
            receivers_node_lon=LON,
            receivers=RECEIVERS,
            **FLAGS,
        )


def test_fourier_features_are_cosines_then_sines_of_harmonics():
    values = jnp.array([[0.0, 0.25], [0.5, 1.5]])
    found = model_utils.fourier_features(values, base_period=2.0, num_frequencies=2)
    phase = np.pi * np.asarray(values)[..., None] * [1, 2]
    expected = np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == values.dtype


def test_spatial_features_take_the_published_keywords():
    signature = inspect.signature(model_utils.get_graph_spatial_features)
    assert list(signature.parameters)[-3:] == [
        "sine_cosine_encoding",
        "encoding_num_freqs",
        "encoding_multiplicative_factor",
    ]
