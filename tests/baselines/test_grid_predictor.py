import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from tests.training import toys
from weatherlib import autoregressive, rollout, training, xarray_jax
from weatherlib.baselines import common, grid_predictor
from weatherlib.nn.edges import ZERO
from weatherlib.training import config, wrapping

CONFIG = common.FrameModelConfig(input_length=3, output_length=2)
TASK = toys.TASK.replace(input_duration="18h")


class Repeat:
    """Returns the last frame for each step, and remembers what it was called with."""

    def __init__(self, steps=2):
        self.steps = steps

    def __call__(self, fields, edges, output_size, is_training=False):
        self.fields, self.edges, self.training = fields, edges, is_training
        scale = hk.get_parameter("scale", (), fields.frames.dtype, jnp.ones)
        last = fields.frames[:, -1:, ..., :output_size] * scale
        return jnp.repeat(last, self.steps, axis=1)


class Guided(Repeat):
    """Is told the truth."""

    def __call__(
        self, fields, edges, output_size, is_training=False, targets=None, ratio=0.0
    ):
        found = super().__call__(fields, edges, output_size, is_training)
        self.targets, self.ratio = targets, ratio
        return found


def sample(targets=2, batch=2, task=TASK, weather=None):
    frames = training.Frames(toys.weather() if weather is None else weather, task)
    return frames.batch(np.arange(batch), targets)


def run(data, network=None, settings=CONFIG, task=TASK, **options):
    def predict(*data):
        predictor = grid_predictor.GridPredictor(
            settings, network or Repeat(settings.output_length), task
        )
        return predictor(*data, **options)

    transformed = hk.transform(predict)
    params = transformed.init(None, *data)
    return transformed.apply(params, None, *data)


def test_frames_come_back_as_their_variables_levels_and_times():
    inputs, targets, _forcings = data = sample()
    found = run(data)
    xarray.testing.assert_equal(found.coords.to_dataset(), targets.coords.to_dataset())
    for name in targets:
        assert found[name].dims == targets[name].dims
        for step in range(2):
            np.testing.assert_array_equal(
                np.asarray(found[name].isel(time=step)),
                np.asarray(inputs[name].isel(time=-1)),
            )


def test_channels_are_those_to_predict_then_forcings_then_static_fields():
    task = TASK.replace(
        input_variables=(*TASK.input_variables, "land_sea_mask"),
    )
    weather = toys.weather()
    mask = np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8)
    weather["land_sea_mask"] = ("lat", "lon"), mask
    inputs, targets, forcings = data = sample(task=task, weather=weather)
    network = Repeat()
    run(data, network, task=task)
    fields = network.fields
    assert fields.frames.shape == (2, 3, 4, 8, 4)
    assert fields.known.shape == (2, 2, 4, 8, 1)
    assert fields.static.shape == (2, 4, 8, 1)
    geopotential = np.asarray(inputs["geopotential"]).transpose(0, 1, 3, 4, 2)
    np.testing.assert_array_equal(fields.frames[..., :2], geopotential)
    np.testing.assert_array_equal(fields.frames[..., 2], inputs[toys.PRESSURE])
    np.testing.assert_array_equal(fields.static[1, ..., 0], mask)
    sun = np.asarray(
        forcings["day_progress_sin"].broadcast_like(targets[toys.PRESSURE])
    )
    np.testing.assert_array_equal(fields.known[..., 0], sun)
    assert network.edges == ZERO
    assert network.training is False


def test_without_forcings_the_network_sees_only_what_it_predicts():
    task = TASK.replace(input_variables=TASK.target_variables, forcing_variables=())
    network = Repeat()
    run(sample(task=task), network, task=task)
    assert network.fields.frames.shape[-1] == 3
    assert network.fields.known.shape == (2, 2, 4, 8, 0)
    assert network.fields.static.shape == (2, 4, 8, 0)


def test_edges_are_those_of_the_configuration():
    network = Repeat()
    run(sample(), network, dataclasses.replace(CONFIG, edges="global"))
    assert network.edges.columns == "around"


