"""CNN, DeepCNN and PixelUNet on arrays."""

import functools
import re

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.baselines import convolution_config as config
from weatherlib.baselines import convolution_network as network
from weatherlib.baselines.fields import Fields
from weatherlib.nn import batch_norm
from weatherlib.nn.edges import ZERO, Edges

GLOBE = Edges(columns="around", over_first_row="pole", over_last_row="pole")
ON_POLES = Edges(columns="around", over_first_row="on_pole", over_last_row="on_pole")
SMALL = {
    "cnn": {"hidden_channels": 3},
    "deep_cnn": {"hidden_channels": 4, "n_residual_blocks": 2},
    "pixel_unet": {"base_channels": 4, "depth": 2, "groups": 2},
}
KINDS = {
    "cnn": (config.CNNConfig, network.CNNNetwork),
    "deep_cnn": (config.DeepCNNConfig, network.DeepCNNNetwork),
    "pixel_unet": (config.PixelUNetConfig, network.PixelUNetNetwork),
}
FRAMES = {"input_length": 3, "output_length": 2}
EVERY = pytest.mark.parametrize("name", KINDS)


def _fields(rows=8, columns=12, channels=2, known=0, static=0, times=3):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    return Fields(
        frames=draw(3, times, rows, columns, channels),
        known=draw(3, 2, rows, columns, known),
        static=draw(3, rows, columns, static),
    )


def _transformed(name, edges=ZERO, remat=False, output_size=2, **sizes):
    make_config, make_network = KINDS[name]
    sizes = make_config(**sizes)

    def run(frames, known, static, is_training=False):
        seen = Fields(frames=frames, known=known, static=static)
        return make_network(sizes, remat=remat)(seen, edges, output_size, is_training)

    return hk.without_apply_rng(hk.transform(run))


@functools.cache
def _make(name, edges=ZERO, remat=False, **sizes):
    """Returns the compiled network and its parameters for given fields."""
    transformed = _transformed(name, edges, remat, **FRAMES, **SMALL[name], **sizes)
    compiled = jax.jit(transformed.apply, static_argnums=4)

    def apply(params, fields, is_training=False):
        return compiled(params, *_arrays(fields), is_training)

    def params_for(fields):
        shapes = jax.eval_shape(transformed.init, jax.random.key(0), *_arrays(fields))
        rng = np.random.default_rng(1)

        def draw(module, name, like):
            drawn = rng.standard_normal(like.shape) * 0.3
            if name in ("scale", "moving_variance"):
                drawn = 1 + np.abs(drawn)
            return jnp.asarray(drawn, like.dtype)

        return hk.data_structures.map(draw, shapes)

    return apply, params_for


def _arrays(fields):
    return fields.frames, fields.known, fields.static


def _shapes(params):
    return {
        f"{module}/{name}": value.shape
        for module, entries in params.items()
        for name, value in entries.items()
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cnn", 1_125_636), ("deep_cnn", 231_620), ("pixel_unet", 31_085_828)],
)
def test_at_one_channel_there_are_as_many_parameters_as_published(name, expected):
    frames = jax.ShapeDtypeStruct((1, 12, 32, 64, 1), jnp.float32)
    empty = jax.ShapeDtypeStruct((1, 4, 32, 64, 0), jnp.float32)
    static = jax.ShapeDtypeStruct((1, 32, 64, 0), jnp.float32)
    init = _transformed(name, output_size=1).init
    params = jax.eval_shape(init, jax.random.key(0), frames, empty, static)
    counted = {
        name: np.prod(shape, dtype=int)
        for name, shape in _shapes(params).items()
        if name.rpartition("/")[2] not in batch_norm.RUNNING
    }
    assert sum(counted.values()) == expected


def _conv(name, kernel, inputs, outputs):
    return {f"{name}/w": (kernel, kernel, inputs, outputs), f"{name}/b": (outputs,)}


def _norm(name, width, running=True):
    kinds = ("scale", "offset", *(batch_norm.RUNNING if running else ()))
    return {f"{name}/{kind}": (width,) for kind in kinds}


def test_parameters_of_the_cnn_have_these_names_and_shapes():
    expected = _conv("cnn/decoder_2", 3, 3, 4)
    for name, kernel, inputs, outputs in (
        ("encoder_0", 3, 6, 3),
        ("encoder_1", 3, 3, 6),
        ("encoder_2", 3, 6, 6),
        ("encoder_3", 3, 6, 12),
        ("decoder_0", 4, 12, 6),
        ("decoder_1", 3, 6, 3),
    ):
        expected |= _conv(f"cnn/{name}", kernel, inputs, outputs)
        expected |= _norm(f"cnn/{name}_norm", outputs)
    assert _shapes(_make("cnn")[1](_fields())) == expected


