"""A model ready to forecast again and again, compiled once."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from weatherlib import predictor_base
from weatherlib.rollout import engine, execution, intake, memory, model, running
from weatherlib.rollout.guard import Guard, Violation
from weatherlib.rollout.placement import Placement, Sharding
from weatherlib.rollout.request import Forcings, Request
from weatherlib.rollout.running import Progress, RunSummary, Writer
from weatherlib.rollout.transfer import Device
from weatherlib.task import TaskConfig
from weatherlib.typing import PathLike

__all__ = ["Forecaster"]

_WARN = Guard()


class Forecaster:
    """Makes forecasts with one model, again and again.

    The model is compiled once for each grid and set of variables, whatever the start
    date, the number of steps and the number of members. The state stays on the device,
    finished steps leave it while the next are computed, and memory does not grow with
    the number of steps.

        from weatherlib import data, graphcast, normalization, rollout

        def make_predictor():  # one step, with all wrappers but the autoregressive one
            model = graphcast.GraphCast(model_config, graphcast.TASK_13)
            return normalization.InputsAndResiduals(model, stddev, mean, diffs_stddev)

        forecaster = rollout.Forecaster(make_predictor, params, task=graphcast.TASK_13)
        state = data.open_dataset("era5.nc").isel(time=slice(2))
        forecast = forecaster.predict(state, steps=40)
        forecast["2m_temperature"].isel(batch=0, time=-1).plot()

    `weatherlib.cli.forecasting.load_forecaster` makes one from a checkpoint file. A
    forecast too long for memory goes to a file chunk by chunk, and continues where an
    interrupted one ended:

        print(forecaster.fits(state, steps=1460))
        with data.open_writer("forecast.zarr") as writer:
            forecaster.run(state, writer, steps=1460)

    Random numbers: step k (from 0) draws from `fold_in(rng, k)`, and in an ensemble
    member m from `fold_in(fold_in(rng, m), k)`, so results do not depend on chunks,
    interruptions or how many members are computed at a time. Forecasts of their own,
    such as from several dates, are made at once as members with a key each: `rng` with
    one more axis.
    """

    def __init__(  # noqa: PLR0913 (independent settings, with defaults)
        self,
        make_predictor: Callable[[], predictor_base.Predictor],
        params: Any,
        state: Any = None,
        *,
        task: TaskConfig | None = None,
        num_steps_per_chunk: int = 1,
        members_per_batch: int = 1,
        prepare: bool = True,
        donate: bool = True,
        device: Device | None = None,
        sharding: Sharding | None = None,
        matmul_precision: str | None = None,
        compilation_cache: PathLike | None = None,
    ) -> None:
        """Takes the model; nothing is compiled before the first forecast.

        Args:
          make_predictor: Returns a predictor of one step with all its wrappers but
            `autoregressive.Predictor`, such as normalisation around a bfloat16 cast
            around GraphCast. Called inside a Haiku transformation.
          params: Haiku parameters.
          state: Haiku state. Each step starts from it; changes are dropped.
          task: Variables of the model. With it, targets and forcings follow from the
            initial state and the number of steps.
          num_steps_per_chunk: Steps per call of the device. More save time where a
            step is short, and take memory for as many predictions.
          members_per_batch: Ensemble members computed at the same time.
          prepare: Whether to compute what depends only on parameters and grid once,
            and keep it on the device. Faster, for more memory.
          donate: Whether each chunk may overwrite the state it started from.
          device: Where to compute; JAX's default if None.
          sharding: How to spread the work over several devices, such as a
            `weatherlib.training.sharding.Layout`, instead of `device`. Where these
            belong to several processes, all make the same forecasts in the same order,
            and each gets the whole results; with `run`, the first one writes.
          matmul_precision: As in `jax.default_matmul_precision`; "highest" keeps GPUs
            from rounding float32 factors.
          compilation_cache: Folder that keeps executables for later processes. This is
            a setting of JAX for the whole process.

        Raises:
          ValueError: A number is not positive, or device and sharding do not go
            together.
        """
        for label, value in (
            ("num_steps_per_chunk", num_steps_per_chunk),
            ("members_per_batch", members_per_batch),
        ):
            if value < 1:
                raise ValueError(f"{label} must be at least 1, not {value}")
        if compilation_cache is not None:
            model.use_cache(compilation_cache)
        self._task = task
        self._steps_per_chunk = num_steps_per_chunk
        self._members_per_batch = members_per_batch
        self._model = model.Model(
            make_predictor,
            prepare=prepare,
            donate=donate,
            place=Placement(device, sharding),
            matmul_precision=matmul_precision,
        )
        self._model.update(params, state)

    @property
    def traces(self) -> int:
        """How often the model has been traced for forecasting since construction."""
        return self._model.traces

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on tracing and compiling since construction."""
        return self._model.compile_seconds

    @property
    def frames_per_step(self) -> int:
        """Frames that one step of the model predicts."""
        return self._model.frames_per_step

    def crop(self, dataset: xarray.Dataset) -> xarray.Dataset:
        """Returns the part of a dataset on the whole grid that the model predicts.

        All of it, for most models. Of a part there are forecasts of one step only.

        Raises:
          ValueError: The grid does not hold the part.
        """
        return self._model.crop(dataset)

    @property
    def members_per_batch(self) -> int:
        """Members, or forecasts of their own, that are computed at the same time."""
        return self._members_per_batch

    def update(self, params: Any, state: Any = None) -> None:
        """Replaces the parameters; equal shapes need no new compilation.

        Args:
          params: As in the constructor.
          state: As in the constructor.
        """
        self._model.update(params, state)

    def predict(
        self,
        inputs: xarray.Dataset,
        forcings: Forcings | None = None,
        *,
        steps: int | None = None,
        targets_template: xarray.Dataset | None = None,
        rng: Any = None,
        members: int | range | None = None,
        guard: Guard | None = _WARN,
    ) -> xarray.Dataset:
        """Returns a whole forecast in memory.

        Args:
          inputs: Frames to start from and static variables, dimensions ([sample,]
            batch, time, level, lat, lon) as far as each has them. With a task: any
            dataset that ends with them and has the coordinate `datetime`.
          forcings: Forcings at the predicted times, or a function that returns those of
            frames [start, stop). None: computed for the task, or there are none.
          steps: Steps to predict; each may fill several frames. None: all times of
            `targets_template`.
          targets_template: Variables and times to predict, as for the published
            functions; its values are not read. None: the targets of the task, or else
            all time-dependent inputs that are not forced.
          rng: Random key or seed; None is the seed 0. A key for each member makes
            these forecasts of their own.
          members: Ensemble members, along a new leading dimension `sample`: how many,
            or a range of their numbers, so that an ensemble can be made in parts.
            None: as many as `inputs` or `forcings` have, or a single forecast.
          guard: Watches for NaN and values out of bounds; None does not.

        Returns:
          The targets, with `time` as lead times, and the `datetime` they are valid at
          where that of the inputs is known.

        Raises:
          ValueError: Something is missing, uneven, too short or does not fit.
          GuardError: The guard stopped the forecast.
        """
        chunks = self.stream(
            inputs,
            forcings,
            steps=steps,
            targets_template=targets_template,
            rng=rng,
            members=members,
            guard=guard,
        )
        return xarray.concat(
            list(chunks), "time", data_vars="all", coords="minimal", compat="override"
        )

    def stream(
        self,
        inputs: xarray.Dataset,
        forcings: Forcings | None = None,
        *,
        steps: int | None = None,
        targets_template: xarray.Dataset | None = None,
        rng: Any = None,
        members: int | range | None = None,
        guard: Guard | None = _WARN,
    ) -> Iterator[xarray.Dataset]:
        """Yields a forecast chunk by chunk, on the host.

        The next chunk is computed while one is used. Arguments and errors are those of
        `predict`.
        """
        request = self._request(inputs, forcings, steps, targets_template, members)
        # Checks and compiles now, not when the first chunk is asked for.
        job = self._execution(request, rng, guard)
        return running.collected(job)

    def run(  # noqa: PLR0913 (those of `predict`, and where the results go)
        self,
        inputs: xarray.Dataset,
        writer: Writer | None,
        forcings: Forcings | None = None,
        *,
        steps: int | None = None,
        targets_template: xarray.Dataset | None = None,
        rng: Any = None,
        members: int | range | None = None,
        guard: Guard | None = _WARN,
        progress: Progress | None = None,
    ) -> RunSummary:
        """Writes a forecast of any length, or what an earlier run left of it.

        Where `writer` holds frames already, the forecast continues after them exactly
        as if it had never stopped. Frames are written by a thread, in order, while the
        next are computed. The caller opens and closes the writer.

        Args:
          inputs: As in `predict`.
          writer: Takes the frames. Of several processes only that of the first is used,
            and the others may give None.
          forcings: As in `predict`.
          steps: As in `predict`, counted from the start of the forecast.
          targets_template: As in `predict`.
          rng: As in `predict`.
          members: As in `predict`.
          guard: As in `predict`. The chunk that made it raise is not written.
          progress: Called when a chunk has been written, in the calling thread.

        Returns:
          What was done.

        Raises:
          ValueError: As `predict`; or the writer holds frames of another forecast.
          GuardError: As `predict`.
          OSError: The writer failed.
        """
        began, compiled = time.perf_counter(), self.compile_seconds
        request = self._request(inputs, forcings, steps, targets_template, members)
        place = self._model.place
        if writer is None and place.is_main:
            raise ValueError(
                "writer: None, which only processes but the first may give"
            )
        first_step, window = running.resume(request, writer, place)
        violations: list[Violation] = []
        if first_step < request.steps:
            job = self._execution(request, rng, guard)
            target = writer if place.is_main else None
            violations = running.write(job, window, first_step, target, progress)
        return RunSummary(
            steps=request.steps,
            first_step=first_step,
            seconds=time.perf_counter() - began,
            compile_seconds=self.compile_seconds - compiled,
            violations=tuple(violations),
        )

    def fits(
        self,
        inputs: xarray.Dataset,
        forcings: Forcings | None = None,
        *,
        steps: int | None = None,
        targets_template: xarray.Dataset | None = None,
        members: int | range | None = None,
        compiled: bool = False,
        available_bytes: int | None = None,
    ) -> memory.FitReport:
        """Returns whether a forecast fits into the memory of the device.

        Args:
          inputs: As in `predict`.
          forcings: As in `predict`.
          steps: As in `predict`; makes no difference to the memory.
          targets_template: As in `predict`.
          members: As in `predict`.
          compiled: Whether to compile, which makes the numbers exact; a forecast that
            follows uses what was compiled. False estimates from the traced program, in
            seconds.
          available_bytes: Memory of the device; None asks the device.

        Raises:
          ValueError: As `predict`.
        """
        request = self._request(inputs, forcings, steps, targets_template, members)
        return memory.report(
            self._model,
            self._key(request, _key_of(None)),
            request,
            compiled=compiled,
            available=available_bytes,
        )

    def _request(
        self,
        inputs: xarray.Dataset,
        forcings: Forcings | None,
        steps: int | None,
        targets_template: xarray.Dataset | None,
        members: int | range | None,
    ) -> Request:
        return intake.make_request(
            inputs,
            forcings,
            steps=steps,
            targets_template=targets_template,
            frames_per_step=self.frames_per_step,
            task=self._task,
            members=members,
            crop=self._model.crop,
        )

    def _key(self, request: Request, rng: jax.Array) -> engine.ChunkKey:
        members = request.members
        shape, per_batch = rng.shape, members and min(self._members_per_batch, members)
        if engine.are_keys(rng):
            if shape[0] != members:
                raise ValueError(f"rng: {shape[0]} keys are given to {members} members")
            # Of one size: the last of many starts are no reason to compile again.
            per_batch = self._members_per_batch
        batch = max(field.size_of("batch") for _, field in request.layout.targets)
        per_batch = self._model.place.filled(per_batch, batch)
        if engine.are_keys(rng):
            shape = (per_batch, *shape[1:])
        return engine.ChunkKey(
            layout=request.layout,
            steps=self._steps_per_chunk,
            members=per_batch,
            sampled=request.sampled,
            rng=jax.ShapeDtypeStruct(shape, rng.dtype),
        )

    def _execution(
        self, request: Request, rng: Any, guard: Guard | None
    ) -> execution.Execution:
        random_key = _key_of(rng)
        key = self._key(request, random_key)
        return execution.Execution(
            request=request,
            key=key,
            chunk=self._model.chunk(key),
            model=self._model.arguments(request.layout),
            rng=random_key if key.own_keys else self._model.place.put(random_key),
            place=self._model.place,
            guard=guard,
        )


def _key_of(rng: Any) -> jax.Array:
    """Returns a random key for a key, a seed or None."""
    if rng is None or isinstance(rng, int | np.integer):
        return jax.random.PRNGKey(int(rng or 0))
    return jnp.asarray(rng)
