"""What can be wrong with a dataset, as one record for each fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np

__all__ = ["Problem", "listed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing in a dataset that does not suit a model.

    Attributes:
      kind: What sort of thing, such as "units", "missing", "level" or "nan".
      variable: The variable or axis.
      found: What was found and what is expected, with numbers.
      fix: What to do about it.
      lossless: Whether `weatherlib.data.conform` does it, with nothing lost.
      severity: A "note" does not stop a model from working.
    """

    kind: str
    variable: str
    found: str
    fix: str
    lossless: bool = False
    severity: Literal["error", "note"] = "error"

    def __str__(self) -> str:
        """Returns one line for people."""
        by_conform = " (data.conform does this)" if self.lossless else ""
        return f"{self.variable}: {self.found}; {self.fix}{by_conform}"


def listed(values: Iterable[object], most: int = 12) -> str:
    """Returns values separated by commas, cut short where they are many."""
    texts = [f"{v:g}" if isinstance(v, float | np.floating) else str(v) for v in values]
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "")
