"""Start dates of forecasts: what a user writes, and the dates that are meant.

One date, the first or latest that a source has, or an evenly spaced set:

    2026-01-15T00                        one start; the time of day may have minutes
    latest, latest-24h, first+2d         counted from the ends of the source
    2026-01-15T00:2026-01-20T00:12h      from, up to and including, step
    2026-01-15/2026-01-20/1d             the same with ISO 8601's solidus
    2026-01-15T00,2026-02-15T00          a list

A colon inside a time of day has two digits before and after it and a colon between two
dates is followed by a year of four digits or a word, so the two cannot be confused.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd

from weatherlib.data_utils import times

__all__ = ["StartRule", "nearest", "parse_starts"]

_DATE = r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}(?::\d{2}(?::\d{2})?)?)?Z?"
_LENGTH = r"\d+(?:\.\d+)?\s*(?:d|days?|h|hours?|min|minutes?)"
_RELATIVE = rf"(?:latest|first)(?:[+-]{_LENGTH})?"
_MOMENT = rf"{_DATE}|{_RELATIVE}"
_RANGE = re.compile(
    rf"({_MOMENT})[:/]({_MOMENT})[:/]({_LENGTH})", re.ASCII | re.IGNORECASE
)
# A length without its unit, at the end of a range or beside a word.
_NO_UNIT = re.compile(
    rf"(?:(?:{_MOMENT})[:/](?:{_MOMENT})[:/]|(?:latest|first)[+-])"
    r"(\d+(?:\.\d+)?)(?=$|[:/,])",
    re.ASCII | re.IGNORECASE,
)
_ONE = re.compile(_MOMENT, re.ASCII | re.IGNORECASE)
_UNITS = {"d": "D", "h": "h", "m": "min"}
_FORMS = (
    "expected a date such as 2026-01-15T00, latest, first, latest-24h, a list with "
    "commas, or START:END:STEP such as 2026-01-15T00:2026-01-20T00:12h"
)
_MOST = 200_000
_FIRST, _END = np.datetime64("1678-01-01", "s"), np.datetime64("2262-01-01", "s")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartRule:
    """The starts that a user means, before a source is known.

    Attributes:
      text: As the user wrote it.
      moments: Dates and relative words: one, several, or both ends of a range.
      step: Time between the starts of a range; None for single dates.
    """

    text: str
    moments: tuple[str, ...]
    step: pd.Timedelta | None = None

    @property
    def is_set(self) -> bool:
        """Whether a set of starts was asked for, even if it should hold one only."""
        return self.step is not None or len(self.moments) > 1

    def resolve(self, available: pd.DatetimeIndex, why_none: str = "") -> np.ndarray:
        """Returns the starts in ascending order, none of them checked.

        Args:
          available: Times at which a forecast can start, ascending. Relative words
            count from its ends.
          why_none: Why there is no such time, for the message.

        Returns:
          datetime64[ns], shape [start].

        Raises:
          ValueError: A relative word meets a source without any start, or a range ends
            before it begins or holds absurdly many starts.
        """
        if not len(available) and any(not m[0].isdigit() for m in self.moments):
            raise ValueError(
                f"--init {self.text}: the source holds no time at which a forecast can "
                "start" + (f"; {why_none}" if why_none else "")
            )
        dates = [_resolve(moment, available, self.text) for moment in self.moments]
        if self.step is None:
            return np.unique(np.array(dates, "datetime64[ns]"))
        first, last = dates
        if last < first:
            raise ValueError(
                f"--init {self.text}: ends at {_stamp(last)}, before its beginning at "
                f"{_stamp(first)}"
            )
        step = self.step.to_timedelta64().astype("timedelta64[ns]")
        count = int((last - first) // step) + 1
        if count > _MOST:
            raise ValueError(
                f"--init {self.text}: {count} starts are more than the {_MOST} that "
                "one set may hold; use a longer step"
            )
        return first + step * np.arange(count)


def parse_starts(text: str) -> StartRule:
    """Returns the rule that a user wrote.

    Raises:
      ValueError: It is none of the forms of this module, or a date does not exist.
    """
    stripped = text.strip()
    found = _RANGE.fullmatch(stripped)
    if found is not None:
        first, last, step = found.groups()
        length = _length(step)
        if length <= pd.Timedelta(0):
            raise ValueError(f"--init {text}: the step {step} must be positive")
        rule = StartRule(text=text, moments=(first, last), step=length)
    else:
        moments = tuple(part.strip() for part in stripped.split(","))
        wrong = [part for part in moments if not _ONE.fullmatch(part)]
        bare = _NO_UNIT.search(stripped) if wrong else None
        if bare is not None:
            raise ValueError(
                f"--init {text}: the length {bare[1]} needs a unit, such as {bare[1]}h "
                f"or {bare[1]}d"
            )
        if wrong:
            raise ValueError(f"--init {text}: {wrong[0]!r} is no start; {_FORMS}")
        rule = StartRule(text=text, moments=moments)
    for moment in rule.moments:
        if moment[0].isdigit():
            _date(moment, text)
    return rule


def nearest(
    available: pd.DatetimeIndex, wanted: pd.Timestamp | np.datetime64
) -> list[str]:
    """Returns the last time before and the first after a date, written out.

    Args:
      available: Ascending.
      wanted: Not among them.
    """
    place = int(available.searchsorted(pd.Timestamp(wanted)))
    return [_stamp(time) for time in available[max(place - 1, 0) : place + 1]]


def _resolve(moment: str, available: pd.DatetimeIndex, text: str) -> np.datetime64:
    if moment[0].isdigit():
        return _date(moment, text)
    word = moment.lower().partition("+")[0].partition("-")[0]
    ends = available.to_numpy().astype("datetime64[ns]")
    end = ends[-1] if word == "latest" else ends[0]
    rest = moment[len(word) :]
    if not rest:
        return end
    length = _length(rest[1:]).to_timedelta64().astype("timedelta64[s]")
    start = end.astype("datetime64[s]")
    return _held(start + length if rest[0] == "+" else start - length, text)


def _date(moment: str, text: str) -> np.datetime64:
    try:
        date = np.datetime64(moment.removesuffix("Z").replace(" ", "T"), "s")
    except ValueError as error:
        raise ValueError(
            f"--init {text}: {moment} is no date of the calendar"
        ) from error
    return _held(date, text)


def _held(date: np.datetime64, text: str) -> np.datetime64:
    """Returns a date in nanoseconds, which would come round again at some distance.

    Raises:
      ValueError: It is too far away.
    """
    if not _FIRST <= date < _END:
        raise ValueError(
            f"--init {text}: {date} lies outside of the years 1678 to 2261, in which "
            "dates are counted here"
        )
    return date.astype("datetime64[ns]")


def _length(text: str) -> pd.Timedelta:
    number = re.match(r"\d+(?:\.\d+)?", text)
    assert number is not None
    unit = text[number.end() :].strip()[0].lower()
    return times.as_timedelta(number[0] + _UNITS[unit])


def _stamp(time: object) -> str:
    return np.datetime_as_string(np.datetime64(time, "ns"), unit="m")  # type: ignore[call-overload]
