import numpy as np
import pytest

from tests.training import toys
from weatherlib import baselines, task, training
from weatherlib.baselines import capture, grid_predictor

TASK = task.TaskConfig(
    input_variables=(toys.PRESSURE, "geopotential", "day_progress_sin", "height"),
    target_variables=(toys.PRESSURE, "geopotential"),
    forcing_variables=("day_progress_sin",),
    pressure_levels=(500, 850),
    input_duration="12h",
)
CONFIG = baselines.LinearConfig(input_length=2, output_length=3)


@pytest.fixture(scope="module")
def sample():
    weather = toys.weather()
    height = np.arange(32.0, dtype=np.float32).reshape(4, 8)
    weather["height"] = (("lat", "lon"), height)
    return training.Frames(weather, TASK).batch(np.arange(2), 3)


def test_a_network_would_be_called_with_these_channels(sample):
    found = capture.channels_of(sample)
    assert found.frames == ("geopotential", "geopotential", toys.PRESSURE,
                            "day_progress_sin")  # fmt: skip
    assert found.known == ("day_progress_sin",)
    assert found.static == ("height",)
    read = capture.reader(
        lambda network: grid_predictor.GridPredictor(CONFIG, network, TASK)
    )
    given, targets = read(sample)
    inputs, truth, forcings = sample
    assert given.frames.shape == (2, 2, 4, 8, 4)
    assert targets.shape == (2, 3, 4, 8, 3)
    np.testing.assert_array_equal(given.frames[..., 2], inputs[toys.PRESSURE])
    np.testing.assert_array_equal(targets[..., 2], truth[toys.PRESSURE])
    np.testing.assert_array_equal(
        np.moveaxis(targets[..., :2], -1, 2),
        truth["geopotential"].transpose("batch", "time", "level", "lat", "lon"),
    )
    np.testing.assert_array_equal(
        given.known[:, :, 0, :, 0],
        forcings["day_progress_sin"].transpose("batch", "time", "lon"),
    )
    np.testing.assert_array_equal(given.static[0, ..., 0], inputs["height"])


def test_each_batch_is_read_anew(sample):
    read = capture.reader(
        lambda network: grid_predictor.GridPredictor(CONFIG, network, TASK)
    )
    first, _ = read(sample)
    other = tuple(part + 1 for part in sample)
    second, _ = read(other)
    np.testing.assert_allclose(second.frames, first.frames + 1, rtol=1e-6)


def test_a_prediction_shows_no_targets(sample):
    inputs, targets, forcings = sample
    network = grid_predictor.GridPredictor(CONFIG, capture.Capture(), TASK)
    with pytest.raises(AssertionError, match="only a loss shows the targets"):
        network(inputs, targets, forcings)
