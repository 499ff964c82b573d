"""Frames as they arrive give the predictions of all frames at once."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from tests.training import toys
from weatherlib import casting, normalization
from weatherlib.baselines import (
    common,
    convlstm_config,
    convlstm_network,
    grid_predictor,
    streaming,
)
from weatherlib.baselines.fields import Fields
from weatherlib.nn.edges import ZERO, Edges

GLOBE = Edges(columns="around", over_first_row="pole", over_last_row="pole")
ONE = convlstm_config.ConvLSTMConfig(
    hidden_channels=(4, 3), input_length=6, output_length=2
)
TWO = convlstm_config.ConvLSTMSeq2SeqConfig(**ONE)
BOTH = pytest.mark.parametrize("config", [ONE, TWO], ids=["one", "seq2seq"])
NETWORKS = [convlstm_network.ConvLSTMNetwork, convlstm_network.ConvLSTMSeq2SeqNetwork]
CHUNKS = [[1] * 6, [1, 2, 1, 2]]


def draw(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def arrays(batch=2, rows=4, columns=6):
    return (
        draw(batch, 6, rows, columns, 2),
        draw(batch, 2, rows, columns, 1, seed=1),
        draw(batch, rows, columns, 1, seed=2),
    )


@functools.cache
def network(config, edges=ZERO):
    make = NETWORKS[config == TWO]

    def run(*data):
        return make(config)(Fields(*data), edges, 2)

    return hk.transform(run)


@functools.cache
def params(config):
    found = jax.jit(network(config).init)(jax.random.PRNGKey(0), *arrays())
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda p: p + 0.2 * rng.standard_normal(p.shape).astype(np.float32), found
    )


def chunks(frames, sizes):
    stops = np.cumsum(sizes)
    return [frames[:, stop - size : stop] for size, stop in zip(sizes, stops)]


@BOTH
def test_arrays_in_any_portions_give_the_prediction_of_all_at_once(config):
    frames, known, static = arrays()
    apply = jax.jit(network(config, GLOBE).apply)
    expected = apply(params(config), None, frames, known, static)
    stream = streaming.ArrayStream(config, params(config), 2, edges=GLOBE)
    for sizes in CHUNKS:
        stream.reset()
        for chunk in chunks(frames, sizes):
            found = stream(chunk, known, static)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert stream.frames_read == 6
    assert stream.traces == 2  # chunks of 1 and 2 frames


def test_the_functions_are_pure():
    config = TWO
    frames, known, static = arrays()
    expected = jax.jit(network(config).apply)(params(config), None, *arrays())
    first, second = (Fields(chunk, known, static) for chunk in chunks(frames, [4, 2]))
    state = streaming.initial_state(config, first, 2)
    assert {float(np.abs(leaf).max()) for leaf in jax.tree.leaves(state)} == {0.0}
    _, after = streaming.advance(config, params(config), state, first, 2)
    for _ in range(2):
        found, _ = streaming.advance(config, params(config), after, second, 2)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_memory_reaches_back_until_it_is_reset():
    frames, known, static = arrays()
    stream = streaming.ArrayStream(ONE, params(ONE), 2)
    before = stream(frames[:, :2], known, static)
    assert stream.frames_read == 2
    after = stream(frames[:, :2], known, static)
    assert np.abs(after - before).max() > 1e-3
    stream.reset()
    assert stream.state is None
    assert stream.frames_read == 0
    np.testing.assert_array_equal(stream(frames[:, :2], known, static), before)


def test_a_state_can_be_kept_and_taken_up_again():
    frames, known, static = arrays()
    stream = streaming.ArrayStream(ONE, params(ONE), 2)
    stream(frames[:, :3], known, static)
    kept = jax.device_get(stream.state)
    expected = stream(frames[:, 3:], known, static)
    other = streaming.ArrayStream(ONE, params(ONE), 2)
    other.state = kept
    np.testing.assert_array_equal(other(frames[:, 3:], known, static), expected)


def test_another_batch_or_grid_does_not_go_on():
    frames, known, static = arrays()
    stream = streaming.ArrayStream(ONE, params(ONE), 2)
    stream(frames[:, :1], known, static)
    for data in (arrays(batch=1), arrays(rows=5)):
        with pytest.raises(ValueError, match=r"batch and grid \(2, 4, 6\), these"):
            stream(data[0][:, :1], *data[1:])
    stream.reset()
    data = arrays(batch=1)
    assert stream(data[0][:, :1], *data[1:]).shape == (1, 2, 4, 6, 2)


def test_a_first_frame_that_does_not_fit_leaves_no_trace():
    frames, known, static = arrays()
    stream = streaming.ArrayStream(ONE, params(ONE), 2)
    with pytest.raises(ValueError, match=r"known at 1 time\(s\)"):
        stream(frames[:, :1, :3], known[:, :1, :3], static[:, :3])
    assert stream.state is None
    stream(frames[:, :1], known, static)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 4, 6, 2), np.float32), "need the axes batch, time, lat, lon"),
        (np.zeros((2, 0, 4, 6, 2), np.float32), r"found 0 frame\(s\)"),
    ],
)
def test_frames_of_another_form_are_refused(frames, message):
    _, known, static = arrays()
    with pytest.raises(ValueError, match=message):
        streaming.ArrayStream(ONE, params(ONE), 2)(frames, known, static)


def test_networks_without_memory_are_refused():
    with pytest.raises(ValueError, match="FrameModelConfig keeps no state"):
        streaming.ArrayStream(common.FrameModelConfig(), {}, 2)
    with pytest.raises(ValueError, match="FrameModelConfig keeps no state"):
        streaming.Stream(common.FrameModelConfig(), {}, toys.TASK, time_step="6h")


TASK = toys.TASK.replace(input_duration="36h")


def wrap(predictor):
    return normalization.InputsAndResiduals(
        casting.Bfloat16Cast(predictor, enabled=False),
        **toys.statistics(),
        residuals=predictor.predicts_changes,
    )


@functools.cache
def whole(config):
    """Returns the forecast from all frames at once, and the parameters."""
    from weatherlib import training

    frames = training.Frames(toys.weather(), TASK)
    inputs, targets, forcings = frames.batch(np.arange(1), 2)

    def predict(*data):
        net = NETWORKS[type(config) is type(TWO)](config)
        return wrap(grid_predictor.GridPredictor(config, net, TASK))(*data)

    transformed = hk.transform(predict)
    data = inputs, targets, forcings
    found = jax.jit(transformed.init)(jax.random.PRNGKey(0), *data)
    rng = np.random.default_rng(2)
    found = jax.tree.map(
        lambda p: p + 0.1 * rng.standard_normal(p.shape).astype(np.float32), found
    )
    return jax.jit(transformed.apply)(found, None, *data), found


@pytest.mark.parametrize(
    ("config", "predicts"), [(ONE, "state"), (TWO, "change")], ids=["one", "seq2seq"]
)
def test_datasets_in_any_portions_give_the_forecast_of_all_at_once(config, predicts):
    config = config.replace(predicts=predicts)
    expected, weights = whole(config)
    stream = streaming.Stream(config, weights, TASK, time_step="6h", wrap=wrap)
    weather = toys.weather().isel(time=slice(6))
    for start, stop in ((0, 1), (1, 2), (2, 5), (5, 6)):
        found = stream(weather.isel(time=slice(start, stop)))
    assert stream.traces == 2
    assert stream.frames_read == 6
    for name in toys.TASK.target_variables:
        assert found[name].dims == expected[name].dims
        scale = float(np.std(np.asarray(expected[name])))
        np.testing.assert_allclose(
            found[name], np.asarray(expected[name]), atol=1e-4 * scale, rtol=1e-6
        )
    leads = np.array([6, 12], "timedelta64[h]")
    np.testing.assert_array_equal(found["time"], leads)
    last = weather["datetime"].values[0, -1]
    np.testing.assert_array_equal(found["datetime"].values[0], last + leads)


def stream():
    _, weights = whole(ONE)
    return streaming.Stream(ONE, weights, TASK, time_step="6h", wrap=wrap)


def test_a_gap_between_frames_is_noticed():
    weather, made = toys.weather(), stream()
    with pytest.raises(ValueError, match="2020-01-01 06:00:00 is of 2020-01-01 18:00"):
        made(weather.isel(time=[0, 1, 3]))
    made(weather.isel(time=[0]))
    with pytest.raises(ValueError, match="expected 2020-01-01 06:00:00; fill the gap"):
        made(weather.isel(time=[2]))
    assert made.frames_read == 1
    made.reset()
    made(weather.isel(time=[2]))


def test_bad_frames_are_refused():
    weather = toys.weather()
    with pytest.raises(ValueError, match="found none; give one or more along `time`"):
        stream()(weather.isel(time=[]))
    with pytest.raises(ValueError, match="geopotential"):
        stream()(weather.isel(time=[0])[[toys.PRESSURE]])
    made = stream()
    made(weather.isel(time=[0]))
    with pytest.raises(ValueError, match=r"grid \(1, 4, 8\), these have \(1, 3, 8\)"):
        made(weather.isel(time=[1], lat=slice(3)))


def test_in_bfloat16_the_state_is_kept_too():
    _, weights = whole(ONE)

    def rounded(predictor):
        return normalization.InputsAndResiduals(
            casting.Bfloat16Cast(predictor), **toys.statistics(), residuals=False
        )

    made = streaming.Stream(ONE, weights, TASK, time_step="6h", wrap=rounded)
    weather = toys.weather().isel(time=slice(6))
    for index in range(6):
        found = made(weather.isel(time=[index]))
    expected, _ = whole(ONE)
    assert isinstance(found, xarray.Dataset)
    for name in toys.TASK.target_variables:
        apart = np.asarray(found[name]) - np.asarray(expected[name])
        spread = float(toys.statistics()["stddev_by_level"][name].max())
        assert np.abs(apart).max() < 0.1 * spread
