"""Logarithmic axes with few labels that are read at once."""

from __future__ import annotations

import matplotlib.axis
import matplotlib.ticker
import numpy as np

__all__ = ["label_powers"]

# From this many times the least value on, powers of ten are enough.
_WIDE = 50


def label_powers(axis: matplotlib.axis.Axis, values: np.ndarray) -> None:
    """Labels a logarithmic axis: 1, 2, 5, 10, or powers of ten if it is long.

    Args:
      axis: Its scale has been set.
      values: What is drawn along it; any shape.
    """
    shown = np.asarray(values)
    shown = shown[shown > 0]
    wide = shown.size > 0 and shown.max() > _WIDE * shown.min()
    steps = (1.0,) if wide else (1.0, 2.0, 5.0)
    thousands = matplotlib.ticker.EngFormatter(sep="")
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=steps))
    axis.set_major_formatter(lambda x, _: thousands(x) if x >= 1000 else f"{x:g}")
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
