"""Tests of blocks with diffusion steps against published numbers."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import published
from weatherlib.nn import time_blocks

RESIDUAL = {
    "in_layers.0": "norm_in",
    "in_layers.2": "conv_in",
    "emb_layers.1": "embed",
    "out_layers.0": "norm_out",
    "out_layers.3": "conv_out",
    "skip_connection": "skip",
}


def module(make):
    transformed = hk.transform(lambda *inputs: make()(*inputs))
    return hk.Transformed(jax.jit(transformed.init), jax.jit(transformed.apply))


@pytest.mark.parametrize("width", [7, 8, 32])
def test_steps_are_embedded_as_published(width, strict_numerics):
    data = published.arrays()
    found = time_blocks.step_embedding(jnp.asarray(data["temb_t"]), width)
    published.close(found, data[f"temb_{width}"])


@pytest.mark.parametrize("name", ["res0", "res1", "res2", "res3"])
def test_residual_blocks_give_the_published_numbers(name, strict_numerics):
    case, data = published.listed()[name], published.arrays()
    embedded = case.get("use_embed", True)
    outputs = case.get("out_channels", case["channels"])
    shift = case.get("use_scale_shift_norm", False)
    run = module(
        lambda: time_blocks.TimeResidual(
            outputs, "it", embedded=embedded, scale_shift=shift, drop_rate=0.1
        )
    )
    held = published.params(published.weights(name), RESIDUAL, "it")
    if "it/skip" in held:
        held["it/skip"]["w"] = held["it/skip"]["w"][0, 0, 0]
    inputs = [data[f"{name}_in"].transpose(0, 2, 3, 4, 1)]
    inputs += [data[f"{name}_emb"]] if embedded else []
    made = jax.eval_shape(run.init, jax.random.key(0), *inputs)
    assert jax.tree.map(jnp.shape, held) == jax.tree.map(jnp.shape, made)
    found = run.apply(held, None, *inputs)
    published.close(found, data[f"{name}_out"].transpose(0, 2, 3, 4, 1))


def test_attention_pooling_gives_the_published_numbers(strict_numerics):
    case, data = published.listed()["attnpool"], published.arrays()
    run = module(
        lambda: time_blocks.AttentionPool(case["output_dim"], case["num_heads"], "it")
    )
    held = published.weights("attnpool")
    params = published.params(held, {"qkv_proj": "qkv", "c_proj": "proj"}, "it")
    for entries in params.values():
        entries["w"] = entries["w"][0]
    params["it"] = {"positions": held["positional_embedding"].T}
    x = data["attnpool_in"].transpose(0, 2, 1)
    made = jax.eval_shape(run.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, made)
    published.close(run.apply(params, None, x), data["attnpool_out"])


def test_the_first_result_of_a_block_is_its_input():
    run = module(lambda: time_blocks.TimeResidual(8, "it"))
    x, vector = jnp.ones((1, 2, 3, 3, 8)), jnp.ones((1, 4))
    params = run.init(jax.random.key(0), x, vector)
    np.testing.assert_array_equal(run.apply(params, None, x, vector), x)
    assert params["it/embed"]["w"].any()
    assert not params["it/embed"]["b"].any()
    assert jnp.abs(params["it/conv_in"]["w"]).max() <= (27 * 8) ** -0.5
    assert params["it/conv_in"]["b"].any()


@pytest.mark.parametrize(
    ("width", "scale_shift", "seen"),
    [(8, False, False), (32, False, False), (64, False, True), (8, True, True)],
)
def test_a_step_that_is_added_is_lost_in_groups_of_one_channel(
    width, scale_shift, seen
):
    """As in the published code; configurations say so."""
    run = module(lambda: time_blocks.TimeResidual(width, "it", scale_shift=scale_shift))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 3, 3, width)).astype("f4")
    vectors = rng.standard_normal((2, 1, 4)).astype("f4")
    made = jax.eval_shape(run.init, jax.random.key(0), x, vectors[0])
    params = jax.tree.map(
        lambda a: 0.1 * rng.standard_normal(a.shape).astype("f4"), made
    )
    first, second = (run.apply(params, None, x, vector) for vector in vectors)
    assert (np.abs(first - second).max() > 1e-3) == seen


def test_dropout_acts_in_training_only():
    x, vector = jnp.ones((1, 2, 3, 3, 8)), jnp.ones((1, 4))
    make = lambda: time_blocks.TimeResidual(8, "it", drop_rate=0.5)  # noqa: E731
    run = hk.transform(lambda training: make()(x, vector, training))
    apply = jax.jit(run.apply, static_argnums=2)
    params = jax.jit(run.init, static_argnums=1)(jax.random.key(0), False)
    params["it/conv_out"]["w"] += 0.1
    calm = apply(params, None, False)
    first, second = (apply(params, jax.random.key(i), True) for i in range(2))
    assert (first != calm).any()
    assert (first != second).any()


@pytest.mark.parametrize("embedded", [True, False])
def test_a_vector_that_is_lacking_or_too_many_is_refused(embedded):
    run = module(lambda: time_blocks.TimeResidual(8, "it", embedded=embedded))
    inputs = [jnp.ones((1, 2, 3, 3, 8))] + ([] if embedded else [jnp.ones((1, 4))])
    with pytest.raises(ValueError, match="no vector of a step, or lacks it"):
        run.init(jax.random.key(0), *inputs)


def test_heads_that_do_not_divide_the_channels_are_refused():
    run = module(lambda: time_blocks.AttentionPool(1, 3, "it"))
    with pytest.raises(ValueError, match="3 heads do not divide 8"):
        run.init(jax.random.key(0), jnp.ones((1, 2, 8)))
