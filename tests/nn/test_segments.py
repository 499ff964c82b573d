import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherlib.nn import segments


def scatter_sum(rows, receivers, num_nodes):
    expected = np.zeros((num_nodes, *rows.shape[1:]), rows.dtype)
    np.add.at(expected, receivers, rows)
    return expected


@settings(deadline=None, max_examples=10)
@given(
    degrees=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    max_groups=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_sums_equal_those_of_a_scatter(degrees, max_groups, seed):
    rng = np.random.default_rng(seed)
    receivers = rng.permutation(np.repeat(np.arange(len(degrees)), degrees))
    rows = rng.integers(-9, 9, (len(receivers), 1, 3)).astype(np.float32)
    plan = segments.make_plan(receivers, len(degrees), max_groups)
    add = jax.jit(lambda rows: segments.segment_sum(rows, plan))
    found = add(rows[plan.order])
    np.testing.assert_array_equal(found, scatter_sum(rows, receivers, len(degrees)))


def test_the_order_is_a_permutation_with_each_piece_of_one_node():
    receivers = np.array([2, 0, 2, 1, 2, 0, 4])
    plan = segments.make_plan(receivers, 5)
    assert sorted(plan.order) == list(range(7))
    assert plan.groups == ((2, 1), (1, 2), (1, 3))
    assert plan.piece_nodes.tolist() == [1, 4, 0, 2]
    assert receivers[plan.order].tolist() == [1, 4, 0, 0, 2, 2, 2]


def test_many_different_degrees_are_cut_into_few_groups():
    receivers = np.repeat(np.arange(100), np.arange(100))
    plan = segments.make_plan(receivers, 100)
    assert [size for _, size in plan.groups] == [1, 2, 4, 8, 16, 32, 64]
    assert plan.then is not None


def test_nodes_numbered_by_plan_need_no_reordering():
    receivers = np.array([0, 1, 2, 2, 3, 3])
    assert segments.make_plan(receivers, 4).in_node_order
    assert not segments.make_plan(receivers, 5).in_node_order
    assert not segments.make_plan(receivers[::-1].copy() * -1 + 3, 4).in_node_order


def test_small_numbers_are_added_in_the_given_dtype():
    # In bfloat16 256 + 1 is 256.
    rows = jnp.array([256.0] + [1.0] * 4, jnp.bfloat16)[:, None]
    plan = segments.make_plan(np.array([0, 0, 1, 1, 1]), 2)
    found = segments.segment_sum(rows[plan.order], plan, dtype=jnp.float32)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found[:, 0], [257, 3])


def test_the_derivative_is_a_broadcast():
    receivers = np.array([1, 0, 1, 1, 0])
    plan = segments.make_plan(receivers, 3)
    weights = jnp.array([2.0, 3.0, 5.0])

    def total(rows):
        return (segments.segment_sum(rows, plan)[:, 0] * weights).sum()

    gradient = jax.grad(total)(jnp.zeros((5, 1)))
    np.testing.assert_array_equal(gradient[:, 0], weights[receivers[plan.order]])
    assert "scatter" not in str(jax.make_jaxpr(total)(jnp.zeros((5, 1))))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_rows_at_all_sum_to_zero(dtype):
    plan = segments.make_plan(np.array([], np.int64), 3)
    found = segments.segment_sum(jnp.zeros((0, 2), dtype), plan)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.zeros((3, 2)))
