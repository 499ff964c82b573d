import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import transform

from weatherlib.geometry import edge_features, sphere

PLACES = [(0, 0), (12, 34), (-67, 200), (89.9, -120), (90, 0), (90, 75), (-90, 10)]
LAT, LON = np.array(PLACES, float).T
PHI, THETA = sphere.angles_from_degrees(LAT, LON)
POSITIONS = np.stack(sphere.positions_from_angles(PHI, THETA), axis=-1)
NORTH = np.stack(sphere.positions_from_angles(PHI, THETA - np.pi / 2), axis=-1)


def turn(vectors, **kwargs):
    matrices = edge_features.rotations_to_local(PHI, THETA, **kwargs)
    return np.einsum("nij,nj->ni", matrices, vectors)


def test_places_turn_to_latitude_and_longitude_0_with_north_up():
    np.testing.assert_allclose(turn(POSITIONS), [[1, 0, 0]] * len(LAT), atol=1e-15)
    np.testing.assert_allclose(turn(NORTH), [[0, 0, 1]] * len(LAT), atol=1e-15)


def test_turning_the_longitude_alone_keeps_the_latitude():
    turned = turn(POSITIONS, rotate_latitude=False)
    expected = sphere.positions_from_angles(np.zeros_like(PHI), THETA)
    np.testing.assert_allclose(turned, np.stack(expected, -1), atol=1e-15)


def test_turning_the_latitude_alone_keeps_the_meridian():
    turned = turn(POSITIONS, rotate_longitude=False)
    expected = sphere.positions_from_angles(PHI, np.full_like(PHI, np.pi / 2))
    np.testing.assert_allclose(turned, np.stack(expected, -1), atol=1e-15)
    north = turn(NORTH, rotate_longitude=False)
    np.testing.assert_allclose(north, [[0, 0, 1]] * len(LAT), atol=1e-15)


def test_turning_nothing_is_refused():
    with pytest.raises(ValueError, match="rotate_latitude and rotate_longitude"):
        turn(POSITIONS, rotate_latitude=False, rotate_longitude=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_turning_is_the_rotation_about_z_then_y_of_scipy(dtype):
    phi, theta = PHI.astype(dtype), THETA.astype(dtype)
    angles = np.stack([-phi, np.pi / 2 - theta], axis=1)
    expected = transform.Rotation.from_euler("zy", angles).as_matrix()
    found = edge_features.rotations_to_local(phi, theta)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_an_edge_from_the_east_points_to_y_and_one_from_the_north_to_z():
    sender = np.stack(
        sphere.positions_from_angles(*sphere.angles_from_degrees(LAT[:3], LON[:3] + 1)),
        axis=-1,
    )
    index = np.arange(3)
    frames = edge_features.rotations_to_local(PHI[:3], THETA[:3])
    east = edge_features.relative_positions(index, index, sender, POSITIONS[:3], frames)
    np.testing.assert_allclose(
        east[:, 1], np.cos(np.deg2rad(LAT[:3])) * np.sin(np.deg2rad(1))
    )
    north = edge_features.relative_positions(
        index, index, NORTH[:3], POSITIONS[:3], frames
    )
    np.testing.assert_allclose(north, [[-1, 0, 1]] * 3, atol=1e-15)


def test_without_rotation_edges_are_plain_differences():
    senders, receivers = np.array([0, 3, 4]), np.array([1, 2, 6])
    relative = edge_features.relative_positions(
        senders, receivers, POSITIONS, POSITIONS, None
    )
    np.testing.assert_array_equal(relative, POSITIONS[senders] - POSITIONS[receivers])


@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(0, 360)), min_size=2, max_size=10),
    st.floats(0, 360),
)
def test_turning_the_globe_does_not_change_edges(places, shift):
    lat, lon = np.array(places).T
    senders = np.arange(len(lat))
    receivers = np.roll(senders, 1)

    def relative(lon):
        phi, theta = sphere.angles_from_degrees(lat, lon)
        positions = np.stack(sphere.positions_from_angles(phi, theta), axis=-1)
        return edge_features.relative_positions(
            senders,
            receivers,
            positions,
            positions,
            edge_features.rotations_to_local(phi, theta),
        )

    np.testing.assert_allclose(relative(lon + shift), relative(lon), atol=1e-13)


def test_edges_taken_in_parts_are_the_same(monkeypatch):
    random = np.random.default_rng(0)
    senders, receivers = random.integers(len(LAT), size=(2, 50))
    frames = edge_features.rotations_to_local(PHI, THETA)
    arguments = (senders, receivers, POSITIONS, POSITIONS, frames)
    whole = edge_features.relative_positions(*arguments)
    monkeypatch.setattr(edge_features, "_CHUNK", 7)
    np.testing.assert_array_equal(edge_features.relative_positions(*arguments), whole)


def test_features_are_in_units_of_the_longest_edge():
    relative = np.array([[0.0, 3.0, 4.0], [0.0, 1.0, 0.0]])
    features = edge_features.edge_features(relative)
    np.testing.assert_allclose(features, [[1, 0, 0.6, 0.8], [0.2, 0, 0.2, 0]])


def test_a_given_factor_takes_the_place_of_the_longest_edge():
    features = edge_features.edge_features(np.array([[0.0, 3.0, 4.0]]), 10.0)
    np.testing.assert_allclose(features, [[0.5, 0, 0.3, 0.4]])


def test_edges_without_length_stay_zero():
    np.testing.assert_array_equal(edge_features.edge_features(np.zeros((2, 3))), 0)


def test_nodes_have_sine_of_latitude_and_cosine_and_sine_of_longitude():
    features = edge_features.node_features(LAT, LON)
    lat, lon = np.deg2rad(LAT), np.deg2rad(LON)
    expected = np.stack([np.sin(lat), np.cos(lon), np.sin(lon)], axis=-1)
    np.testing.assert_allclose(features, expected, atol=1e-15)
