import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib import xarray_jax
from weatherlib.xarray_jax import JaxArrayWrapper

OPERATORS = (
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lt,
    operator.ge,
    operator.eq,
    operator.ne,
)


def _wrapped(shape=(2, 3)) -> JaxArrayWrapper:
    values = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    return JaxArrayWrapper(jnp.asarray(values))


@pytest.mark.parametrize("function", OPERATORS)
@pytest.mark.parametrize(
    "other",
    [2, 2.5, np.float32(2), np.full((2, 3), 2, np.float32), jnp.full((2, 3), 2.0)],
    ids=["int", "float", "numpy scalar", "numpy", "jax"],
)
def test_operators_work_from_both_sides(function, other):
    wrapped = _wrapped()
    array = np.asarray(wrapped)
    for result, expected in (
        (function(wrapped, other), function(array, np.asarray(other))),
        (function(other, wrapped), function(np.asarray(other), array)),
    ):
        assert isinstance(result, JaxArrayWrapper)
        np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("function", OPERATORS)
def test_operators_take_tracers_from_both_sides(function):
    array = jnp.arange(1.0, 4.0)

    def compute(scalar, array):
        wrapped = JaxArrayWrapper(array)
        left, right = function(scalar, wrapped), function(wrapped, scalar)
        assert isinstance(left, JaxArrayWrapper)
        return left.jax_array, right.jax_array

    left, right = jax.jit(compute)(2.0, array)
    np.testing.assert_allclose(left, function(np.float32(2), np.asarray(array)))
    np.testing.assert_allclose(right, function(np.asarray(array), np.float32(2)))


def test_the_wrapper_describes_its_array():
    wrapped = _wrapped()
    assert wrapped.shape == (2, 3)
    assert wrapped.ndim == 2
    assert wrapped.size == 6
    assert wrapped.nbytes == 24
    assert wrapped.dtype == np.float32
    assert len(wrapped) == 2
    assert repr(wrapped).startswith("xarray_jax.JaxArrayWrapper(Array(")


@pytest.mark.parametrize(
    "description",
    [
        jax.ShapeDtypeStruct((2, 3), np.float32),
        jax.tree.leaves(jax.jit(lambda x: x).lower(jnp.zeros((2, 3))).args_info)[0],
    ],
    ids=["ShapeDtypeStruct", "ArgInfo"],
)
def test_descriptions_of_arrays_are_wrapped(description):
    wrapped = xarray_jax.wrap(description)
    assert isinstance(wrapped, JaxArrayWrapper)
    assert (wrapped.shape, wrapped.ndim, wrapped.size) == ((2, 3), 2, 6)
    assert xarray_jax.unwrap(wrapped) is description


def test_methods_do_what_those_of_numpy_do():
    wrapped, array = _wrapped(), np.asarray(_wrapped())
    pairs = {
        "transpose": (wrapped.transpose(1, 0), array.transpose(1, 0)),
        "T": (wrapped.T, array.T),
        "reshape": (wrapped.reshape(3, 2), array.reshape(3, 2)),
        "reshape by tuple": (wrapped.reshape((-1,)), array.reshape((-1,))),
        "all": ((wrapped > 2).all(axis=0), (array > 2).all(axis=0)),
        "any": ((wrapped > 2).any(), (array > 2).any()),
        "round": ((wrapped / 7).round(2), (array / 7).round(2)),
        "argsort": ((-wrapped).argsort(axis=1), (-array).argsort(axis=1)),
        "conj": ((wrapped * 1j).conj(), (array * 1j).conj()),
        "real": ((wrapped * (1 + 2j)).real, array),
        "imag": ((wrapped * (1 + 2j)).imag, 2 * array),
        "astype": (wrapped.astype(np.int32, copy=False), array.astype(np.int32)),
        "copy": (wrapped.copy(order="K"), array),
        "indexing": (wrapped[1, ::-1], array[1, ::-1]),
        "wrapped index": (wrapped[:, _wrapped((2,)).astype(int)], array[:, [1, 2]]),
    }
    for name, (ours, theirs) in pairs.items():
        assert isinstance(ours, JaxArrayWrapper), name
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)
        assert np.asarray(ours).dtype == theirs.dtype or name.startswith("arg"), name


def test_scalars_convert_to_python_numbers():
    wrapped = JaxArrayWrapper(jnp.asarray(3))
    assert (int(wrapped), float(wrapped), complex(wrapped)) == (3, 3.0, 3 + 0j)
    assert bool(wrapped)
    assert wrapped.item() == 3
    assert [10, 20, 30, 40][wrapped] == 40


