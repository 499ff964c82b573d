"""The published module `model_utils`: spatial features, and datasets as stacked arrays.

The features of a whole graph are better taken from `geometry.graph.build_graph`, which
keeps them. The functions here serve code written for the published package. Where they
take `np_` and `transform_`, JAX's counterparts of NumPy and SciPy work too.

Places are given by two or three arrays of one shape, which the results have too:
`node_lat` and `node_lon` in degrees; `phi`, the longitude, and `theta`, the distance
from the north pole, in radians; or x, y and z of unit vectors.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import transform

from weatherlib.geometry import sphere
from weatherlib.stacking import (
    dataset_to_stacked,
    lat_lon_to_leading_axes,
    restore_leading_axes,
    stacked_to_dataset,
    variable_to_stacked,
)

__all__ = [
    "NumpyInterface",
    "TransformInterface",
    "cartesian_to_lat_lon",
    "cartesian_to_spherical",
    "dataset_to_stacked",
    "fourier_features",
    "get_bipartite_graph_spatial_features",
    "get_bipartite_relative_position_in_receiver_local_coordinates",
    "get_graph_spatial_features",
    "get_relative_position_in_receiver_local_coordinates",
    "get_rotation_matrices_to_local_coordinates",
    "lat_lon_deg_to_spherical",
    "lat_lon_to_cartesian",
    "lat_lon_to_leading_axes",
    "restore_leading_axes",
    "rotate_with_matrices",
    "spherical_to_cartesian",
    "spherical_to_lat_lon",
    "stacked_to_dataset",
    "variable_to_stacked",
]

NumpyInterface: TypeAlias = Any
TransformInterface: TypeAlias = Any
_Array: TypeAlias = Any


def lat_lon_deg_to_spherical(
    node_lat: _Array, node_lon: _Array, np_: NumpyInterface = np
) -> tuple[_Array, _Array]:
    """Returns longitude and distance from the north pole in radians."""
    return sphere.angles_from_degrees(node_lat, node_lon, np_)


def spherical_to_lat_lon(
    phi: _Array, theta: _Array, np_: NumpyInterface = np
) -> tuple[_Array, _Array]:
    """Returns latitude and longitude in [0, 360), in degrees."""
    return sphere.degrees_from_angles(phi, theta, np_)


def cartesian_to_spherical(
    x: _Array, y: _Array, z: _Array, np_: NumpyInterface = np
) -> tuple[_Array, _Array]:
    """Returns longitude and distance from the north pole of unit vectors in radians."""
    return sphere.angles_from_positions(x, y, z, np_)


def spherical_to_cartesian(
    phi: _Array, theta: _Array, np_: NumpyInterface = np
) -> tuple[_Array, _Array, _Array]:
    """Returns x, y and z of points on the unit sphere."""
    return sphere.positions_from_angles(phi, theta, np_)


def lat_lon_to_cartesian(
    lat: _Array, lon: _Array, np_: NumpyInterface = np
) -> tuple[_Array, _Array, _Array]:
    """Returns x, y and z of places given in degrees."""
    return spherical_to_cartesian(*lat_lon_deg_to_spherical(lat, lon, np_), np_)


def cartesian_to_lat_lon(
    x: _Array, y: _Array, z: _Array, np_: NumpyInterface = np
) -> tuple[_Array, _Array]:
    """Returns latitude and longitude of unit vectors in degrees."""
    return spherical_to_lat_lon(*cartesian_to_spherical(x, y, z, np_), np_)


def get_rotation_matrices_to_local_coordinates(
    reference_phi: _Array,
    reference_theta: _Array,
    rotate_latitude: bool,
    rotate_longitude: bool,
    np_: NumpyInterface = np,
    transform_: TransformInterface = transform,
) -> _Array:
    """Returns matrices that turn each place to latitude 0, longitude 0 or both.

    A vector that points to the pole still does after turning.

    Args:
      reference_phi: Longitude in radians, shape [node].
      reference_theta: Distance from the north pole in radians, shape [node].
      rotate_latitude: Whether the place goes to latitude 0, along its meridian.
      rotate_longitude: Whether the place goes to longitude 0.
      np_: Array module.
      transform_: Module with SciPy's `Rotation`.

    Returns:
      Matrices for `rotate_with_matrices`, shape [node, 3, 3].

    Raises:
      ValueError: Nothing is to be rotated.
    """
    to_greenwich, to_equator = -reference_phi, np.pi / 2 - reference_theta
    if rotate_longitude and rotate_latitude:
        sequence, angles = "zy", [to_greenwich, to_equator]
    elif rotate_longitude:
        sequence, angles = "z", [to_greenwich]
    elif rotate_latitude:
        sequence, angles = "zyz", [to_greenwich, to_equator, -to_greenwich]
    else:
        raise ValueError("At least one of longitude and latitude should be rotated.")
    rotation = transform_.Rotation.from_euler(sequence, np_.stack(angles, axis=1))
    return rotation.as_matrix()


def rotate_with_matrices(
    rotation_matrices: _Array, positions: _Array, np_: NumpyInterface = np
) -> _Array:
    """Returns each position multiplied by its matrix.

    Args:
      rotation_matrices: Shape [..., 3, 3].
      positions: Shape [..., 3].
      np_: Array module.
    """
    return np_.einsum("...ij,...j->...i", rotation_matrices, positions)


def get_relative_position_in_receiver_local_coordinates(
    node_phi: _Array,
    node_theta: _Array,
    senders: _Array,
    receivers: _Array,
    latitude_local_coordinates: bool,
    longitude_local_coordinates: bool,
    np_: NumpyInterface = np,
    transform_: TransformInterface = transform,
) -> _Array:
    """Returns sender minus receiver of each edge, as the receiver sees it.

    Args:
      node_phi: Longitude in radians, shape [node].
      node_theta: Distance from the north pole in radians, shape [node].
      senders: Node each edge starts from, shape [edge].
      receivers: Node each edge leads to, shape [edge].
      latitude_local_coordinates: Whether to turn receivers to latitude 0.
      longitude_local_coordinates: Whether to turn receivers to longitude 0.
      np_: Array module.
      transform_: Module with SciPy's `Rotation`.

    Returns:
      Shape [edge, 3].
    """
    return get_bipartite_relative_position_in_receiver_local_coordinates(
        node_phi,
        node_theta,
        senders,
        node_phi,
        node_theta,
        receivers,
        latitude_local_coordinates,
        longitude_local_coordinates,
        np_,
        transform_,
    )


def get_bipartite_relative_position_in_receiver_local_coordinates(  # noqa: PLR0913
    senders_node_phi: _Array,
    senders_node_theta: _Array,
    senders: _Array,
    receivers_node_phi: _Array,
    receivers_node_theta: _Array,
    receivers: _Array,
    latitude_local_coordinates: bool,
    longitude_local_coordinates: bool,
    np_: NumpyInterface = np,
    transform_: TransformInterface = transform,
) -> _Array:
    """Returns sender minus receiver of each edge between two kinds of nodes.

    Arguments and result are those of
    `get_relative_position_in_receiver_local_coordinates`, with the angles of senders
    and receivers apart.
    """
    sender_ends, receiver_ends = (
        np_.stack(spherical_to_cartesian(phi, theta, np_), axis=-1)[ends]
        for phi, theta, ends in (
            (senders_node_phi, senders_node_theta, senders),
            (receivers_node_phi, receivers_node_theta, receivers),
        )
    )
    if not (latitude_local_coordinates or longitude_local_coordinates):
        return sender_ends - receiver_ends
    turn = get_rotation_matrices_to_local_coordinates(
        receivers_node_phi,
        receivers_node_theta,
        rotate_latitude=latitude_local_coordinates,
        rotate_longitude=longitude_local_coordinates,
        np_=np_,
        transform_=transform_,
    )[receivers]
    # Rotated before subtracting: rotations are float64 and positions may not be.
    return rotate_with_matrices(turn, sender_ends, np_) - rotate_with_matrices(
        turn, receiver_ends, np_
    )


def get_graph_spatial_features(  # noqa: PLR0913
    *,
    node_lat: np.ndarray,
    node_lon: np.ndarray,
    senders: np.ndarray,
    receivers: np.ndarray,
    add_node_positions: bool,
    add_node_latitude: bool,
    add_node_longitude: bool,
    add_relative_positions: bool,
    edge_normalization_factor: float | None = None,
    relative_longitude_local_coordinates: bool,
    relative_latitude_local_coordinates: bool,
    sine_cosine_encoding: bool = False,
    encoding_num_freqs: int = 10,
    encoding_multiplicative_factor: float = 1.2,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features of the nodes and edges of a graph on the sphere.

    Args:
      node_lat: Degrees north, shape [node].
      node_lon: Degrees east, shape [node].
      senders: Node each edge starts from, shape [edge].
      receivers: Node each edge leads to, shape [edge].
      add_node_positions: Gives nodes x, y and z.
      add_node_latitude: Gives nodes the sine of latitude.
      add_node_longitude: Gives nodes the cosine and sine of longitude.
      add_relative_positions: Gives edges their length and their vector.
      edge_normalization_factor: Divides lengths and vectors; the longest edge of this
        graph by default.
      relative_longitude_local_coordinates: Whether vectors are seen from a receiver
        turned to longitude 0.
      relative_latitude_local_coordinates: Whether vectors are seen from a receiver
        turned to latitude 0.
      sine_cosine_encoding: Replaces features by sines and cosines of their multiples.
      encoding_num_freqs: How many multiples.
      encoding_multiplicative_factor: Ratio of one multiple to the one before.

    Returns:
      Features of nodes, shape [node, feature], and edges, shape [edge, feature].
    """
    node_features, _, edge_features = get_bipartite_graph_spatial_features(
        senders_node_lat=node_lat,
        senders_node_lon=node_lon,
        senders=senders,
        receivers_node_lat=node_lat,
        receivers_node_lon=node_lon,
        receivers=receivers,
        add_node_positions=add_node_positions,
        add_node_latitude=add_node_latitude,
        add_node_longitude=add_node_longitude,
        add_relative_positions=add_relative_positions,
        edge_normalization_factor=edge_normalization_factor,
        relative_longitude_local_coordinates=relative_longitude_local_coordinates,
        relative_latitude_local_coordinates=relative_latitude_local_coordinates,
    )
    if sine_cosine_encoding:
        multiples = encoding_multiplicative_factor ** np.arange(encoding_num_freqs)
        node_features = _sines_and_cosines(node_features, multiples)
        edge_features = _sines_and_cosines(edge_features, multiples)
    return node_features, edge_features


