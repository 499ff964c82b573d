"""The compiled part of a forecast: several steps in one call of the device."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weatherlib import host_memory
from weatherlib.rollout import guard
from weatherlib.rollout.layout import Layout

__all__ = [
    "Chunk",
    "ChunkKey",
    "Given",
    "Outcome",
    "are_keys",
    "bound_structs",
    "build_chunk",
    "compile_chunk",
    "matmul_precision",
    "output_structs",
    "reading_structs",
    "trace_chunk",
]

Apply = Callable[..., Any]
"""`apply(params, state, rng, inputs, targets_template, forcings) -> Dataset`."""

Outcome = tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, guard.Readings]]
"""Next window, predictions and guard readings of one chunk."""


@dataclasses.dataclass(frozen=True)
class ChunkKey:
    """What an executable depends on besides the model.

    Attributes:
      layout: The static side of one step.
      steps: Most steps of one call.
      members: Members of one call, None without members.
      sampled: Static inputs and forcings that differ between members.
      rng: Abstract random key: the old kind (uint32) or a typed one; one for each
        member, with another axis, where members are forecasts of their own.
    """

    layout: Layout
    steps: int
    members: int | None
    sampled: frozenset[str]
    rng: jax.ShapeDtypeStruct

    @property
    def own_keys(self) -> bool:
        """Whether each member has a random key of its own."""
        return are_keys(self.rng)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A compiled chunk.

    Attributes:
      call: Takes the window, which may be donated, and `Given`.
      compile_seconds: Time to lower and compile it.
      memory: What the compiler says of memory, None where the backend says nothing.
    """

    call: Callable[..., Outcome]
    compile_seconds: float
    memory: Any


class Given(NamedTuple):
    """Arguments of a chunk besides the window, none of which is overwritten.

    Attributes:
      params: Parameters and prepared parts.
      state: Haiku state.
      static: Inputs that do not change with time.
      forcings: Forcings of all frames of the chunk.
      bounds: Lowest and highest plausible value of each target.
      rng: Random key of the forecast.
      members: Numbers of the members, None without members.
      first: Number of steps made before.
      count: Steps to make now.
    """

    params: Any
    state: Any
    static: Any
    forcings: Any
    bounds: Any
    rng: Any
    members: Any
    first: Any
    count: Any


def build_chunk(apply: Apply, key: ChunkKey) -> Callable[[Any, Given], Outcome]:
    """Returns the function of window and `Given` that makes up to `key.steps` steps.

    The number of steps is an argument, so a short last chunk, or one that continues an
    interrupted forecast, uses the same executable. Step k draws from
    `fold_in(rng, k)`, or `fold_in(fold_in(rng, member), k)`, whatever the chunks; of
    members with keys of their own, from `fold_in(rng[member], k)`.
    """

    def one_member(window: Any, given: Given) -> Outcome:
        rng = given.rng
        if given.members is not None and not key.own_keys:
            rng = jax.random.fold_in(rng, given.members)

        def step(index: Any, window: Any) -> Outcome:
            step_rng = jax.random.fold_in(rng, given.first + index)
            return _one_step(apply, key, window, given, index, step_rng)

        return _several_steps(step, key, window, given.count)

    if key.members is None:
        return one_member
    layout = key.layout
    axes = Given(*[None] * len(Given._fields))._replace(
        static=_member_axes(layout.static, key.sampled),
        forcings=_member_axes(dict(layout.forcings), key.sampled),
        members=0,
        rng=0 if key.own_keys else None,
    )
    return jax.vmap(one_member, in_axes=(0, axes))


def are_keys(rng: Any) -> bool:
    """Returns whether this is an array of random keys, not a single one."""
    is_typed = jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
    return len(rng.shape) > (0 if is_typed else 1)


def trace_chunk(
    function: Callable[[Any, Given], Outcome],
    window: Any,
    given: Given,
    *,
    donate: bool,
    precision: str | None,
    out_shardings: Any = None,
) -> Any:
    """Returns what JAX traced of `build_chunk`'s result for abstract arguments."""
    jitted = jax.jit(
        function,
        donate_argnums=(0,) if donate else (),
        out_shardings=out_shardings,
    )
    with matmul_precision(precision):
        return jitted.trace(window, given)


