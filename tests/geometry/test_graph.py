import concurrent.futures
import dataclasses
import threading

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tolerances
from tests.conftest import GOLDENS
from weatherlib.geometry import graph, topology

LAT, LON = np.linspace(-90, 90, 19), np.arange(36) * 10.0
EDGE_SETS = ("grid2mesh", "mesh", "mesh2grid")


def build(lat=LAT, lon=LON, mesh_size=2, fraction=0.6, **kwargs):
    return graph.build_graph(
        lat,
        lon,
        mesh_size=mesh_size,
        radius_query_fraction_edge_length=fraction,
        **kwargs,
    )


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch):
    monkeypatch.setattr(graph, "_memory", {})


@pytest.fixture
def builds(monkeypatch):
    """The requests that were really built."""
    requests = []
    original = graph._build

    def counting(lat, lon, request, found):
        requests.append(request)
        return original(lat, lon, request, found)

    monkeypatch.setattr(graph, "_build", counting)
    return requests


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS / "geometry" / "graph_10deg_mesh2.npz") as file:
        return dict(file)


def test_edges_of_the_golden_graph_are_the_published_ones(golden):
    found = build(golden["lat"], golden["lon"])
    for name, index in {
        "grid2mesh_grid": found.grid2mesh.senders,
        "grid2mesh_mesh": found.grid2mesh.receivers,
        "mesh_senders": found.mesh.senders,
        "mesh_receivers": found.mesh.receivers,
        "mesh2grid_grid": found.mesh2grid.receivers,
        "mesh2grid_mesh": found.mesh2grid.senders,
    }.items():
        assert index.dtype == np.int32, name
        np.testing.assert_array_equal(index, golden[name], err_msg=name)


def test_features_of_the_golden_graph_are_the_published_ones(golden):
    found = build(golden["lat"], golden["lon"])
    for name, features in {
        "grid_node_features": found.grid_node_features,
        "mesh_node_features": found.mesh_node_features,
        "grid2mesh_edge_features": found.grid2mesh.features,
        "mesh_edge_features": found.mesh.features,
        "mesh2grid_edge_features": found.mesh2grid.features,
    }.items():
        assert features.dtype == np.float32, name
        np.testing.assert_allclose(
            features, golden[name], rtol=0, atol=tolerances.EDGE_FEATURES, err_msg=name
        )
    np.testing.assert_allclose(found.mesh_latitude, golden["mesh_lat"], atol=5e-5)
    np.testing.assert_allclose(found.mesh_longitude, golden["mesh_lon"], atol=5e-5)


def test_places_are_kept_in_degrees_as_given():
    found = build(LAT[::-1], LON - 180)
    np.testing.assert_array_equal(found.grid_latitude, LAT[::-1])
    np.testing.assert_array_equal(found.grid_longitude, LON - 180)
    assert found.mesh_latitude.dtype == np.float64
    assert found.mesh_latitude.shape == found.mesh_longitude.shape == (162,)
    assert found.mesh_size == 2
    assert found.radius == pytest.approx(0.1949518620967865, abs=1e-7)


@settings(max_examples=15, deadline=None)
@given(
    mesh_size=st.integers(0, 3),
    rows=st.integers(1, 12),
    south=st.floats(-60, 20),
    west=st.floats(-180, 300),
    step=st.floats(0.5, 5),
    fraction=st.floats(0.9, 1.5),
)
def test_any_window_connects_as_promised(mesh_size, rows, south, west, step, fraction):
    lat, lon = south + step * np.arange(rows), west + step * np.arange(7)
    found = build(lat, lon, mesh_size, fraction)
    num_grid, num_mesh = 7 * rows, 10 * 4**mesh_size + 2
    assert found.grid_node_features.shape == (num_grid, 3)
    assert found.mesh_node_features.shape == (num_mesh, 3)
    np.testing.assert_array_equal(
        found.mesh2grid.receivers, np.repeat(np.arange(num_grid), 3)
    )
    ends = {"grid2mesh": (num_grid, num_mesh), "mesh": (num_mesh, num_mesh)}
    for name, (senders, receivers) in ends.items():
        edges = getattr(found, name)
        assert 0 <= edges.senders.min() <= edges.senders.max() < senders
        assert 0 <= edges.receivers.min() <= edges.receivers.max() < receivers
        assert edges.num_receivers == receivers
    for name in EDGE_SETS:
        features = getattr(found, name).features
        assert features[:, 0].max() == pytest.approx(1)
        np.testing.assert_allclose(
            np.linalg.norm(features[:, 1:], axis=1), features[:, 0], rtol=1e-5
        )
    # The radius covers every triangle, so each grid point has a mesh node in reach.
    assert len(np.unique(found.grid2mesh.senders)) == num_grid


