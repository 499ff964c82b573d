"""Tests of cutting fields into patches and joining them again."""

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np

from weatherlib.nn import vit


@hypothesis.settings(max_examples=6)
@hypothesis.given(
    rows=st.integers(1, 3), columns=st.integers(1, 4), size=st.integers(1, 3)
)
def test_patches_join_to_the_fields_they_were_cut_from(rows, columns, size):
    shape = (2, 3, rows * size, columns * size)
    fields = jnp.arange(np.prod(shape)).reshape(shape).astype(jnp.float32)
    cut = vit.patches(fields, size)
    assert cut.shape == (2, rows * columns, 3, size * size)
    first = fields[0, 1, :size, -size:].reshape(-1)
    np.testing.assert_array_equal(cut[0, columns - 1, 1], first)
    joined = vit.unpatch(cut.swapaxes(2, 3), rows, size)
    np.testing.assert_array_equal(joined, fields)
