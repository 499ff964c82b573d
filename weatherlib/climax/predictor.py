"""ClimaX as predictors: datasets in, datasets out."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weatherlib import losses, predictor_base, xarray_jax
from weatherlib.climax import channels, lead_times, network, regions
from weatherlib.climax.config import ClimaXConfig
from weatherlib.data_utils import check_call
from weatherlib.task import TaskConfig

__all__ = ["ClimaX", "ClimateProjection", "RegionalClimaX", "make_predictor"]

# Hours of the step whose changes have the unit of the statistics.
_STEP = 6.0


class _Forecast(predictor_base.Predictor):
    """What all heads have in common.

    Built inside the function given to `hk.transform`, like any Haiku module.
    """

    def __init__(
        self,
        model_config: ClimaXConfig,
        task_config: TaskConfig,
        *,
        remat: bool = False,
    ) -> None:
        """Creates the network.

        Args:
          model_config: Its sizes.
          task_config: What is read and predicted: any of the variables that the model
            knows. Variables on levels are known by name and level, so that
            `geopotential` on 500 hPa is `geopotential_500`.
          remat: Whether the backward pass computes the inside of the network again.

        Raises:
          ValueError: The configuration is that of another head.
        """
        self._check_head(model_config)
        self._config = model_config
        self._task = dataclasses.replace(
            task_config,
            forcing_variables=tuple(
                name
                for name in task_config.forcing_variables
                if name != lead_times.LEAD_TIME
            ),
        )
        self._network = network.ClimaXNetwork(model_config, remat=remat)
        self.predicts_changes = model_config.predicts == "change"

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
        lead_hours: Any = None,
    ) -> xr.Dataset:
        """Returns the prediction for the one target time.

        Args:
          inputs: Normalised frames, as many as the model reads, and static fields.
          targets_template: Variables and coordinates to predict; values are not read.
          forcings: Normalised forcings at the target time. Those that the inputs lack
            are read as variables of the model. `lead_time`, hours of shape [batch], is
            how far ahead each batch member is predicted.
          is_training: Whether dropout is on; it needs a Haiku key.
          lead_hours: How far ahead to predict, one number or one for each batch member.
            None: the forcing `lead_time`, or the time of the template.

        Raises:
          ValueError: The datasets do not fit the task or the architecture, or a lead
            time is not positive.
        """
        output, wanted, _ = self._run(
            inputs, targets_template, forcings, is_training, lead_hours
        )
        fields = output.fields
        growth = self._growth(inputs, targets_template, forcings, lead_hours)
        if growth is not None:
            fields = fields * growth.astype(fields.dtype).reshape(-1, 1, 1, 1)
        if self._turned(inputs):
            fields = jnp.flip(fields, axis=-2)
        return channels.unstack(fields, targets_template, wanted)

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
        lead_hours: Any = None,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the squared error of each batch member, averaged over channels.

        Each variable on each level counts alike, rows count by their area.

        Args:
          inputs: As for `__call__`.
          targets: Normalised truth.
          forcings: As for `__call__`.
          is_training: As for `__call__`.
          lead_hours: As for `__call__`.
        """
        return self.loss_and_predictions(
            inputs, targets, forcings, is_training, lead_hours
        )[0]

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
        lead_hours: Any = None,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns `loss` and the predictions that it judges."""
        predictions = self(inputs, targets, forcings, is_training, lead_hours)
        counts = {str(n): targets[n].sizes.get("level", 1) for n in targets}
        total = sum(counts.values())
        judged, truth = predictions, targets
        growth = self._growth(inputs, targets, forcings, lead_hours)
        if growth is not None:
            judged, truth = _shrunk(predictions, growth), _shrunk(targets, growth)
        loss = losses.weighted_error(
            judged,
            truth,
            variable_weights={name: count / total for name, count in counts.items()},
            level_weights="uniform",
            latitude=self._weights_rows(),
        )
        return loss, predictions

    def aggregation_weights(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        lead_hours: Any = None,
    ) -> xr.DataArray:
        """Returns how much each input variable counts at each place.

        Args:
          inputs: As for `__call__`.
          targets_template: As for `__call__`.
          forcings: As for `__call__`.
          lead_hours: As for `__call__`; has no influence.

        Returns:
          The mean over attention heads, dimensions (batch, time, variable, lat, lon)
          with one value for each patch; they add up to 1 over `variable`. Rows are in
          the order of the inputs.
        """
        output, _, region = self._run(
            inputs, targets_template, forcings, False, lead_hours
        )
        size = self._config.patch_size
        shape = (self._config.rows, self._config.columns)
        coords = {}
        for dim, count, part in zip(("lat", "lon"), shape, ("rows", "columns")):
            values = np.asarray(inputs[dim].values, np.float64)
            values = values.reshape(count, size).mean(1)
            patches = getattr(region, f"patch_{part}") if region else range(count)
            if dim == "lat" and self._turned(inputs):
                patches = [count - 1 - i for i in patches][::-1]
            coords[dim] = values[list(patches)]
        weights = output.weights.mean(3).swapaxes(2, 3)
        weights = weights.reshape(*weights.shape[:3], len(coords["lat"]), -1)
        if self._turned(inputs):
            weights = jnp.flip(weights, axis=-2)
        read = self._read(inputs, forcings)
        names = [channel.name for channel in read[0] + read[1]]
        dims = ("batch", "time", "variable", "lat", "lon")
        return xarray_jax.DataArray(weights, {"variable": names, **coords}, dims)

    @abc.abstractmethod
    def _check_head(self, sizes: ClimaXConfig) -> None:
        """Raises a ValueError where the configuration is that of another head."""

    def _region(self, inputs: xr.Dataset) -> regions.Region | None:
        """Returns the part of the grid that is predicted, in the order of weights."""
        del inputs
        return None

    def _weights_rows(self) -> bool:
        """Whether the rows count by their area in the loss."""
        return True

    def _growth(
        self, inputs: xr.Dataset, template: xr.Dataset, forcings: Any, lead_hours: Any
    ) -> jax.Array | None:
        """Returns the unit of changes of each batch member; None where it is one."""
        scale = self._config.growth_hours
        if scale is None:
            return None
        _, forced = lead_times.split_lead_time(forcings)
        hours = self._hours(lead_hours, forced, inputs, template)
        return hours / _STEP * (_STEP + scale) / (hours + scale)

    def _hours(
        self, given: Any, forced: Any, inputs: xr.Dataset, template: xr.Dataset
    ) -> jax.Array:
        """Returns the lead time of each batch member in hours, shape [batch]."""
        trained = self._config.lead_hours
        if self._config.head == "projection" and given is None and forced is None:
            # Published: what is predicted is valid at the last input frame.
            return jnp.zeros(inputs.sizes["batch"])
        return lead_times.find_lead_hours(given, forced, inputs, template, trained)

    def _outputs(self) -> tuple[str, ...]:
        """Returns the names of what the head can predict."""
        return self._config.default_vars

    def _turned(self, inputs: xr.Dataset) -> bool:
        """Whether the rows of the data run against those of the weights."""
        return regions.is_turned(self._config, np.asarray(inputs["lat"].values))

    def _read(self, inputs: xr.Dataset, forcings: Any) -> Any:
        """Returns the channels of the inputs, and those that only forcings have."""
        levels = self._task.pressure_levels
        extra = {n: forcings[n] for n in forcings or {} if n not in inputs}
        past = channels.find_channels(inputs, levels)
        return past, channels.find_channels(extra, levels)

    def _run(
        self,
        inputs: xr.Dataset,
        template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool,
        lead_hours: Any,
    ) -> tuple[network.Output, tuple[channels.Channel, ...], regions.Region | None]:
        """Returns what the network finds, the channels it predicts, and where."""
        forcings, forced = lead_times.split_lead_time(forcings)
        region = self._region(inputs)
        self._check(inputs, template, forcings, region)
        hours = self._hours(lead_hours, forced, inputs, template)
        past, extra = self._read(inputs, forcings)
        sizes = {dim: inputs.sizes[dim] for dim in ("batch", "lat", "lon")}
        sizes["time"] = inputs.sizes.get("time", 1)
        given = channels.number(past + extra, self._config.default_vars)
        wanted = channels.find_channels(template, self._task.pressure_levels)
        outputs = channels.number(wanted, self._outputs())
        fields = channels.stack(inputs, past, sizes)
        if extra:
            new = channels.stack(forcings, extra, sizes)
            fields = jnp.concatenate([fields, new], axis=2)
        if self._turned(inputs):
            fields = jnp.flip(fields, axis=-2)
        ids = None if region is None else region.patch_ids
        output = self._network(fields, hours, given, outputs, ids, is_training)
        return output, wanted, region

    def _check(
        self,
        inputs: xr.Dataset,
        template: xr.Dataset,
        forcings: xr.Dataset,
        region: regions.Region | None,
    ) -> None:
        del region
        check_call.check_call(inputs, template, forcings, self._task, 0)


class ClimaX(_Forecast):
    """Predicts variables on the whole grid, at any lead time.

    Inputs are expected normalised; wrap it in `normalization.InputsAndResiduals` with
    the `residuals` that `predicts_changes` says. A direct forecast is one call with the
    lead time wanted; for an iterated one wrap it in `autoregressive.Predictor`.
    """

    def _check_head(self, sizes: ClimaXConfig) -> None:
        if sizes.head != "grid" or sizes.is_regional:
            raise ValueError(
                f"ClimaX predicts the whole grid; head {sizes.head!r}, region "
                f"{sizes.region or sizes.region_box!r} are for another predictor, "
                "which make_predictor finds"
            )


class RegionalClimaX(_Forecast):
    """Predicts a part of the grid, reading no more than that.

    The inputs are on the whole grid, targets and template on the part that `crop`
    returns: the whole patches inside the region. Forecasts are direct; a step cannot
    start from one that knows only a part.
    """

    def crop(self, dataset: xr.Dataset) -> xr.Dataset:
        """Returns the part of a dataset on the whole grid that is predicted."""
        return regions.crop(self._config, dataset)

    def _check_head(self, sizes: ClimaXConfig) -> None:
        if not sizes.is_regional:
            names = ", ".join(regions.REGIONS)
            raise ValueError(
                f"RegionalClimaX needs a region, one of {names}, or a region_box"
            )

    def _region(self, inputs: xr.Dataset) -> regions.Region:
        lat = np.asarray(inputs["lat"].values)
        if self._turned(inputs):
            lat = lat[::-1]
        return regions.find_region(self._config, lat, inputs["lon"].values)

    def _check(
        self,
        inputs: xr.Dataset,
        template: xr.Dataset,
        forcings: xr.Dataset,
        region: regions.Region | None,
    ) -> None:
        del region
        grid = (inputs["lat"].values, inputs["lon"].values)
        points = regions.find_points(self._config, *grid)
        for dim, chosen in zip(("lat", "lon"), points):
            expected = inputs[dim].values[chosen]
            found = template[dim].values
            if not np.array_equal(found, expected):
                raise ValueError(
                    f"targets_template: the region has {len(expected)} values of "
                    f"{dim!r} from {expected[0]:g} to {expected[-1]:g}, found "
                    f"{len(found)} from {found[0]:g} to {found[-1]:g}; "
                    "RegionalClimaX.crop cuts it out"
                )
        part = {"lat": points[0], "lon": points[1]}
        check_call.check_call(
            inputs.isel(part), template, forcings.isel(part, missing_dims="ignore"),
            self._task, 0,
        )  # fmt: skip


class ClimateProjection(_Forecast):
    """Predicts fields of a climate from a history of what drives it.

    All input frames are read, and what is predicted is valid at the last of them: the
    lead time is 0 unless a forcing or `lead_hours` says otherwise. The loss does not
    weight rows, as published.
    """

    def _check_head(self, sizes: ClimaXConfig) -> None:
        if sizes.head != "projection":
            raise ValueError(
                f"ClimateProjection needs head: projection, found {sizes.head!r}"
            )

    def _weights_rows(self) -> bool:
        return False

    def _outputs(self) -> tuple[str, ...]:
        return self._config.out_variables


def _shrunk(dataset: xr.Dataset, growth: jax.Array) -> xr.Dataset:
    """Returns changes in a unit of their own for each batch member."""
    return dataset.map(
        lambda array: (
            array / xarray_jax.DataArray(growth.astype(array.dtype), dims=("batch",))
        ).transpose(*array.dims)
    )


def make_predictor(
    model_config: ClimaXConfig, task_config: TaskConfig, *, remat: bool = False
) -> ClimaX | RegionalClimaX | ClimateProjection:
    """Returns the predictor that goes with a configuration; see their constructor."""
    if model_config.head == "projection":
        return ClimateProjection(model_config, task_config, remat=remat)
    if model_config.is_regional:
        return RegionalClimaX(model_config, task_config, remat=remat)
    return ClimaX(model_config, task_config, remat=remat)
