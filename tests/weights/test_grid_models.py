"""Models on grids with weights of PyTorch against what PyTorch has computed."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.weights import grid_cases, torch_writer
from weatherlib.baselines import fields, registry
from weatherlib.nn import edges
from weatherlib.weights import errors, flat, grid_models

SLOW = ("pixel_unet", "weather_transformer", "transformer_seq2seq", "convlstm_seq2seq")
EVERY = pytest.mark.parametrize("name", grid_models.FAMILIES)


@functools.cache
def _loaded(name):
    path, known = grid_cases.model_file(name), grid_cases.known_of(name)
    return grid_models.load(path, name, known)


def _network(name, **options):
    """Returns a model as a function of parameters and frames as PyTorch has them."""
    config, channels = _loaded(name).config, _loaded(name).channels

    def run(frames, is_training):
        frames = jnp.moveaxis(frames, 2, -1)
        empty = (frames.shape[0], config.output_length, *frames.shape[2:4], 0)
        known = jnp.zeros(empty)
        seen = fields.Fields(frames=frames, known=known, static=known[:, 0])
        network = registry.find(name).make_network(config)
        given = {k: jnp.moveaxis(v, 2, -1) if k == "targets" else v
                 for k, v in options.items()}  # fmt: skip
        found = network(seen, edges.ZERO, channels, is_training=is_training, **given)
        return jnp.moveaxis(found, -1, 2)

    apply = hk.transform(run).apply
    return lambda params, *given: apply(jax.tree.map(jnp.asarray, params), *given)


def _loss(name, params, frames, targets, is_training=False):
    key = jax.random.PRNGKey(0) if is_training else None
    found = _network(name)(params, key, frames, is_training)
    return jnp.mean((found - targets) ** 2)


@EVERY
@pytest.mark.usefixtures("strict_numerics")
def test_the_forward_pass_is_that_of_pytorch(name):
    golden = grid_cases.results_of(name)
    found = _network(name)(_loaded(name).params, None, golden["frames"], False)
    scale = golden["output"].std()
    np.testing.assert_allclose(
        found, golden["output"], rtol=0, atol=tolerances.TORCH_OUTPUT * scale
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in grid_models.FAMILIES
    ],
)
def test_loss_and_gradients_are_those_of_pytorch(name):
    golden = grid_cases.results_of(name)
    value, gradient = jax.value_and_grad(_loss, argnums=1)(
        name, _loaded(name).params, golden["frames"], golden["targets"]
    )
    np.testing.assert_allclose(value, golden["loss"], rtol=tolerances.TORCH_LOSS)
    _assert_gradients(name, gradient, golden, "gradient:")


def _assert_gradients(name, gradient, golden, prefix):
    found = grid_models.export(gradient, _loaded(name).config)
    wanted = {
        n.removeprefix(prefix): a for n, a in golden.items() if n.startswith(prefix)
    }
    largest = max(np.abs(array).max() for array in wanted.values())
    # Running statistics have no gradient, and none in PyTorch.
    assert set(wanted) == {n for n in found if ".running_" not in n}
    for source, array in wanted.items():
        # A bias before a norm has none but what rounding leaves of its parts.
        limit = max(tolerances.TORCH_GRADIENT * np.abs(array).max(), 1e-6 * largest)
        np.testing.assert_allclose(found[source], array, rtol=0, atol=limit)


@pytest.mark.parametrize("name", ["cnn", "deep_cnn"])
def test_statistics_of_a_batch_are_used_and_kept_as_in_pytorch(name):
    golden, params = grid_cases.results_of(name), _loaded(name).params
    found = _network(name)(params, jax.random.PRNGKey(0), golden["frames"], True)
    scale = golden["train_output"].std()
    np.testing.assert_allclose(
        found, golden["train_output"], rtol=0, atol=tolerances.TORCH_OUTPUT * scale
    )
    value, gradient = jax.value_and_grad(_loss, argnums=1)(
        name, params, golden["frames"], golden["targets"], True
    )
    np.testing.assert_allclose(value, golden["train_loss"], rtol=tolerances.TORCH_LOSS)
    _assert_gradients(name, gradient, golden, "train_gradient:")
    # A tenth of the way to the statistics of the batch, by a plain step of descent.
    moved = grid_models.export(
        jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), _loaded(name).config
    )
    kept = [n for n in golden if n.startswith("after:") and "running_" in n]
    assert len(kept) == 2 * {"cnn": 6, "deep_cnn": 4}[name]
    for source in kept:
        np.testing.assert_allclose(
            moved[source.removeprefix("after:")], golden[source], rtol=1e-5, atol=1e-6
        )


def test_true_frames_are_decoded_from_as_in_pytorch():
    name = "convlstm_seq2seq"
    golden = grid_cases.results_of(name)
    apply = _network(name, targets=golden["targets"], teacher_forcing_ratio=1.0)
    found = apply(_loaded(name).params, None, golden["frames"], True)
    assert np.abs(golden["forced_output"] - golden["output"]).max() > 0.01
    np.testing.assert_allclose(
        found, golden["forced_output"], rtol=0, atol=tolerances.TORCH_OUTPUT
    )


@EVERY
def test_weights_go_there_and_back_bit_by_bit(name):
    exported = grid_models.export(_loaded(name).params, _loaded(name).config)
    computed = (".pe", ".num_batches_tracked")
    arrays = grid_cases.arrays_of(name)
    assert set(exported) == {n for n in arrays if not n.endswith(computed)}
    for source, array in exported.items():
        assert array.dtype == np.float32
        assert array.tobytes() == np.ascontiguousarray(arrays[source]).tobytes()


@EVERY
def test_the_model_is_told_by_its_names(name):
    loaded = grid_models.load(
        grid_cases.model_file(name), known=grid_cases.known_of(name)
    )
    assert loaded.name == name
    assert loaded.config == _loaded(name).config


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in grid_models.FAMILIES
    ],
)
def test_variables_of_a_file_are_put_in_the_order_of_ours(name):
    golden = grid_cases.results_of(name)
    loaded = grid_models.load(
        grid_cases.model_file(name), name, grid_cases.known_of(name),
        variables=("temperature_850", "geopotential_500"),
    )  # fmt: skip
    swapped = golden["frames"][:, :, ::-1]
    found = _network(name)(loaded.params, None, swapped, False)
    np.testing.assert_allclose(
        found,
        golden["output"][:, :, ::-1],
        rtol=0,
        atol=tolerances.TORCH_OUTPUT * golden["output"].std(),
    )
    assert "channels put in the order geopotential_500, temperature_850" in str(loaded)


COUNTS = {
    "lstm": 2_304_000,
    "bidirectional_lstm": 4_730_880,
    "transformer": 1_398_080,
    "cnn": 1_125_636,
    "convlstm": 463_780,
    "weather_transformer": 1_636_768,
    "pixel_unet": 31_085_828,
}


@EVERY
def test_the_map_has_every_parameter_of_the_published_sizes(name):
    config, grid = registry.find(name).config_class(), (32, 64)

    def run(frames):
        known = jnp.zeros((1, config.output_length, *grid, 0))
        seen = fields.Fields(frames=frames, known=known, static=known[:, 0])
        return registry.find(name).make_network(config)(seen, edges.ZERO, 1)

    frames = jax.ShapeDtypeStruct((1, config.input_length, *grid, 1), np.float32)
    params = jax.eval_shape(hk.transform(run).init, jax.random.PRNGKey(0), frames)
    names = grid_models.map_of(config, 1, grid)
    assert names.shapes == {
        (m, n): array.shape for m, held in params.items() for n, array in held.items()
    }
    trained = {n: s for n, s in names.source_shapes.items() if ".running_" not in n}
    count = sum(int(np.prod(shape)) for shape in trained.values())
    assert count == COUNTS.get(name, count)


def test_variables_come_by_name_and_levels_as_given():
    names = ("temperature_500", "temperature_850", "2m_temperature", "geopotential_500",
             "geopotential_850")  # fmt: skip
    assert grid_models.order_of(names) == (2, 3, 4, 0, 1)
    with pytest.raises(ValueError, match="variables: a is named twice"):
        grid_models.order_of(("a", "b", "a"))


@EVERY
def test_names_inside_of_a_wrapper_and_a_training_checkpoint_are_read(name, tmp_path):
    arrays = grid_cases.arrays_of(name)
    wrapped = {f"module.{n}": np.asarray(a) for n, a in arrays.items()}
    path = tmp_path / "checkpoint.pt"
    torch_writer.save(path, {"epoch": 3, "model_state_dict": wrapped})
    loaded = grid_models.load(path, name, grid_cases.known_of(name))
    for module, held in _loaded(name).params.items():
        for parameter, array in held.items():
            np.testing.assert_array_equal(loaded.params[module][parameter], array)
    assert "module. taken from all names" in str(loaded)
    assert "not weights: epoch: 3" in str(loaded)


@EVERY
@pytest.mark.parametrize("format", flat.FORMATS)
def test_an_export_in_any_format_is_read_again(name, format, tmp_path):
    path = tmp_path / "weights"
    flat.write(
        path, grid_models.export(_loaded(name).params, _loaded(name).config),
        format=format,
    )  # fmt: skip
    again = grid_models.load(path, name, grid_cases.known_of(name))
    for module, held in _loaded(name).params.items():
        for parameter, array in held.items():
            np.testing.assert_array_equal(again.params[module][parameter], array)


def _changed(name, tmp_path, **changes):
    arrays = {n: np.asarray(a) for n, a in grid_cases.arrays_of(name).items()}
    for key, value in changes.items():
        key = key.replace("__", ".")
        if value is None:
            del arrays[key]
        else:
            arrays[key] = value
    path = tmp_path / "changed.npz"
    flat.write(path, arrays, format="npz")
    return path


@EVERY
def test_an_array_too_many_is_refused_and_named(name, tmp_path):
    path = _changed(name, tmp_path, other__weight=np.zeros((2, 3), np.float32))
    with pytest.raises(errors.MismatchError, match="1 extra") as caught:
        grid_models.load(path, name, grid_cases.known_of(name))
    assert str(caught.value).startswith(str(path))
    assert caught.value.extra == {"other.weight": (2, 3)}


def test_a_missing_array_is_refused_and_named(tmp_path):
    path = _changed("convlstm", tmp_path, cells__1__conv__bias=None)
    with pytest.raises(errors.MismatchError, match="1 arrays are missing") as caught:
        grid_models.load(path, "convlstm", grid_cases.known_of("convlstm"))
    assert caught.value.missing == {"cells.1.conv.bias": (16,)}


def test_weights_of_another_type_become_float32(tmp_path):
    arrays = grid_cases.arrays_of("convlstm")
    path = tmp_path / "half.safetensors"
    halves = {n: a.astype(np.float16) for n, a in arrays.items()}
    flat.write(path, halves, format="safetensors")
    loaded = grid_models.load(path, "convlstm", grid_cases.known_of("convlstm"))
    types = {array.dtype for held in loaded.params.values() for array in held.values()}
    assert types == {np.dtype(np.float32)}


def test_a_file_of_no_known_model_is_refused(goldens):
    with pytest.raises(errors.WrongFormatError, match="those of no model with names"):
        grid_models.load(goldens / "torch" / "tensors.pt")


def test_parameters_of_further_inputs_have_no_names_of_pytorch():
    name = "convlstm"
    config = _loaded(name).config
    params = {m: dict(held) for m, held in _loaded(name).params.items()}
    first = params["convlstm/layer_0"]
    first["w"] = np.concatenate([first["w"], first["w"][:, :, :1]], axis=2)
    with pytest.raises(errors.MismatchError, match="1 misshapen"):
        grid_models.export(params, config)
