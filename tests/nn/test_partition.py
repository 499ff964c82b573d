import jax.numpy as jnp
import numpy as np

from weatherlib.nn import partition


def test_marks_do_nothing_without_a_layout():
    array = jnp.ones((2, 1, 3))
    for mark in (partition.by_row, partition.by_channel, partition.whole):
        assert mark(array) is array
    assert partition.parts(partition.ROW) == 1
    np.testing.assert_array_equal(partition.take(array, jnp.array([1, 1, 0])), 1)


def test_marks_reach_the_partitioner_in_use():
    seen = []

    class Recorder:
        def constrain(self, array, axes):
            seen.append(axes)
            return array

        def parts(self, axis):
            return 2

    with partition.use(Recorder()):
        partition.by_row(jnp.ones((2, 4, 1, 3)))
        partition.whole(jnp.ones((2, 1, 3)))
        partition.take(jnp.ones((2, 1, 3)), jnp.array([0]))
    assert seen == [
        ("row", None, "batch", None),
        (None, "batch", None),
        ("row", "batch", None),
        (None, "batch", "channel"),
        (None, "batch", "channel"),
        ("row", "batch", None),
    ]