def test_parameters_of_the_deep_cnn_have_these_names_and_shapes():
    expected = _conv("deep_cnn/input", 3, 6, 4) | _conv("deep_cnn/output", 3, 4, 4)
    for i in range(2):
        for j in range(2):
            expected |= _conv(f"deep_cnn/block_{i}/conv_{j}", 3, 4, 4)
            expected |= _norm(f"deep_cnn/block_{i}/norm_{j}", 4)
    assert _shapes(_make("deep_cnn")[1](_fields())) == expected


def test_parameters_of_the_pixel_unet_have_these_names_and_shapes():
    expected = {
        **_conv("input", 3, 6, 4),
        **_conv("up_0_finer", 2, 16, 8),
        **_conv("up_1_finer", 2, 8, 4),
        **_conv("output", 1, 4, 4),
    }
    for name, inputs, outputs in (
        ("down_0", 4, 4),
        ("down_1", 4, 8),
        ("bottleneck", 8, 16),
        ("up_0", 16, 8),
        ("up_1", 8, 4),
    ):
        for j, size in enumerate((inputs, outputs)):
            expected |= _conv(f"{name}/conv_{j}", 3, size, outputs)
            expected |= _norm(f"{name}/norm_{j}", outputs, running=False)
    expected = {f"pixel_unet/unet/{key}": shape for key, shape in expected.items()}
    assert _shapes(_make("pixel_unet")[1](_fields())) == expected


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("is_training", [False, True])
def test_it_runs_under_jit_and_grad(name, is_training, strict_numerics):
    apply, params_for = _make(name, GLOBE)
    fields = _fields()
    params = params_for(fields)

    def loss(params):
        found = apply(params, fields, is_training)
        return jnp.mean(found**2), found

    (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    assert found.shape == (3, 2, 8, 12, 2)
    for module, entries in gradient.items():
        for parameter, leaf in entries.items():
            assert jnp.isfinite(leaf).all()
            # A bias before a norm of the batch changes nothing, and a forecast changes
            # no running statistics.
            free = f"{module}_norm" in gradient or "/conv_" in module
            biases = is_training and parameter == "b" and free
            running = not is_training and parameter in batch_norm.RUNNING
            if running:
                assert jnp.abs(leaf).max() == 0
            elif not biases:
                assert jnp.abs(leaf).max() > 0


@EVERY
def test_members_of_a_batch_do_not_mix_in_a_forecast(name, strict_numerics):
    apply, params_for = _make(name)
    fields = _fields()
    params = params_for(fields)
    found = apply(params, fields)
    for i in range(3):
        one = Fields(*(array[i : i + 1] for array in _arrays(fields)))
        scale = float(jnp.abs(found).max())
        np.testing.assert_allclose(apply(params, one)[0], found[i], atol=2e-6 * scale)


@EVERY
@pytest.mark.parametrize("is_training", [False, True])
def test_it_computes_in_bfloat16(name, is_training, strict_numerics):
    apply, params_for = _make(name, GLOBE)
    fields = _fields()
    params = params_for(fields)
    params, fields = jax.tree.map(
        lambda a: a.astype(jnp.bfloat16), (params, _arrays(fields))
    )
    found = apply(params, Fields(*fields), is_training)
    assert found.dtype == jnp.bfloat16
    params, fields = jax.tree.map(lambda a: a.astype(jnp.float32), (params, fields))
    expected = apply(params, Fields(*fields), is_training)
    limit = 0.1 * float(expected.std())
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=limit)


