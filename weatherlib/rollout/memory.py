"""Tells before a forecast whether it fits into memory, and what to change if not."""

import dataclasses
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import jax

from weatherlib.rollout import engine, execution, liveness
from weatherlib.rollout.model import Model
from weatherlib.rollout.request import Request
from weatherlib.rollout.running import CHUNKS_IN_FLIGHT
from weatherlib.rollout.transfer import Device

__all__ = ["FitReport", "available_bytes", "report"]

# Share of the memory a forecast may take: allocators lose some to fragments.
_USABLE = 0.92

# Seconds to compile one operation of the traced program, seen on two cores of 2023 for
# GraphCast from 10 to 1 degree. Only the order of magnitude carries over.
_SECONDS_PER_EQUATION = 0.004

# On a CPU, XLA runs independent operations side by side, which keeps more of them in
# memory than one after another would: 0.9 to 2 times, seen for GraphCast from 10 to 4
# degrees in float32 and bfloat16.
_CPU_SCHEDULE = 1.4

_GIB = 2.0**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitReport:
    """Whether a forecast fits, with the numbers behind it.

    Attributes:
      fits: Whether what is needed is there; None where the memory is not known.
      needed_bytes: Sum of `parts`.
      available_bytes: Memory of the device, None if it does not tell.
      parts: Bytes by purpose.
      compile_seconds: Time to compile: measured if `exact`, else an order of magnitude.
      exact: Whether numbers are the compiler's, or estimated from the traced program.
      advice: What to change, most helpful first; empty if it fits.
    """

    fits: bool | None
    needed_bytes: int
    available_bytes: int | None
    parts: Mapping[str, int]
    compile_seconds: float
    exact: bool
    advice: tuple[str, ...] = ()

    def __str__(self) -> str:
        verdict = {True: "fits", False: "does not fit", None: "memory unknown"}
        has = "?" if self.available_bytes is None else _size(self.available_bytes)
        lines = [
            f"{verdict[self.fits]}: needs {_size(self.needed_bytes)}, device has {has}",
            *(f"  {name:<28}{_size(size):>10}" for name, size in self.parts.items()),
            f"  compilation {'took' if self.exact else 'takes about'} "
            f"{self.compile_seconds:.0f} s; memory "
            f"{'by the compiler' if self.exact else 'estimated from the program'}",
            *(f"  try: {advice}" for advice in self.advice),
        ]
        return "\n".join(lines)


def report(
    model: Model,
    key: engine.ChunkKey,
    request: Request,
    *,
    compiled: bool,
    available: int | None,
) -> FitReport:
    """Returns the report on one forecast.

    Parameters, state, forcings and results are counted from their shapes. The working
    memory is the compiler's own figure for temporary buffers if `compiled`, or if the
    forecast has been compiled before; else it is estimated from the traced program.

    Args:
      model: Parameters and executables.
      key: The executable in question.
      request: The forecast.
      compiled: Whether to compile now.
      available: Memory of the device; None asks it.
    """
    began = time.perf_counter()
    # What a program over several devices takes on each, only the compiler knows.
    compiled = compiled or model.place.sharding is not None
    chunk = model.chunk(key) if compiled else model.compiled(key)
    memory = chunk.memory if chunk is not None else None
    if chunk is not None:
        seconds = chunk.compile_seconds
    else:
        traced = model.traced(key)
        equations = liveness.count_equations(traced.jaxpr)
        seconds = time.perf_counter() - began + equations * _SECONDS_PER_EQUATION
    if memory is not None:
        working = int(memory.temp_size_in_bytes)
    else:
        working = _estimate(model, key)
    parts = _parts(model, key, request) | {"working memory": working}
    needed = sum(parts.values())
    available = available_bytes(model.place.device) if available is None else available
    fits = None if available is None else needed <= available * _USABLE
    return FitReport(
        fits=fits,
        needed_bytes=needed,
        available_bytes=available,
        parts=parts,
        compile_seconds=seconds,
        exact=memory is not None,
        advice=() if fits is not False else _advice(key, request, parts),
    )


def available_bytes(device: Device) -> int | None:
    """Returns the memory of a device, or of the machine for a CPU; None if unknown."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if device.platform != "cpu":
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _estimate(model: Model, key: engine.ChunkKey) -> int:
    """Returns the working memory estimated from the traced program."""
    program = model.traced(key).jaxpr
    if model.place.device.platform != "cpu":
        return liveness.peak_bytes(program)
    peak = liveness.peak_bytes(program, least_float_bytes=4)
    return round(peak * _CPU_SCHEDULE)


def _parts(model: Model, key: engine.ChunkKey, request: Request) -> dict[str, int]:
    """Returns the bytes of everything that outlives one call of the executable."""
    window, given = model.chunk_arguments(key)
    params, prepared_parts = given.params
    batches = execution.batch_count(request.members, key.members)
    results = engine.output_structs(key)
    per_batch = key.members or 1
    return {
        "parameters": _nbytes((params, given.state)),
        "prepared parts": _nbytes(prepared_parts),
        "state and static inputs": (_nbytes(window) + _nbytes(given.static)) * batches,
        "forcings of two chunks": 2 * _nbytes(given.forcings),
        f"results of {CHUNKS_IN_FLIGHT} chunks": (
            CHUNKS_IN_FLIGHT * _nbytes(results) * batches * per_batch
        ),
    }


def _advice(
    key: engine.ChunkKey, request: Request, parts: Mapping[str, int]
) -> tuple[str, ...]:
    """Returns settings that need less memory, by how much they can save."""
    options: list[tuple[float, str]] = []
    results = next(size for name, size in parts.items() if name.startswith("results"))
    if key.steps > 1:
        saved = results * (1 - 1 / key.steps)
        options.append((saved, f"num_steps_per_chunk=1 (saves {_size(saved)})"))
    if (key.members or 1) > 1:
        saved = parts["working memory"] * (1 - 1 / (key.members or 1))
        options.append((saved, f"members_per_batch=1 (saves about {_size(saved)})"))
    if request.members is not None and request.members > 1:
        shared = parts["state and static inputs"] + results
        saved = shared * (1 - 1 / request.members)
        text = f"fewer members in one run (one member saves {_size(saved)})"
        options.append((saved, text))
    if parts["prepared parts"]:
        saved = parts["prepared parts"]
        text = f"prepare=False (saves up to {_size(saved)}, but is slower)"
        options.append((saved, text))
    saved = (parts["working memory"] + parts["prepared parts"]) / 2
    text = "the model in bfloat16"
    options.append((saved, f"{text} if it is in float32 (saves about {_size(saved)})"))
    text = "smaller edge blocks in the model's memory settings"
    options.append((parts["working memory"] / 2 - 1, f"{text}, if it has them"))
    return tuple(text for _, text in sorted(options, reverse=True))


def _nbytes(tree: Any) -> int:
    return sum(
        _elements(leaf) * getattr(leaf.dtype, "itemsize", 8)
        for leaf in jax.tree.leaves(tree)
    )


def _elements(leaf: Any) -> int:
    """Returns the numbers of an array that one device holds."""
    sharding = getattr(leaf, "sharding", None)
    shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
    return math.prod(shape)


def _size(size: float) -> str:
    if size >= _GIB / 10:
        return f"{size / _GIB:.2f} GiB"
    return (
        f"{size / 2**20:.1f} MiB" if size >= 2**20 / 10 else f"{size / 2**10:.1f} KiB"
    )
