"""SEVIR's catalogue: which events there are, in which order, on which side of a split.

The selection is that of the published loaders: events of vertically integrated liquid
(`vil`) without missing pixels, later than a first and up to a last moment, in the order
of their ids; events that are listed more than once are left out altogether.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from weatherlib import config
from weatherlib.data_utils import lexicon

__all__ = [
    "SPLIT_DATE",
    "Split",
    "Table",
    "in_validation",
    "offsets",
    "read_catalogue",
    "select",
    "shuffle",
    "split_events",
]

SPLIT_DATE = "2019-06-01"
"""Events up to here are trained and validated on, later ones are the test."""

Table = Any
"""A pandas.DataFrame; its types do not survive the selection of rows."""

Split = Literal["train", "validation", "train_validation", "test", "all"]

_KIND = "vil"
_NEEDED = ("id", "file_name", "file_index", "img_type", "time_utc", "pct_missing")
_SHUFFLE_SEED = 1


def read_catalogue(path: str | os.PathLike[str]) -> Table:
    """Returns the rows of `CATALOG.csv` as they are, with `time_utc` as dates.

    Args:
      path: The file.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It is no table.
      ValueError: A column is missing, or a value in one is not what it should be.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; SEVIR has CATALOG.csv beside its folder "
            "data"
        )
    try:
        table = pd.read_csv(path, low_memory=False, dtype={"id": str})
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise OSError(f"{path}: cannot be read as a table ({error})") from error
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        unknown = [str(name) for name in table.columns if name not in _NEEDED]
        hints = {name: lexicon.closest(name, unknown) for name in missing}
        found = [
            f"{name} (is it {hint}?)" if (hint := hints[name]) else name
            for name in missing
        ]
        raise ValueError(
            f"{path}: there is no column {', '.join(found)}; found "
            f"{', '.join(map(str, table.columns)) or 'none'}"
        )
    table["time_utc"] = _dates(table["time_utc"], path)
    for name, kind in (("file_index", np.int64), ("pct_missing", np.float64)):
        table[name] = _numbers(table[name], kind, path)
    return table


def select(
    catalogue: Table,
    *,
    after: Any = None,
    until: Any = None,
    max_pct_missing: float = 0.0,
) -> Table:
    """Returns the events of liquid water, one row each, in the order of their ids.

    Args:
      catalogue: From `read_catalogue`.
      after: Only events later than this; None for all.
      until: Only events up to this; None for all.
      max_pct_missing: Of pixels of an event, per cent.
    """
    rows = catalogue
    # In the order of the published loader: a second row of an event that is filtered
    # out does not make it one that is listed twice.
    if after is not None:
        rows = rows[rows["time_utc"] > _date("after", after)]
    if until is not None:
        rows = rows[rows["time_utc"] <= _date("until", until)]
    rows = rows[rows["pct_missing"] <= max_pct_missing]
    rows = rows[rows["img_type"] == _KIND]
    rows = rows[~rows["id"].duplicated(keep=False)]
    return rows.sort_values("id", kind="stable").reset_index(drop=True)


def shuffle(events: Table) -> Table:
    """Returns the events in the shuffled order of the published loader.

    It draws twice: when the events are chosen, and again before they are read.
    """
    for _ in range(2):
        events = events.sample(frac=1, random_state=_SHUFFLE_SEED)
    return events.reset_index(drop=True)