def test_the_loss_is_the_mean_square_over_everything():
    inputs, targets, _forcings = data = sample()

    def loss(*data):
        made = grid_predictor.GridPredictor(CONFIG, Repeat(), TASK)
        value, diagnostics = made.loss(*data, is_training=False)
        return xarray_jax.unwrap_data(value), diagnostics

    value, diagnostics = hk.transform(loss).apply(
        {"~": {"scale": np.float32(1)}}, None, *data
    )
    squares = [
        np.square(
            np.asarray(inputs[name].isel(time=[-1])) - np.asarray(targets[name])
        ).reshape(2, -1)
        for name in targets
    ]
    expected = np.concatenate(squares, axis=1).mean(1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert set(diagnostics) == set(targets)


def test_the_loss_by_area_counts_rows_and_levels_as_graphcast_does():
    data = sample()
    settings = dataclasses.replace(CONFIG, area_weighted_loss=True)

    def both(*data):
        made = grid_predictor.GridPredictor(settings, Repeat(), TASK)
        own, _ = made.loss(*data)
        weighted = wrapping.WeightedLoss(
            made, config.LossConfig(kind="mse"), {"is_training": True}
        )
        return xarray_jax.unwrap_data(own), xarray_jax.unwrap_data(
            weighted.loss(*data)[0]
        )

    own, expected = hk.transform(both).apply(
        {"~": {"scale": np.float32(1)}}, None, *data
    )
    np.testing.assert_allclose(own, expected, rtol=1e-6)


def test_a_network_that_decodes_is_told_the_truth_in_training_only():
    _inputs, targets, _forcings = data = sample()
    for is_training in (True, False):
        network = Guided()

        def loss(*data, network=network, is_training=is_training):
            made = grid_predictor.GridPredictor(CONFIG, network, TASK)
            value, _ = made.loss(*data, is_training=is_training, ratio=0.5)
            return xarray_jax.unwrap_data(value)

        hk.transform(loss).apply({"~": {"scale": np.float32(1)}}, None, *data)
        assert network.ratio == 0.5
        if not is_training:
            assert network.targets is None
            continue
        assert network.targets.shape == (2, 2, 4, 8, 3)
        np.testing.assert_array_equal(network.targets[..., 2], targets[toys.PRESSURE])


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        (CONFIG, {"duration": "12h"}, r"level_pressure has 2 frame\(s\).*reads 3"),
        (CONFIG, {"targets": 1}, "has 1 times, but the model predicts 2 frames"),
        (dataclasses.replace(CONFIG, resolution=2.5), {}, r"grid of 2\.5 degrees"),
    ],
)
def test_what_does_not_fit_is_refused(settings, change, message):
    task = TASK.replace(input_duration=change.get("duration", "18h"))
    data = sample(change.get("targets", 2), task=task)
    with pytest.raises(ValueError, match=message):
        run(data, settings=settings, task=task)


def test_what_is_predicted_must_be_known_of_the_past():
    task = TASK.replace(input_variables=("geopotential", "day_progress_sin"))
    with pytest.raises(ValueError, match=f"inputs lack {toys.PRESSURE}"):
        run(sample(task=task), task=task)


def test_variables_beside_the_task_are_refused():
    inputs, targets, forcings = sample()
    inputs["10m_wind_speed"] = inputs[toys.PRESSURE]
    with pytest.raises(ValueError, match="10m_wind_speed beside what the task names"):
        run((inputs, targets, forcings))
    run((inputs, targets, forcings), task=None)


@pytest.mark.parametrize("predicts", ["state", "change"])
def test_wrappers_take_states_or_changes(predicts):
    """A network that returns zeros predicts the mean, or persistence."""
    settings = dataclasses.replace(CONFIG, predicts=predicts)
    inputs, targets, _forcings = data = sample()
    statistics = toys.statistics()

    def predict(*data):
        made = grid_predictor.GridPredictor(settings, Repeat(), TASK)
        return wrapping.wrap(made, statistics, config.WrapperConfig())(*data)

    found = hk.transform(predict).apply({"~": {"scale": np.float32(0)}}, None, *data)
    for name in targets:
        expected = statistics["mean_by_level"][name]
        if predicts == "change":
            expected = inputs[name].isel(time=-1, drop=True)
        expected = expected.broadcast_like(targets[name]).transpose(*targets[name].dims)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_longer_forecasts_advance_by_all_frames_of_a_step():
    data = sample(targets=6)
    longer = hk.transform(
        lambda *d: autoregressive.Predictor(
            grid_predictor.GridPredictor(CONFIG, Repeat(), TASK)
        )(*d)
    )
    params = {"~": {"scale": np.float32(0.99)}}
    found = longer.apply(params, jax.random.PRNGKey(0), *data)
    last = np.asarray(data[0][toys.PRESSURE].isel(time=-1))
    for frame, factor in enumerate(np.repeat(0.99 ** np.arange(1, 4), 2)):
        np.testing.assert_allclose(
            found[toys.PRESSURE].isel(time=frame), factor * last, rtol=1e-6
        )
    forecaster = rollout.Forecaster(
        lambda: grid_predictor.GridPredictor(CONFIG, Repeat(), TASK), params
    )
    again = forecaster.predict(data[0], forcings=data[2], targets_template=data[1])
    for name in found:
        expected = np.asarray(found[name].transpose(*again[name].dims))
        np.testing.assert_allclose(again[name], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_length": 0}, "input_length must be at least 1, found 0"),
        ({"output_length": -1}, "output_length must be at least 1"),
        ({"resolution": -1.0}, "resolution must not be negative"),
    ],
)
def test_impossible_lengths_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        common.FrameModelConfig(**change)
