"""The published module `grid_mesh_connectivity`, kept in `geometry.connectivity`."""

from weatherlib.geometry.connectivity import (
    in_mesh_triangle_indices,
    radius_query_indices,
)

# A private name of the published module that its own tests use.
from weatherlib.geometry.sphere import grid_positions as _grid_lat_lon_to_coordinates

__all__ = [
    "_grid_lat_lon_to_coordinates",
    "in_mesh_triangle_indices",
    "radius_query_indices",
]
