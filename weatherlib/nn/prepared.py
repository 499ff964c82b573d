"""A store for the parts of a network that depend only on weights and geometry.

A network wraps such a part as `once("my_part", compute)`. Without a store this simply
computes. A caller who runs the same weights many times records the parts in one jitted
pass and hands them to every later call as arguments:

    @jax.jit
    def prepare(params):
        with prepared.record() as parts:
            forward.apply(params, None, example)
        return parts

    @jax.jit
    def step(params, parts, x):
        with prepared.use(parts):
            return forward.apply(params, None, x)

Only the parts are returned by `prepare`, so the compiler drops the rest of the pass.
Parameter paths and the Haiku state are unaffected.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp

__all__ = ["once", "record", "use"]

_T = TypeVar("_T")


class _Recording(NamedTuple):
    parts: dict[str, Any]
    trace: object


_recording: contextvars.ContextVar[_Recording | None] = contextvars.ContextVar(
    "weatherlib_prepared_recording", default=None
)
_available: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar(
    "weatherlib_prepared_available", default=None
)


def once(key: str, compute: Callable[[], _T]) -> _T:
    """Returns the part stored under `key`, or computes (and records) it.

    Args:
      key: Names the part and all it depends on besides the weights, such as the module
        path, the digest of the graph and the dtype.
      compute: Builds the part, a pytree of arrays.

    Returns:
      What `compute` returns or once returned.

    Raises:
      ValueError: A store is in use that lacks `key`, because it was recorded for
        another model, grid or precision; or parts are being recorded and this call
        lies inside an inner transformation, from which nothing can be kept.
    """
    available = _available.get()
    if available is not None:
        if key not in available:
            raise ValueError(
                f"the prepared parts lack {key!r}; they were recorded for another "
                "model, grid or precision. Record them again for this one"
            )
        return available[key]
    recording = _recording.get()
    if recording is None:
        return compute()
    if _current_trace() is not recording.trace:
        raise ValueError(
            f"{key!r} cannot be recorded inside hk.remat, hk.scan or another "
            "transformation; record the one-step predictor, without "
            "autoregressive.Predictor or gradient checkpointing around it"
        )
    if key not in recording.parts:
        recording.parts[key] = compute()
    return recording.parts[key]


@contextlib.contextmanager
def record() -> Iterator[dict[str, Any]]:
    """Collects every part that `once` computes inside the context.

    Record a single step: inside `hk.remat`, `hk.scan` or another transformation the
    parts would belong to that inner trace and be lost with it, so `once` raises there.

    Yields:
      Key to part, complete when the context ends.
    """
    parts: dict[str, Any] = {}
    token = _recording.set(_Recording(parts, _current_trace()))
    hidden = _available.set(None)
    try:
        yield parts
    finally:
        _available.reset(hidden)
        _recording.reset(token)


@contextlib.contextmanager
def use(parts: Mapping[str, Any]) -> Iterator[None]:
    """Lets every `once` inside the context return its part from `parts`.

    Derivatives do not pass through stored parts to the weights they came from.

    Args:
      parts: What `record` collected for the same model, grid and precision.
    """
    token = _available.set(parts)
    try:
        yield
    finally:
        _available.reset(token)


def _current_trace() -> object:
    """Returns what tells one JAX trace from another, or None outside of all."""
    # JAX has no public name for this; a fresh array knows the trace that made it.
    return getattr(jnp.zeros(()), "_trace", None)
