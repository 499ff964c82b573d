"""A predictor with its parameters on a device, and what was compiled of it."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import xarray

from weatherlib import predictor_base
from weatherlib.nn import prepared
from weatherlib.rollout import engine
from weatherlib.rollout.layout import Field, Layout
from weatherlib.rollout.placement import Placement
from weatherlib.typing import PathLike

__all__ = ["Model", "use_cache"]


class Model:
    """Compiles a one-step predictor, once for each kind of forecast.

    Attributes:
      place: Where parameters are and executables run.
      traces: How often the predictor has been traced for forecasting.
      compile_seconds: Seconds spent on tracing and compiling.
    """

    def __init__(
        self,
        make_predictor: Callable[[], predictor_base.Predictor],
        *,
        prepare: bool,
        donate: bool,
        place: Placement,
        matmul_precision: str | None,
    ) -> None:
        """Takes the settings of `Forecaster`; `update` gives the parameters."""

        def forward(
            inputs: xarray.Dataset, template: xarray.Dataset, forcings: xarray.Dataset
        ) -> xarray.Dataset:
            predictor = make_predictor()
            return predictor(inputs, targets_template=template, forcings=forcings)

        self.place = place
        self.traces = 0
        self.compile_seconds = 0.0
        self._make_predictor = make_predictor
        self._transformed = hk.transform_with_state(forward)
        self._prepare = prepare
        self._donate = donate
        self._matmul_precision = matmul_precision
        self._traced: dict[engine.ChunkKey, Any] = {}
        self._chunks: dict[engine.ChunkKey, engine.Chunk] = {}
        self._preparers: dict[Layout, Any] = {}
        self._parts: tuple[Layout, dict[str, Any]] | None = None

    def update(self, params: Any, state: Any) -> None:
        """Replaces parameters and state."""
        before = getattr(self, "_params", None), getattr(self, "_state", None)
        self._params = self.place.put_parameters(params)
        self._state = self.place.put_parameters({} if state is None else state)
        self._parts = None
        structs = self.place.parameter_structs
        if structs(before) != structs((self._params, self._state)):
            # What was compiled takes other shapes.
            for kept in (self._traced, self._chunks, self._preparers):
                kept.clear()

    @property
    def frames_per_step(self) -> int:
        """Frames that one step predicts."""
        return getattr(self._predictor, "frames_per_step", 1)

    def crop(self, dataset: xarray.Dataset) -> xarray.Dataset:
        """Returns the part of a dataset on the whole grid that is predicted."""
        crop = getattr(self._predictor, "crop", None)
        return dataset if crop is None else crop(dataset)

    @functools.cached_property
    def _predictor(self) -> predictor_base.Predictor:
        """The predictor, to be asked but not called."""
        found: list[predictor_base.Predictor] = []

        def probe() -> None:
            found.append(self._make_predictor())

        jax.eval_shape(hk.transform_with_state(probe).init, jax.random.PRNGKey(0))
        return found[0]

    def arguments(self, layout: Layout) -> tuple[Any, Any]:
        """Returns parameters with the parts prepared for a layout, and the state.

        Only the parts of the layout used last are kept, because they can be large.
        """
        if not self._prepare:
            return (self._params, None), self._state
        if self._parts is None or self._parts[0] != layout:
            self._parts = None
            parts = self._preparer(layout)(self._params, self._state)
            self._parts = (layout, parts)
        return (self._params, self._parts[1]), self._state

    def abstract_arguments(self, layout: Layout) -> tuple[Any, Any]:
        """Returns the shapes of `arguments`, computing nothing."""
        structs = self.place.parameter_structs
        params, state = structs(self._params), structs(self._state)
        parts = None
        if self._prepare:
            with self.place.activate():
                shapes = jax.eval_shape(self._recorder(layout), params, state)
            parts = self.place.row_structs(shapes)
        return (params, parts), state

    def chunk_arguments(self, key: engine.ChunkKey) -> tuple[Any, engine.Given]:
        """Returns the abstract arguments of an executable."""
        layout, place = key.layout, self.place
        frames = key.steps * layout.frames_per_step
        forcings = {name: field.with_frames(frames) for name, field in layout.forcings}
        model, state = self.abstract_arguments(layout)
        number = jax.ShapeDtypeStruct((), jnp.int32)
        members = None
        if key.members is not None:
            members = jax.ShapeDtypeStruct((key.members,), jnp.int32)
        some = key.sampled.__contains__
        given = engine.Given(
            params=model,
            state=state,
            static=place.field_structs(layout.static, some, key.members),
            forcings=place.field_structs(forcings, some, key.members),
            bounds=place.struct(engine.bound_structs(key)),
            rng=place.struct(key.rng),
            members=place.struct(members),
            first=place.struct(number),
            count=place.struct(number),
        )
        return self._window_structs(key), given

    def traced(self, key: engine.ChunkKey) -> Any:
        """Returns the traced chunk, kept until it is compiled."""
        if key not in self._traced:
            began = time.perf_counter()
            with self.place.activate():
                self._traced[key] = engine.trace_chunk(
                    engine.build_chunk(self._apply, key),
                    *self.chunk_arguments(key),
                    donate=self._donate,
                    precision=self._matmul_precision,
                    out_shardings=self._out_shardings(key),
                )
            self.compile_seconds += time.perf_counter() - began
        return self._traced[key]

    def chunk(self, key: engine.ChunkKey) -> engine.Chunk:
        """Returns the executable, compiled at its first use."""
        if key not in self._chunks:
            chunk = engine.compile_chunk(self.traced(key), self._matmul_precision)
            self.compile_seconds += chunk.compile_seconds
            self._chunks[key] = chunk
            del self._traced[key]
        return self._chunks[key]

    def compiled(self, key: engine.ChunkKey) -> engine.Chunk | None:
        """Returns the executable if there is one already."""
        return self._chunks.get(key)

    def _apply(
        self, model: tuple[Any, Any], state: Any, rng: jax.Array, *data: xarray.Dataset
    ) -> xarray.Dataset:
        params, parts = model
        self.traces += 1
        store = contextlib.nullcontext() if parts is None else prepared.use(parts)
        with store:
            predictions, _ = self._transformed.apply(params, state, rng, *data)
        return predictions

    def _preparer(self, layout: Layout) -> Callable[[Any, Any], dict[str, Any]]:
        """Returns the compiled pass that computes the prepared parts."""
        if layout not in self._preparers:
            began = time.perf_counter()
            params = self.place.parameter_structs(self._params)
            state = self.place.parameter_structs(self._state)
            out = None
            if self.place.sharding is not None:
                (_, parts), _ = self.abstract_arguments(layout)
                out = jax.tree.map(lambda leaf: leaf.sharding, parts)
            recorder = jax.jit(self._recorder(layout), out_shardings=out)
            with (
                engine.matmul_precision(self._matmul_precision),
                self.place.activate(),
            ):
                lowered = recorder.lower(params, state)
            self._preparers[layout] = lowered.compile()
            self.compile_seconds += time.perf_counter() - began
        return self._preparers[layout]

    def _recorder(self, layout: Layout) -> Callable[[Any, Any], dict[str, Any]]:
        """Returns a function of parameters and state that records one step on zeros.

        Only the parts are returned, so the compiler drops the step itself.
        """

        def zeros(fields: dict[str, Field]) -> dict[str, jax.Array]:
            return {
                name: jnp.zeros(field.shape, field.dtype)
                for name, field in fields.items()
            }

        def record(params: Any, state: Any) -> dict[str, Any]:
            with prepared.record() as parts:
                self._transformed.apply(
                    params,
                    state,
                    jax.random.PRNGKey(0),
                    layout.inputs_dataset(zeros(layout.window), zeros(layout.static)),
                    layout.template_dataset(),
                    layout.forcings_dataset(zeros(dict(layout.forcings))),
                )
            return dict(parts)

        return record

    def _window_structs(self, key: engine.ChunkKey) -> dict[str, Any]:
        return self.place.field_structs(
            key.layout.window, lambda name: True, key.members
        )

    def _out_shardings(self, key: engine.ChunkKey) -> Any:
        """Returns where a chunk leaves its results; None leaves it to the compiler.

        The window goes back in, so it has to stay where it was. Of several processes
        each gets the whole of the predictions: gathered later, by the thread that
        writes, collectives would meet in another order in every process.
        """
        if self.place.sharding is None:
            return None
        whole = self.place.sharding.replicated
        frames = key.steps * key.layout.frames_per_step
        targets = {n: field.with_frames(frames) for n, field in key.layout.targets}
        predictions = self.place.field_structs(targets, lambda name: True, key.members)
        window, predictions = jax.tree.map(
            lambda leaf: leaf.sharding, (self._window_structs(key), predictions)
        )
        return window, whole if self.place.spans_processes else predictions, whole


def use_cache(folder: PathLike) -> None:
    """Keeps executables in a folder, for this process and later ones.

    A setting of JAX for the whole process.
    """
    path = pathlib.Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
