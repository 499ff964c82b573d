import dataclasses

import haiku as hk
import jax
import numpy as np
import optax
import pytest
import xarray

from tests.training import toys
from weatherlib import (
    autoregressive,
    baselines,
    casting,
    checkpoint,
    stacking,
    training,
    xarray_jax,
)
from weatherlib.baselines import predictor
from weatherlib.nn.edges import Edges, find_edges
from weatherlib.training import config, wrapping

CONFIG = baselines.ResidualCnnConfig(width=4, dilations=(1,), dropout=0.3)


def sample(targets=1, batch=2):
    frames = training.Frames(toys.weather(), toys.TASK)
    return frames.batch(np.arange(batch), targets)


def call(make, data, seed=0):
    """Returns what `make` predicts of the data with fresh parameters, and these."""
    transformed = hk.transform(lambda *d: make()(*d))
    params = jax.jit(transformed.init)(jax.random.PRNGKey(seed), *data)
    return jax.jit(transformed.apply)(params, None, *data), params


def test_a_step_has_the_form_of_its_template():
    data = sample()
    found, _ = call(lambda: baselines.ResidualCnn(CONFIG, toys.TASK), data)
    assert set(found) == set(data[1])
    for name in found:
        assert found[name].dims == data[1][name].dims
        assert found[name].shape == data[1][name].shape
    xarray.testing.assert_equal(found.coords.to_dataset(), data[1].coords.to_dataset())


def test_fields_keep_their_places():
    """A change at one point shows there and around it, not elsewhere."""
    settings = dataclasses.replace(CONFIG, edges="regional")
    inputs, targets, forcings = sample()
    transformed = hk.transform(
        lambda *d: baselines.ResidualCnn(settings, toys.TASK)(*d)
    )
    params = jax.jit(transformed.init)(jax.random.PRNGKey(0), inputs, targets, forcings)
    changed = inputs.copy(deep=True)
    changed[toys.PRESSURE][1, :, 0, 7] += 1e4
    first = transformed.apply(params, None, inputs, targets, forcings)
    second = transformed.apply(params, None, changed, targets, forcings)
    apart = np.abs(np.asarray(first[toys.PRESSURE] - second[toys.PRESSURE]))[:, 0]
    assert apart[0].max() == 0
    assert apart[1, 0, 7] > 0
    assert apart[1, :, :5].max() == 0


def test_several_steps_train_in_bfloat16():
    data = sample(targets=2)

    def loss(*data):
        made = wrapping.wrap(
            baselines.ResidualCnn(CONFIG, toys.TASK),
            toys.statistics(),
            config.WrapperConfig(),
            loss=config.LossConfig(),
            precision="bfloat16",
        )
        value, _ = autoregressive.Predictor(made).loss(*data)
        return xarray_jax.unwrap_data(value)

    transformed = hk.transform(loss)
    key = jax.random.PRNGKey(0)
    params = jax.jit(transformed.init)(key, *data)
    value = jax.jit(transformed.apply)(params, key, *data)
    assert np.isfinite(np.asarray(value)).all()
    assert {p.dtype for p in jax.tree.leaves(params)} == {np.dtype(np.float32)}


ESTIMATING = dataclasses.replace(CONFIG, estimates_error=True, local_channels=1)
GAUSSIAN = config.LossConfig(kind="gaussian", differences=0.5)


def _estimating(settings=ESTIMATING, loss=GAUSSIAN, **options):
    return wrapping.wrap(
        baselines.ResidualCnn(settings, toys.TASK),
        {},
        config.WrapperConfig(residuals=False),
        loss=loss,
        **options,
    )


def test_expected_errors_are_told_beside_the_prediction():
    data = sample()

    def both(*data):
        made = baselines.ResidualCnn(ESTIMATING, toys.TASK)
        return made(*data), made.predictions_and_log_variances(*data)

    transformed = hk.transform(both)
    params = jax.jit(transformed.init)(jax.random.PRNGKey(0), *data)
    field = params["residual_cnn"]["error_embed"]
    channels = stacking.plan_channels(data[1])
    assert field.shape == (4, 8, channels[-1].stop)
    large = np.arange(field.shape[-1]) >= channels[-1].start
    params["residual_cnn"]["error_embed"] = field + 20.0 * large
    plain, (found, log_variances) = jax.jit(transformed.apply)(params, None, *data)
    xarray.testing.assert_equal(found, plain)
    assert set(log_variances) == set(data[1])
    small, last = channels[0].name, channels[-1].name
    assert np.abs(np.asarray(log_variances[small])).max() < 5
    # Bounded, so that no point counts without limit.
    np.testing.assert_array_equal(log_variances[last], 10.0)


