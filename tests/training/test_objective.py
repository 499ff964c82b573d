import re

import haiku as hk
import jax
import numpy as np
import pytest

from tests.training import toys
from weatherlib import normalization, training
from weatherlib.nn import reverse_mode
from weatherlib.training import wrapping
from weatherlib.training.config import LossConfig, WrapperConfig

KEY = jax.random.PRNGKey(0)


@pytest.fixture(scope="module")
def batch():
    frames = training.Frames(toys.weather(12), toys.TASK)
    return frames.batch(np.array([0, 3]), 1)


@pytest.fixture(scope="module")
def rollout():
    frames = training.Frames(toys.weather(12), toys.TASK)
    return frames.batch(np.array([0, 3]), 2)


def _wrapped(loss=None, *, settings=None, noise=0.0, statistics=None, **options):
    return training.Objective(
        lambda: wrapping.wrap(
            toys.Linear(noise),
            statistics or toys.statistics(),
            settings or WrapperConfig(),
            loss=loss,
            **options,
        )
    )


def _zeros(objective, batch):
    """Returns what `init` would for this predictor, without compiling."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), objective.shapes(batch))


def _loss(objective, batch):
    params, state = _zeros(objective, batch)
    loss, (diagnostics, _) = jax.jit(objective.loss)(params, state, KEY, batch)
    return float(loss), {name: float(value) for name, value in diagnostics.items()}


def test_shapes_are_those_of_the_first_parameters(batch):
    objective = training.Objective(toys.make_predictor)
    params, _ = objective.init(KEY, batch)
    shapes, _ = objective.shapes(batch)
    expected = jax.tree.map(lambda x: (x.shape, x.dtype), params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == expected
    assert objective.frames_per_step == 1


def test_with_nothing_set_the_loss_is_the_models_own():
    assert LossConfig().is_own
    own = wrapping.wrap(
        network := object.__new__(toys.Linear),
        {},
        WrapperConfig(residuals=False),
        loss=LossConfig(),
    )
    assert own is network


def test_losses_are_differentiated_by_layers_of_our_own_and_forecasts_are_not(batch):
    seen = []

    class Probe(toys.Linear):
        def __call__(self, *args, **kwargs):
            seen.append(reverse_mode.is_active())
            return super().__call__(*args, **kwargs)

    objective = training.Objective(
        lambda: wrapping.wrap(Probe(), toys.statistics(), WrapperConfig())
    )
    params, state = _zeros(objective, batch)
    seen.clear()
    jax.eval_shape(objective.loss, params, state, KEY, batch)
    assert set(seen) == {True}
    seen.clear()
    jax.eval_shape(objective.forecast, params, state, KEY, batch)
    assert set(seen) == {False}


def test_weights_of_variables_scale_their_share(batch):
    _, each = _loss(_wrapped(), batch)
    weights = {toys.PRESSURE: 3.0, "geopotential": 0.5}
    loss, found = _loss(_wrapped(LossConfig(variables=weights)), batch)
    assert found == pytest.approx(each, rel=1e-5)
    expected = sum(weights[name] * value for name, value in each.items())
    assert loss == pytest.approx(expected, rel=1e-5)


def test_a_zero_forecast_of_changes_has_the_loss_of_persistence(batch):
    # Weights begin at zero, so the first change predicted is none.
    inputs, targets, _ = batch
    settings = LossConfig(kind="mae", latitude=False, levels="uniform")
    _, each = _loss(_wrapped(settings), batch)
    change = targets[toys.PRESSURE].values[:, :1] - inputs[toys.PRESSURE].values[:, -1:]
    assert each[toys.PRESSURE] == pytest.approx(np.abs(change).mean() / 150, rel=1e-4)


@pytest.mark.parametrize("kind", ["mse", "mae"])
def test_errors_of_differences_between_neighbours_are_added(batch, kind):
    # Weights begin at zero, so what is missed is the change.
    settings = {"kind": kind, "latitude": False, "levels": "uniform"}
    plain, each = _loss(_wrapped(LossConfig(**settings)), batch)
    loss, found = _loss(_wrapped(LossConfig(**settings, differences=2.0)), batch)
    assert found == pytest.approx(each, rel=1e-6)
    expected = 0.0
    inputs, targets, _ = batch
    diffs = toys.statistics()["diffs_stddev_by_level"]
    for name in targets:
        last = inputs[name].isel(time=-1, drop=True)
        change = (targets[name].isel(time=0, drop=True) - last) / diffs[name]
        columns = change.diff("lat").values
        rows = (change.roll(lon=-1) - change).values
        for part in (columns, rows):
            expected += np.mean(part**2 if kind == "mse" else np.abs(part))
    assert expected > 0.01
    assert loss - plain == pytest.approx(2.0 * expected, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"differences": -1.0}, "differences must be a number from 0 on, found -1"),
        ({"differences": float("inf")}, "differences must be a number from 0 on"),
        ({"differences": 1.0, "skip_missing": True}, "need all values"),
    ],
)
def test_differences_that_cannot_be_judged_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)


def test_noise_of_training_is_left_out_where_it_is_judged(batch):
    settings = LossConfig(kind="mse")
    quiet = _loss(_wrapped(settings), batch)
    judged = _loss(_wrapped(settings, noise=0.3, is_training=False), batch)
    noisy = _loss(_wrapped(settings, noise=0.3, is_training=True), batch)
    assert judged[0] == pytest.approx(quiet[0], rel=1e-5)
    assert noisy[0] > quiet[0]


def test_in_bfloat16_parameters_and_loss_stay_float32(batch):
    objective = _wrapped(LossConfig(kind="mse"), precision="bfloat16")
    params, state = objective.init(KEY, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    loss, _ = jax.jit(objective.loss)(params, state, KEY, batch)
    exact, _ = _loss(_wrapped(LossConfig(kind="mse")), batch)
    assert loss.dtype == np.float32
    assert float(loss) == pytest.approx(exact, rel=2e-2)


def test_without_residuals_the_network_sees_the_data_as_they_are(batch):
    found = []

    class Seen(toys.Linear):
        def __call__(self, inputs, targets_template, forcings, is_training=False):
            found.append(inputs[toys.PRESSURE])
            return super().__call__(inputs, targets_template, forcings)

    def make():
        return wrapping.wrap(Seen(), {}, WrapperConfig(residuals=False))

    training.Objective(make).shapes(batch)
    assert found[0].shape == batch[0][toys.PRESSURE].shape


def test_missing_values_are_filled_before_the_network(batch):
    inputs, targets, forcings = batch
    holed = inputs.copy(deep=True)
    holed[toys.PRESSURE][0, 0, 1, 1] = np.nan
    settings = WrapperConfig(nan_cleaning=(toys.PRESSURE,))
    cleaned, _ = _loss(_wrapped(settings=settings), (holed, targets, forcings))
    assert np.isfinite(cleaned)


def test_rollouts_that_compute_again_have_the_same_gradient(rollout):
    results, programs = [], []
    for remat in (False, True):
        objective = training.Objective(lambda: toys.make_predictor(0.0), remat=remat)
        params, state = _zeros(objective, rollout)
        gradient = jax.grad(
            lambda p, o=objective, s=state: o.loss(p, s, KEY, rollout)[0]
        )
        results.append(jax.jit(gradient)(params))
        programs.append(str(jax.make_jaxpr(gradient)(params)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *results)
    assert all(np.abs(array).max() > 0 for array in jax.tree.leaves(results[0]))
    marks = [bool(re.search("remat|checkpoint", text)) for text in programs]
    assert marks == [False, True]


def test_haiku_state_goes_from_update_to_update(batch):
    class Counting(toys.Linear):
        def loss_and_predictions(self, inputs, targets, forcings):
            count = hk.get_state("count", (), init=jax.numpy.zeros)
            hk.set_state("count", count + 1)
            return super().loss_and_predictions(inputs, targets, forcings)

    def make():
        return normalization.InputsAndResiduals(Counting(), **toys.statistics())

    objective = training.Objective(make)
    params, state = _zeros(objective, batch)
    update = jax.jit(objective.loss)
    for expected in (1, 2):
        _, (_, state) = update(params, state, KEY, batch)
        assert float(jax.tree.leaves(state)[0]) == expected