def get_bipartite_graph_spatial_features(  # noqa: PLR0913
    *,
    senders_node_lat: np.ndarray,
    senders_node_lon: np.ndarray,
    senders: np.ndarray,
    receivers_node_lat: np.ndarray,
    receivers_node_lon: np.ndarray,
    receivers: np.ndarray,
    add_node_positions: bool,
    add_node_latitude: bool,
    add_node_longitude: bool,
    add_relative_positions: bool,
    edge_normalization_factor: float | None = None,
    relative_longitude_local_coordinates: bool,
    relative_latitude_local_coordinates: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the features of a graph between two kinds of nodes on the sphere.

    Arguments are those of `get_graph_spatial_features`, with the nodes of senders and
    receivers apart.

    Returns:
      Features of sending nodes, receiving nodes and edges, each [..., feature].

    Raises:
      ValueError: Latitudes of senders and receivers differ in dtype.
    """
    dtype = senders_node_lat.dtype
    if receivers_node_lat.dtype != dtype:
        raise ValueError(
            "latitudes of senders and receivers must have the same dtype, got "
            f"{dtype} and {receivers_node_lat.dtype}"
        )
    angles = [
        lat_lon_deg_to_spherical(senders_node_lat, senders_node_lon),
        lat_lon_deg_to_spherical(receivers_node_lat, receivers_node_lon),
    ]
    sender_features, receiver_features = (
        _node_features(
            phi, theta, dtype, add_node_positions, add_node_latitude, add_node_longitude
        )
        for phi, theta in angles
    )
    if not add_relative_positions:
        return sender_features, receiver_features, np.zeros((len(senders), 0), dtype)
    vectors = get_bipartite_relative_position_in_receiver_local_coordinates(
        *angles[0],
        senders,
        *angles[1],
        receivers,
        latitude_local_coordinates=relative_latitude_local_coordinates,
        longitude_local_coordinates=relative_longitude_local_coordinates,
    )
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if edge_normalization_factor is None:
        edge_normalization_factor = lengths.max()
    edge_features = np.concatenate([lengths, vectors], -1) / edge_normalization_factor
    return sender_features, receiver_features, edge_features


def _node_features(
    phi: np.ndarray,
    theta: np.ndarray,
    dtype: np.dtype,
    positions: bool,
    latitude: bool,
    longitude: bool,
) -> np.ndarray:
    columns = [
        *(spherical_to_cartesian(phi, theta) if positions else ()),
        *((np.cos(theta),) if latitude else ()),
        *((np.cos(phi), np.sin(phi)) if longitude else ()),
    ]
    return np.stack(columns, -1) if columns else np.zeros((len(theta), 0), dtype)


def _sines_and_cosines(features: np.ndarray, multiples: np.ndarray) -> np.ndarray:
    phases = features[..., None] * multiples
    encoded = np.concatenate([np.sin(phases), np.cos(phases)], axis=-1)
    return encoded.reshape(len(features), -1)


def fourier_features(
    values: jax.Array, base_period: float, num_frequencies: int
) -> jax.Array:
    """Returns cosines, then sines, of the harmonics of a period.

    Args:
      values: Any shape.
      base_period: Longest period, at least the range of `values`.
      num_frequencies: Harmonics, from once a period on.

    Returns:
      The shape of `values` with one more axis, twice `num_frequencies` long.
    """
    harmonics = 2 * np.pi * np.arange(1, num_frequencies + 1) / base_period
    phases = values[..., None] * jnp.array(harmonics, values.dtype)
    return jnp.concatenate([jnp.cos(phases), jnp.sin(phases)], axis=-1)
