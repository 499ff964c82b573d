"""The contract of every model and wrapper: datasets in, datasets out."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr

from weatherlib import losses, xarray_jax

__all__ = [
    "ONE_PART",
    "LossAndDiagnostics",
    "Predictor",
    "batch_losses",
    "predicts_part",
]

ONE_PART = (
    "the model predicts a part of the grid, from which no further step can start; "
    "forecasts are made in one step"
)
"""Why `predicts_part` and several steps do not go together."""

LossAndDiagnostics = losses.LossAndDiagnostics


class Predictor(abc.ABC):
    """Predicts the weather one step ahead; a step may fill several frames.

    Models implement it, and wrappers implement it around another predictor. It is a
    plain class rather than a Haiku module, so that wrapping changes no parameter name.
    It is called inside a function given to `hk.transform`.

    Attributes:
      frames_per_step: How many target times one call of a single-step predictor
        fills. Wrappers take over the number of what they wrap.
      predicts_changes: Whether a network predicts normalised changes from the last
        input frame, or else normalised states; it tells who wraps it.
      normalizes_itself: Whether a network takes data in their own units, so that who
        wraps it leaves normalisation out.
      estimates_error: Whether it has `predictions_and_log_variances`.
    """

    frames_per_step: int = 1
    predicts_changes: bool = True
    normalizes_itself: bool = False
    estimates_error: bool = False

    @abc.abstractmethod
    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **optional_kwargs: Any,
    ) -> xr.Dataset:
        """Returns predictions with the variables and coordinates of the template.

        Args:
          inputs: Past frames and static fields, with dimensions batch, time, level,
            lat, lon as the variables need them.
          targets_template: Which variables, levels and lead times to predict. Its
            values are not read.
          forcings: Variables that are known at the predicted times.
          **optional_kwargs: Whatever else the predictor takes, with defaults.

        Returns:
          The predictions. A generative predictor asked for several draws has them
          along a dimension `sample`.
        """

    def crop(self, dataset: xr.Dataset) -> xr.Dataset:
        """Returns the part of a dataset on the grid of the inputs that is predicted.

        All of it, for most models. Targets and templates of others lie on that part,
        inputs and forcings on the whole grid. Wrappers take over the method of what
        they wrap.

        Raises:
          ValueError: The grid does not hold the part.
        """
        return dataset

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **optional_kwargs: Any,
    ) -> LossAndDiagnostics:
        """Returns the training loss; zero for a predictor that is not trained.

        The loss belongs to the predictor because wrappers transform what it compares,
        and generative models do not compare predictions with targets at all.

        Args:
          inputs: As for `__call__`.
          targets: Observed values at the predicted times.
          forcings: As for `__call__`.
          **optional_kwargs: As for `__call__`.

        Returns:
          The loss of each batch member, shape [batch], and a mapping of named
          quantities of the same shape to log.
        """
        del targets, forcings, optional_kwargs
        zeros = jnp.zeros(inputs.sizes["batch"])
        return xarray_jax.DataArray(zeros, dims=("batch",)), {}

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **optional_kwargs: Any,
    ) -> tuple[LossAndDiagnostics, xr.Dataset]:
        """Returns what `loss` and `__call__` would, computed together.

        `autoregressive.Predictor` needs it for losses over several steps, because each
        step starts from the predictions of the one before.

        Args:
          inputs: As for `loss`.
          targets: As for `loss`.
          forcings: As for `loss`.
          **optional_kwargs: As for `loss`.

        Returns:
          `(loss, diagnostics)` and the predictions, in the units of the inputs.

        Raises:
          NotImplementedError: The predictor has no such method.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement loss_and_predictions, which "
            "losses over several steps need"
        )

    def predictions_and_log_variances(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **optional_kwargs: Any,
    ) -> tuple[xr.Dataset, xr.Dataset]:
        """Returns what `__call__` does, and the log variance of its errors.

        Args:
          inputs: As for `__call__`.
          targets_template: As for `__call__`.
          forcings: As for `__call__`.
          **optional_kwargs: As for `__call__`.

        Returns:
          Predictions, and for each variable of them the natural logarithm of the
          square of the error that the model expects, in normalised units.

        Raises:
          NotImplementedError: The predictor does not estimate its errors.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not estimate its errors, which a Gaussian "
            "loss needs; a residual_cnn with estimates_error does"
        )


def predicts_part(crop: Callable[[xr.Dataset], xr.Dataset], inputs: xr.Dataset) -> bool:
    """Returns whether a predictor fills only a part of the grid of its inputs.

    A further step cannot start from what it predicts.

    Args:
      crop: Of the predictor.
      inputs: Has the coordinates of the grid. Its values are not read.

    Raises:
      ValueError: The grid does not hold the part.
    """
    grid = inputs.coords.to_dataset()
    return dict(crop(grid).sizes) != dict(grid.sizes)


def batch_losses(
    loss: jax.Array, parts: Mapping[str, jax.Array], inputs: xr.Dataset
) -> LossAndDiagnostics:
    """Returns losses that are arrays as a predictor gives them, and their parts.

    Args:
      loss: Of each batch member, shape [batch], or of all together, shape [].
      parts: Likewise, by name.
      inputs: Of the call; gives the size of the batch and the floating dtype.
    """
    batch = inputs.sizes["batch"]
    dtype = next(iter(inputs.values())).dtype

    def labelled(value: jax.Array) -> xr.DataArray:
        whole = jnp.broadcast_to(value.astype(dtype), (batch,))
        return xarray_jax.DataArray(whole, dims=("batch",))

    return labelled(loss), {name: labelled(value) for name, value in parts.items()}
