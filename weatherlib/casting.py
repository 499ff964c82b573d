"""A predictor wrapper that computes in bfloat16 with float32 parameters.

Names, signatures and semantics are those of the published GraphCast package (version
0.2, module `casting`), except that integers and booleans keep their dtype.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weatherlib import predictor_base, xarray_jax
from weatherlib.typing import PyTree

__all__ = [
    "Bfloat16Cast",
    "PyTree",
    "bfloat16_variable_view",
    "infer_floating_dtype",
    "tree_map_cast",
]


class Bfloat16Cast(predictor_base.Predictor):
    """Runs the wrapped predictor in bfloat16 and returns the dtype of the targets.

    Floating-point data and requests for parameters are cast on the way in, the
    predictions, loss and diagnostics on the way out. Parameters stay float32 where
    they are stored, and so do their gradients. The loss itself is computed in bfloat16
    too, so it has three significant digits: published losses depend on that.
    """

    def __init__(
        self, predictor: predictor_base.Predictor, enabled: bool = True
    ) -> None:
        """Wraps a predictor.

        Args:
          predictor: What to run in bfloat16.
          enabled: With False, everything is passed through untouched.
        """
        self._predictor = predictor
        self._enabled = enabled
        self.frames_per_step = predictor.frames_per_step
        self.crop = predictor.crop
        self.estimates_error = predictor.estimates_error

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> xr.Dataset:
        """Returns predictions in the floating dtype of the template.

        Raises:
          ValueError: The template mixes floating dtypes, or the wrapped predictor
            returns something other than bfloat16.
        """
        if not self._enabled:
            return self._predictor(inputs, targets_template, forcings, **kwargs)
        dtype = infer_floating_dtype(targets_template)
        predictions = self._run(
            self._predictor, inputs, targets_template, forcings, kwargs
        )
        _check_bfloat16("predictions", infer_floating_dtype(predictions))
        return tree_map_cast(predictions, jnp.bfloat16, dtype)

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the loss computed in bfloat16, in the dtype of the targets.

        Raises:
          ValueError: As for `__call__`.
        """
        if not self._enabled:
            return self._predictor.loss(inputs, targets, forcings, **kwargs)
        dtype = infer_floating_dtype(targets)
        loss, diagnostics = self._run(
            self._predictor.loss, inputs, targets, forcings, kwargs
        )
        _check_bfloat16("a loss", loss.dtype)
        return tree_map_cast((loss, diagnostics), jnp.bfloat16, dtype)

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns loss, diagnostics and predictions in the dtype of the targets.

        Raises:
          ValueError: As for `__call__`.
        """
        if not self._enabled:
            return self._predictor.loss_and_predictions(
                inputs, targets, forcings, **kwargs
            )
        dtype = infer_floating_dtype(targets)
        (loss, diagnostics), predictions = self._run(
            self._predictor.loss_and_predictions, inputs, targets, forcings, kwargs
        )
        _check_bfloat16("a loss", loss.dtype)
        _check_bfloat16("predictions", infer_floating_dtype(predictions))
        return tree_map_cast(((loss, diagnostics), predictions), jnp.bfloat16, dtype)

    def predictions_and_log_variances(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> tuple[xr.Dataset, xr.Dataset]:
        """Returns predictions and log variances in the dtype of the template."""
        method = self._predictor.predictions_and_log_variances
        if not self._enabled:
            return method(inputs, targets_template, forcings, **kwargs)
        dtype = infer_floating_dtype(targets_template)
        found = self._run(method, inputs, targets_template, forcings, kwargs)
        return tree_map_cast(found, jnp.bfloat16, dtype)

    def _run(
        self,
        method: Callable[..., Any],
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        kwargs: dict[str, Any],
    ) -> Any:
        """Returns what `method` gives for bfloat16 data and parameters."""
        cast = [_floats_to_bfloat16(data) for data in (inputs, targets, forcings)]
        with bfloat16_variable_view():
            return method(*cast, **kwargs)


def infer_floating_dtype(data_vars: Mapping[Any, Any]) -> np.dtype:
    """Returns the one floating dtype among the arrays of a dataset or mapping.

    Raises:
      ValueError: There is none, or more than one.
    """
    floating = {
        name: array.dtype
        for name, array in data_vars.items()
        if jnp.issubdtype(array.dtype, np.floating)
    }
    dtypes = set(floating.values())
    if len(dtypes) != 1:
        found = ", ".join(f"{name}: {dtype}" for name, dtype in floating.items())
        raise ValueError(
            "expected exactly one floating dtype among the variables, found "
            f"{len(dtypes)} ({found or 'no floating-point variable'})"
        )
    return dtypes.pop()


def tree_map_cast(inputs: PyTree, input_dtype: Any, output_dtype: Any) -> PyTree:
    """Returns the tree with the leaves of one dtype cast to another.

    Leaves of any other dtype are returned as they are.
    """

    def cast(leaf: Any) -> Any:
        return leaf.astype(output_dtype) if leaf.dtype == input_dtype else leaf

    return jax.tree_util.tree_map(cast, inputs)


@contextlib.contextmanager
def bfloat16_variable_view(enabled: bool = True) -> Iterator[None]:
    """Lets Haiku modules inside the context see float32 variables as bfloat16.

    A parameter or state that is asked for as bfloat16 is created and stored as
    float32 and cast each time it is read, so its gradient is float32 as well.
    Variables that are asked for in another dtype are not touched.

    Args:
      enabled: With False, the context does nothing.
    """
    if not enabled:
        yield
        return
    with (
        hk.custom_creator(_create_float32, state=True),
        hk.custom_getter(_read_as_bfloat16, state=True),
        hk.custom_setter(_store_as_float32),
    ):
        yield


def _create_float32(
    create: Callable[..., jax.Array], shape: Any, dtype: Any, init: Any, context: Any
) -> jax.Array:
    if context.original_dtype == jnp.bfloat16:
        dtype = jnp.float32
    return create(shape, dtype, init)


def _read_as_bfloat16(
    read: Callable[..., jax.Array], value: jax.Array, context: Any
) -> jax.Array:
    if context.original_dtype == jnp.bfloat16:
        if value.dtype not in (jnp.float32, jnp.bfloat16):
            raise ValueError(
                f"{context.full_name}: Bfloat16Cast needs a float32 parameter, found "
                f"{value.dtype}"
            )
        value = value.astype(jnp.bfloat16)
    return read(value)


def _store_as_float32(
    store: Callable[..., jax.Array], value: jax.Array, context: Any
) -> jax.Array:
    if context.original_dtype == jnp.bfloat16:
        value = value.astype(jnp.float32)
    return store(value)


def _floats_to_bfloat16(data: xr.Dataset | None) -> xr.Dataset | None:
    """Returns the data variables in bfloat16; coordinates and integers stay."""
    if data is None:
        return None
    return data.copy(
        data={name: _float_to_bfloat16(array) for name, array in data.items()}
    )


def _float_to_bfloat16(array: xr.DataArray) -> Any:
    if not jnp.issubdtype(array.dtype, np.floating):
        return array.data
    return xarray_jax.wrap(xarray_jax.unwrap_data(array).astype(jnp.bfloat16))


def _check_bfloat16(what: str, dtype: np.dtype) -> None:
    if dtype != jnp.bfloat16:
        raise ValueError(
            f"expected {what} in bfloat16 from the wrapped predictor, found {dtype}; "
            "something in it computes in a fixed dtype"
        )
