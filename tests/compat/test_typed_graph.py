import jax
import numpy as np
import pytest

from weatherlib import typed_graph


def _graph(*edge_names):
    edges = {
        typed_graph.EdgeSetKey(name, ("a", "a")): typed_graph.EdgeSet(
            n_edge=np.array([2]),
            indices=typed_graph.EdgesIndices(np.array([0, 1]), np.array([1, 0])),
            features=np.full((2, 3), float(i)),
        )
        for i, name in enumerate(edge_names)
    }
    return typed_graph.TypedGraph(
        context=typed_graph.Context(n_graph=np.array([1]), features=()),
        nodes={"a": typed_graph.NodeSet(np.array([2]), np.ones((2, 4)))},
        edges=edges,
    )


def test_edge_sets_are_found_by_name():
    graph = _graph("first", "second")
    key = graph.edge_key_by_name("second")
    assert key == ("second", ("a", "a"))
    assert graph.edge_by_name("second") is graph.edges[key]


def test_an_unknown_edge_set_is_named_with_those_that_exist():
    with pytest.raises(
        KeyError, match=r"invalid edge key 'x'. Available edges: \[first, second\]"
    ):
        _graph("first", "second").edge_by_name("x")


def test_a_name_of_two_edge_sets_is_refused():
    graph = _graph("first")
    other = typed_graph.EdgeSetKey("first", ("a", "b"))
    graph = graph._replace(edges={**graph.edges, other: graph.edge_by_name("first")})
    with pytest.raises(KeyError, match="invalid edge key 'first'"):
        graph.edge_key_by_name("first")


def test_graphs_are_jax_trees():
    graph = _graph("first")
    doubled = jax.jit(lambda g: jax.tree.map(lambda x: 2 * x, g))(graph)
    assert isinstance(doubled, typed_graph.TypedGraph)
    np.testing.assert_array_equal(doubled.nodes["a"].features, np.full((2, 4), 2))
    assert doubled.edges.keys() == graph.edges.keys()