def test_reversed_rows_give_the_same_edges_with_reversed_indices():
    rows, columns = len(LAT), len(LON)
    lat = LAT + 0.4
    north_up, south_up = build(lat[:-1]), build(lat[:-1][::-1])
    row, column = np.divmod(south_up.grid2mesh.senders, columns)
    mapped = (rows - 2 - row) * columns + column
    expected = set(zip(north_up.grid2mesh.senders, north_up.grid2mesh.receivers))
    assert set(zip(mapped, south_up.grid2mesh.receivers)) == expected


def test_longitudes_counted_from_minus_180_give_the_same_edges():
    east, west = build(lon=LON), build(lon=(LON + 180) % 360 - 180)
    np.testing.assert_array_equal(west.grid2mesh.receivers, east.grid2mesh.receivers)
    np.testing.assert_allclose(west.mesh2grid.features, east.mesh2grid.features, atol=1)


def test_a_factor_divides_the_features_of_mesh2grid_alone():
    plain, scaled = build(), build(mesh2grid_edge_normalization_factor=0.5)
    longest = 0.5 * scaled.mesh2grid.features[:, 0].max()
    assert longest == pytest.approx(0.29, abs=0.03)
    np.testing.assert_allclose(
        plain.mesh2grid.features * longest, scaled.mesh2grid.features * 0.5, atol=1e-7
    )
    np.testing.assert_array_equal(plain.mesh.features, scaled.mesh.features)
    assert plain.digest == scaled.digest


def test_equal_arguments_return_the_same_object_however_they_are_written(builds):
    first = build()
    assert build(LAT.tolist(), LON.astype(int), np.int64(2), np.float64(0.6)) is first
    rows = xarray.DataArray(LAT, dims="lat").astype(np.float32)
    assert build(rows, tuple(LON)) is first
    assert len(builds) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"lat": LAT[1:]},
        {"lat": LAT[::-1]},
        {"lon": LON - 180},
        {"mesh_size": 1},
        {"fraction": 0.7},
        {"mesh2grid_edge_normalization_factor": 0.3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_arguments_build_another_graph(change):
    assert build(**change) is not build()


def test_only_the_last_used_graphs_are_kept(builds):
    fractions = [0.6, 0.7, 0.8, 0.9]
    for fraction in fractions:
        build(fraction=fraction)
    build(fraction=0.6)
    build(fraction=1.0)
    assert len(builds) == 5
    build(fraction=0.6)
    assert len(builds) == 5
    build(fraction=0.7)
    assert len(builds) == 6


def test_threads_that_ask_at_once_share_one_build(builds):
    barrier = threading.Barrier(6)

    def ask(_):
        barrier.wait(timeout=30)
        return build()

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(6)))
    assert len(builds) == 1
    assert all(geometry is found[0] for geometry in found)


def test_nobody_can_change_a_shared_graph():
    found = build()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.mesh_size = 3
    arrays = [v for v in vars(found).values() if isinstance(v, np.ndarray)]
    for name in EDGE_SETS:
        edges = vars(getattr(found, name)).values()
        arrays += [value for value in edges if isinstance(value, np.ndarray)]
    assert len(arrays) == 6 + 3 * 3
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_the_callers_arrays_stay_writable():
    lat, lon = LAT.copy(), LON.copy()
    build(lat, lon)
    lat[0], lon[0] = -89, 1
    assert build().grid_latitude[0] == -90