def compile_chunk(traced: Any, precision: str | None) -> Chunk:
    """Returns the executable of what `trace_chunk` returned."""
    began = time.perf_counter()
    with matmul_precision(precision):
        compiled = traced.lower().compile()
    host_memory.release_unused()
    return Chunk(
        call=compiled,
        compile_seconds=time.perf_counter() - began,
        memory=compiled.memory_analysis(),
    )


def matmul_precision(
    precision: str | None,
) -> contextlib.AbstractContextManager[Any]:
    """Returns the context in which a model is traced; None changes nothing."""
    if precision is None:
        return contextlib.nullcontext()
    return jax.default_matmul_precision(precision)


def bound_structs(key: ChunkKey) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the abstract bounds of the guard."""
    return {
        name: jax.ShapeDtypeStruct((2,), jnp.float32) for name, _ in key.layout.targets
    }


def output_structs(key: ChunkKey) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the abstract predictions of one chunk of one member."""
    frames = key.steps * key.layout.frames_per_step
    return {
        name: field.with_frames(frames).struct() for name, field in key.layout.targets
    }


def reading_structs(key: ChunkKey) -> dict[str, guard.Readings]:
    """Returns the abstract readings of one chunk of one member."""
    return {
        name: guard.reading_structs(field, key.steps)
        for name, field in key.layout.targets
    }


def _one_step(
    apply: Apply, key: ChunkKey, window: Any, given: Given, index: Any, rng: jax.Array
) -> Outcome:
    layout = key.layout
    forced = _frames(given.forcings, index, layout)
    predictions = apply(
        given.params,
        given.state,
        rng,
        layout.inputs_dataset(window, given.static),
        layout.template_dataset(),
        layout.forcings_dataset(forced),
    )
    predicted = layout.prediction_arrays(predictions)
    # Taken whether there is a guard or not: a forecast with one and a forecast without
    # share an executable, and the cost is a few passes over the results.
    readings = guard.measure(predicted, window, given.bounds, layout)
    return layout.next_window(window, predicted, forced), predicted, readings


def _several_steps(
    step: Callable[[Any, Any], Outcome], key: ChunkKey, window: Any, count: jax.Array
) -> Outcome:
    """Returns the outcome of `count` steps in buffers made for `key.steps`."""
    frames = key.layout.frames_per_step
    dims = {name: field.dims for name, field in key.layout.targets}
    # A loop of one step would only hide it from the compiler.
    if key.steps == 1:
        window, predicted, readings = step(0, window)
        return window, predicted, jax.tree.map(lambda leaf: leaf[None], readings)
    outputs = {
        name: jnp.zeros(struct.shape, struct.dtype)
        for name, struct in output_structs(key).items()
    }
    readings = jax.tree.map(
        lambda struct: jnp.zeros(struct.shape, struct.dtype), reading_structs(key)
    )

    def body(index: Any, carry: Outcome) -> Outcome:
        window, outputs, readings = carry
        window, predicted, read = step(index, window)
        outputs = {
            name: jax.lax.dynamic_update_slice_in_dim(
                outputs[name], array, index * frames, dims[name].index("time")
            )
            for name, array in predicted.items()
        }
        readings = jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_index_in_dim(
                whole, part, index, 0
            ),
            readings,
            read,
        )
        return window, outputs, readings

    return jax.lax.fori_loop(0, count, body, (window, outputs, readings))


def _frames(forcings: Mapping[str, Any], index: Any, layout: Layout) -> dict[str, Any]:
    """Returns the forcings of step `index` of a chunk."""
    fields = dict(layout.forcings)
    frames = layout.frames_per_step
    return {
        name: jax.lax.dynamic_slice_in_dim(
            array, index * frames, frames, fields[name].dims.index("time")
        )
        for name, array in forcings.items()
    }


def _member_axes(fields: Mapping[str, Any], sampled: frozenset[str]) -> dict[str, Any]:
    return {name: 0 if name in sampled else None for name in fields}