def test_a_network_without_estimates_says_so():
    data = sample()
    with pytest.raises(NotImplementedError, match="a residual_cnn with"):
        call(
            lambda: (
                lambda *d: baselines.ResidualCnn(
                    CONFIG, toys.TASK
                ).predictions_and_log_variances(*d)
            ),
            data,
        )
    with pytest.raises(ValueError, match="estimates_error: true"):
        call(lambda: _estimating(CONFIG), data)


def test_a_gaussian_loss_counts_errors_by_what_is_expected():
    inputs, targets, forcings = sample()

    def terms(log_variance, *data):
        made = _estimating(is_training=False)
        network = made._predictor
        plain, expected = network.predictions_and_log_variances(*data)
        fixed = xarray_jax.apply_ufunc(lambda x: x * 0 + log_variance, expected)
        network.predictions_and_log_variances = lambda *_, **__: (plain, fixed)
        loss, _ = made.loss(*data)
        alike = _estimating(
            loss=config.LossConfig(kind="mse", differences=0.5), is_training=False
        )
        alike._predictor = network
        squared, _ = alike.loss(*data)
        return xarray_jax.unwrap_data(loss), xarray_jax.unwrap_data(squared)

    transformed = hk.transform(terms)
    data = (inputs, targets, forcings)
    key = jax.random.PRNGKey(0)
    params = jax.jit(transformed.init)(key, 0.0, *data)
    for value in (0.0, 1.5):
        found, squared = jax.jit(transformed.apply)(params, key, value, *data)
        expected = squared * np.exp(-value) + len(targets) * value
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_estimates_become_those_of_the_errors(precision):
    """Where nothing can be foreseen the expected error is that of doing nothing."""
    inputs, targets, forcings = sample()
    rng = np.random.default_rng(0)
    still = targets.map(lambda x: x * 0)

    def loss(*data):
        value, _ = _estimating(precision=precision).loss(*data)
        return xarray_jax.unwrap_data(value).mean()

    transformed = hk.transform(loss)
    key = jax.random.PRNGKey(0)
    params = jax.jit(transformed.init)(key, inputs, targets, forcings)
    optimizer = optax.adam(0.05)

    @jax.jit
    def update(params, state, key, targets):
        gradient = jax.grad(transformed.apply)(params, key, inputs, targets, forcings)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state

    state = optimizer.init(params)
    for _ in range(300):
        key, one = jax.random.split(key)
        noise = still.map(lambda x: x + 0.2 * rng.standard_normal(x.shape))
        params, state = update(params, state, one, noise.astype(np.float32))
    told = hk.transform(
        lambda *d: baselines.ResidualCnn(
            ESTIMATING, toys.TASK
        ).predictions_and_log_variances(*d)
    )
    _, found = jax.jit(told.apply)(params, None, inputs, targets, forcings)
    for field in found.values():
        assert float(np.asarray(field).mean()) == pytest.approx(np.log(0.04), abs=0.4)


@pytest.mark.parametrize("settings", [config.LossConfig(), None])
def test_validation_has_no_dropout(settings):
    data = sample()
    values = {}
    for is_training in (True, False):
        objective = training.Objective(
            lambda flag=is_training: wrapping.wrap(
                baselines.ResidualCnn(CONFIG, toys.TASK),
                toys.statistics(),
                config.WrapperConfig(),
                loss=settings or config.LossConfig(kind="mse"),
                is_training=flag,
            )
        )
        params, state = objective.init(jax.random.PRNGKey(0), data)
        # The head starts so small that what lies before it hardly shows.
        params = jax.tree.map(lambda p: p + 0.3, params)
        values[is_training] = [
            float(objective.loss(params, state, jax.random.PRNGKey(seed), data)[0])
            for seed in (1, 2)
        ]
    assert values[True][0] != values[True][1]
    assert values[False][0] == values[False][1]


def test_the_cast_reaches_the_network():
    found, _ = call(
        lambda: casting.Bfloat16Cast(baselines.ResidualCnn(CONFIG, toys.TASK)), sample()
    )
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_a_checkpoint_comes_back(tmp_path):
    _, params = call(lambda: baselines.ResidualCnn(CONFIG, toys.TASK), sample())
    written = baselines.CheckPoint(
        architecture=baselines.RESIDUAL_CNN,
        params=jax.device_get(params),
        model_config=CONFIG,
        task_config=toys.TASK,
        description="a test",
        license="CC0-1.0",
    )
    checkpoint.save(tmp_path / "cnn.npz", written)
    found = checkpoint.open_checkpoint(tmp_path / "cnn.npz", baselines.CheckPoint)
    assert found.model_config == CONFIG
    assert found.task_config == toys.TASK
    jax.tree.map(np.testing.assert_array_equal, found.params, written.params)


