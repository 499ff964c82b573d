import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherlib import data
from weatherlib.data import starts

AVAILABLE = pd.date_range("2026-01-01", "2026-02-01", freq="6h")


def _resolved(text):
    found = data.parse_starts(text).resolve(AVAILABLE)
    return [np.datetime_as_string(time, unit="h") for time in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-15T00", ["2026-01-15T00"]),
        ("2026-01-15 06:00Z", ["2026-01-15T06"]),
        ("2026-01-15", ["2026-01-15T00"]),
        ("latest", ["2026-02-01T00"]),
        ("LATEST-36h", ["2026-01-30T12"]),
        ("first+1.5d", ["2026-01-02T12"]),
        ("2026-01-15,2026-01-10T12", ["2026-01-10T12", "2026-01-15T00"]),
        ("2026-01-15/2026-01-16/12h", ["2026-01-15T00", "2026-01-15T12",
                                       "2026-01-16T00"]),
        ("latest-1d:latest:18h", ["2026-01-31T00", "2026-01-31T18"]),
        ("first:first:1 day", ["2026-01-01T00"]),
    ],
)  # fmt: skip
def test_starts_are_read(text, expected):
    assert _resolved(text) == expected


@given(
    first=st.datetimes(pd.Timestamp("1950-01-01"), pd.Timestamp("2050-01-01")),
    count=st.integers(1, 50),
    hours=st.integers(1, 48),
    minutes=st.booleans(),
)
def test_a_range_with_colons_is_split_at_the_right_ones(first, count, hours, minutes):
    first = first.replace(second=0, microsecond=0)
    last = first + pd.Timedelta(hours=hours * (count - 1))
    form = "%Y-%m-%dT%H:%M" if minutes else "%Y-%m-%dT%H"
    if not minutes:
        first, last = first.replace(minute=0), last.replace(minute=0)
    rule = data.parse_starts(f"{first:{form}}:{last:{form}}:{hours}h")
    found = rule.resolve(AVAILABLE)
    assert rule.is_set and len(found) == count
    assert (found[0], found[-1]) == (np.datetime64(first), np.datetime64(last))


def test_one_date_is_no_set_but_a_range_of_one_is():
    assert not data.parse_starts("latest").is_set
    assert data.parse_starts("latest:latest:1d").is_set
    assert data.parse_starts("2026-01-01,2026-01-02").is_set


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tomorrow", "'tomorrow' is no start; expected a date such as"),
        ("2026-01-15T00:2026-01-20T00", "START:END:STEP"),
        ("2026-01-15:2026-01-20:12", "the length 12 needs a unit, such as 12h or 12d"),
        ("2026-01-15T00/2026-01-20T00/1.5", "the length 1.5 needs a unit"),
        ("latest-24:latest:12h", "the length 24 needs a unit"),
        ("first,latest-24", "the length 24 needs a unit"),
        ("2026-01-15:2026-01-20:12x", "START:END:STEP"),
        ("2026-13-01", "no date of the calendar"),
        ("2026-01-15:2026-02-31:1d", "2026-02-31 is no date"),
        ("2026-01-15:2026-01-20:0h", "must be positive"),
        ("", "is no start"),
        ("9999-01-01", "--init 9999-01-01: 9999-01-01T00:00:00 lies outside of the"),
        ("1677-12-31T23", "outside of the years 1678 to 2261"),
        ("2026-01-15:2300-01-01:1d", "outside of the years 1678 to 2261"),
    ],
)
def test_a_wrong_start_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        data.parse_starts(text)


def test_a_range_that_runs_backwards_is_refused():
    with pytest.raises(ValueError, match="before its beginning"):
        _resolved("2026-01-15:2026-01-10:1d")


def test_absurdly_many_starts_are_refused():
    with pytest.raises(ValueError, match="use a longer step"):
        _resolved("1900-01-01:2026-01-01:1min")


@pytest.mark.parametrize("text", ["latest+90000d", "latest:latest+90000d:1d"])
def test_a_relative_start_beyond_what_dates_hold_is_refused(text):
    with pytest.raises(ValueError, match="outside of the years 1678 to 2261"):
        _resolved(text)


def test_a_relative_start_needs_a_source_with_starts():
    with pytest.raises(ValueError, match="no time at which"):
        data.parse_starts("latest").resolve(AVAILABLE[:0])
    with pytest.raises(ValueError, match="can start; it has one frame"):
        data.parse_starts("first:2026-01-01:1d").resolve(
            AVAILABLE[:0], "it has one frame"
        )


def test_the_nearest_starts_are_on_both_sides():
    near = starts.nearest(AVAILABLE, np.datetime64("2026-01-02T07"))
    assert near == ["2026-01-02T06:00", "2026-01-02T12:00"]
    assert starts.nearest(AVAILABLE, np.datetime64("2030-01-01")) == [
        "2026-02-01T00:00"
    ]