def test_the_digest_tells_edges_apart():
    digests = {build(fraction=f).digest for f in (0.6, 0.7)}
    digests |= {build(mesh_size=1).digest, build(LAT[1:]).digest}
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)
    assert build(LAT[::-1], LON).digest == build(LAT[::-1], LON).digest


def test_nodes_may_stay_without_edges_as_in_the_published_graph():
    found = build(np.arange(10, 20.0), np.arange(5, 15.0), 2, 0.6)
    assert len(np.unique(found.grid2mesh.receivers)) < 162
    assert found.grid2mesh.num_receivers == 162


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mesh_size": -1}, "mesh_size must be an integer from 0 to 10, got -1"),
        ({"mesh_size": 11}, "mesh_size must be an integer from 0 to 10"),
        ({"mesh_size": 2.5}, "mesh_size must be an integer from 0 to 10"),
        ({"fraction": 0}, "radius_query_fraction_edge_length must be a positive"),
        ({"fraction": np.nan}, "radius_query_fraction_edge_length must be a pos"),
        (
            {"mesh2grid_edge_normalization_factor": -1.0},
            "mesh2grid_edge_normalization_factor must be a positive number, got -1.0",
        ),
        ({"lat": []}, "latitude must be a list of at least one number"),
        ({"lat": [0, 5, 20]}, "latitude must be evenly spaced"),
        ({"lat": [0, np.nan]}, "latitude must hold finite numbers"),
        ({"lat": [80, 91]}, r"latitude must lie in \[-90, 90\]"),
        ({"lon": np.linspace(0, 360, 13)}, "longitude 360 is the same place"),
        (
            {"lat": [12.0], "lon": [34.0], "fraction": 0.01},
            "raise radius_query_fraction_edge_length",
        ),
    ],
)
def test_bad_arguments_are_refused_with_what_was_found(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)


def test_a_stored_topology_is_used_as_it_is():
    plain = build()
    arrays = plain.topology.to_arrays()
    arrays["mesh2grid_senders"] = np.roll(arrays["mesh2grid_senders"], 3)
    stored = topology.Topology.from_arrays(arrays)
    found = build(stored_topology=stored)
    np.testing.assert_array_equal(
        found.mesh2grid.senders, np.roll(plain.mesh2grid.senders, 3)
    )
    np.testing.assert_array_equal(found.mesh.senders, plain.mesh.senders)
    assert found.digest != plain.digest
    assert build(stored_topology=stored) is found
    assert build() is plain


def test_a_stored_topology_of_what_is_found_gives_the_same_graph():
    plain = build()
    again = build(stored_topology=plain.topology)
    assert again is not plain
    assert again.digest == plain.digest
    np.testing.assert_array_equal(again.grid2mesh.features, plain.grid2mesh.features)


def test_a_stored_topology_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="is for 648 grid nodes, but the grid has 684"):
        build(stored_topology=build(LAT[1:]).topology)


def test_a_folder_keeps_edges_for_the_next_process(tmp_path, monkeypatch):
    folder = tmp_path / "new" / "cache"
    first = build(cache_dir=folder)
    assert [p.suffix for p in folder.iterdir()] == [".npz"]
    graph._memory.clear()
    monkeypatch.setattr(topology, "search", None)
    again = build(cache_dir=str(folder))
    assert again is not first
    assert again.digest == first.digest
    np.testing.assert_array_equal(again.mesh2grid.features, first.mesh2grid.features)


def test_a_graph_in_memory_reaches_the_folder_too(tmp_path):
    first = build()
    assert build(cache_dir=tmp_path) is first
    assert len(list(tmp_path.iterdir())) == 1


def test_other_graphs_go_to_other_files(tmp_path):
    build(cache_dir=tmp_path)
    build(fraction=0.7, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_made_again(tmp_path):
    first = build(cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    graph._memory.clear()
    assert build(cache_dir=tmp_path).digest == first.digest
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_a_warning_only(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.warns(RuntimeWarning, match="the graph is not kept on disk"):
        found = build(cache_dir=blocked)
    assert found.digest == build().digest
