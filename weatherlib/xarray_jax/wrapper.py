"""A duck array that lets xarray compute on JAX arrays without leaving JAX.

xarray hands its work to NumPy functions. `JaxArrayWrapper` answers these through the
two NumPy dispatch protocols, `__array_ufunc__` and `__array_function__`, and runs the
`jax.numpy` function of the same name. It lacks `__jax_array__`: JAX operators would
unwrap it, and xarray would be handed a bare tracer, which it tries to turn into a NumPy
array. It lacks `__array_namespace__`: xarray would refuse pointwise indexing.

Before it looks for missing values, xarray asks NumPy whether a type is floating, and
NumPy does not know bfloat16. So `isnull`, `fillna` and reductions raise a TypeError in
bfloat16, except reductions with `skipna=False`. `x.where(x == x, 0)` works.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["JaxArrayWrapper", "unwrap", "wrap"]

# The last two are not arrays, but JAX puts them where arrays were: `jax.eval_shape`
# returns the first, and `.lower` describes arguments with the second.
_WRAPPED_TYPES = (jax.Array, jax.ShapeDtypeStruct, jax.stages.ArgInfo)

# What `numpy.gradient` does by default, and `jax.numpy.gradient` always.
_FIRST_ORDER = ("edge_order", 1)

_NUMBERS = (bool, int, float, complex, np.generic)


class JaxArrayWrapper(np.lib.mixins.NDArrayOperatorsMixin):
    """Makes a JAX array look like a NumPy array to xarray.

    Operators, NumPy functions and indexing give another wrapper, and work on tracers.
    Only an explicit conversion, such as `np.asarray`, leaves JAX.

    Attributes:
      jax_array: What is wrapped.
    """

    __slots__ = ("jax_array",)

    def __init__(self, jax_array: Any) -> None:
        self.jax_array = jax_array

    def __repr__(self) -> str:
        return f"xarray_jax.JaxArrayWrapper({self.jax_array!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.jax_array.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self.jax_array.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """The memory the elements fill, in bytes."""
        return self.size * self.dtype.itemsize

    @property
    def real(self) -> "JaxArrayWrapper":
        """The real part."""
        return JaxArrayWrapper(jnp.real(self.jax_array))

    @property
    def imag(self) -> "JaxArrayWrapper":
        """The imaginary part."""
        return JaxArrayWrapper(jnp.imag(self.jax_array))

    @property
    def T(self) -> "JaxArrayWrapper":
        """The array with its axes reversed."""
        return JaxArrayWrapper(jnp.transpose(self.jax_array))

    def __len__(self) -> int:
        return len(self.jax_array)

    def __bool__(self) -> bool:
        return bool(self.jax_array)

    def __int__(self) -> int:
        return int(self.jax_array)

    def __float__(self) -> float:
        return float(self.jax_array)

    def __complex__(self) -> complex:
        return complex(self.jax_array)

    def __index__(self) -> int:
        return self.jax_array.__index__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.asarray(self.jax_array, dtype=dtype)
        return array.copy() if copy else array

    def __getitem__(self, key: Any) -> "JaxArrayWrapper":
        return JaxArrayWrapper(self.jax_array[_map_arrays(unwrap, key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "JAX arrays cannot be assigned to in place; build a new array instead, "
            "for example with xarray.where or jax_array.at[index].set(value)"
        )

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any
    ) -> Any:
        if not all(isinstance(arg, _OPERANDS) for arg in args):
            return NotImplemented
        function = getattr(jnp, ufunc.__name__, None)
        if method != "__call__":
            function = getattr(function, method, None)
        if function is None:
            return NotImplemented
        # Set by augmented assignment (`x += y`). JAX has no in-place arithmetic, so
        # the name is bound to a new array instead.
        kwargs.pop("out", None)
        return _call_unwrapped(function, args, kwargs)

    def __array_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        if not all(issubclass(kind, _FUNCTION_TYPES) for kind in types):
            return NotImplemented
        function = _find_jax_function(func)
        if function is None:
            return NotImplemented
        kwargs = {k: v for k, v in kwargs.items() if not _means_nothing(k, v)}
        return _call_unwrapped(function, args, kwargs)

    # Some versions of xarray call these as methods.

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> "JaxArrayWrapper":
        """Returns the elements as another type.

        Args:
          dtype: The type wanted. A 64-bit one becomes its 32-bit fellow where JAX has
            64-bit types switched off.
          *args: Accepted as NumPy has them; they do nothing here.
          **kwargs: As `args`.
        """
        del args, kwargs
        return JaxArrayWrapper(self.jax_array.astype(_supported_dtype(dtype)))

    def all(self, *args: Any, **kwargs: Any) -> "JaxArrayWrapper":
        """Returns whether all elements are true; see `numpy.all`."""
        return JaxArrayWrapper(jnp.all(self.jax_array, *args, **kwargs))

    def any(self, *args: Any, **kwargs: Any) -> "JaxArrayWrapper":
        """Returns whether any element is true; see `numpy.any`."""
        return JaxArrayWrapper(jnp.any(self.jax_array, *args, **kwargs))

    def argsort(self, *args: Any, **kwargs: Any) -> "JaxArrayWrapper":
        """Returns the order that sorts the elements; see `numpy.argsort`."""
        return JaxArrayWrapper(jnp.argsort(self.jax_array, *args, **kwargs))

    def conj(self) -> "JaxArrayWrapper":
        """Returns the complex conjugate."""
        return JaxArrayWrapper(jnp.conj(self.jax_array))

    conjugate = conj

    def copy(self, *args: Any, **kwargs: Any) -> "JaxArrayWrapper":
        """Returns another wrapper of the same array, which nobody can change."""
        del args, kwargs
        return JaxArrayWrapper(self.jax_array)

    def item(self, *args: int) -> Any:
        """Returns one element as a Python number; see `numpy.ndarray.item`."""
        return self.jax_array.item(*args)

    def reshape(self, *shape: Any, **kwargs: Any) -> "JaxArrayWrapper":
        """Returns the elements under another shape; see `numpy.reshape`."""
        return JaxArrayWrapper(self.jax_array.reshape(*shape, **kwargs))

    def round(self, decimals: int = 0) -> "JaxArrayWrapper":
        """Returns the elements rounded; see `numpy.round`."""
        return JaxArrayWrapper(jnp.round(self.jax_array, decimals))

    def transpose(self, *axes: Any) -> "JaxArrayWrapper":
        """Returns the array with its axes in another order; see `numpy.transpose`."""
        return JaxArrayWrapper(self.jax_array.transpose(*axes))


_FUNCTION_TYPES = (JaxArrayWrapper, np.ndarray, np.generic, jax.Array)
_OPERANDS = (JaxArrayWrapper, jax.Array, np.ndarray, *_NUMBERS)


def wrap(value: Any) -> Any:
    """Returns a JAX array ready for xarray, and anything else as it is."""
    return JaxArrayWrapper(value) if isinstance(value, _WRAPPED_TYPES) else value


def unwrap(value: Any, require_jax: bool = False) -> Any:
    """Returns the JAX array inside a wrapper, and anything else as it is.

    Args:
      value: A wrapper, a JAX array or something else.
      require_jax: Whether to refuse something else.

    Raises:
      TypeError: `value` is no JAX array and `require_jax` is true.
    """
    if isinstance(value, JaxArrayWrapper):
        return value.jax_array
    if require_jax and not isinstance(value, jax.Array):
        raise TypeError(f"Expected JAX array, found {type(value)}.")
    return value


def _map_arrays(func: Callable[[Any], Any], value: Any) -> Any:
    """Returns nested tuples, lists and dicts with `func` applied to their items."""
    if isinstance(value, tuple):
        items = [_map_arrays(func, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [_map_arrays(func, item) for item in value]
    if isinstance(value, dict):
        return {key: _map_arrays(func, item) for key, item in value.items()}
    return func(value)


def _call_unwrapped(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    args = _map_arrays(unwrap, args)
    named: dict[str, Any] = _map_arrays(unwrap, dict(kwargs))
    if named.get("dtype") is not None:
        named["dtype"] = _supported_dtype(named["dtype"])
    if isinstance(named.get("axis"), np.ndarray):
        named["axis"] = tuple(named["axis"].tolist())
    return _map_arrays(wrap, function(*args, **named))


def _supported_dtype(dtype: Any) -> np.dtype:
    """Returns `dtype`, cut to 32 bits where JAX would do so with a warning."""
    return jax.dtypes.canonicalize_dtype(dtype)


def _means_nothing(name: str, value: Any) -> bool:
    """Whether a NumPy argument that `jax.numpy` lacks can be left out."""
    if name in ("out", "where", "initial", "edge_order"):
        return value is None or value is np._NoValue or (name, value) == _FIRST_ORDER
    return name in ("subok", "writeable")


def _find_jax_function(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """Returns the function of `jax.numpy` that does what a NumPy one does."""
    if func is np.lib.stride_tricks.sliding_window_view:
        return _sliding_window_view
    module: Any = jnp
    for part in func.__module__.split(".")[1:]:
        if part in ("linalg", "fft"):
            module = getattr(module, part)
    return getattr(module, func.__name__, None)


def _sliding_window_view(
    x: jax.Array, window_shape: int | tuple[int, ...], axis: Any = None
) -> jax.Array:
    """Returns all windows of `x`; see `numpy.lib.stride_tricks.sliding_window_view`."""
    windows = (window_shape,) if isinstance(window_shape, int) else tuple(window_shape)
    if axis is None:
        axis = range(x.ndim)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for axis, window in zip(axes, windows, strict=True):
        axis %= x.ndim
        starts = jnp.arange(x.shape[axis] - window + 1)
        x = jnp.take(x, starts[:, None] + jnp.arange(window), axis=axis)
        x = jnp.moveaxis(x, axis + 1, -1)
    return x
