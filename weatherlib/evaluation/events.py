"""Scores of events such as rain above a threshold, on arrays."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.ndimage

__all__ = [
    "Threshold",
    "contingency_scores",
    "fractions",
    "fss",
    "heidke_skill",
    "parse_threshold",
    "pool_highest",
    "sevir_bias",
]


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
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a threshold is a finite value, found {self.value}")
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


def heidke_skill(
    hits: np.ndarray,
    misses: np.ndarray,
    false_alarms: np.ndarray,
    correct_negatives: np.ndarray,
) -> np.ndarray:
    """Returns the share of right forecasts beyond those right by chance.

    2 (h c - m f) / ((h + m) (m + c) + (h + f) (f + c)): 1 is perfect, 0 is chance. NaN
    where it is not defined.

    Args:
      hits: As for `contingency_scores`, as those below.
      misses: Observed only.
      false_alarms: Forecast only.
      correct_negatives: Neither.

    Source: Heidke 1926; Wilks, chapter 9.
    """
    h, m, f, c = hits, misses, false_alarms, correct_negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * (h * c - m * f) / ((h + m) * (m + c) + (h + f) * (f + c))


def sevir_bias(
    hits: np.ndarray, misses: np.ndarray, false_alarms: np.ndarray, eps: float = 0.0
) -> np.ndarray:
    """Returns what the published scores of SEVIR nowcasts call BIAS.

    ((h + f) / (h + m + eps) / ln 2)^2, 2.08 for a forecast without bias. The usual
    frequency bias is in `contingency_scores`; the logarithm to base 2 that the name
    promises is not taken.

    Args:
      hits: As for `contingency_scores`, as those below.
      misses: Observed only.
      false_alarms: Forecast only.
      eps: Added to the divisor.

    Source: evaluation code of Earthformer and PreDiff, after the challenges of SEVIR.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((hits + false_alarms) / (hits + misses + eps) / np.log(2)) ** 2


def pool_highest(field: np.ndarray, size: int) -> np.ndarray:
    """Returns the largest value of each square, NaN where one in it is missing.

    A forecast that is right but for a few points is right after pooling. Rows and
    columns beyond the last whole square are left out.

    Args:
      field: Shape [..., row, column].
      size: Points on a side of a square.

    Returns:
      Shape [..., row // size, column // size].

    Raises:
      ValueError: The field is smaller than a square.
    """
    rows, columns = (n // size for n in field.shape[-2:])
    if size < 1 or not rows or not columns:
        raise ValueError(
            f"squares of {size} x {size} points do not fit into a field of "
            f"{field.shape[-2]} x {field.shape[-1]}"
        )
    if size == 1:
        return field
    cut = field[..., : rows * size, : columns * size]
    parts = cut.reshape(*field.shape[:-2], rows, size, columns, size)
    return parts.max(axis=(-3, -1))


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
