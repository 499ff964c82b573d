"""Runs a compiled chunk again and again, keeping the device and the host busy."""

import dataclasses
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray

from weatherlib.rollout import transfer
from weatherlib.rollout.engine import Chunk, ChunkKey, Given
from weatherlib.rollout.guard import Guard, Violation
from weatherlib.rollout.placement import Placement
from weatherlib.rollout.request import Request

__all__ = ["Execution", "Flight", "batch_count"]


class Flight(NamedTuple):
    """A chunk on its way: dispatched, perhaps not yet computed.

    Attributes:
      first_step: Steps made before it.
      steps: Steps it makes.
      outcomes: Predictions and readings of each batch of members.
    """

    first_step: int
    steps: int
    outcomes: list[tuple[dict[str, jax.Array], dict[str, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution:
    """One forecast with everything on the device that it needs.

    Attributes:
      request: What is to be made.
      key: What `chunk` was compiled for.
      chunk: The executable.
      model: Parameters (with prepared parts) and state, on the device.
      rng: Random key of the forecast, on the device; or those of its members, of which
        each batch puts its own there.
      place: Where all of it is.
      guard: Watches the results, or None.
    """

    request: Request
    key: ChunkKey
    chunk: Chunk
    model: tuple[Any, Any]
    rng: jax.Array
    place: Placement
    guard: Guard | None

    def dispatch(
        self, window: Mapping[str, np.ndarray], first_step: int
    ) -> Generator[Flight, None, None]:
        """Yields the chunks from `first_step` on as soon as they are dispatched.

        While a chunk computes, the forcings of the next one are read and put on the
        device.

        Args:
          window: Input frames, as in `Request.window`.
          first_step: Steps made before.

        Raises:
          ValueError: Forcings of a later chunk are missing or do not fit.
        """
        request, key = self.request, self.key
        batches = batch_count(request.members, key.members)
        windows = [self._put_window(window, batch) for batch in range(batches)]
        static = self._put_static(batches)
        common = Given(*[None] * len(Given._fields))._replace(
            params=self.model[0],
            state=self.model[1],
            bounds=self._put_bounds(),
        )
        members = [self._member_numbers(batch) for batch in range(batches)]
        keys = [self._keys(batch) for batch in range(batches)]
        forcings = self._put_forcings(first_step, batches)
        for step in range(first_step, request.steps, key.steps):
            steps = min(key.steps, request.steps - step)
            outcomes = []
            for batch in range(batches):
                windows[batch], predictions, readings = self.chunk.call(
                    windows[batch],
                    common._replace(
                        static=static[batch],
                        forcings=forcings[batch],
                        members=members[batch],
                        rng=keys[batch],
                        first=self.place.put(np.int32(step)),
                        count=self.place.put(np.int32(steps)),
                    ),
                )
                transfer.start_copies((predictions, readings))
                outcomes.append((predictions, readings))
                del predictions, readings
            flight = Flight(step, steps, outcomes)
            del outcomes
            failure = None
            if step + steps < request.steps:
                try:
                    forcings = self._put_forcings(step + steps, batches)
                except Exception as error:
                    # The chunk under way is good: hand it on before failing.
                    failure = error
            yield flight
            del flight
            if failure is not None:
                raise failure

    def collect(self, flight: Flight) -> tuple[xarray.Dataset, list[Violation]]:
        """Waits for a chunk; returns it on the host, and what the guard found."""
        request = self.request
        violations = []
        parts = []
        for batch, outcome in enumerate(flight.outcomes):
            predictions, readings = jax.device_get(outcome)
            parts.append(predictions)
            violations += self._inspect(readings, flight, batch)
        flight.outcomes.clear()
        frames = flight.steps * request.layout.frames_per_step
        arrays = {}
        for name, field in request.layout.targets:
            whole = parts[0][name]
            if len(parts) > 1:
                whole = np.concatenate([part.pop(name) for part in parts])
            leading = 0
            if request.members is not None:
                whole, leading = whole[: request.members], 1
            axis = leading + field.dims.index("time")
            arrays[name] = whole[(slice(None),) * axis + (slice(frames),)]
        start = flight.first_step * request.layout.frames_per_step
        return request.label(arrays, start), violations

    def _inspect(
        self, readings: Mapping[str, Any], flight: Flight, batch: int
    ) -> list[Violation]:
        if self.guard is None:
            return []
        first = None
        size = self.key.members or 1
        if self.request.members is not None:
            first = batch * size
            size = min(size, self.request.members - first)
        found = self.guard.inspect(
            readings,
            self.request.layout,
            first_step=flight.first_step,
            steps=flight.steps,
            last_step=self.request.steps,
            first_member=None if first is None else first + self.request.first_member,
            members=size,
        )
        if not self.key.own_keys:
            return found
        return [self._of_start(violation) for violation in found]

    def _of_start(self, violation: Violation) -> Violation:
        """Returns a violation that names the start that a member stands for."""
        origin, member = self.request.origin, violation.member
        if origin is None or "sample" not in origin.dims or member is None:
            return violation
        start = origin.isel(sample=member).values.ravel()[0]
        return dataclasses.replace(violation, member=None, start=start)

    def _member_indices(self, batch: int) -> np.ndarray:
        """Returns which members a batch holds; the last one repeats to fill it."""
        size, members = self.key.members or 1, self.request.members or 1
        return np.minimum(np.arange(batch * size, (batch + 1) * size), members - 1)

    def _member_numbers(self, batch: int) -> jax.Array | None:
        if self.key.members is None:
            return None
        numbers = self.request.first_member + self._member_indices(batch)
        return self.place.put(numbers.astype(np.int32))

    def _keys(self, batch: int) -> jax.Array:
        """Returns the random key of a batch, or those of its members."""
        if not self.key.own_keys:
            return self.rng
        return self.place.put(self.rng[self._member_indices(batch)])

    def _put_window(self, window: Mapping[str, np.ndarray], batch: int) -> Any:
        if self.key.members is None:
            return self._own(dict(window))
        chosen = self._member_indices(batch)
        return self._own({name: array[chosen] for name, array in window.items()})

    def _own(self, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Returns arrays that may be donated: none shares memory with the user's."""
        copies = {name: np.array(array) for name, array in arrays.items()}
        sampled = () if self.key.members is None else copies
        return self.place.put_fields(copies, self.request.layout.window, sampled)

    def _put_static(self, batches: int) -> list[dict[str, jax.Array]]:
        return self._spread(self.request.static, batches)

    def _put_forcings(self, step: int, batches: int) -> list[dict[str, jax.Array]]:
        frames = self.request.layout.frames_per_step
        start = step * frames
        stop = min(start + self.key.steps * frames, self.request.frames)
        arrays = self.request.read_forcings(start, stop)
        missing = self.key.steps * frames - (stop - start)
        if missing:
            arrays = {
                name: self._lengthen(name, array, missing)
                for name, array in arrays.items()
            }
        return self._spread(arrays, batches)

    def _lengthen(self, name: str, array: np.ndarray, missing: int) -> np.ndarray:
        """Returns the array with its last frame repeated, to fill a short chunk."""
        field = dict(self.request.layout.forcings)[name]
        axis = field.dims.index("time") + (name in self.request.sampled)
        pads = [(0, missing if dim == axis else 0) for dim in range(array.ndim)]
        return np.pad(array, pads, mode="edge")

    def _spread(
        self, arrays: Mapping[str, np.ndarray], batches: int
    ) -> list[dict[str, jax.Array]]:
        """Returns the arrays of each batch of members; those in common are shared."""
        sampled = self.request.sampled
        common = {name: array for name, array in arrays.items() if name not in sampled}
        fields = {**self.request.layout.static, **dict(self.request.layout.forcings)}
        shared = self.place.put_fields(common, fields, ())
        own = [
            {
                name: array[self._member_indices(batch)]
                for name, array in arrays.items()
                if name in sampled
            }
            for batch in range(batches)
        ]
        return [
            {**shared, **self.place.put_fields(part, fields, sampled)} for part in own
        ]

    def _put_bounds(self) -> dict[str, jax.Array]:
        watching = self.guard or Guard()
        bounds = {
            name: np.array(watching.bounds_of(name), np.float32)
            for name, _ in self.request.layout.targets
        }
        return self.place.put(bounds)


def batch_count(members: int | None, per_batch: int | None) -> int:
    """Returns in how many batches the members are computed."""
    if members is None or per_batch is None:
        return 1
    return -(-members // per_batch)
