"""Running statistics of batch norms in training, by the rule of PyTorch."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray

from tests.training import toys
from weatherlib import losses, predictor_base, training, xarray_jax
from weatherlib.nn import batch_norm
from weatherlib.nn.convolutions import Conv2D
from weatherlib.nn.edges import ZERO
from weatherlib.training import optimizers, running_statistics, step

ROOT = pathlib.Path(__file__).parents[2]
RUNNING = batch_norm.RUNNING


def network(x, is_training):
    """Returns a forecast by a network with two batch norms."""
    x = Conv2D(3, 3, edges=ZERO, name="first")(x)
    x = jax.nn.relu(batch_norm.BatchNorm(name="first_norm")(x, is_training))
    x = Conv2D(2, 3, edges=ZERO, name="second")(x)
    return batch_norm.BatchNorm(name="second_norm")(x, is_training)


NETWORK = hk.without_apply_rng(hk.transform(network))


def batches(count, size=4):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((count, size, 4, 6, 2)), jnp.float32) + 2


def loss(params, state, key, x):
    """Returns the loss of a batch as a training loop takes it."""
    del key
    value = jnp.mean((NETWORK.apply(params, x, True) - 1) ** 2)
    return value, ({}, state)


def first_params():
    return jax.jit(NETWORK.init, static_argnums=2)(
        jax.random.key(0), batches(1)[0], True
    )


@jax.jit
def gradient_at(params, x):
    return jax.grad(lambda params: loss(params, {}, None, x)[0])(params)


def by_hand(params, x):
    """Returns the running statistics after a batch by the rule of PyTorch."""
    seen, after = {}, {}

    def spy(next_function, args, kwargs, context):
        if context.method_name == "__call__" and "norm" in context.module.module_name:
            seen[context.module.module_name] = np.asarray(args[0], np.float64)
        return next_function(*args, **kwargs)

    def run(x):
        with hk.intercept_methods(spy):
            return network(x, True)

    hk.transform(run).apply(jax.tree.map(jnp.asarray, params), None, x)
    for module, values in seen.items():
        held = params[module]
        mean = values.mean((0, 1, 2))
        variance = values.var((0, 1, 2), ddof=1)
        after[module] = {
            "moving_mean": 0.9 * np.asarray(held["moving_mean"]) + 0.1 * mean,
            "moving_variance": 0.9 * np.asarray(held["moving_variance"])
            + 0.1 * variance,
        }
    return after


def assert_follows(found, expected, **tolerances):
    tolerances = tolerances or {"rtol": 1e-5, "atol": 1e-6}
    for module, entries in expected.items():
        for name, value in entries.items():
            np.testing.assert_allclose(found[module][name], value, **tolerances)


ADAM = training.OptimizerConfig(clip=0.5, weight_decay=0.3, decay_vectors=True)
OPTIMIZERS = {
    "adamw": lambda params: optimizers.make_optimizer(ADAM, lambda _: 0.05, params),
    "frozen": lambda params: optimizers.make_optimizer(
        ADAM.replace(frozen=("second/*",)), lambda _: 0.05, params
    ),
    "layers": lambda params: optimizers.make_optimizer(
        ADAM.replace(
            layers=("first*", "second*"), layer_decay=0.1, scales={"*_norm/*": 3.0}
        ),
        lambda _: 0.05,
        params,
    ),
    "own": lambda params: optax.chain(
        optax.clip_by_global_norm(0.1), optax.adamw(0.05, weight_decay=0.2)
    ),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_after_some_updates_they_are_those_of_pytorch(kind):
    params = first_params()
    optimizer = OPTIMIZERS[kind](params)
    update = step.Update(loss, optimizer, ema=0.9)
    state = step.first_state(params, {}, optimizer, jax.random.key(1), ema=0.9)
    for x in batches(3):
        before = jax.tree.map(np.array, state.params)
        expected = by_hand(before, x)
        state, numbers = update(state, (x,))
        assert set(expected) == {"first_norm", "second_norm"}
        assert_follows(state.params, expected)
        moved = np.abs(state.params["first"]["w"] - before["first"]["w"]).max()
        assert moved > 1e-3
        # The norm of the gradient is that of what is trained.
        gradient = gradient_at(before, x)
        squares = [
            float(jnp.sum(leaf**2))
            for entries in gradient.values()
            for name, leaf in entries.items()
            if name not in RUNNING
        ]
        told = dict(zip(update.names, np.asarray(numbers)))
        np.testing.assert_allclose(
            told["gradient_norm"], np.sqrt(sum(squares)), rtol=1e-4
        )
    averaged = state.average["first_norm"]["moving_mean"]
    assert np.abs(averaged - state.params["first_norm"]["moving_mean"]).max() > 0


def test_the_other_changes_are_as_without_running_statistics():
    params, x = first_params(), batches(1)[0]
    gradient = gradient_at(params, x)
    optimizer = OPTIMIZERS["own"](params)
    zeros = running_statistics.without(gradient)
    assert float(zeros["first_norm"]["moving_mean"].max()) == 0
    expected, _ = optimizer.update(zeros, optimizer.init(params), params)
    followed = running_statistics.follow(optimizer)
    state = followed.init(params)
    jax.tree.map(np.testing.assert_array_equal, state, optimizer.init(params))
    found, _ = followed.update(gradient, state, params)
    for module, entries in found.items():
        for name, change in entries.items():
            if name in RUNNING:
                np.testing.assert_allclose(change, -0.1 * gradient[module][name])
            else:
                np.testing.assert_array_equal(change, expected[module][name])


def test_frozen_running_statistics_stay():
    params = first_params()
    settings = ADAM.replace(frozen=("first*",))
    optimizer = optimizers.make_optimizer(settings, lambda _: 0.05, params)
    # A training loop follows once only.
    assert running_statistics.follow(optimizer) is optimizer
    state = step.first_state(params, {}, optimizer, jax.random.key(1))
    held = jax.tree.map(np.array, params)
    expected = by_hand(held, batches(1)[0])
    state, _ = step.Update(loss, optimizer)(state, (batches(1)[0],))
    for name in held["first_norm"]:
        np.testing.assert_array_equal(
            state.params["first_norm"][name], held["first_norm"][name]
        )
    assert_follows(state.params, {"second_norm": expected["second_norm"]})


def test_accumulated_parts_count_as_their_mean():
    params = first_params()
    parts = batches(3)
    held = jax.tree.map(np.array, params)
    each = [by_hand(held, x) for x in parts]
    expected = jax.tree.map(lambda *values: np.mean(values, axis=0), *each)
    optimizer = OPTIMIZERS["adamw"](params)
    state = step.first_state(params, {}, optimizer, jax.random.key(1))
    state, _ = step.Update(loss, optimizer)(state, tuple(parts))
    assert_follows(state.params, expected)


def test_a_failed_update_leaves_them_alone():
    params = first_params()
    held = jax.tree.map(np.array, params)
    optimizer = OPTIMIZERS["adamw"](params)
    state = step.first_state(params, {}, optimizer, jax.random.key(1))
    state, _ = step.Update(loss, optimizer)(state, (batches(1)[0] * np.nan,))
    assert int(state.failed) == 1
    jax.tree.map(np.testing.assert_array_equal, state.params, held)


class Normed(predictor_base.Predictor):
    """Predicts the pressure of the next frame by a batch norm."""

    frames_per_step = 1
    predicts_changes = False

    def __call__(self, inputs, targets_template, forcings, is_training=False):
        del forcings
        like = targets_template[toys.PRESSURE]
        last = inputs[toys.PRESSURE].isel(time=-1)
        x = jnp.asarray(xarray_jax.unwrap_data(last))[..., np.newaxis]
        y = batch_norm.BatchNorm(name="norm")(x, is_training)[..., 0]
        return xarray_jax.Dataset(
            {toys.PRESSURE: (like.dims, y[:, np.newaxis])}, coords=like.coords
        )

    def loss(self, inputs, targets, forcings, is_training=True):
        return self.loss_and_predictions(inputs, targets, forcings, is_training)[0]

    def loss_and_predictions(self, inputs, targets, forcings, is_training=True):
        found = self(inputs, targets, forcings, is_training)
        return losses.weighted_error(found, targets, latitude=False), found


@functools.cache
def pressure_samples(steps):
    """Returns inputs of two frames and the targets of some steps."""
    weather = toys.weather()[[toys.PRESSURE]].drop_vars("datetime")
    weather = (weather - 101325) / 500
    parts = [weather.isel(time=slice(i, i + 2 + steps)) for i in range(4)]
    first = parts[0]["time"]
    whole = xarray.concat([part.assign_coords(time=first) for part in parts], "batch")
    whole = whole.assign_coords(time=first - first[1])
    inputs, targets = whole.isel(time=slice(2)), whole.isel(time=slice(2, None))
    return inputs, targets, targets.drop_vars(list(targets))


def pressure(forecast):
    """Returns the only predicted frame."""
    values = forecast[toys.PRESSURE].transpose("batch", "time", "lat", "lon")
    return np.asarray(xarray_jax.unwrap_data(values))[:, 0]


@pytest.mark.parametrize("remat", [False, True])
def test_the_steps_of_a_rollout_count_as_their_mean(remat):
    objective = training.Objective(Normed, remat=remat)
    batch = pressure_samples(3)
    params, state = objective.init(jax.random.key(0), batch)
    gradient = jax.jit(
        jax.grad(lambda p: objective.loss(p, state, jax.random.key(0), batch)[0])
    )(params)["norm"]
    x = batch[0][toys.PRESSURE].values[:, -1].astype(np.float64)
    means, variances = [], []
    for _ in range(3):
        means.append(x.mean())
        variances.append(x.var(ddof=1))
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    np.testing.assert_allclose(gradient["moving_mean"], -np.mean(means), atol=1e-5)
    np.testing.assert_allclose(
        gradient["moving_variance"], 1 - np.mean(variances), rtol=1e-4
    )


def test_forecasts_after_training_use_what_was_followed():
    objective = training.Objective(Normed)
    batch = pressure_samples(1)
    params, state = objective.init(jax.random.key(0), batch)
    optimizer = optax.sgd(0.0)
    first = jax.tree.map(jnp.copy, params)
    after = step.first_state(params, state, optimizer, jax.random.key(0))
    update = step.Update(objective.loss, optimizer)
    for _ in range(80):
        after, _ = update(after, (batch,))
    found = objective.forecast(after.params, state, jax.random.key(0), batch)
    x = batch[0][toys.PRESSURE].values[:, -1].astype(np.float64)
    expected = (x - x.mean()) / np.sqrt(x.var(ddof=1) + 1e-5)
    np.testing.assert_allclose(pressure(found), expected, atol=2e-3)
    before = objective.forecast(first, state, jax.random.key(0), batch)
    np.testing.assert_allclose(pressure(before), x / np.sqrt(1 + 1e-5), atol=1e-5)


_ON_DEVICES = """
import json, sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tests.training import test_running_statistics as cases
from weatherlib.training import step
params = cases.first_params()
optimizer = cases.OPTIMIZERS["adamw"](params)
state = step.first_state(params, {}, optimizer, jax.random.key(1))
mesh = Mesh(np.array(jax.devices()), ("data",))
assert mesh.size == 4
x = jax.device_put(cases.batches(1)[0], NamedSharding(mesh, PartitionSpec("data")))
state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
state, _ = step.Update(cases.loss, optimizer)(state, (x,))
norms = {m: e for m, e in state.params.items() if m.endswith("_norm")}
print(json.dumps(jax.tree.map(lambda a: np.asarray(a).tolist(), norms)))
"""


def test_a_batch_on_several_devices_counts_as_a_whole():
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    ran = subprocess.run(
        [sys.executable, "-c", _ON_DEVICES],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    held = jax.tree.map(np.array, first_params())
    assert_follows(found, by_hand(held, batches(1)[0]), rtol=1e-4, atol=1e-5)
