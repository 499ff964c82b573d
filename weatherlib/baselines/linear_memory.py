"""How a linear fit goes about it, so that it fits into memory."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from weatherlib.baselines import linear_sums
from weatherlib.baselines.linear_config import FitConfig
from weatherlib.baselines.linear_layout import Shape

__all__ = ["Load", "Plan", "available", "choose"]

_DOUBLE = 8
# Weights that are kept as one matrix, however few samples there are.
_SMALL = 2**24
# Of free memory, what a fit may take.
_SHARE = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """What a fit has to do.

    Attributes:
      shape: Features and outputs.
      samples: How many.
      kept: Bytes of each number of a sample as it is kept.
      stored: Bytes of each weight.
      choosing: Whether penalties are chosen on samples kept apart.
    """

    shape: Shape
    samples: int
    kept: int = 4
    stored: int = 4
    choosing: bool = False

    def bytes(self, form: str, storage: str) -> int:
        """Returns the largest memory in use at a time, about.

        Args:
          form: "primal" or "dual".
          storage: "matrix" or "factors".
        """
        n, p, q = self.samples, self.shape.features, self.shape.outputs
        rows = p if form == "primal" else n
        # The matrix and its factor or its eigenvectors; then right side and solution.
        total = _DOUBLE * (2 * rows * rows + 3 * rows * q)
        if form == "primal":
            # What is summed goes on while a choice is made from a copy of it.
            total += _DOUBLE * (p * p + p * q) * self.choosing
        else:
            total += self.kept * n * (p + q)
        total += self.stored * self.weights(storage)
        return total + 4 * _DOUBLE * linear_sums.NUMBERS

    def weights(self, storage: str) -> int:
        """Returns how many weights the result has."""
        n, p, q = self.samples, self.shape.features, self.shape.outputs
        return p * q if storage == "matrix" else n * (p + q)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How a fit is done.

    Attributes:
      form: "primal" or "dual".
      storage: "matrix" or "factors".
      bytes: Memory that it takes, about.
      load: What there is to do.
    """

    form: str
    storage: str
    bytes: int
    load: Load

    @property
    def weights(self) -> int:
        """How many weights the result has."""
        return self.load.weights(self.storage)


def choose(load: Load, settings: FitConfig) -> Plan:
    """Returns the form and storage to use.

    Args:
      load: What there is to do.
      settings: What the user has set, and the memory.

    Raises:
      ValueError: Settings contradict each other, or nothing fits into memory; the
        message says what would.
    """
    if settings.form == "primal" and settings.storage == "factors":
        raise ValueError(
            "fit.storage factors needs one row for each sample, which the primal form "
            "does not keep; set fit.form to dual or auto, or fit.storage to matrix"
        )
    storage = settings.storage
    if storage == "auto":
        large = load.weights("matrix") > _SMALL
        fewer = 2 * load.weights("factors") < load.weights("matrix")
        few_samples = large and fewer and settings.form != "primal"
        storage = "factors" if few_samples else "matrix"
    if settings.form != "auto":
        forms = [settings.form]
    elif storage == "factors":
        forms = ["dual"]
    elif load.shape.features > load.samples:
        forms = ["dual", "primal"]
    else:
        forms = ["primal", "dual"]
    limit = available() if settings.memory is None else settings.memory * 2**30
    plans = [
        Plan(form=form, storage=storage, bytes=load.bytes(form, storage), load=load)
        for form in forms
    ]
    for plan in plans:
        if plan.bytes <= limit:
            return plan
    needs = " and ".join(
        f"{plan.bytes / 2**30:.1f} GiB in the {plan.form} form" for plan in plans
    )
    raise ValueError(
        f"the linear fit of {load.samples} samples with {load.shape.features} features "
        f"and {load.shape.outputs} outputs needs {needs}, and {limit / 2**30:.1f} GiB "
        "may be used; take fewer variables or levels, a coarser grid, a smaller "
        "input_length, a shorter training period where the dual form is used, or set "
        "fit.memory (GiB) where there is more"
    )


def available() -> float:
    """Returns the bytes that a fit may use: most of what is free now.

    Infinity where the system does not tell.
    """
    found = [_free(), _limit_of_group()]
    known = [value for value in found if value is not None]
    return _SHARE * min(known) if known else float("inf")


def _free() -> float | None:
    path = pathlib.Path("/proc/meminfo")
    if path.exists():
        for line in path.read_text(encoding="utf8").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return None


def _limit_of_group() -> float | None:
    """Returns what a container leaves, on Linux."""
    folder = pathlib.Path("/sys/fs/cgroup")
    try:
        most = (folder / "memory.max").read_text(encoding="utf8").strip()
        used = (folder / "memory.current").read_text(encoding="utf8").strip()
    except OSError:
        return None
    return None if most == "max" else max(0.0, float(most) - float(used))
