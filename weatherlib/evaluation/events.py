"""Scores of events such as rain above a threshold, on arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.ndimage

__all__ = ["Threshold", "contingency_scores", "fractions", "fss", "parse_threshold"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
    """What makes a value an event.

    A value threshold is an event at or above it. A quantile is that of the climatology
    at each point; those of 0.5 and more are events at or above, lower ones at or below.

    Attributes:
      value: In the unit of the variable; None for a quantile.
      quantile: Between 0 and 1; None for a value.
    """

    value: float | None = None
    quantile: float | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.quantile is None):
            raise ValueError("a threshold is either a value or a quantile")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ValueError(
                f"a quantile lies between 0 and 1, found {self.quantile:g}"
            )

    @property
    def label(self) -> str:
        """The threshold as it is written: "0.001", or "q0.99"."""
        return f"{self.value:g}" if self.quantile is None else f"q{self.quantile:g}"

    def events(self, field: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
        """Returns 1.0 where the field is an event, 0.0 where not, NaN where missing.

        Args:
          field: Any shape.
          limit: The value, or the field of the quantile.
        """
        low = self.quantile is not None and self.quantile < 0.5
        is_event = field <= limit if low else field >= limit
        missing = np.isnan(field) | np.isnan(limit)
        return np.where(missing, np.nan, is_event.astype(np.float64))


def parse_threshold(text: str | float) -> Threshold:
    """Returns the threshold written as a number or as "q0.99".

    Raises:
      ValueError: It is neither.
    """
    if isinstance(text, int | float):
        return Threshold(value=float(text))
    is_quantile = text.startswith("q")
    try:
        number = float(text.removeprefix("q"))
    except ValueError as error:
        raise ValueError(
            f"threshold {text!r}: write a value in the unit of the variable, such as "
            "0.001, or a quantile of the climatology, such as q0.99"
        ) from error
    return Threshold(quantile=number) if is_quantile else Threshold(value=number)


def contingency_scores(
    hits: np.ndarray, misses: np.ndarray, false_alarms: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the scores of a table of events, NaN where one is not defined.

    Args:
      hits: Forecast and observed; counts or weights, any shape.
      misses: Observed only.
      false_alarms: Forecast only.

    Returns:
      `csi` h / (h + m + f), `pod` h / (h + m), `sucr` h / (h + f), `far` f / (h + f)
      and `frequency_bias` (h + f) / (h + m).

    Source: Wilks, Statistical Methods in the Atmospheric Sciences, chapter 9; the names
    are those of the SEVIR nowcasting papers.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "csi": hits / (hits + misses + false_alarms),
            "pod": hits / (hits + misses),
            "sucr": hits / (hits + false_alarms),
            "far": false_alarms / (hits + false_alarms),
            "frequency_bias": (hits + false_alarms) / (hits + misses),
        }


def fractions(events: np.ndarray, size: int, *, periodic: bool) -> np.ndarray:
    """Returns the share of events in the square around each point.

    Args:
      events: 0 or 1, missing ones NaN and counted as 0. Shape [..., row, column].
      size: Points on a side of the square, odd or even.
      periodic: Whether the last column is beside the first; elsewhere what lies
        outside counts as no event.
    """
    filled = np.nan_to_num(np.asarray(events, np.float64))
    if size == 1:
        return filled
    if not periodic:
        across = scipy.ndimage.uniform_filter1d(filled, size, axis=-1, mode="constant")
    else:
        across = scipy.ndimage.uniform_filter1d(filled, size, axis=-1, mode="wrap")
    return scipy.ndimage.uniform_filter1d(across, size, axis=-2, mode="constant")


def fss(
    forecast: np.ndarray,
    truth: np.ndarray,
    size: int,
    weights: np.ndarray | float = 1.0,
    *,
    periodic: bool = False,
) -> float:
    """Returns the fractions skill score of fields of events.

    1 - sum (Pf - Po)^2 / (sum Pf^2 + sum Po^2) with P the share of events around each
    point; NaN where there is no event at all.

    Args:
      forecast: 0 or 1, shape [..., row, column].
      truth: As `forecast`.
      size: Points on a side of the neighbourhood.
      weights: Of a shape that broadcasts.
      periodic: As for `fractions`.

    Source: Roberts and Lean 2008, doi:10.1175/2007MWR2123.1.
    """
    missing = np.isnan(forecast) | np.isnan(truth)
    ours = fractions(np.where(missing, 0, forecast), size, periodic=periodic)
    theirs = fractions(np.where(missing, 0, truth), size, periodic=periodic)
    held = np.broadcast_to(weights, ours.shape) * ~missing
    reference = (held * (ours**2 + theirs**2)).sum()
    if not reference > 0:
        return float("nan")
    return float(1 - (held * (ours - theirs) ** 2).sum() / reference)
