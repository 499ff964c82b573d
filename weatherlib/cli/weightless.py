"""Forecasts without weights as models: what there is to make ready for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from weatherlib import training
from weatherlib.cli import solving

__all__ = ["Weightless"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    """Nothing, under the contract of `solving.Found`."""

    config: Any
    samples: int
    params: Any = dataclasses.field(default_factory=dict)


class Weightless(solving.Solving):
    """Persistence or climatology, with the statistics and waves of its data."""

    def plan(self) -> list[tuple[str, str]]:
        """Returns the data, the model, and what is usual."""
        waves = self._settings.wrappers.climatology
        usual = "nothing but the mean"
        if waves is not None:
            usual = f"{waves.years} waves of the year and {waves.days} of the day"
        frames, data = self._source.frames, self._settings.data
        return [
            ("data", f"{data.path_text}, {frames.description}"),
            ("model", f"{self._name}, without weights"),
            ("climatology", usual),
        ]

    def solve(self, progress: Callable[[int], None]) -> _Found:
        """Returns no weights: statistics and waves are made with the data."""
        progress(self.samples)
        return _Found(config=self._model, samples=self.samples)

    def facts(self, found: solving.Found) -> list[tuple[str, str]]:
        """Returns nothing more."""
        del found
        return []

    def describe(self, found: solving.Found) -> str:
        """Returns the name and the size of the period."""
        given = self._settings.description or f"{self._name} by weatherlib train"
        return f"{given} ({found.samples} samples)"

    @staticmethod
    def _require_only_what_counts(config: training.TrainConfig) -> None:
        """Checks that nothing is asked for that weights are needed for.

        Raises:
          ValueError: Something is, or a climatology has nothing that is usual.
        """
        name = config.model["family"]
        wrong = {
            "stages": bool(config.stages),
            "loss": not config.loss.is_own,
            "init_from": config.init_from is not None,
            "adapters": config.adapters is not None,
            "data.sources": bool(config.data.sources),
        }
        named = [key for key, is_set in wrong.items() if is_set]
        if named:
            raise ValueError(
                f"{', '.join(named)}: {name} has no weights to train; leave it out"
            )
        if name == "climatology" and config.wrappers.climatology is None:
            raise ValueError(
                "wrappers.climatology: is what the family climatology predicts, and "
                "it is not set; take waves of the year and the day, such as "
                "{years: 4, days: 2}"
            )
