"""The rollout functions of the published GraphCast package.

Names, signatures, errors, coordinates and the use of random numbers are the published
ones (version 0.2, module `rollout`); a predictor written for them runs unchanged. For
one model used many times, `rollout.Forecaster` is faster and needs less memory.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import dask.array
import jax
import numpy as np
import xarray

from weatherlib import xarray_tree
from weatherlib.rollout import transfer, window

__all__ = [
    "PredictorFn",
    "chunked_prediction",
    "chunked_prediction_generator",
    "chunked_prediction_generator_multiple_runs",
    "extend_targets_template",
]

_log = logging.getLogger(__name__)


class PredictorFn(Protocol):
    """A predictor as a function of its random key; it may be jitted or pmapped."""

    def __call__(
        self,
        rng: jax.Array,
        inputs: xarray.Dataset,
        targets_template: xarray.Dataset,
        forcings: xarray.Dataset,
        **optional_kwargs: Any,
    ) -> xarray.Dataset:
        """Returns predictions shaped like `targets_template`."""
        ...


def chunked_prediction(
    predictor_fn: PredictorFn,
    rng: jax.Array,
    inputs: xarray.Dataset,
    targets_template: xarray.Dataset,
    forcings: xarray.Dataset | None,
    num_steps_per_chunk: int = 1,
    verbose: bool = False,
) -> xarray.Dataset:
    """Returns a long forecast on the host, predicted chunk by chunk.

    Each chunk leaves the device while the next one is computed.

    Args:
      predictor_fn: Predicts one chunk; called with keyword arguments only.
      rng: Random key, split once per chunk whether it is used or not.
      inputs: Initial frames and static variables. A `datetime` coordinate is dropped.
      targets_template: Variables, coordinates and lead times to predict, evenly spaced
        in time. Its values reach `predictor_fn` but should not be used.
      forcings: Forcings at the times of `targets_template`, or None.
      num_steps_per_chunk: Frames per call; must divide the number of target frames.
      verbose: Whether to log each chunk.

    Returns:
      Predictions with the time, and `datetime` if present, of `targets_template`.

    Raises:
      ValueError: The times are uneven, the chunks do not divide them, or a
        time-dependent input is neither predicted nor forced.
    """
    finished: list[xarray.Dataset] = []
    pending: xarray.Dataset | None = None
    chunks = chunked_prediction_generator(
        predictor_fn=predictor_fn,
        rng=rng,
        inputs=inputs,
        targets_template=targets_template,
        forcings=forcings,
        num_steps_per_chunk=num_steps_per_chunk,
        verbose=verbose,
    )
    for chunk in chunks:
        transfer.start_copies(chunk)
        if pending is not None:
            finished.append(jax.device_get(pending))
        pending = chunk
    finished.append(jax.device_get(pending))
    return xarray.concat(
        finished, "time", data_vars="all", coords="minimal", compat="override"
    )


def chunked_prediction_generator(  # noqa: PLR0913
    predictor_fn: PredictorFn,
    rng: jax.Array,
    inputs: xarray.Dataset,
    targets_template: xarray.Dataset,
    forcings: xarray.Dataset | None,
    num_steps_per_chunk: int = 1,
    verbose: bool = False,
    pmap_devices: Sequence[transfer.Device] | None = None,
    replica_axis: str | None = None,
) -> Iterator[xarray.Dataset]:
    """Yields a long forecast chunk by chunk, in memory that does not grow.

    Every chunk is predicted with the lead times of the first one, so that a jitted
    `predictor_fn` is traced once; the true times are restored in what is yielded.
    Forcings of the next chunk are read, and put on the device, while this one computes.

    Args:
      predictor_fn: As in `chunked_prediction`.
      rng: As in `chunked_prediction`; with `pmap_devices`, one key per device.
      inputs: As in `chunked_prediction`.
      targets_template: As in `chunked_prediction`.
      forcings: As in `chunked_prediction`.
      num_steps_per_chunk: As in `chunked_prediction`.
      verbose: As in `chunked_prediction`.
      pmap_devices: Devices over which `predictor_fn` is pmapped. The results then come
        back to the host after each chunk.
      replica_axis: Name of the pmapped dimension, needed with `pmap_devices`.

    Yields:
      The predictions of each chunk, as `predictor_fn` returns them (possibly JAX arrays
      that are still being computed).

    Raises:
      ValueError: As `chunked_prediction`; or `replica_axis` is missing.
    """
    if pmap_devices is not None and replica_axis is None:
        raise ValueError("Must provide replica_axis when pmap_devices is provided.")
    chunks = _Chunks(targets_template, forcings, num_steps_per_chunk)
    current = inputs.drop_vars("datetime", errors="ignore")
    chunk = chunks.load(0)
    for index in range(chunks.count):
        if verbose:
            _log.info("Chunk %d/%d", index, chunks.count)
        rng, key = _split(rng, pmap_devices, replica_axis)
        predictions = predictor_fn(
            rng=key,
            inputs=current,
            targets_template=chunk.template,
            forcings=chunk.forcings,
        )
        if pmap_devices is not None:
            # Indexing and joining pmapped arrays would gather them on one device.
            predictions, current = jax.device_get((predictions, current))
        failure = None
        finished = predictions.assign_coords(chunk.coords)
        if index + 1 < chunks.count:
            current = window.next_inputs(current, predictions, chunk.forcings)
            on_device = pmap_devices is None and transfer.holds_jax_arrays(predictions)
            try:
                chunk = chunks.load(index + 1, on_device=on_device)
            except Exception as error:
                # This chunk is good: hand it on before failing for the next.
                failure = error
        # While it waits, a generator must not keep what it has handed on.
        del predictions
        yield finished
        del finished
        if failure is not None:
            raise failure


def chunked_prediction_generator_multiple_runs(
    predictor_fn: PredictorFn,
    rngs: Any,
    inputs: xarray.Dataset,
    targets_template: xarray.Dataset,
    forcings: xarray.Dataset | None,
    num_samples: int | None,
    pmap_devices: Sequence[transfer.Device] | None = None,
    **chunked_prediction_kwargs: Any,
) -> Iterator[xarray.Dataset]:
    """Yields the chunks of several forecasts, one run (or group of runs) after another.

    Args:
      predictor_fn: As in `chunked_prediction`; pmapped if `pmap_devices` is given.
      rngs: One key per run.
      inputs: As in `chunked_prediction`. A `sample` dimension holds one state per run.
      targets_template: As in `chunked_prediction`.
      forcings: As in `chunked_prediction`. A `sample` dimension is split like `inputs`.
      num_samples: Number of runs. None: as many as `rngs`.
      pmap_devices: Devices that share the runs; their number divides `num_samples`.
      **chunked_prediction_kwargs: Other arguments of `chunked_prediction`.

    Yields:
      Each chunk with a `sample` coordinate: the number of the run, or along a leading
      dimension the numbers of the group of runs.

    Raises:
      ValueError: The devices do not divide the runs, there are too few keys, or as
        `chunked_prediction`.
    """
    samples = len(rngs) if num_samples is None else num_samples
    if len(rngs) < samples:
        raise ValueError(f"{samples} samples need as many keys; rngs has {len(rngs)}")
    if pmap_devices is not None:
        yield from _pmapped_runs(
            predictor_fn,
            rngs,
            (inputs, targets_template, forcings),
            samples,
            pmap_devices,
            chunked_prediction_kwargs,
        )
        return
    for sample in range(samples):
        _log.info("Sample %d/%d", sample, samples)
        chunks = chunked_prediction_generator(
            predictor_fn=predictor_fn,
            rng=rngs[sample],
            inputs=_members(inputs, sample),
            targets_template=targets_template,
            forcings=None if forcings is None else _members(forcings, sample),
            **chunked_prediction_kwargs,
        )
        for chunk in chunks:
            yield chunk.assign_coords(sample=sample)
            del chunk


def extend_targets_template(
    targets_template: xarray.Dataset, required_num_steps: int
) -> xarray.Dataset:
    """Returns the template with another number of steps, as lazy zeros.

    Args:
      targets_template: Template whose first time is one step after the inputs. All
        variables have a time dimension.
      required_num_steps: Number of steps of the result.

    Returns:
      The same variables as `dask.array.zeros`, in one block each, at multiples of the
      time step. A `datetime` coordinate is extended along with the time.

    Raises:
      ValueError: The times are not the first multiples of one step, or a variable has
        no time.
    """
    lead_times = targets_template.coords["time"].values
    step = lead_times[0]
    if not np.array_equal(lead_times, step * np.arange(1, lead_times.size + 1)):
        raise ValueError(
            "the template times must be 1, 2, 3, ... steps after the inputs, found "
            f"{lead_times}"
        )
    times = step * np.arange(1, required_num_steps + 1)
    replaced: dict[Any, Any] = {"time": times}
    if "datetime" in targets_template.coords:
        dates = targets_template.coords["datetime"].variable
        start = dates.isel(time=0).values - step
        replaced["datetime"] = (dates.dims, np.asarray(start)[..., np.newaxis] + times)
        if dates.dims[-1] != "time":
            raise ValueError("the last dimension of datetime must be time")

    def extend(array: xarray.DataArray) -> xarray.DataArray:
        if "time" not in array.dims:
            raise ValueError(f"the template variable {array.name} has no time")
        sizes = {**array.sizes, "time": required_num_steps}
        zeros = dask.array.zeros(tuple(sizes.values()), dtype=array.dtype, chunks=-1)
        coords = {
            name: coord
            for name, coord in array.coords.items()
            if "time" not in coord.dims
        }
        return xarray.DataArray(zeros, {**coords, **replaced}, array.dims)

    return xarray_tree.map_structure(extend, targets_template)


class _Chunk(NamedTuple):
    template: xarray.Dataset
    forcings: xarray.Dataset
    coords: dict[str, xarray.DataArray]


class _Chunks:
    """Cuts a template and its forcings, and gives each piece the first lead times."""

    def __init__(
        self,
        template: xarray.Dataset,
        forcings: xarray.Dataset | None,
        frames: int,
    ) -> None:
        steps = template.sizes["time"]
        if frames < 1 or steps % frames:
            raise ValueError(
                f"The number of steps per chunk {frames} must evenly divide the number "
                f"of target steps {steps}"
            )
        if len(np.unique(np.diff(template.coords["time"].values))) > 1:
            raise ValueError("The targets time coordinates must be evenly spaced")
        forcings = xarray.Dataset() if forcings is None else forcings
        if forcings.sizes.get("time", steps) < steps:
            raise ValueError(
                f"the forcings have {forcings.sizes['time']} times, fewer than the "
                f"{steps} of the targets"
            )
        self.count = steps // frames
        self._frames = frames
        self._dates = template.coords.get("datetime")
        self._template = template.drop_vars("datetime", errors="ignore")
        self._forcings = forcings.drop_vars("datetime", errors="ignore")
        self._first_times = self._template.coords["time"].isel(time=slice(frames))

    def load(self, index: int, *, on_device: bool = False) -> _Chunk:
        """Reads one chunk, and puts its forcings on the device if asked to."""
        part = slice(index * self._frames, (index + 1) * self._frames)
        template = self._template.isel(time=part)
        coords = {"time": template.coords["time"]}
        if self._dates is not None:
            coords["datetime"] = self._dates.isel(time=part)
        forcings = self._forcings.isel(time=part, missing_dims="ignore")
        times = {"time": self._first_times}
        forcings = forcings.assign_coords(times).compute()
        return _Chunk(
            template.assign_coords(times).compute(),
            transfer.to_device(forcings) if on_device else forcings,
            coords,
        )


def _pmapped_runs(
    predictor_fn: PredictorFn,
    rngs: Any,
    data: tuple[xarray.Dataset, xarray.Dataset, xarray.Dataset | None],
    samples: int,
    devices: Sequence[transfer.Device],
    options: dict[str, Any],
) -> Iterator[xarray.Dataset]:
    if samples % len(devices):
        raise ValueError(
            f"num_samples must be a multiple of len(pmap_devices): {samples} samples, "
            f"{len(devices)} devices"
        )
    inputs, targets_template, forcings = data

    def predict(
        rng: jax.Array,
        inputs: xarray.Dataset,
        targets_template: xarray.Dataset,
        forcings: xarray.Dataset,
        **optional_kwargs: Any,
    ) -> xarray.Dataset:
        del optional_kwargs
        # Functions under pmap take no keyword arguments.
        template = transfer.replicate(
            targets_template, "sample", devices, on_devices=True
        )
        return predictor_fn(rng, inputs, template, forcings)

    for start in range(0, samples, len(devices)):
        group = slice(start, start + len(devices))
        _log.info("Samples %s out of %d", group, samples)
        group_forcings = None
        if forcings is not None:
            # All lead times: on the host, unlike the inputs.
            group_forcings = transfer.replicate(
                _members(forcings, group), "sample", devices, on_devices=False
            )
        chunks = chunked_prediction_generator(
            predictor_fn=predict,
            rng=transfer.shard(rngs[group], devices, "sample"),
            inputs=transfer.replicate(
                _members(inputs, group), "sample", devices, on_devices=True
            ),
            targets_template=targets_template,
            forcings=group_forcings,
            pmap_devices=devices,
            replica_axis="sample",
            **options,
        )
        for chunk in chunks:
            yield chunk.assign_coords(sample=np.arange(group.start, group.stop))
            del chunk


def _members(dataset: xarray.Dataset, index: int | slice) -> xarray.Dataset:
    if "sample" not in dataset.dims:
        return dataset
    return dataset.isel(sample=index, drop=True)


def _split(
    rng: Any, devices: Sequence[transfer.Device] | None, axis_name: str | None
) -> tuple[Any, Any]:
    """Returns the key of the following chunks and that of this one."""
    if devices is None or axis_name is None:
        following, this = jax.random.split(rng)
        return following, this
    pairs = jax.vmap(jax.random.split)(rng)
    following, this = (
        transfer.shard(list(pairs[:, column]), devices, axis_name) for column in (0, 1)
    )
    return following, this
