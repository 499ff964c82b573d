"""Convolutions equal those of JAX and Haiku, and so do their gradients."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import convolution_forms as forms
from weatherlib.nn import convolution_parts, convolutions
from weatherlib.nn.edges import ZERO, Edges, surround

GLOBE = Edges(columns="around", over_first_row="pole", over_last_row="pole")


def _reference(x, w, dilation=1, stride=1, padding=0):
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        ((padding, padding),) * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _transposed_reference(x, w, stride, padding):
    around = len(w) - 1 - padding
    return jax.lax.conv_general_dilated(
        x,
        jnp.flip(w, (0, 1)),
        (1, 1),
        ((around, around),) * 2,
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _draw(*shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def _compare(ours, theirs, *arguments):
    """Compares values and gradients."""

    def run(function):
        def loss(*arguments):
            value = function(*arguments)
            return jnp.sum(jnp.sin(value)), value

        numbers = tuple(range(len(arguments)))
        differentiate = jax.value_and_grad(loss, numbers, has_aux=True)
        return jax.jit(differentiate)(*arguments)

    got, expected = run(ours), run(theirs)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "padding"),
    [((1, 1), 0), ((3, 3), 0), ((3, 3), 2), ((3, 5), 1), ((4, 4), 1)],
)
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_values_and_gradients_are_those_of_jax(kernel, padding, dilation, stride):
    x, w = _draw(4, 13, 14, 4), _draw(*kernel, 4, 5, seed=1) * 0.2

    def ours(x, w):
        return convolutions.convolve(x, w, dilation, stride=stride, padding=padding)

    _compare(ours, lambda x, w: _reference(x, w, dilation, stride, padding), x, w)


WIDE = (3, 3, 96, 98)


@pytest.mark.parametrize(
    ("shape", "kernel", "form"),
    [
        ((2, 5, 9, 4), (3, 3, 4, 5), "product"),
        ((4, 9, 14, 4), (3, 3, 4, 5), "direct"),
        ((2, 11, 13, 96), WIDE, "winograd"),
        ((3, 12, 10, 96), WIDE, "winograd"),
        ((1, 2, 3, 96), WIDE, "product"),
        ((4, 9, 14, 4), (5, 5, 4, 5), "direct"),
        ((4, 9, 14, 4), (1, 1, 4, 5), "product"),
    ],
)
@pytest.mark.parametrize("chunk", [2**10, 2**17, 2**30])
def test_every_form_gives_the_same_in_parts_of_any_size(
    shape, kernel, form, chunk, monkeypatch
):
    monkeypatch.setattr(convolution_parts, "CHUNK_BYTES", chunk)
    x = _draw(*shape)
    w = _draw(*kernel, seed=1) / np.sqrt(np.prod(kernel[:3]))
    padding = kernel[0] // 2
    window = forms.Window(padding=(padding, padding))
    assert forms.choose(x, w, window) == form
    _compare(
        lambda x, w: convolutions.convolve(x, w, padding=padding),
        lambda x, w: _reference(x, w, padding=padding),
        x,
        w,
    )


def test_other_dtypes_than_float32_keep_the_form_of_xla():
    x, w = _draw(2, 16, 16, 96), _draw(*WIDE)
    assert forms.choose(x, w, forms.Window()) == "winograd"
    narrow = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    assert forms.choose(*narrow, forms.Window()) == "direct"
    found = convolutions.convolve(*narrow)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, _reference(*narrow))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(4, 2, 1), (2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2), (2, 3, 0)],
)
def test_a_transposed_convolution_is_that_of_jax(kernel, stride, padding):
    x, w = _draw(3, 5, 6, 3), _draw(kernel, kernel, 3, 4, seed=1) * 0.3
    _compare(
        lambda x, w: convolutions.convolve_transposed(
            x, w, stride=stride, padding=padding
        ),
        lambda x, w: _transposed_reference(x, w, stride, padding),
        x,
        w,
    )


def test_a_point_adds_to_the_points_around_it():
    x, w = np.zeros((1, 3, 3, 1)), np.arange(1.0, 17).reshape(4, 4, 1, 1)
    x[0, 1, 1, 0] = 1
    found = convolutions.convolve_transposed(
        jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32), stride=2, padding=1
    )
    expected = np.pad(w[..., 0, 0], 1)
    np.testing.assert_array_equal(found[0, :, :, 0], expected)


def test_on_other_devices_transposed_convolutions_are_the_same():
    x, w = _draw(2, 5, 6, 3), _draw(4, 4, 3, 4, seed=1)
    window = forms.Window(stride=2, padding=(1, 1))
    found = forms.spread_directly(x, w, window, (10, 12))
    np.testing.assert_allclose(found, forms.spread(x, w, window, (10, 12)), atol=1e-4)


@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), 1), ((5, 3), 2), ((3, 3), 2)])
def test_zeros_around_a_field_are_those_of_a_larger_field(kernel, padding):
    x, w = _draw(2, 6, 7, 4), _draw(*kernel, 4, 5, seed=1)
    beyond = ((0, 0), (padding, padding), (padding, padding), (0, 0))

    def padded(x, w):
        return jnp.sum(jnp.sin(convolutions.convolve(x, w, padding=padding)))

    def larger(x, w):
        return jnp.sum(jnp.sin(_reference(jnp.pad(x, beyond), w, 1)))

    got = jax.value_and_grad(padded, (0, 1))(x, w)
    expected = jax.value_and_grad(larger, (0, 1))(x, w)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_second_derivatives_are_those_of_jax():
    x, w = _draw(1, 6, 6, 2), _draw(3, 3, 2, 3, seed=1)

    def of_gradient(convolve, w):
        gradient = jax.grad(lambda x: jnp.sum(convolve(x, w, 1) ** 2))(x)
        return jnp.sum(jnp.cos(gradient))

    got = jax.grad(of_gradient, 1)(convolutions.convolve, w)
    expected = jax.grad(of_gradient, 1)(_reference, w)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_batch_of_kernels_is_convolved_by_each():
    x, w = _draw(2, 4, 9, 8, 3), _draw(2, 3, 3, 3, 4, seed=1)

    def gradient(x, w):
        return jax.grad(lambda w: jnp.sum(convolutions.convolve(x, w) ** 2))(w)

    found = jax.vmap(gradient)(x, w)
    for i in range(2):
        np.testing.assert_allclose(found[i], gradient(x[i], w[i]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dilation", [1, 2])
def test_gradients_in_a_loop_have_the_order_that_is_fast_on_a_cpu(dilation):
    x, w = _draw(2, 16, 16, 4), _draw(3, 3, 4, 4, seed=1)

    def loss(w):
        def step(x, _):
            y = convolutions.convolve(x, w, dilation, padding=dilation)
            return jnp.tanh(y), None

        return jnp.sum(jax.lax.scan(step, x, None, length=3)[0])

    lowered = jax.jit(jax.grad(loss)).trace(w).lower(lowering_platforms=("cpu",))
    orders = [
        line.split("dim_numbers = ")[1].split(", window")[0]
        for line in lowered.as_text().splitlines()
        if "stablehlo.convolution" in line
    ]
    # Forward, the gradient of the field and, where no other form suits, of the kernel.
    assert len(orders) == 1 + dilation
    assert set(orders) == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_layer_is_that_of_haiku(dtype):
    x = _draw(2, 9, 10, 4, dtype=dtype)
    ours = hk.without_apply_rng(
        hk.transform(lambda x: convolutions.Conv2D(5, 3, 2, name="layer")(x))
    )
    theirs = hk.without_apply_rng(
        hk.transform(
            lambda x: hk.Conv2D(5, 3, rate=2, padding="VALID", name="layer")(x)
        )
    )
    params = ours.init(jax.random.key(3), x)
    expected = theirs.init(jax.random.key(3), x)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    params["layer"]["b"] = jnp.arange(5, dtype=dtype)
    np.testing.assert_allclose(
        ours.apply(params, x).astype(jnp.float32),
        theirs.apply(params, x).astype(jnp.float32),
        rtol=1e-5 if dtype == jnp.float32 else 1e-2,
        atol=1e-5 if dtype == jnp.float32 else 1e-2,
    )


def _run(layer, x):
    transformed = hk.without_apply_rng(hk.transform(lambda x: layer()(x)))
    params = transformed.init(jax.random.key(3), x)
    (name,) = params
    params[name]["b"] = jnp.arange(len(params[name]["b"]), dtype=x.dtype)
    return transformed.apply(params, x), params[name]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("edges", [ZERO, GLOBE, Edges()])
def test_with_edges_the_result_is_as_large_as_the_field(stride, edges):
    x = _draw(2, 8, 12, 3)
    found, held = _run(
        lambda: convolutions.Conv2D(4, 3, 2, stride=stride, edges=edges), x
    )
    expected = _reference(surround(x, 2, edges), held["w"], 2, stride)
    assert found.shape == (2, 8 // stride, 12 // stride, 4)
    np.testing.assert_allclose(found, expected + held["b"], atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (4, 2), (6, 2), (3, 1), (5, 3)])
def test_a_finer_field_goes_round_with_the_globe(kernel, stride):
    x = _draw(2, 6, 8, 3)

    def layer(edges):
        return lambda: convolutions.ConvTranspose2D(4, kernel, stride, edges=edges)

    found, held = _run(layer(GLOBE), x)
    assert found.shape == (2, 6 * stride, 8 * stride, 4)
    turned, _ = _run(layer(GLOBE), jnp.roll(x, 3, axis=2))
    np.testing.assert_allclose(turned, jnp.roll(found, 3 * stride, axis=2), atol=1e-5)
    padding = (kernel - stride) // 2
    flat, _ = _run(layer(ZERO), x)
    expected = _transposed_reference(x, held["w"], stride, padding) + held["b"]
    np.testing.assert_allclose(flat, expected, atol=1e-5)
    wide = surround(x, 2, GLOBE)
    expected = _transposed_reference(wide, held["w"], stride, padding) + held["b"]
    inner = slice(2 * stride, -2 * stride)
    np.testing.assert_allclose(found, expected[:, inner, inner], atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, w: convolutions.convolve(x, w), "2 x 2 points is smaller than the"),
        (
            lambda x, w: convolutions.convolve(x, w, padding=3),
            "padding of 3 is wider than a kernel of 3 x 3 points reaches",
        ),
        (
            lambda x, w: convolutions.convolve_transposed(x, w, stride=1, padding=2),
            "padding of 2 leaves nothing of a field of 2 x 2",
        ),
        (
            lambda x, w: convolutions.Conv2D(1, 2, edges=ZERO),
            "a kernel of 2 points has no middle",
        ),
        (
            lambda x, w: convolutions.ConvTranspose2D(1, 3, 2),
            "does not lie evenly around a stride of 2; take 2, 4",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(call, message):
    run = hk.transform(lambda: call(_draw(1, 2, 2, 1), _draw(3, 3, 1, 1)))
    with pytest.raises(ValueError, match=message):
        run.init(jax.random.key(0))
