"""Settings of lead times that are predicted in one step. No JAX and no xarray here."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np

from weatherlib import config

__all__ = ["Lead", "LeadRange", "as_hours", "check_lead", "lead_steps"]

_HOUR = np.timedelta64(1, "h")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeadRange(config.Mapping):
    """All lead times between two, at the step of the data.

    ClimaX was trained from 6 to 162 hours.

    Attributes:
      shortest: Such as "6h".
      longest: Such as "162h", which belongs to the range.
    """

    shortest: str = "6h"
    longest: str = "162h"

    def __post_init__(self) -> None:
        if not as_hours(self.shortest) <= as_hours(self.longest):
            raise ValueError(
                f"shortest {self.shortest} is more than longest {self.longest}"
            )


Lead: TypeAlias = LeadRange | str | tuple[str, ...]
"""One lead time such as "72h", several, or a range."""


def as_hours(text: str) -> float:
    """Returns a length of time such as "72h" or "3d" in hours.

    Raises:
      ValueError: It is none, or not positive.
    """
    from weatherlib.data_utils import times

    try:
        hours = times.as_timedelta(text).total_seconds() / 3600
    except ValueError:
        hours = float("nan")
    if not hours > 0:
        raise ValueError(f"expected a length of time such as '72h', found {text!r}")
    return hours


def check_lead(lead: Lead | None) -> None:
    """Raises a ValueError where lead times cannot be read, or repeat each other."""
    if lead is None or isinstance(lead, LeadRange):
        return
    try:
        hours = [as_hours(text) for text in _listed(lead)]
    except ValueError as error:
        raise ValueError(f"lead: {error}") from error
    if not hours or len(set(hours)) < len(hours):
        raise ValueError(f"lead is empty or repeats a lead time: {lead!r}")


def lead_steps(lead: Lead, step: Any, *, label: str) -> tuple[int, ...]:
    """Returns lead times as numbers of steps of the data.

    Args:
      lead: One, several, or a range, of which whole numbers of steps are taken.
      step: Of the data, timedelta64.
      label: Names setting and data in messages.

    Raises:
      ValueError: A lead time is no whole number of steps, or none is in the range.
    """
    length = float(step / _HOUR)
    if isinstance(lead, LeadRange):
        shortest, longest = as_hours(lead.shortest), as_hours(lead.longest)
        first = int(np.ceil(shortest / length - 1e-9))
        found = range(max(first, 1), int(longest / length + 1e-9) + 1)
        if not found:
            raise ValueError(
                f"{label}: no multiple of the step of {length:g} h lies between "
                f"{lead.shortest} and {lead.longest}"
            )
        return tuple(found)
    steps = [as_hours(text) / length for text in _listed(lead)]
    uneven = [text for text, n in zip(_listed(lead), steps) if abs(n - round(n)) > 1e-6]
    if uneven:
        raise ValueError(
            f"{label}: {', '.join(uneven)} is no multiple of the step of the data, "
            f"{length:g} h"
        )
    return tuple(round(n) for n in steps)


def _listed(lead: str | tuple[str, ...]) -> tuple[str, ...]:
    return (lead,) if isinstance(lead, str) else lead