def test_numpy_functions_stay_in_jax():
    wrapped, array = _wrapped(), np.asarray(_wrapped())
    for ours, theirs in (
        (np.concatenate([wrapped, wrapped]), np.concatenate([array, array])),
        (np.where(wrapped > 2, wrapped, 0), np.where(array > 2, array, 0)),
        (np.linalg.norm(wrapped, axis=1), np.linalg.norm(array, axis=1)),
        (np.fft.rfft(wrapped).real, np.fft.rfft(array).real),
        (np.add.reduce(wrapped, axis=1), np.add.reduce(array, axis=1)),
        (np.gradient(wrapped, axis=1, edge_order=1), np.gradient(array, axis=1)),
        (np.sum(wrapped, axis=np.array([0])), np.sum(array, axis=0)),
        (np.sum(wrapped, out=None), np.sum(array)),
        (np.full_like(wrapped, 2, dtype=np.float64), np.full_like(array, 2)),
        (np.reshape(wrapped, (3, 2), order="F"), np.reshape(array, (3, 2), order="F")),
    ):
        assert isinstance(ours, JaxArrayWrapper)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_functions_with_several_results_wrap_each():
    pieces = np.split(_wrapped((4,)), 2)
    assert isinstance(pieces, list)
    assert all(isinstance(piece, JaxArrayWrapper) for piece in pieces)
    fraction, whole = np.modf(_wrapped((4,)) / 3)
    assert isinstance(fraction, JaxArrayWrapper)
    np.testing.assert_allclose(fraction + whole, np.arange(1, 5) / 3, rtol=1e-6)


def test_named_tuples_of_results_keep_their_names():
    result = np.linalg.svd(_wrapped(), full_matrices=False)
    assert isinstance(result.S, JaxArrayWrapper)
    expected = np.linalg.svd(np.asarray(_wrapped()), full_matrices=False)
    assert result._fields == expected._fields == ("U", "S", "Vh")
    np.testing.assert_allclose(result.S, expected.S, rtol=1e-5)


@pytest.mark.parametrize("axis", [None, -1, (0, 1)])
def test_sliding_windows_are_those_of_numpy(axis):
    wrapped, array = _wrapped((4, 5)), np.asarray(_wrapped((4, 5)))
    window = 3 if axis == -1 else (2, 3)
    ours = np.lib.stride_tricks.sliding_window_view(wrapped, window, axis)
    theirs = np.lib.stride_tricks.sliding_window_view(array, window, axis)
    assert isinstance(ours, JaxArrayWrapper)
    np.testing.assert_array_equal(ours, theirs)


def test_augmented_assignment_binds_a_new_array():
    original = _wrapped()
    result = original
    result += 1
    np.testing.assert_array_equal(result, np.asarray(original) + 1)
    array = np.ones((2, 3), np.float32)
    array += original
    assert isinstance(array, JaxArrayWrapper)


def test_conversion_to_numpy_copies_when_asked():
    wrapped = _wrapped()
    assert np.array(wrapped, copy=True).flags.writeable
    assert np.asarray(wrapped, dtype=np.int32).dtype == np.int32


def test_assignment_to_items_says_what_to_do_instead():
    with pytest.raises(TypeError, match=r"cannot be assigned to in place.*where"):
        _wrapped()[0] = 1


def test_what_jax_lacks_is_refused():
    with pytest.raises(TypeError, match="no implementation found"):
        np.busday_count(_wrapped(), _wrapped())
    with pytest.raises(TypeError, match="NotImplemented"):
        np.isnat(_wrapped())
    with pytest.raises(TypeError):
        _wrapped() + "text"


def test_arrays_of_other_kinds_are_left_to_themselves():
    class Other:
        def __array_function__(self, func, types, args, kwargs):
            return "theirs"

    assert np.concatenate([_wrapped(), Other()]) == "theirs"
    wrapped = _wrapped()
    assert wrapped.__array_function__(np.sum, (Other,), (wrapped,), {}) is (
        NotImplemented
    )


def test_wrap_and_unwrap_pass_other_values_through():
    array = jnp.ones(3)
    assert xarray_jax.unwrap(xarray_jax.wrap(array)) is array
    assert xarray_jax.unwrap(array, require_jax=True) is array
    plain = np.ones(3)
    assert xarray_jax.wrap(plain) is plain
    assert xarray_jax.unwrap(plain) is plain
    with pytest.raises(TypeError, match=r"Expected JAX array, found .*ndarray"):
        xarray_jax.unwrap(plain, require_jax=True)
