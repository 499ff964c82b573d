"""Archives of many files, of which damaged ones may be left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import xarray

from weatherlib import data
from weatherlib.data_utils import problems

__all__ = ["counted", "open_dataset"]

# So many files are named in one line.
_NAMED = 5


def open_dataset(
    path: str | Sequence[str],
    *,
    skip_corrupt: bool,
    time_step: str | None = None,
    by_start: bool = False,
) -> tuple[xarray.Dataset, Mapping[str, str]]:
    """Returns an archive, and the files that were left out of it with the reasons.

    Args:
      path: As for `data.open_dataset`.
      skip_corrupt: Whether damaged files among many are left out.
      time_step: Between frames of shards that are no whole year.
      by_start: Whether forecasts stay by start and step.

    Raises:
      As `data.open_dataset`.
    """
    dataset = data.open_dataset(
        path,
        on_error="skip" if skip_corrupt else "raise",
        time_step_if_unknown=time_step,
        by_start=by_start,
    )
    return dataset, dataset.encoding.get("skipped", {})


def counted(skipped: Iterable[str]) -> str:
    """Returns how many files were left out, and the names of the first."""
    names = list(skipped)
    return f"{len(names)}: {problems.listed(names, most=_NAMED)}"
