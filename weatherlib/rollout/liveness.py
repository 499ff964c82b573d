"""Estimates the working memory of a traced program without compiling it."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

__all__ = ["count_equations", "peak_bytes"]

# Compilers merge most operations into the one that reads them, so that their results
# take no memory. These read, or make, whole arrays.
_READS_WHOLE = frozenset(
    {
        "cond",
        "conv_general_dilated",
        "cumsum",
        "custom_call",
        "dot_general",
        "fft",
        "gather",
        "pure_callback",
        "scan",
        "scatter",
        "scatter-add",
        "sort",
        "top_k",
        "while",
    }
)
_MAKES_WHOLE = _READS_WHOLE | {
    "argmax",
    "argmin",
    "concatenate",
    "dynamic_update_slice",
    "reduce_and",
    "reduce_max",
    "reduce_min",
    "reduce_or",
    "reduce_prod",
    "reduce_sum",
}
# Another look at the same memory.
_VIEWS = frozenset({"copy", "expand_dims", "reshape", "squeeze", "transpose"})
_LOOPS = frozenset({"cond", "scan", "while"})


def peak_bytes(program: Any, *, least_float_bytes: int = 1) -> int:
    """Returns about how much memory intermediate results take at most, in bytes.

    Walks through the program in its order, keeps each result until its last use, and
    counts nothing for results that are merged into what reads them. Arguments and final
    results are left out, as in a compiler's own account of temporary memory.

    Args:
      program: A jaxpr, closed or open.
      least_float_bytes: Size of the shortest floats the device computes with; a CPU
        widens 16-bit ones to 4 bytes.
    """
    return _peak(program, least_float_bytes, share_results=True)


def _peak(program: Any, least_float_bytes: int, *, share_results: bool) -> int:
    jaxpr = _open(program)
    flat = _Flat(least_float_bytes)
    names = flat.add_all(jaxpr, [flat.size(v) for v in _arguments(jaxpr)])
    results = {name for name in names if name is not None}
    return _Liveness(flat, results).peak(share_results=share_results)


def count_equations(program: Any) -> int:
    """Returns the number of operations of a program, those of inner ones included."""
    return sum(
        1 + sum(count_equations(inner) for inner in _inner(equation))
        for equation in _open(program).eqns
    )


class _Operation(NamedTuple):
    name: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    inside: int


@dataclasses.dataclass
class _Flat:
    """A program without inner calls: operations on numbered results.

    Attributes:
      least_float_bytes: As in `peak_bytes`.
      sizes: Bytes of each result.
      operations: In the order of the program.
    """

    least_float_bytes: int
    sizes: list[int] = dataclasses.field(default_factory=list)
    operations: list[_Operation] = dataclasses.field(default_factory=list)

    def size(self, variable: Any) -> int:
        """Notes the size of one more result; returns its number."""
        self.sizes.append(_nbytes(variable, self.least_float_bytes))
        return len(self.sizes) - 1

    def inside(self, body: Any) -> int:
        """Returns the peak inside the body of a loop or branch."""
        # What the body hands on takes the place of what it was given, which is still
        # being read while the result is made.
        return _peak(body, self.least_float_bytes, share_results=False)

    def add_all(self, jaxpr: Any, arguments: Iterable[int | None]) -> list[int | None]:
        """Adds a program; returns the numbers of its results, None for constants."""
        known = dict(zip(_arguments(jaxpr), arguments, strict=True))

        def number(variable: Any) -> int | None:
            # Literals are not hashable in every version of JAX.
            return None if hasattr(variable, "val") else known[variable]

        for equation in jaxpr.eqns:
            reads = [number(variable) for variable in equation.invars]
            inner = list(_inner(equation))
            if len(inner) == 1 and equation.primitive.name not in _LOOPS:
                body = _open(inner[0])
                given = [None] * len(getattr(body, "constvars", ())) + reads
                if len(given) == len(_arguments(body)):
                    results = self.add_all(body, given)
                    known.update(zip(equation.outvars, results))
                    continue
            writes = [self.size(variable) for variable in equation.outvars]
            known.update(zip(equation.outvars, writes))
            self.operations.append(
                _Operation(
                    equation.primitive.name,
                    tuple(read for read in reads if read is not None),
                    tuple(writes),
                    max((self.inside(body) for body in inner), default=0),
                )
            )
        return [number(variable) for variable in jaxpr.outvars]


class _Liveness:
    """Follows which whole arrays are in memory."""

    def __init__(self, flat: _Flat, results: set[int]) -> None:
        self._flat = flat
        readers: dict[int, set[str]] = {}
        for operation in flat.operations:
            for read in operation.reads:
                readers.setdefault(read, set()).add(operation.name)
        self._whole = {
            write
            for operation in flat.operations
            for write in operation.writes
            if write in results
            or operation.name in _MAKES_WHOLE
            or (
                operation.name not in _VIEWS
                and readers.get(write, set()) & _READS_WHOLE
            )
        }
        self._counted = self._whole - results
        # What has to be in memory to have each result.
        self._needs: dict[int, frozenset[int]] = {}
        self._last_use: dict[int, int] = {}

    def peak(self, *, share_results: bool) -> int:
        """Returns the largest sum of sizes."""
        operands = [self._execute(*entry) for entry in enumerate(self._flat.operations)]
        if share_results:
            self._share_results(operands)
        sizes = self._flat.sizes
        live = peak = 0
        for index, operation in enumerate(self._flat.operations):
            dying = [sizes[name] for name in self._dying(operands[index], index)]
            made = [sizes[name] for name in operation.writes if name in self._counted]
            freed = sum(dying)
            reused = 0
            if _works_in_place(operation):
                for size in made:
                    if size in dying:
                        dying.remove(size)
                        reused += size
            live += sum(made)
            peak = max(peak, live - reused + operation.inside)
            live -= freed
            unused = [w for w in operation.writes if w not in self._last_use]
            live -= sum(sizes[name] for name in unused if name in self._counted)
        return peak

    def _dying(self, operands: frozenset[int], index: int) -> list[int]:
        """Returns the operands that no later operation reads."""
        return [
            name
            for name in operands
            if name in self._counted and self._last_use[name] == index
        ]

    def _share_results(self, operands: list[frozenset[int]]) -> None:
        """Lets operands live in the memory of the final result made of them."""
        sizes = self._flat.sizes
        for index, operation in reversed(list(enumerate(self._flat.operations))):
            finals = [name for name in operation.writes if name not in self._counted]
            if not finals or not _works_in_place(operation):
                continue
            for name in self._dying(operands[index], index):
                same = [final for final in finals if sizes[final] == sizes[name]]
                if same:
                    finals.remove(same[0])
                    self._counted.discard(name)

    def _execute(self, index: int, operation: _Operation) -> frozenset[int]:
        """Notes one operation; returns the whole arrays it reads, if it really runs."""
        needs = frozenset().union(
            *(self._needs.get(read, frozenset({read})) for read in operation.reads)
        )
        runs = any(write in self._whole for write in operation.writes)
        for write in operation.writes:
            self._needs[write] = frozenset({write}) if runs else needs
        if not runs:
            return frozenset()
        for name in needs:
            self._last_use[name] = index
        return needs


def _works_in_place(operation: _Operation) -> bool:
    """Whether a result may take the place of an operand of its size."""
    return operation.name not in _READS_WHOLE or operation.name in _LOOPS


def _open(program: Any) -> Any:
    return getattr(program, "jaxpr", program)


def _arguments(jaxpr: Any) -> list[Any]:
    return [*getattr(jaxpr, "constvars", ()), *jaxpr.invars]


def _inner(equation: Any) -> Iterator[Any]:
    """Yields the programs inside an operation, such as the body of a loop."""
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(_open(part), "eqns"):
                yield part


def _nbytes(variable: Any, least_float_bytes: int) -> int:
    shape = getattr(variable.aval, "shape", ())
    dtype = getattr(variable.aval, "dtype", np.dtype(np.float32))
    # Typed random keys have no size of their own.
    size = getattr(dtype, "itemsize", 8)
    if jnp.issubdtype(dtype, jnp.floating):
        size = max(size, least_float_bytes)
    return math.prod(shape) * size
