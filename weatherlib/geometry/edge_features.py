"""Structural features of nodes and edges.

The arithmetic keeps the published order and dtypes: angles and positions in the dtype
of the degrees given (float32 in GraphCast), rotations in float64.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from weatherlib.geometry import sphere

__all__ = [
    "edge_features",
    "node_features",
    "relative_positions",
    "rotations_to_local",
]

# Edges handled at once, which bounds the memory at any resolution.
_CHUNK = 1 << 18


def node_features(
    lat: Float[np.ndarray, " node"], lon: Float[np.ndarray, " node"]
) -> Float[np.ndarray, "node 3"]:
    """Returns [sin latitude, cos longitude, sin longitude] of each node.

    Args:
      lat: Degrees north, shape [node].
      lon: Degrees east, shape [node].
    """
    phi, theta = sphere.angles_from_degrees(lat, lon)
    return np.stack([np.cos(theta), np.cos(phi), np.sin(phi)], axis=-1)


def rotations_to_local(
    phi: Float[np.ndarray, " node"],
    theta: Float[np.ndarray, " node"],
    *,
    rotate_latitude: bool = True,
    rotate_longitude: bool = True,
) -> Float[np.ndarray, "node 3 3"]:
    """Returns matrices that turn each node to latitude 0, longitude 0 or both.

    North stays north: a vector that points to the pole still does after turning.

    Args:
      phi: Longitude in radians, shape [node].
      theta: Distance from the north pole in radians, shape [node].
      rotate_latitude: Whether the node goes to latitude 0.
      rotate_longitude: Whether the node goes to longitude 0. If only the latitude
        turns, the node ends where its meridian meets the equator.

    Returns:
      float64 matrices for column vectors, shape [node, 3, 3].

    Raises:
      ValueError: Nothing is to be rotated.
    """
    if not (rotate_latitude or rotate_longitude):
        raise ValueError(
            "at least one of rotate_latitude and rotate_longitude must be true"
        )
    # The complement is taken in the dtype of `theta`, as published.
    to_equator = (np.pi / 2 - theta).astype(np.float64)
    to_greenwich = _about_z(-phi.astype(np.float64))
    if not rotate_latitude:
        return to_greenwich
    turned = _about_y(to_equator) @ to_greenwich
    return turned if rotate_longitude else np.swapaxes(to_greenwich, 1, 2) @ turned


def _about_z(angle: Float[np.ndarray, " node"]) -> Float[np.ndarray, "node 3 3"]:
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, zero + 1]]
    return np.moveaxis(np.array(rows), -1, 0)


def _about_y(angle: Float[np.ndarray, " node"]) -> Float[np.ndarray, "node 3 3"]:
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    rows = [[cos, zero, sin], [zero, zero + 1, zero], [-sin, zero, cos]]
    return np.moveaxis(np.array(rows), -1, 0)


def relative_positions(
    senders: Int[np.ndarray, " edge"],
    receivers: Int[np.ndarray, " edge"],
    sender_positions: Float[np.ndarray, "sender 3"],
    receiver_positions: Float[np.ndarray, "receiver 3"],
    rotations: Float[np.ndarray, "receiver 3 3"] | None,
) -> Float[np.ndarray, "edge 3"]:
    """Returns sender minus receiver of each edge in the frame of the receiver.

    Args:
      senders: Index of each edge into the sender nodes, shape [edge].
      receivers: Index of each edge into the receiver nodes, shape [edge].
      sender_positions: Points of the unit sphere, shape [sender, 3].
      receiver_positions: Points of the unit sphere, shape [receiver, 3].
      rotations: The frame of each receiver, from `rotations_to_local`, or none for
        unrotated differences.
    """
    if rotations is None:
        return sender_positions[senders] - receiver_positions[receivers]
    relative = np.empty((len(senders), 3))
    for start in range(0, len(senders), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        to = receivers[chunk]
        # In float64 from here on; the published code rotates both ends and subtracts
        # then, which is the same to the last bits of float64.
        ends = np.subtract(
            sender_positions[senders[chunk]], receiver_positions[to], dtype=np.float64
        )
        relative[chunk] = np.einsum("eij,ej->ei", rotations[to], ends)
    return relative


def edge_features(
    relative: Float[np.ndarray, "edge 3"], normalization_factor: float | None = None
) -> Float[np.ndarray, "edge 4"]:
    """Returns [length, x, y, z] of each edge in units of the longest one.

    Args:
      relative: From `relative_positions`, shape [edge, 3].
      normalization_factor: Takes the place of the longest edge.
    """
    lengths = np.linalg.norm(relative, axis=-1, keepdims=True)
    if normalization_factor is None:
        normalization_factor = lengths.max(initial=0.0) or 1.0
    return np.concatenate([lengths, relative], axis=-1) / normalization_factor
