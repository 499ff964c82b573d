"""Networks of several frames as predictors: datasets in, datasets out."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Hashable
from typing import Any

import jax
import xarray as xr

from weatherlib import losses, predictor_base, stacking
from weatherlib.baselines import common, fields
from weatherlib.data_utils import check_call
from weatherlib.nn import partition
from weatherlib.nn.edges import find_edges
from weatherlib.task import TaskConfig

__all__ = ["GridPredictor", "Order"]

_PLACED = (partition.BATCH, None, partition.LAT, partition.LON, None)


class GridPredictor(predictor_base.Predictor):
    """Predicts some frames at once from some past frames.

    Built inside the function given to `hk.transform`, like any Haiku module. Inputs are
    expected normalised; wrap it in `normalization.InputsAndResiduals` (with `residuals`
    as `predicts_changes` says), and for more than one step in
    `autoregressive.Predictor`.

    The variables to predict must be inputs. Further inputs with time, static fields and
    forcings at the predicted times are seen as extra channels; without any, networks
    are those that were published.
    """

    def __init__(
        self,
        model_config: common.FrameSettings,
        network: Callable[..., jax.Array],
        task_config: TaskConfig | None = None,
    ) -> None:
        """Takes the parts.

        Args:
          model_config: Sizes; how many frames go in and out.
          network: Called with `fields.Fields`, `Edges`, the number of channels of a
            predicted frame and `is_training`, to return frames. One with an argument
            `targets` is handed the true frames in training.
          task_config: What is read and predicted, if that is to be checked.
        """
        self._model_config = model_config
        self._task_config = task_config
        self._network = network
        self._takes_targets = "targets" in inspect.signature(network).parameters
        self.frames_per_step = model_config.output_length
        self.predicts_changes = model_config.predicts == "change"

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
        **network_options: Any,
    ) -> xr.Dataset:
        """Returns the predictions for the times of the template.

        Args:
          inputs: Normalised past frames and static fields.
          targets_template: Variables and coordinates to predict; values are not read.
          forcings: Normalised forcings at the target times.
          is_training: Whether dropout is on; it needs a Haiku key.
          **network_options: For the network, such as `teacher_forcing_ratio`.

        Raises:
          ValueError: The datasets do not fit the task or the architecture.
        """
        self._check(inputs, targets_template, forcings)
        seen = _read(inputs, targets_template, forcings)
        edges = find_edges(
            inputs["lat"].values, inputs["lon"].values, self._model_config.edges
        )
        count = sum(
            stacking.level_count(targets_template[name]) for name in targets_template
        )
        frames = self._network(
            seen, edges, count, is_training=is_training, **network_options
        )
        return stacking.frames_to_variables(
            partition.constrain(frames, *_PLACED), targets_template
        )

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
        **network_options: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns `loss` and the predictions that it judges."""
        if self._takes_targets and is_training:
            names = sorted(targets, key=str)
            sizes = {**inputs.sizes, "time": targets.sizes["time"]}
            network_options["targets"] = stacking.variables_to_frames(
                targets, names, sizes
            )
        predictions = self(
            inputs, targets, forcings, is_training=is_training, **network_options
        )
        if self._model_config.area_weighted_loss:
            return losses.weighted_mse_per_level(predictions, targets, {}), predictions
        widths = {str(name): stacking.level_count(targets[name]) for name in targets}
        total = sum(widths.values())
        loss = losses.weighted_error(
            predictions,
            targets,
            variable_weights={name: width / total for name, width in widths.items()},
            level_weights="uniform",
            latitude=False,
        )
        return loss, predictions

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
        **network_options: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the mean squared error of each batch member.

        Args:
          inputs: As for `__call__`.
          targets: Normalised truth.
          forcings: As for `__call__`.
          is_training: As for `__call__`; also whether a network that can use the true
            frames while it decodes sees them.
          **network_options: As for `__call__`.
        """
        return self.loss_and_predictions(
            inputs, targets, forcings, is_training, **network_options
        )[0]

    def _check(
        self, inputs: xr.Dataset, template: xr.Dataset, forcings: xr.Dataset
    ) -> None:
        """Compares a call with the task and the architecture."""
        config = self._model_config
        check_call.check_call(
            inputs,
            template,
            forcings,
            self._task_config,
            config.resolution,
            frames=config.output_length,
        )
        missing = sorted(str(name) for name in template if name not in inputs)
        if missing:
            raise ValueError(
                f"inputs lack {', '.join(missing)}: the model goes on from past frames "
                "of what it predicts; add it to the input_variables of the task"
            )
        for name in template:
            found = inputs[name].sizes.get("time", 0)
            if found != config.input_length:
                raise ValueError(
                    f"inputs: {name} has {found} frame(s), and the model reads "
                    f"{config.input_length}; give as many (input_duration of the task) "
                    "or set input_length"
                )
            past, ahead = (stacking.level_count(d[name]) for d in (inputs, template))
            if past != ahead:
                raise ValueError(
                    f"{name}: {past} level(s) in the inputs and {ahead} to predict; "
                    "they must be the same"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """Names of the variables in the order of a network's channels.

    Attributes:
      frames: Those with time; the predicted ones come first.
      known: Forcings.
      static: Those without time.
    """

    frames: tuple[Hashable, ...]
    known: tuple[Hashable, ...]
    static: tuple[Hashable, ...]

    @classmethod
    def of(
        cls, inputs: xr.Dataset, template: xr.Dataset, forcings: xr.Dataset
    ) -> Order:
        """Returns the order for a call. Values are not read."""
        predicted = sorted(template, key=str)
        others = sorted((n for n in inputs if n not in template), key=str)
        moving = [name for name in others if "time" in inputs[name].dims]
        return cls(
            frames=(*predicted, *moving),
            known=tuple(sorted(forcings, key=str)),
            static=tuple(name for name in others if name not in moving),
        )


def _read(
    inputs: xr.Dataset, template: xr.Dataset, forcings: xr.Dataset
) -> fields.Fields:
    """Returns the channels of a call, those to predict first."""
    order = Order.of(inputs, template, forcings)
    steps = {**inputs.sizes, "time": template.sizes["time"]}
    frames = stacking.variables_to_frames(inputs, order.frames, inputs.sizes)
    known = stacking.variables_to_frames(forcings, order.known, steps, frames.dtype)
    once = stacking.variables_to_frames(
        inputs, order.static, {**inputs.sizes, "time": 1}, frames.dtype
    )
    return fields.Fields(frames=frames, known=known, static=once[:, 0])
