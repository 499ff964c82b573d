import jax
import numpy as np
import pytest

from tests.training import toys
from weatherlib import training
from weatherlib.training import adapters, mixing, optimizers, patterns, schedules
from weatherlib.training.config import AdapterConfig, OptimizerConfig, Schedule

KEY = jax.random.PRNGKey(0)
SETTINGS = AdapterConfig(patterns=("net/linear*/w",), rank=2)


class Network:
    """Two layers, a table of three axes and a bias."""

    frames_per_step = 1

    def init(self, key, batch):
        del batch
        draw = jax.random.normal
        return {
            "net/linear_0": {"w": draw(key, (4, 6)), "b": np.zeros(6, np.float32)},
            "net/linear_1": {"w": draw(key, (6, 3)), "b": np.zeros(3, np.float32)},
            "net/table": {"w": draw(key, (2, 3, 4))},
        }, {}

    def shapes(self, batch):
        return jax.eval_shape(self.init, KEY, batch)

    def forecast(self, params, state, key, batch):
        x = batch @ params["net/linear_0"]["w"] + params["net/linear_0"]["b"]
        return jax.numpy.tanh(x) @ params["net/linear_1"]["w"]

    def loss(self, params, state, key, batch):
        found = self.forecast(params, state, key, batch)
        table = params["net/table"]["w"]
        return ((found - 1) ** 2).mean() + (table**2).mean(), ({}, state)


def _adapted(settings=SETTINGS, **options):
    return adapters.Adapted(Network(), settings, **options)


BATCH = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def test_adapters_change_nothing_before_training():
    adapted = _adapted()
    params, state = adapted.init(KEY, BATCH)
    plain, _ = Network().init(KEY, BATCH)
    names = set(patterns.names(params)) - set(patterns.names(plain))
    assert names == {
        f"net/linear_{i}/w_adapter_{part}" for i in range(2) for part in "ab"
    }
    assert params["net/linear_0"]["w_adapter_a"].shape == (4, 2)
    assert params["net/linear_0"]["w_adapter_b"].shape == (2, 6)
    assert not params["net/linear_0"]["w_adapter_b"].any()
    assert params["net/linear_0"]["w_adapter_a"].any()
    one = adapted.loss(params, state, KEY, BATCH)[0]
    two = Network().loss(plain, state, KEY, BATCH)[0]
    np.testing.assert_array_equal(one, two)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), adapted.shapes(BATCH)[0])
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    assert adapted.frames_per_step == 1


def test_merged_weights_are_plain_and_give_the_same_forecast():
    adapted = _adapted(AdapterConfig(patterns=("*_1/w",), rank=2, scale=6.0))
    params, state = adapted.init(KEY, BATCH)
    up = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
    params["net/linear_1"]["w_adapter_b"] = up
    plain = adapted.merge(params)
    assert set(patterns.names(plain)) == set(patterns.names(Network().init(KEY, 0)[0]))
    change = plain["net/linear_1"]["w"] - params["net/linear_1"]["w"]
    expected = 3 * np.asarray(params["net/linear_1"]["w_adapter_a"]) @ up
    np.testing.assert_allclose(change, expected, rtol=1e-5, atol=1e-5)
    assert np.linalg.matrix_rank(np.asarray(change), tol=1e-4) == 2
    np.testing.assert_allclose(
        adapted.forecast(params, state, KEY, BATCH),
        Network().forecast(plain, state, KEY, BATCH),
        rtol=1e-6,
    )
    host = adapted.merge(jax.device_get(params))
    assert isinstance(host["net/linear_1"]["w"], np.ndarray)


def test_only_adapters_and_what_is_named_have_gradients():
    adapted = _adapted(trained=("*/linear_1/b", "net/table*"))
    params, state = adapted.init(KEY, BATCH)
    gradient = jax.grad(lambda p: adapted.loss(p, state, KEY, BATCH)[0])(params)
    norms = {
        name: float(np.abs(leaf).max())
        for name, leaf in zip(patterns.names(gradient), jax.tree.leaves(gradient))
    }
    moving = {name for name, norm in norms.items() if norm > 0}
    # The first change of `a` is none, for `b` is zero.
    assert moving == {
        "net/linear_0/w_adapter_b", "net/linear_1/w_adapter_b", "net/table/w"
    }  # fmt: skip


def test_training_moves_the_adapters_alone_and_lowers_the_loss():
    adapted = _adapted()
    params, state = adapted.init(KEY, BATCH)
    settings = OptimizerConfig(
        frozen=("*",), trained=adapters.TRAINED, weight_decay=0.0
    )
    rate = schedules.make_schedule(Schedule(kind="constant", peak=0.03), 100)
    optimizer = optimizers.make_optimizer(settings, rate, params)
    moments = optimizer.init(params)
    first = adapted.loss(params, state, KEY, BATCH)[0]
    start = params

    @jax.jit
    def step(params, moments):
        import optax

        gradient = jax.grad(lambda p: adapted.loss(p, state, KEY, BATCH)[0])(params)
        changes, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, changes), moments

    for _ in range(40):
        params, moments = step(params, moments)
    assert adapted.loss(params, state, KEY, BATCH)[0] < first - 0.2
    for name, before, after in zip(
        patterns.names(start), jax.tree.leaves(start), jax.tree.leaves(params)
    ):
        assert np.array_equal(before, after) == ("adapter" not in name)


def test_splitting_and_joining_are_inverse():
    adapted = _adapted()
    params, _ = adapted.init(KEY, BATCH)
    plain, added = adapted.split(params)
    assert set(added) == {"net/linear_0", "net/linear_1"}
    assert "w_adapter_a" not in plain["net/linear_0"]
    joined = adapted.join(plain, added)
    assert patterns.describe(joined) == patterns.describe(params)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("net/lin/w",), "adapters.patterns: no parameter matches 'net/lin/w'"),
        (("net/table/w",), r"net/table/w of shape \[2, 3, 4\] is no matrix"),
        (("*/b",), "is no matrix"),
    ],
)
def test_what_cannot_be_adapted_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        _adapted(AdapterConfig(patterns=given)).init(KEY, BATCH)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rank": 0}, "rank must be at least 1"), ({"patterns": ()}, "patterns is empty")],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdapterConfig(**{"patterns": ("*",), **settings})


def test_adapters_work_with_predictors_and_mixed_objectives():
    frames = training.Frames(toys.weather(), toys.TASK)
    objective = training.Objective(toys.make_predictor)
    batch = frames.batch(np.array([0, 1]))
    settings = AdapterConfig(patterns=("*/w_*",), rank=1)
    adapted = training.Adapted(objective, settings)
    mixed = training.Adapted(training.MixedObjective([objective]), settings)
    params, state = adapted.init(KEY, batch)
    found = adapted.loss(params, state, KEY, batch)[0]
    again = mixed.loss(params, state, KEY, (*batch, mixing.Mark(0)))[0]
    np.testing.assert_allclose(found, again, rtol=1e-6)
