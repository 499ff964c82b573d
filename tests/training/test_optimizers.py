import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from weatherlib import config
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


def _muon_changes(**settings):
    rng = np.random.default_rng(0)
    params = {
        "conv": {"w": jnp.zeros((3, 3, 2, 8)), "b": jnp.zeros(8)},
        "linear": {"w": jnp.zeros((8, 4))},
        "~": {"pos_embed": jnp.zeros((5, 4))},
    }
    gradients = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params
    )
    settings = OptimizerConfig(kind="muon", clip=None, weight_decay=0.0, **settings)
    optimizer = optimizers.make_optimizer(settings, lambda count: 0.1, params)
    changes, _ = optimizer.update(gradients, optimizer.init(params), params)
    return gradients, changes


def test_changes_of_matrices_are_nearly_orthogonal_with_muon():
    gradients, changes = _muon_changes()
    for module, side in (("conv", 18), ("linear", 8)):
        change = np.asarray(changes[module]["w"])
        change = change.reshape(-1, change.shape[-1]) / (-0.1 * 0.2 * side**0.5)
        values = np.linalg.svd(change, compute_uv=False)
        assert values.min() > 0.6 and values.max() < 1.3
        # In the direction of the gradient, whose own singular vectors it keeps.
        gradient = np.asarray(gradients[module]["w"]).reshape(change.shape)
        left, _, right = np.linalg.svd(gradient, full_matrices=False)
        turned = left.T @ change @ right.T
        np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=2e-3)
        assert np.diag(turned).min() > 0.6


def test_vectors_and_embeddings_are_left_to_adam_with_muon():
    gradients, changes = _muon_changes()
    for module, name in (("conv", "b"), ("~", "pos_embed")):
        expected = -0.1 * np.sign(gradients[module][name])
        np.testing.assert_allclose(changes[module][name], expected, rtol=1e-4)


def test_frozen_parts_and_layers_work_with_muon():
    _, plain = _muon_changes()
    _, changes = _muon_changes(frozen=("conv/*",), scales={"linear/*": 0.5})
    np.testing.assert_array_equal(changes["conv"]["w"], 0)
    np.testing.assert_allclose(
        changes["linear"]["w"], 0.5 * plain["linear"]["w"], atol=1e-6
    )


def test_an_unknown_kind_of_optimiser_is_named():
    with pytest.raises(ValueError, match=r"kind.*adamw"):
        config.from_dict(OptimizerConfig, {"kind": "sgd"})
