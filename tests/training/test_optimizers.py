import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from weatherlib.training import OptimizerConfig, optimizers

PARAMS = {
    "encoder/linear": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)},
    "block_0/linear": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)},
    "block_0/norm": {"scale": jnp.ones(2), "offset": jnp.ones(2)},
    "~": {"pos_embed": jnp.ones((1, 4, 2))},
    "head": {"w": jnp.ones((2, 1))},
}


def _changes(settings, gradient=0.0, rate=0.1):
    optimizer = optimizers.make_optimizer(settings, lambda count: rate, PARAMS)
    gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), PARAMS)
    changes, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    return changes


def test_weights_decay_but_biases_norms_and_embeddings_do_not():
    changes = _changes(OptimizerConfig(weight_decay=0.5))
    np.testing.assert_allclose(changes["head"]["w"], -0.05)
    np.testing.assert_allclose(changes["encoder/linear"]["w"], -0.05)
    for module, name in (
        ("encoder/linear", "b"),
        ("block_0/norm", "scale"),
        ("block_0/norm", "offset"),
        ("~", "pos_embed"),
    ):
        np.testing.assert_array_equal(changes[module][name], 0)


def test_frozen_parameters_stay_and_do_not_count_in_the_clipped_norm():
    settings = OptimizerConfig(frozen=("block_0/*", "~/*"), weight_decay=0.0)
    changes = _changes(settings, gradient=3.0)
    np.testing.assert_array_equal(changes["block_0/linear"]["w"], 0)
    np.testing.assert_array_equal(changes["~"]["pos_embed"], 0)
    assert float(changes["head"]["w"][0, 0]) < 0


def test_early_layers_learn_more_slowly():
    settings = OptimizerConfig(
        layers=("encoder/*", "block_*", "head/*"),
        layer_decay=0.5,
        scales={"head/w": 2.0},
        weight_decay=0.0,
        clip=None,
    )
    factors = optimizers.rate_factors(settings, PARAMS)
    assert factors["encoder/linear"]["w"] == 0.25
    assert factors["block_0/norm"]["scale"] == 0.5
    assert factors["~"]["pos_embed"] == 1
    assert factors["head"]["w"] == 2
    changes = _changes(settings, gradient=1.0)
    unit = float(changes["~"]["pos_embed"].ravel()[0])
    np.testing.assert_allclose(changes["encoder/linear"]["w"], 0.25 * unit, rtol=1e-5)
    np.testing.assert_allclose(changes["head"]["w"], 2 * unit, rtol=1e-5)


def test_layers_and_frozen_parts_work_together():
    settings = OptimizerConfig(
        frozen=("head/*",), layers=("encoder/*", "block_*"), layer_decay=0.5
    )
    changes = _changes(settings, gradient=1.0)
    np.testing.assert_array_equal(changes["head"]["w"], 0)
    ratio = changes["encoder/linear"]["b"] / changes["block_0/linear"]["b"]
    np.testing.assert_allclose(ratio, 0.5, rtol=1e-5)


def test_without_extras_it_is_the_adamw_of_optax():
    settings = OptimizerConfig(clip=None, weight_decay=0.01, no_decay=())
    expected = optax.adamw(
        0.1,
        b1=0.9,
        b2=0.95,
        weight_decay=0.01,
        mask=jax.tree.map(lambda x: x.ndim > 1, PARAMS),
    )
    gradients = jax.tree.map(lambda x: x * 0.3, PARAMS)
    found, _ = expected.update(gradients, expected.init(PARAMS), PARAMS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        _changes(settings, gradient=0.3),
        found,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frozen": ("blok*",)}, "optimizer.frozen: no parameter matches 'blok"),
        ({"layers": ("decoder/*",)}, "optimizer.layers: no parameter matches"),
        ({"scales": {"x": 2.0}}, "optimizer.scales: no parameter matches 'x'"),
        ({"frozen": ("*",)}, "every parameter is frozen"),
        ({"layer_decay": 0.5}, "layer_decay needs optimizer.layers"),
    ],
)
def test_patterns_that_fit_nothing_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        optimizers.make_optimizer(OptimizerConfig(**settings), lambda _: 0.1, PARAMS)