def test_data_that_do_not_fit_are_refused():
    inputs, targets, forcings = sample()

    def run(*data, settings=CONFIG):
        return call(lambda: baselines.ResidualCnn(settings, toys.TASK), data)

    with pytest.raises(ValueError, match="inputs lacks geopotential"):
        run(inputs.drop_vars("geopotential"), targets, forcings)
    with pytest.raises(ValueError, match="2 times, but the model predicts one step"):
        run(*sample(targets=2))
    coarse = dataclasses.replace(CONFIG, resolution=2.5)
    with pytest.raises(ValueError, match=r"grid of 2\.5 degrees, found 45"):
        run(inputs, targets, forcings, settings=coarse)


WITH_POLES = np.arange(90.0, -91, -10)
CENTRES = np.arange(-85.0, 86, 10)


@pytest.mark.parametrize(
    ("lat", "lon", "kind", "expected"),
    [
        (WITH_POLES, np.arange(0.0, 360, 10), "auto", (True, "on_pole", "on_pole")),
        (CENTRES, np.arange(-180.0, 180, 10), "auto", (True, "pole", "pole")),
        (WITH_POLES[:-1], np.arange(0.0, 360, 10), "auto",
         (True, "on_pole", "repeat")),
        (CENTRES, np.arange(0.0, 360, 120), "auto", (True, "repeat", "repeat")),
        (CENTRES, np.arange(0.0, 350, 10), "auto", (False, "repeat", "repeat")),
        (CENTRES, np.arange(0.0, 360, 10), "regional", (False, "repeat", "repeat")),
        (np.array([87.8638, 85.0965, 82.3129]), np.arange(0.0, 360, 2.8125), "global",
         (True, "pole", "repeat")),
    ],
)  # fmt: skip
def test_edges_follow_the_grid(lat, lon, kind, expected):
    around, first, last = expected
    assert find_edges(lat, lon, kind) == Edges(
        columns="around" if around else "repeat",
        over_first_row=first,
        over_last_row=last,
    )


def test_a_region_is_no_globe():
    with pytest.raises(ValueError, match="35 columns from 0 to 340 degrees"):
        find_edges(CENTRES, np.arange(0.0, 350, 10), "global")


def test_mirrored_winds_and_vorticities_change_sign():
    inputs, targets, forcings = sample()
    renamed = {"geopotential": "v_component_of_wind"}
    inputs, targets = inputs.rename(renamed), targets.rename(renamed)
    parity = predictor._parity(inputs, forcings, targets)
    frames = inputs.sizes["time"]
    # Sorted by name: forcings that are inputs too, pressure, then wind on two levels.
    assert parity.inputs[-len(forcings) :].tolist() == [1.0] * len(forcings)
    own = parity.inputs[: -len(forcings)]
    assert own.sum() == len(own) - 2 * (2 * frames)
    assert parity.outputs.tolist() == [1.0, -1.0, -1.0]
    wind = predictor._parity(
        inputs[["v_component_of_wind"]], forcings, targets[["v_component_of_wind"]]
    )
    assert (wind.inputs[: 2 * frames] == -1).all()


def test_mirror_predicts_both_hemispheres():
    settings = dataclasses.replace(CONFIG, mirror=True)
    found, params = call(lambda: baselines.ResidualCnn(settings, toys.TASK), sample())
    assert params["residual_cnn/member_0/embed"]["w"].shape[2] > 0
    for field in found.data_vars.values():
        assert np.isfinite(np.asarray(field)).all()
        assert np.abs(np.asarray(field)[..., -1, :]).max() > 0


def test_mirror_needs_two_hemispheres_alike():
    settings = dataclasses.replace(CONFIG, mirror=True)
    data = [d.isel(lat=slice(1, None)) for d in sample()]
    with pytest.raises(ValueError, match="mirror: needs a global grid with the same"):
        call(lambda: baselines.ResidualCnn(settings, toys.TASK), data)
    with pytest.raises(ValueError, match="mirror needs the whole globe"):
        dataclasses.replace(CONFIG, mirror=True, edges="regional")