def split_events(
    catalogue: Table,
    split: Split,
    *,
    date: str = SPLIT_DATE,
    after: str | None = None,
    until: str | None = None,
    validation_share: float = 0.1,
    key: str = "weatherlib",
    max_pct_missing: float = 0.0,
) -> Table:
    """Returns the events on one side of the split.

    The published test begins after a date. Which earlier events are validated on
    follows from their ids and a key, so that all samples of an event are on one side,
    whatever part of SEVIR is there. (The published code draws samples, with torch.)

    Args:
      catalogue: From `read_catalogue`.
      split: Which side; "train_validation" is all up to the date.
      date: Last moment of training and validation.
      after: Only events later than this, whichever the side; None for all.
      until: Only events up to this; None for all.
      validation_share: Of the events up to the date.
      key: Other keys give other validations.
      max_pct_missing: As for `select`.

    Raises:
      ValueError: There is no such side, or no event on it.
    """
    if split not in get_args(Split):
        raise ValueError(
            f"split: there is no {split!r}{config.closest_hint(split, get_args(Split))}"
        )
    if not 0 <= validation_share < 1:
        raise ValueError(
            f"validation_share is a share below 1, found {validation_share:g}"
        )
    if split == "test":
        early, late = _later(date, after), until
    elif split == "all":
        early, late = after, until
    else:
        early, late = after, _earlier(date, until)
    events = select(catalogue, after=early, until=late, max_pct_missing=max_pct_missing)
    found = len(events)
    if split in ("train", "validation"):
        held = np.array(
            [in_validation(name, validation_share, key) for name in events["id"]], bool
        )
        events = events[held if split == "validation" else ~held]
        events = events.reset_index(drop=True)
    if not len(events):
        bounds = (f"after {early}" if early else "", f"up to {late}" if late else "")
        where = " and ".join(filter(None, bounds)) or "in it"
        raise ValueError(
            f"the catalogue has no event for {split}: of {len(catalogue)} rows, "
            f"{found} are {_KIND} without repeats, with at most {max_pct_missing:g} % "
            f"missing, {where}; choose another date, validation_share or key"
        )
    return events


def in_validation(name: str, share: float, key: str = "weatherlib") -> bool:
    """Returns whether an event is validated on; see `split_events`."""
    digest = hashlib.blake2b(f"{key}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def offsets(row: Any, frames: int) -> np.ndarray:
    """Returns the times of an event's frames, counted from `time_utc`.

    Args:
      row: Of the catalogue. Where it has no `minute_offsets`, frames are taken to lie
        evenly in the four hours about the event, as those of SEVIR do.
      frames: How many its file holds. A file thinned in time, as SEVIR-LR is, holds a
        part of the listed ones, evenly spaced.

    Returns:
      timedelta64[ns], shape [time].

    Raises:
      ValueError: The list does not fit the number of frames.
    """
    text = row.get("minute_offsets")
    if not isinstance(text, str):
        minutes = np.linspace(-120.0, 120.0, frames)
    else:
        try:
            listed = np.array([float(part) for part in text.split(":")])
        except ValueError as error:
            raise ValueError(
                f"event {row['id']}: minute_offsets {text!r} are no numbers"
            ) from error
        step, rest = divmod(len(listed) - 1, max(frames - 1, 1))
        if rest or frames > len(listed):
            raise ValueError(
                f"event {row['id']}: minute_offsets lists {len(listed)} frames, the "
                f"file holds {frames}"
            )
        minutes = listed[:: max(step, 1)][:frames]
    return (minutes * 60e9).astype("timedelta64[ns]")


def _dates(values: Any, path: pathlib.Path) -> Any:
    try:
        return pd.to_datetime(values, format="ISO8601")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: time_utc holds no dates ({error})") from error


def _numbers(values: Any, kind: Any, path: pathlib.Path) -> Any:
    found: Any = pd.to_numeric(values, errors="coerce")
    bad = np.flatnonzero(found.isna() & values.notna())
    if bad.size:
        at = int(bad[0])
        raise ValueError(
            f"{path}: {values.name} is {values.iloc[at]!r} in row {at + 2}, expected a "
            "number"
        )
    # Some kinds of data have no index; they are not read here.
    return found.fillna(-1).astype(kind) if kind is np.int64 else found.astype(kind)


def _later(date: str, other: str | None) -> str:
    """Returns the later one of two dates, of which the second may be missing."""
    if other is None or _date("date", date) >= _date("after", other):
        return date
    return other


def _earlier(date: str, other: str | None) -> str:
    """Returns the earlier one of two dates, of which the second may be missing."""
    if other is None or _date("date", date) <= _date("until", other):
        return date
    return other


def _date(name: str, value: Any) -> Any:
    try:
        return pd.Timestamp(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name}: expected a date such as {SPLIT_DATE}, found {value!r}"
        ) from error
