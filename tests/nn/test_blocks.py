import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import blocks


def function(rows):
    return {"y": jnp.sin(rows["x"]) * rows["scale"], "z": rows["x"].sum(-1)}


ROWS = {
    "x": jax.random.normal(jax.random.PRNGKey(0), (23, 3)),
    "scale": jnp.arange(23.0)[:, None],
}


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("block", [None, 1, 5, 7, 22, 23, 99])
def test_blocks_change_neither_values_nor_derivatives(block, remat):
    def total(rows):
        result = blocks.map_rows(function, rows, block=block, remat=remat)
        assert result["z"].shape == (23,)
        return (result["y"] * jnp.arange(3.0)).sum() + (result["z"] ** 2).sum()

    found = jax.value_and_grad(total)(ROWS)

    def plain(rows):
        result = function(rows)
        return (result["y"] * jnp.arange(3.0)).sum() + (result["z"] ** 2).sum()

    expected = jax.value_and_grad(plain)(ROWS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        found,
        expected,
    )


def test_no_more_rows_than_a_block_are_worked_on_at_a_time():
    seen = []

    def spy(rows):
        seen.append(rows.shape[0])
        return rows

    for total in (24, 23, 25):
        blocks.map_rows(spy, jnp.zeros((total, 2)), block=6)
    assert max(seen) <= 6
    assert min(seen) >= 4


def test_rematerialised_blocks_keep_only_their_inputs():
    def total(rows, remat):
        return blocks.map_rows(function, rows, block=6, remat=remat)["y"].sum()

    assert "remat" in str(jax.make_jaxpr(lambda r: total(r, True))(ROWS))
    assert "remat" not in str(jax.make_jaxpr(lambda r: total(r, False))(ROWS))


def test_a_block_without_rows_is_refused():
    with pytest.raises(ValueError, match="at least one row, found 0"):
        blocks.map_rows(function, ROWS, block=0)
