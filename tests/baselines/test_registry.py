"""Every model of several frames, through the same door."""

import dataclasses

import haiku as hk
import jax
import numpy as np
import pytest

from tests.training import toys
from weatherlib import autoregressive, baselines, rollout, training, xarray_jax
from weatherlib.baselines import registry
from weatherlib.cli import families
from weatherlib.training import config, wrapping

TASK = toys.TASK.replace(input_duration="18h")
SIZES = {
    "lstm": {"hidden_size": 4},
    "bidirectional_lstm": {"hidden_size": 4},
    "lstm_seq2seq": {"hidden_size": 4},
    "transformer": {"d_model": 8, "nhead": 2, "num_layers": 1},
    "transformer_seq2seq": {
        "d_model": 8, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1,
    },
    "spatial_transformer": {"d_model": 8, "nhead": 2, "num_layers": 1},
    "cnn": {"hidden_channels": 4},
    "deep_cnn": {"hidden_channels": 4, "n_residual_blocks": 1},
    "convlstm": {"hidden_channels": (4, 3)},
    "convlstm_seq2seq": {"hidden_channels": 4, "num_layers": 1},
    "weather_transformer": {"d_model": 8, "n_heads": 2, "n_layers": 1,
                            "patch_size": (2, 4)},
    "pixel_unet": {"base_channels": 8, "depth": 2},
}  # fmt: skip
ALL = sorted(registry.MODELS)
# One of each kind; the others only repeat what their own tests hold.
KINDS = ("cnn", "convlstm", "lr", "lstm_seq2seq", "weather_transformer")
EVERY = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in KINDS else pytest.mark.slow) for n in ALL],
)


def small(name, **changes):
    made = registry.find(name).config_class
    sizes = {"input_length": 3, "output_length": 2, **SIZES.get(name, {}), **changes}
    return made(**sizes)


def sample(targets=2, batch=2):
    frames = training.Frames(toys.weather(), TASK)
    return frames.batch(np.arange(batch), targets)


def wrapped(name, precision="float32", **changes):
    network = baselines.create(name, small(name, **changes), TASK)
    return wrapping.wrap(
        network, toys.statistics(), config.WrapperConfig(), precision=precision
    )


def test_every_model_of_the_specification_is_there():
    names = {
        "lr", "MultiOutputLinearRegression", "LSTM", "BidirectionalLSTM",
        "LSTMSeq2Seq", "TransformerModel", "TransformerSeq2Seq", "SpatialTransformer",
        "CNN", "DeepCNN", "ConvLSTM", "ConvLSTMSeq2Seq", "WeatherTransformer",
        "PixelUNet",
    }  # fmt: skip
    assert {model.original for model in registry.MODELS.values()} == names
    for name in names:
        assert registry.find(name) in registry.MODELS.values()


@EVERY
def test_a_step_and_its_gradient_go_through_all_wrappers(name):
    data = sample()

    def loss(*data):
        value, _ = wrapped(name).loss(*data)
        return xarray_jax.unwrap_data(value.mean(), require_jax=True)

    transformed = hk.transform(loss)
    key = jax.random.PRNGKey(0)
    params = jax.jit(transformed.init)(key, *data)
    value, gradient = jax.jit(jax.value_and_grad(transformed.apply))(params, key, *data)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


@EVERY
def test_long_forecasts_are_the_same_stepped_and_rolled_out(name):
    inputs, targets, forcings = data = sample(targets=4, batch=1)
    stepped = hk.transform(lambda *d: autoregressive.Predictor(wrapped(name))(*d))
    key = jax.random.PRNGKey(1)
    params = jax.jit(stepped.init)(key, *data)
    found = jax.jit(stepped.apply)(params, key, *data)
    forecaster = rollout.Forecaster(lambda: wrapped(name), params)
    again = forecaster.predict(
        inputs, forcings=forcings, targets_template=targets, guard=None
    )
    for variable in targets:
        expected = found[variable].transpose(*again[variable].dims)
        scale = np.abs(np.asarray(expected)).max()
        np.testing.assert_allclose(
            again[variable], np.asarray(expected), atol=1e-5 * scale
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SIZES))
def test_bfloat16_stays_near_float32(name):
    data = sample()
    key = jax.random.PRNGKey(2)
    first, second = (
        hk.transform(lambda *d, p=precision: wrapped(name, p)(*d))
        for precision in ("float32", "bfloat16")
    )
    params = jax.jit(first.init)(key, *data)
    exact = jax.jit(first.apply)(params, key, *data)
    rounded = jax.jit(second.apply)(params, key, *data)
    spread = toys.statistics()["stddev_by_level"]
    for variable in exact:
        apart = (np.asarray(exact[variable]) - np.asarray(rounded[variable])).ravel()
        unit = float(np.max(spread[variable]))
        assert 0 < np.abs(apart).max() < 0.1 * unit


@EVERY
def test_a_file_is_known_again_and_gives_the_same_forecast(name, tmp_path):
    data = sample()
    family = families.FAMILIES[name]()
    settings = small(name)
    transformed = hk.transform(lambda *d: family.network(settings, TASK, False)(*d))
    key = jax.random.PRNGKey(3)
    params = jax.jit(transformed.init)(key, *data)
    path = tmp_path / "model.npz"
    grid = families.Grid(
        lat=data[0]["lat"].values,
        lon=data[0]["lon"].values,
        step=np.timedelta64(6, "h"),
    )
    family.save(path, params, settings, TASK, grid, description="", license="")
    assert families.recognise(path) == name
    read = family.read(path)
    assert read.model_config == settings
    assert read.task_config == TASK
    assert families.family_of(read.model_config).title == family.title
    apply = jax.jit(transformed.apply)
    expected, found = apply(params, key, *data), apply(read.params, key, *data)
    for variable in expected:
        np.testing.assert_array_equal(
            np.asarray(found[variable]), np.asarray(expected[variable])
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SIZES))
def test_computing_layers_again_changes_nothing(name):
    data = sample()
    key = jax.random.PRNGKey(4)

    def gradient(remat):
        def loss(*data):
            model = baselines.create(name, small(name), TASK, remat=remat)
            value, _ = model.loss(*data, is_training=False)
            return xarray_jax.unwrap_data(value.mean(), require_jax=True)

        transformed = hk.transform(loss)
        params = jax.jit(transformed.init)(key, *data)
        scaled = [d.map(lambda x: x / 1e5) for d in data]
        return jax.jit(jax.grad(transformed.apply))(params, key, *scaled)

    kept, again = gradient(False), gradient(True)
    assert jax.tree.structure(kept) == jax.tree.structure(again)
    # Of the largest gradient: that of a bias before a norm is nothing but rounding.
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(kept))
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again)):
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)


def test_unknown_models_and_foreign_configurations_are_refused():
    with pytest.raises(ValueError, match=r"no model 'convlst'.*convlstm"):
        baselines.create("convlst")
    with pytest.raises(ValueError, match="lstm needs a LSTMConfig, found a LinearCon"):
        baselines.create("lstm", small("lr"))
    with pytest.raises(ValueError, match="FrameModelConfig: no model"):
        registry.name_of(baselines.FrameModelConfig())
    assert registry.name_of(small("lr_multi")) == "lr_multi"


@pytest.mark.parametrize("name", ALL)
def test_default_sizes_are_twelve_frames_in_and_four_out(name):
    made = registry.find(name).config_class()
    assert (made.input_length, made.output_length) == (12, 4)
    assert made.edges == "zero" and made.predicts == "state"
    assert dataclasses.is_dataclass(made)
