"""What the stages of PreDiff that make no forecasts have in common."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import xarray as xr

from weatherlib import predictor_base
from weatherlib.prediff import stage_frames
from weatherlib.task import TaskConfig

__all__ = ["StagePredictor"]


class StagePredictor(predictor_base.Predictor, abc.ABC):
    """A network that is trained as a predictor, and does not predict.

    Those derived from it say why, and have a loss.
    """

    predicts_changes = False

    no_forecasts: ClassVar[str]
    """What a call for a forecast is answered with."""

    one_step: ClassVar[str]
    """What a call for a loss over several steps is answered with."""

    def __init__(
        self,
        model_config: Any,
        task_config: TaskConfig | None = None,
        *,
        remat: bool = False,
    ) -> None:
        """Takes the settings.

        Args:
          model_config: Sizes, and what counts.
          task_config: What the data have, if that is to be checked.
          remat: Whether the backward pass computes blocks again, which takes less
            memory and more time.
        """
        self._config, self._task, self._remat = model_config, task_config, remat
        self.frames_per_step = model_config.output_length
        self.normalizes_itself = model_config.normalizes_itself

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
    ) -> xr.Dataset:
        """Raises, as there are no forecasts.

        Raises:
          ValueError: Always.
        """
        del inputs, targets_template, forcings, is_training
        raise ValueError(self.no_forecasts)

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **optional_kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Raises, as there are no forecasts.

        Raises:
          ValueError: Always.
        """
        del inputs, targets, forcings, optional_kwargs
        raise ValueError(self.one_step)

    def _check(
        self, inputs: xr.Dataset, targets: xr.Dataset, forcings: xr.Dataset, fields: int
    ) -> None:
        """Compares a call with the task and the sizes.

        Args:
          inputs: Past frames.
          targets: Frames that follow.
          forcings: Without variables.
          fields: Channels of a frame.

        Raises:
          ValueError: They do not fit.
        """
        stage_frames.check(
            inputs,
            targets,
            forcings,
            self._task,
            self._config,
            frames=self._config.output_length,
            channels=fields,
        )
