"""Samples that reach ahead by lead times of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weatherlib.training.config import Period
from weatherlib.training.frames import Frames, Sample

__all__ = ["LeadSamples"]


class LeadSamples:
    """All pairs of a start and a lead time in a period, as numbers for a `Feed`.

    A pass over them in shuffled order draws lead times evenly, and what is drawn at a
    position of the feed follows from its seed, so that a continued run draws the same.

    Attributes:
      numbers: One for each pair, int64 of shape [pair].
      starts: How many first frames there are, whatever the lead.
      leads: Lead times in steps.
    """

    def __init__(
        self, frames: Frames, leads: Sequence[int], period: Period | None = None
    ) -> None:
        """Finds the pairs; nothing is read.

        Args:
          frames: The series.
          leads: Lead times in steps.
          period: Holds inputs and target; None is the whole series.

        Raises:
          ValueError: The period has no sample of one of the lead times.
        """
        self._frames, self.leads, self._period = frames, tuple(leads), period
        self._length = len(frames.datetimes)
        found = [frames.starts(period, targets=lead) for lead in self.leads]
        self.starts = len(np.unique(np.concatenate(found)))
        self.numbers = np.concatenate(
            [index * self._length + starts for index, starts in enumerate(found)]
        )

    def __call__(self, numbers: np.ndarray) -> Sample:
        """Returns the batch of some pairs; see `Frames.batch_at`.

        Raises:
          CorruptSampleError: As for `Frames.batch`.
        """
        index, starts = np.divmod(np.asarray(numbers), self._length)
        leads = np.asarray(self.leads)[index]
        return self._frames.batch_at(starts, leads, self._period)
