import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weatherlib.geometry import icosahedral_mesh, topology

LAT = np.linspace(-90, 90, 7, dtype=np.float32)
LON = (np.arange(12) * 30).astype(np.float32)
MESH = icosahedral_mesh.get_last_triangular_mesh_for_sphere(1)
FOUND = topology.search(LAT, LON, MESH, 0.5)


def changed(**arrays):
    return topology.Topology.from_arrays(FOUND.to_arrays() | arrays)


def test_arrays_bring_back_the_topology():
    again = topology.Topology.from_arrays(FOUND.to_arrays() | {"other": np.zeros(2)})
    assert again.digest == FOUND.digest
    assert not topology.compare(FOUND, again)
    for array in FOUND.to_arrays().values():
        assert array.dtype == np.int32


def test_wide_integers_from_a_file_become_narrow():
    arrays = {name: a.astype(np.int64) for name, a in FOUND.to_arrays().items()}
    assert topology.Topology.from_arrays(arrays).digest == FOUND.digest


def test_digests_of_different_edges_differ():
    fewer = changed(
        grid2mesh_senders=FOUND.grid2mesh_senders[1:],
        grid2mesh_receivers=FOUND.grid2mesh_receivers[1:],
    )
    moved = changed(mesh2grid_senders=np.roll(FOUND.mesh2grid_senders, 3))
    assert len({FOUND.digest, fewer.digest, moved.digest}) == 3


def test_a_missing_array_is_named():
    arrays = FOUND.to_arrays()
    del arrays["mesh2grid_senders"]
    with pytest.raises(ValueError, match="lacks mesh2grid_senders; it holds grid2mesh"):
        topology.Topology.from_arrays(arrays)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((3, 1), int)])
def test_arrays_that_are_no_indices_are_refused(array):
    with pytest.raises(ValueError, match="must be a list of integers, got"):
        changed(mesh2grid_senders=array)


def test_edges_with_only_one_end_are_refused():
    with pytest.raises(ValueError, match="with only one end: 215 senders, 216 receiv"):
        changed(grid2mesh_senders=FOUND.grid2mesh_senders[1:])


def test_what_a_search_finds_fits_its_grid_and_mesh():
    FOUND.check(num_grid=84, num_mesh=42)
    corners = FOUND.mesh2grid_senders.reshape(84, 3)
    faces = {frozenset(face) for face in MESH.faces.tolist()}
    assert {frozenset(triangle) for triangle in corners.tolist()} <= faces
    assert set(FOUND.grid2mesh_senders) == set(range(84))
    assert set(FOUND.grid2mesh_receivers) == set(range(42))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mesh2grid_senders": FOUND.mesh2grid_senders[3:]}, "is for 83 grid nodes"),
        ({"grid2mesh_senders": FOUND.grid2mesh_senders + 1}, r"must lie in \[0, 84\)"),
        ({"grid2mesh_receivers": FOUND.grid2mesh_receivers - 1}, "found .-1, 40"),
        ({"mesh2grid_senders": FOUND.mesh2grid_senders + 9}, "another mesh or grid"),
    ],
)
def test_a_topology_of_another_graph_does_not_fit(arrays, message):
    with pytest.raises(ValueError, match=message):
        changed(**arrays).check(num_grid=84, num_mesh=42)


def test_differences_are_counted_by_edge_and_by_grid_node():
    senders = FOUND.mesh2grid_senders.copy()
    senders[3:6] = senders[[4, 5, 3]]
    senders[30] = (senders[30] + 1) % 42
    other = changed(
        mesh2grid_senders=senders,
        grid2mesh_senders=FOUND.grid2mesh_senders[:-1],
        grid2mesh_receivers=FOUND.grid2mesh_receivers[:-1],
    )
    difference = topology.compare(FOUND, other)
    assert difference
    assert difference == topology.compare(other, FOUND)
    assert difference == topology.TopologyDifference(1, 4, 3)
    assert str(difference) == (
        "1 grid2mesh and 4 mesh2grid edges differ, at 3 grid nodes"
    )


def test_equal_topologies_say_so():
    assert str(topology.compare(FOUND, changed())) == "same edges"


def test_topologies_of_different_grids_cannot_be_compared():
    other = topology.search(LAT[1:], LON, MESH, 0.5)
    with pytest.raises(ValueError, match="different grids, of 84 and 72 nodes"):
        topology.compare(FOUND, other)


def test_a_radius_that_reaches_nothing_is_refused():
    with pytest.raises(ValueError, match=r"lies within 0\.001 sphere radii"):
        topology.search(LAT[3:4] + 1, LON[:1] + 1, MESH, 0.001)


def test_a_file_brings_back_the_topology(tmp_path):
    path = tmp_path / "deep" / "graph.npz"
    topology.write(path, FOUND)
    assert topology.read(path).digest == FOUND.digest
    assert list(path.parent.iterdir()) == [path]


def test_no_file_is_no_topology(tmp_path):
    assert topology.read(tmp_path / "absent.npz") is None


def test_what_cannot_be_opened_is_no_topology_and_stays(tmp_path):
    assert topology.read(tmp_path) is None
    assert tmp_path.exists()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cut=st.floats(0, 0.999), flips=st.lists(st.floats(0, 0.999), max_size=8))
def test_damage_gives_the_right_topology_or_none(tmp_path, cut, flips):
    path = tmp_path / "graph.npz"
    topology.write(path, FOUND)
    content = bytearray(path.read_bytes())
    for place in flips:
        content[int(place * len(content))] ^= 0xFF
    if not flips:
        content = content[: int(cut * len(content))]
    path.write_bytes(bytes(content))
    found = topology.read(path)
    if found is None:
        assert not path.exists()
    else:
        assert found.digest == FOUND.digest


def test_arrays_that_do_not_match_their_digest_are_damage(tmp_path):
    path = tmp_path / "graph.npz"
    arrays = FOUND.to_arrays() | {"digest": np.array("0" * 64)}
    np.savez(path, **arrays)
    assert topology.read(path) is None


def test_cache_names_depend_on_arguments_and_library_versions(tmp_path, monkeypatch):
    name = topology.cache_path(tmp_path, 1, "a")
    assert name == topology.cache_path(tmp_path, 1, "a")
    assert name != topology.cache_path(tmp_path, 2, "a")
    monkeypatch.setattr(topology.importlib.metadata, "version", lambda _: "99.0")
    assert name != topology.cache_path(tmp_path, 1, "a")


def test_a_write_that_fails_leaves_no_pieces(tmp_path, monkeypatch):
    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(topology.np, "savez", fail)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        topology.write(tmp_path / "graph.npz", FOUND)
    assert list(tmp_path.iterdir()) == []
