"""A model with a solution in closed form, from its settings to its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from weatherlib import training
from weatherlib.baselines import capture, grid_predictor, linear_fit, linear_layout
from weatherlib.cli import families, radar_frames, solving
from weatherlib.training import wrapping

__all__ = ["Fitting"]

# Samples that are read at a time.
_BATCH = 32


class Fitting(solving.Solving):
    """A linear model, made ready to be fitted."""

    def __init__(
        self, config: training.TrainConfig, *, say: Callable[[str], None] = print
    ) -> None:
        """As for `Solving`; raises ValueError also where the fit needs more memory."""
        super().__init__(config, say=say)
        frames, targets = self._source.frames, self._model.output_length
        self._starts, self._held_out, self._gap = self._ordered(self._starts)
        sample = frames.batch(self._starts[:1], targets, config.data.train)
        self._read = capture.reader(self._captured)
        self._channels = capture.channels_of(sample)
        self._plan = linear_fit.plan(
            self._read(sample), self._model, self._channels, samples=self.samples
        )

    def plan(self) -> list[tuple[str, str]]:
        """Returns what will be done, as names and values."""
        plan, shape = self._plan, self._plan.load.shape
        frames, data = self._source.frames, self._settings.data
        stored = "two matrices" if plan.storage == "factors" else "one matrix"
        how = (
            f"{self.samples} samples of {shape.features:,} features and "
            f"{shape.outputs:,} outputs in the {plan.form} form, about "
            f"{plan.bytes / 2**30:.2g} GiB of memory"
        )
        facts = [
            ("data", f"{data.path_text}, {frames.description}"),
            ("model", f"{self._name}, {plan.weights:,} weights in {stored}"),
            ("fit", how),
            ("license", self._settings.license or families.NO_LICENSE),
        ]
        if self._model.fit.candidates:
            listed = ", ".join(f"{alpha:g}" for alpha in self._model.fit.candidates)
            facts.append(("penalty", f"one of {listed}, by {self._held_out} samples"))
        return facts

    def solve(self, progress: Callable[[int], None]) -> linear_fit.Fit:
        """Fits the model; raises ValueError also as `linear_fit.fit` does."""
        return linear_fit.fit(
            self._batches(),
            self._model,
            self._channels,
            samples=self.samples,
            held_out=self._held_out,
            gap=self._gap,
            progress=progress,
        )

    def facts(self, found: linear_fit.Fit) -> list[tuple[str, str]]:
        """Returns the penalties, and how candidates did."""
        different = set(found.alphas.values())
        if len(different) == 1:
            facts = [("penalty", f"{different.pop():g}")]
        else:
            facts = [
                ("penalty", ", ".join(f"{n} {a:g}" for n, a in found.alphas.items()))
            ]
        for name, errors in found.errors.items():
            listed = ", ".join(
                f"{alpha:g}: {error:.4g}" for alpha, error in errors.items()
            )
            facts.append((f"errors, {name}", listed))
        for name, alpha in found.at_end.items():
            facts.append(
                ("note", f"{name}: {alpha:g} is the best of all and at the end of the "
                 "candidates; a better one may lie beyond"),
            )  # fmt: skip
        return facts

    def describe(self, found: linear_fit.Fit) -> str:
        """Returns the name and the penalties."""
        alphas = ", ".join(f"{a:g}" for a in dict.fromkeys(found.alphas.values()))
        given = self._settings.description or f"{self._name} fitted by weatherlib train"
        return f"{given} ({found.samples} samples, penalty {alphas})"

    @staticmethod
    def _require_only_what_counts(config: training.TrainConfig) -> None:
        """Checks that nothing is asked for that only gradients can do.

        Raises:
          ValueError: Something is.
        """
        wrong = {
            "loss": not config.loss.is_own,
            "init_from": config.init_from is not None,
            "adapters": config.adapters is not None,
            "data.sources": bool(config.data.sources),
            "wrappers.noise_level": bool(config.wrappers.noise_level),
            "wrappers.mirror": config.wrappers.mirror,
        }
        named = [name for name, is_set in wrong.items() if is_set]
        if named:
            raise ValueError(
                f"{', '.join(named)}: without stages the model is fitted in closed "
                "form, which minimises the mean square over one source; leave it out, "
                "or add stages to train by gradients"
            )

    def _captured(self, network: capture.Capture) -> Any:
        task, source = self._source.task, self._source
        predictor = grid_predictor.GridPredictor(self._model, network, task)
        own = training.LossConfig()
        wrappers = self._settings.wrappers
        return wrapping.wrap(predictor, source.statistics, wrappers, loss=own)

    def _batches(self) -> Iterator[tuple[linear_layout.HostFields, Any]]:
        frames, targets = self._source.frames, self._model.output_length
        for first in range(0, len(self._starts), _BATCH):
            part = self._starts[first : first + _BATCH]
            yield self._read(frames.batch(part, targets, self._settings.data.train))

    def _ordered(self, starts: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Returns starts with those last that judge, and before them what overlaps.

        Returns:
          First frames of the samples, how many judge, and how many share frames with
          those that do.

        Raises:
          ValueError: No sample lies in the period of those that judge.
        """
        how, frames = self._model.fit, self._source.frames
        if not how.candidates:
            return starts, 0, 0
        if isinstance(frames, radar_frames.RadarFrames):
            raise ValueError(
                "model.fit.candidates: penalties are not chosen on radar pictures, "
                "whose tiles have the same times; give one in model.fit.alpha"
            )
        if how.held_out_period is None:
            judging = starts[-max(1, round(how.held_out * len(starts))) :]
        else:
            begin, end = how.held_out_period
            period = training.Period(start=begin, end=end)
            targets = self._model.output_length
            judging = np.intersect1d(starts, frames.starts(period, targets=targets))
            if not judging.size:
                raise ValueError(
                    f"model.fit.held_out_period: no sample of the training period lies "
                    f"in {begin} to {end}"
                )
        reach = (frames.inputs + self._model.output_length - 1) * frames.step
        times = frames.datetimes[starts]
        near = (times + reach >= frames.datetimes[judging[0]]) & (
            times <= frames.datetimes[judging[-1]] + reach
        )
        judges = np.isin(starts, judging)
        ordered = [starts[~near & ~judges], starts[near & ~judges], judging]
        return np.concatenate(ordered), len(judging), len(ordered[1])
