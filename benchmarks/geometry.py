"""Seconds and memory of graphs and of solar radiation, beside the published code.

    python benchmarks/geometry.py [--resolution 1 0.25] [--reference DIR]

`graphs` builds the three graphs of a global grid and a multi-mesh. `again` takes them
from a cache folder in a new process. `radiation` computes a few six-hourly fields of
hourly sums. Each runs in a process of its own; memory is what it adds to that process
at its peak, after imports. DIR is a checkout of the published package (version 0.2);
with it, the same work is done by its functions and the last column is how many times
less ours takes. Edges of both are compared as well.
"""

import argparse
import hashlib
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

# Refinements of the published models by grid spacing in degrees.
MESH_SIZES = {10.0: 2, 2.0: 4, 1.0: 5, 0.25: 6}
RADIUS_FRACTION = 0.6
FIELDS = 4


def main() -> None:
    """Runs every case and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--resolution",
        type=float,
        nargs="+",
        default=[1.0, 0.25],
        choices=sorted(MESH_SIZES),
        help="grid spacing in degrees",
    )
    parser.add_argument("--reference", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        work, resolution, folder = json.loads(options.case)
        print(json.dumps(_measure(work, resolution, folder)))
        return
    print(
        f"{'degrees':>8} {'work':<10}{'seconds':>9}{'adds MiB':>10}{'CPU s':>8}  ratio"
    )
    for resolution in sorted(options.resolution, reverse=True):
        with tempfile.TemporaryDirectory() as cache:
            ours = {
                work: _run(work, resolution, cache)
                for work in ("graphs", "again", "radiation")
            }
        theirs = {}
        if options.reference:
            for work in ("graphs", "radiation"):
                theirs[work] = _run(f"published {work}", resolution, options.reference)
        for work, result in ours.items():
            _print_row(resolution, work, result, theirs.get(work))


def _run(work: str, resolution: float, folder: str | pathlib.Path) -> dict:
    case = json.dumps([work, resolution, str(folder)])
    done = subprocess.run(
        [sys.executable, __file__, "--case", case],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


def _print_row(resolution: float, work: str, ours: dict, theirs: dict | None) -> None:
    line = (
        f"{resolution:>8g} {work:<10}{ours['seconds']:>9.2f}{ours['mebibytes']:>10.0f}"
        f"{ours['cpu_seconds']:>8.2f}"
    )
    if theirs:
        line += (
            f"  {theirs['seconds'] / ours['seconds']:.1f}x less time, "
            f"{theirs['mebibytes'] / max(ours['mebibytes'], 1):.1f}x less memory"
        )
        if "edges" in ours:
            same = "the same" if ours["edges"] == theirs["edges"] else "DIFFERENT"
            line += f", {same} edges"
    print(line, flush=True)


def _measure(work: str, resolution: float, folder: str) -> dict:
    """Runs one case in this process."""
    lat = np.linspace(-90, 90, round(180 / resolution) + 1)
    lon = np.arange(round(360 / resolution)) * resolution
    task = {
        "graphs": _graphs,
        "again": _graphs,
        "radiation": _radiation,
        "published graphs": _published_graphs,
        "published radiation": _published_radiation,
    }[work](lat, lon, MESH_SIZES[resolution], folder)
    before = _peak_mebibytes()
    if work == "published radiation":
        task()  # Compiles, which takes memory but is not counted as time.
    started, cpu_started = time.perf_counter(), time.process_time()
    edges = task()
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "mebibytes": _peak_mebibytes() - before,
    } | ({"edges": edges} if edges else {})


def _peak_mebibytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, np.int32).tobytes())
    return digest.hexdigest()


def _graphs(
    lat: np.ndarray, lon: np.ndarray, mesh_size: int, folder: str
) -> Callable[[], str]:
    import trimesh  # noqa: F401

    from weatherlib.geometry import graph

    def task() -> str:
        geometry = graph.build_graph(
            lat,
            lon,
            mesh_size=mesh_size,
            radius_query_fraction_edge_length=RADIUS_FRACTION,
            cache_dir=folder,
        )
        to_mesh, on_mesh, to_grid = (
            geometry.grid2mesh,
            geometry.mesh,
            geometry.mesh2grid,
        )
        return _digest(
            to_mesh.senders, to_mesh.receivers, on_mesh.senders, to_grid.senders
        )

    return task


def _radiation(
    lat: np.ndarray, lon: np.ndarray, mesh_size: int, folder: str
) -> Callable[[], None]:
    from weatherlib.geometry import solar

    del mesh_size, folder
    times = np.datetime64("2022-01-01", "ns") + np.arange(FIELDS) * np.timedelta64(
        6, "h"
    )

    def task() -> None:
        solar.get_toa_incident_solar_radiation(times, lat, lon)

    return task


def _published_graphs(
    lat: np.ndarray, lon: np.ndarray, mesh_size: int, folder: str
) -> Callable[[], str]:
    sys.path.insert(0, folder)
    from graphcast import (  # pyright: ignore[reportMissingImports]
        grid_mesh_connectivity,
        icosahedral_mesh,
        model_utils,
    )

    grid = {
        "grid_latitude": lat.astype(np.float32),
        "grid_longitude": lon.astype(np.float32),
    }
    options = {
        "add_node_positions": False,
        "add_node_latitude": True,
        "add_node_longitude": True,
        "add_relative_positions": True,
        "relative_longitude_local_coordinates": True,
        "relative_latitude_local_coordinates": True,
    }

    def task() -> str:
        meshes = icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere(
            splits=mesh_size
        )
        mesh = meshes[-1]
        ends = icosahedral_mesh.faces_to_edges(mesh.faces)
        sides = np.linalg.norm(
            np.subtract(*(mesh.vertices[end] for end in ends)), axis=1
        )
        radius = sides.max() * RADIUS_FRACTION
        to_mesh = grid_mesh_connectivity.radius_query_indices(
            **grid, mesh=mesh, radius=radius
        )
        to_grid = grid_mesh_connectivity.in_mesh_triangle_indices(**grid, mesh=mesh)
        on_mesh = icosahedral_mesh.faces_to_edges(
            icosahedral_mesh.merge_meshes(meshes).faces
        )
        grid_lat, grid_lon = (
            axis.ravel() for axis in np.meshgrid(*grid.values(), indexing="ij")
        )
        mesh_lat, mesh_lon = model_utils.cartesian_to_lat_lon(*mesh.vertices.T)
        places = {"grid": (grid_lat, grid_lon), "mesh": (mesh_lat, mesh_lon)}
        for (senders, receivers), source, target in (
            (to_mesh, "grid", "mesh"),
            (on_mesh, "mesh", "mesh"),
            (to_grid[::-1], "mesh", "grid"),
        ):
            model_utils.get_bipartite_graph_spatial_features(
                senders_node_lat=places[source][0],
                senders_node_lon=places[source][1],
                senders=senders,
                receivers_node_lat=places[target][0],
                receivers_node_lon=places[target][1],
                receivers=receivers,
                **options,
            )
        return _digest(*to_mesh, on_mesh[0], to_grid[1])

    return task


def _published_radiation(
    lat: np.ndarray, lon: np.ndarray, mesh_size: int, folder: str
) -> Callable[[], None]:
    sys.path.insert(0, folder)
    from graphcast import solar_radiation  # pyright: ignore[reportMissingImports]

    del mesh_size
    times = np.datetime64("2022-01-01", "ns") + np.arange(FIELDS) * np.timedelta64(
        6, "h"
    )

    def task() -> None:
        solar_radiation.get_toa_incident_solar_radiation(
            times, lat, lon, use_jit=True
        ).block_until_ready()

    return task


if __name__ == "__main__":
    main()
