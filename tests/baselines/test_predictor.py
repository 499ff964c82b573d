import dataclasses

import haiku as hk
import jax
import numpy as np
import pytest
import xarray

from tests.training import toys
from weatherlib import (
    autoregressive,
    baselines,
    casting,
    checkpoint,
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