@pytest.mark.slow
@EVERY
def test_layers_computed_again_give_the_same_gradients(name):
    fields, gradients = _fields(), []
    for remat in (False, True):
        apply, params_for = _make(name, remat=remat)

        def loss(params, apply=apply):
            return jnp.mean(apply(params, fields, True) ** 2)

        gradients.append(jax.grad(loss)(params_for(fields)))
    assert jax.tree.structure(gradients[0]) == jax.tree.structure(gradients[1])
    for a, b in zip(*map(jax.tree.leaves, gradients)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@EVERY
@pytest.mark.parametrize(("edges", "rows"), [(GLOBE, 8), (ON_POLES, 9)])
def test_a_turned_globe_gives_a_turned_forecast(name, edges, rows):
    apply, params_for = _make(name, edges)
    fields = _fields(rows, known=1, static=1)
    params = params_for(fields)
    turned = Fields(*(jnp.roll(array, 4, axis=-2) for array in _arrays(fields)))
    found = apply(params, turned)
    expected = jnp.roll(apply(params, fields), 4, axis=-2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@EVERY
def test_over_a_pole_lies_the_other_side(name):
    apply, params_for = _make(name, GLOBE)
    fields = _fields()
    params = params_for(fields)
    changed = Fields(fields.frames.at[:, :, 0, 0].add(9.0), fields.known, fields.static)
    difference = jnp.abs(apply(params, changed) - apply(params, fields))
    assert difference[:, :, 0, 6].max() > 1e-4


@EVERY
@pytest.mark.parametrize("edges", [ZERO, GLOBE])
def test_odd_sides_are_filled_up_and_cut_off(name, edges):
    apply, params_for = _make(name, edges)
    fields = _fields(7, 10)
    params = params_for(fields)
    multiple = {"cnn": 2, "deep_cnn": 1, "pixel_unet": 4}[name]
    beyond = [(0, 0)] * 5
    beyond[2], beyond[3] = (0, -7 % multiple), (0, -10 % multiple)
    filled = _fields(7 + beyond[2][1], 10 + beyond[3][1])
    filled = Fields(
        jnp.pad(fields.frames, beyond, mode="edge"), filled.known, filled.static
    )
    found = apply(params, fields)
    assert found.shape == (3, 2, 7, 10, 2)
    expected = apply(params, filled)[:, :, :7, :10]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@EVERY
def test_forcings_and_static_fields_are_channels_after_the_frames(name):
    apply, params_for = _make(name)
    plain, more = _fields(), _fields(known=1, static=2)
    first = {"cnn": "cnn/encoder_0", "deep_cnn": "deep_cnn/input"}
    first = first.get(name, "pixel_unet/unet/input")
    params = params_for(more)
    assert params[first]["w"].shape[2] == 3 * 2 + 2 * 1 + 2
    ignoring = dict(params)
    ignoring[first] = {**params[first], "w": params[first]["w"][:, :, :6]}
    blind = dict(params)
    blind[first] = {**params[first], "w": params[first]["w"].at[:, :, 6:].set(0)}
    expected = apply(ignoring, plain)
    more = Fields(plain.frames, more.known, more.static)
    np.testing.assert_allclose(apply(blind, more), expected, atol=1e-5)
    assert jnp.abs(apply(params, more) - expected).max() > 1e-2


@EVERY
def test_frames_come_out_with_their_variables_side_by_side(name):
    apply, params_for = _make(name)
    fields = _fields()
    params = params_for(fields)
    last = {"cnn": "cnn/decoder_2", "deep_cnn": "deep_cnn/output"}
    last = last.get(name, "pixel_unet/unet/output")
    silent = {"w": jnp.zeros_like(params[last]["w"]), "b": jnp.arange(4.0)}
    found = apply({**params, last: silent}, fields)
    # Channel t * C + c is variable c of frame t.
    np.testing.assert_array_equal(found[0, :, 0, 0], [[0, 1], [2, 3]])


@pytest.mark.parametrize("name", ["cnn", "deep_cnn"])
def test_running_statistics_count_in_forecasts_and_those_of_a_batch_in_training(name):
    apply, params_for = _make(name)
    fields = _fields()
    params = params_for(fields)
    moved = hk.data_structures.map(
        lambda module, name, leaf: leaf + 1 if name in batch_norm.RUNNING else leaf,
        params,
    )
    found, other = apply(params, fields, True), apply(moved, fields, True)
    np.testing.assert_array_equal(found, other)
    assert jnp.abs(apply(params, fields) - apply(moved, fields)).max() > 1e-2
    one = Fields(fields.frames.at[0].mul(3.0), fields.known, fields.static)
    assert jnp.abs(apply(params, one, True) - found)[1:].max() > 1e-2


@EVERY
def test_another_number_of_frames_is_refused(name):
    _, params_for = _make(name)
    message = "found 4 frame(s), and the network reads 3; give as many or set input_"
    with pytest.raises(ValueError, match=re.escape(message)):
        params_for(_fields(times=4))


def test_a_grid_too_small_for_the_depth_is_refused():
    _, params_for = _make("pixel_unet")
    message = "depth 2 .* needs at least 2 rows and columns, found 1 x 12; .* most 1"
    with pytest.raises(ValueError, match=message):
        params_for(_fields(rows=1))


@EVERY
def test_a_row_on_a_pole_needs_one_behind_it(name):
    sizes = {"depth": 1} if name == "pixel_unet" else {}
    transformed = _transformed(name, ON_POLES, **FRAMES, **{**SMALL[name], **sizes})
    with pytest.raises(ValueError, match="at least 2 rows"):
        jax.eval_shape(transformed.init, jax.random.key(0), *_arrays(_fields(rows=1)))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (config.CNNConfig, {"hidden_channels": 0}, "hidden_channels must be at least"),
        (config.DeepCNNConfig, {"n_residual_blocks": 0}, "n_residual_blocks must be"),
        (config.DeepCNNConfig, {"hidden_channels": 0}, "hidden_channels must be"),
        (config.PixelUNetConfig, {"depth": 0}, "depth must be at least 1, found 0"),
        (config.PixelUNetConfig, {"groups": 0}, "groups must be at least 1"),
        (
            config.PixelUNetConfig,
            {"base_channels": 12},
            "base_channels must be a multiple of the 8 groups, found 12",
        ),
        (config.PixelUNetConfig, {"input_length": 0}, "input_length must be at least"),
    ],
)
def test_sizes_that_make_no_network_are_refused(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
