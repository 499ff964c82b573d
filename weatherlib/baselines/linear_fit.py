"""Fits linear models in closed form, in one pass over data that need not fit in memory.

    from weatherlib.baselines import linear_config, linear_fit, linear_layout

    config = linear_config.LinearConfig(alpha=1.0)
    channels = linear_layout.Channels(frames=("2m_temperature",))
    found = linear_fit.fit(batches, config, channels, samples=1460)
    network = linear_network.LinearNetwork(found.config)  # takes found.params

`batches` yields `baselines.fields.Fields`, or anything with such arrays, and the frames
to predict; neither JAX nor xarray is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from weatherlib import config as configs
from weatherlib.baselines import (
    linear_memory,
    linear_rows,
    linear_solve,
    linear_sums,
)
from weatherlib.baselines.linear_config import AnyLinearConfig, MultiLinearConfig
from weatherlib.baselines.linear_layout import Channels

__all__ = ["JOINT", "Fit", "fit", "plan"]

JOINT = "all variables"
"""What the errors of a model that has one penalty are kept under."""

Errors = dict[str, dict[float, float]]

# Samples that are added to sums at a time, at most and at least.
_MOST_ROWS, _LEAST_ROWS = 1024, 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted linear model.

    Attributes:
      params: Haiku parameters of `linear_network.LinearNetwork`, NumPy arrays.
      config: The configuration with the penalties that were used, and the form in which
        the weights are stored.
      alphas: Penalty of each predicted variable.
      errors: By variable (`JOINT` for the joint model), the mean square of the error of
        each candidate on the samples kept apart; for the model that scales in units of
        the variance of each output. Empty without candidates.
      samples: How many there were.
      form: "primal" or "dual".
    """

    params: dict[str, dict[str, np.ndarray]]
    config: AnyLinearConfig
    alphas: dict[str, float]
    errors: Errors
    samples: int
    form: str

    @property
    def at_end(self) -> dict[str, float]:
        """Penalties at either end of the candidates, where a better one may lie beyond.

        By the names of `errors`.
        """
        best = {name: min(found, key=found.__getitem__) for name, found in self._many}
        ends = {name: (min(found), max(found)) for name, found in self._many}
        return {name: alpha for name, alpha in best.items() if alpha in ends[name]}

    @property
    def _many(self) -> list[tuple[str, dict[float, float]]]:
        return [(name, found) for name, found in self.errors.items() if len(found) > 1]


def fit(
    batches: Iterable[linear_rows.Batch],
    config: AnyLinearConfig,
    channels: Channels,
    *,
    samples: int,
    held_out: int | None = None,
    gap: int | None = None,
    dtype: Any = np.float32,
    progress: Callable[[int], None] | None = None,
) -> Fit:
    """Returns the model with the smallest sum of squared errors and penalties.

    Batches of any size give the same result, up to the rounding of double precision.
    Inputs that never change get no weight, and outputs that never change are predicted
    as what they are.

    Args:
      batches: Fields and frames to predict, shape [batch, step, lat, lon, output], in
        order of time. Read once.
      config: Which model, and how to fit it.
      channels: Names of what the fields hold, for penalties by variable and messages.
      samples: How many samples the batches have in all.
      held_out: Of these the last ones that judge candidates; None for the share that
        the configuration names.
      gap: Samples before those that take no part in the choice; None for all that share
        frames with them where each sample begins one frame after the one before.
      dtype: Of the parameters.
      progress: Told the number of samples after each block.

    Raises:
      ValueError: There are too few samples or not as many as was said, frames are
        missing, values are, or the fit needs more memory than there is.

    Source: ridge regression as in scikit-learn, whose intercept has no penalty.
    """
    split = _Split.of(config, samples, held_out, gap)
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"{samples} samples were announced, and there are none")
    intake = linear_rows.Intake(config, channels, first)
    job = _Job(config, intake, samples, np.dtype(dtype))
    sums = job.empty_sums()
    done, judge = 0, None
    rows = intake.rows(chain([first], iterator))
    cuts = (split.trained, split.first_judged, samples)
    for inputs, targets in linear_rows.regrouped(rows, job.block, cuts):
        if done == split.trained:
            judge = _Judge(sums, job)
        if judge is not None and done >= split.first_judged:
            judge.add(inputs, targets)
        done += len(inputs)
        if done > samples:
            break
        sums.add(inputs, targets)
        if progress is not None:
            progress(done)
    if done != samples:
        more = "more" if done > samples else f"only {done}"
        raise ValueError(f"{samples} samples were announced, and there are {more}")
    errors = {} if judge is None else judge.errors()
    # Its vectors are as large as the sums.
    del judge
    return job.result(sums, errors)


def plan(
    batch: linear_rows.Batch,
    config: AnyLinearConfig,
    channels: Channels,
    *,
    samples: int,
    dtype: Any = np.float32,
) -> linear_memory.Plan:
    """Returns how a fit would be done, and the memory it would take.

    Args:
      batch: Any batch, of one sample for example.
      config: As for `fit`.
      channels: As for `fit`.
      samples: As for `fit`.
      dtype: As for `fit`.

    Raises:
      ValueError: As for `fit`.
    """
    intake = linear_rows.Intake(config, channels, batch)
    return _Job(config, intake, samples, np.dtype(dtype)).plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Split:
    """Samples by what they are for.

    Attributes:
      trained: Those before this one are fitted to when candidates are judged.
      first_judged: Those from this one on judge; all samples where nothing is to be
        judged.
    """

    trained: int
    first_judged: int

    @classmethod
    def of(
        cls,
        config: AnyLinearConfig,
        samples: int,
        held_out: int | None,
        gap: int | None,
    ) -> _Split:
        if samples < 2:
            raise ValueError(
                f"a linear model cannot be fitted to {samples} sample(s); it takes 2 "
                f"at least, and a sample is {config.input_length} frames and the "
                f"{config.output_length} after them: give a longer period"
            )
        if not config.fit.candidates:
            return cls(trained=samples, first_judged=samples)
        if held_out is None and config.fit.held_out_period is not None:
            raise ValueError(
                "fit.held_out_period: samples have no dates here; put those of the "
                "period last and pass their number as held_out"
            )
        if held_out is None:
            held_out = max(1, round(config.fit.held_out * samples))
        if gap is None:
            gap = config.input_length + config.output_length - 1
        trained = samples - held_out - gap
        if held_out < 1 or trained < 2:
            raise ValueError(
                f"fit.candidates: of {samples} samples {held_out} would judge, {gap} "
                f"before them share frames with those, and {max(trained, 0)} are left "
                "to fit to; 1 and 2 are needed at least: give a longer period, or "
                "another fit.held_out"
            )
        return cls(trained=trained, first_judged=samples - held_out)


class _Job:
    """What stays the same during a fit."""

    def __init__(
        self,
        config: AnyLinearConfig,
        intake: linear_rows.Intake,
        samples: int,
        dtype: np.dtype,
    ) -> None:
        self.config, self.shape = config, intake.shape
        self.scaled = isinstance(config, MultiLinearConfig)
        self._samples, self._dtype = samples, dtype
        names = intake.predicted
        self._check_alphas(names)
        self.variables = tuple(dict.fromkeys(names))
        points = int(np.prod(intake.grid))
        numbers = [self.variables.index(name) for name in names]
        # Of each output, in their one order.
        self.groups = np.tile(np.repeat(numbers, points), config.output_length)
        load = linear_memory.Load(
            shape=intake.shape,
            samples=samples,
            kept=intake.kept.itemsize,
            stored=dtype.itemsize,
            choosing=bool(config.fit.candidates),
        )
        self.plan = linear_memory.choose(load, config.fit)
        rows = linear_sums.NUMBERS // (self.shape.features + self.shape.outputs)
        self.block = min(max(rows, _LEAST_ROWS), _MOST_ROWS)

    def empty_sums(self) -> linear_sums.Products | linear_sums.Samples:
        """Returns where samples are added to."""
        if self.plan.form == "dual":
            return linear_sums.Samples(self.shape.features)
        return linear_sums.Products(self.shape.features, self.shape.outputs)

    def result(
        self, sums: linear_sums.Products | linear_sums.Samples, errors: Errors
    ) -> Fit:
        """Returns the model."""
        alphas = self._alphas(errors)
        each = np.array([alphas[name] for name in self.variables])[self.groups]
        equations = linear_solve.equations(sums, scaled=self.scaled, keep=False)
        factors = self.plan.storage == "factors"
        solution = equations.solve(each, factors=factors, dtype=self._dtype)
        changes: dict[str, Any] = {"factors": self._samples if factors else 0}
        if self.scaled:
            changes["alphas"] = alphas
        else:
            changes["alpha"] = alphas[self.variables[0]]
        return Fit(
            params={"linear": self._parameters(solution)},
            config=self.config.replace(**changes),
            alphas=alphas,
            errors=errors,
            samples=self._samples,
            form=self.plan.form,
        )

    def _check_alphas(self, predicted: tuple[str, ...]) -> None:
        for name in self._own_alphas():
            if name not in predicted:
                hint = configs.closest_hint(name, dict.fromkeys(predicted))
                raise ValueError(f"alphas: {name} is not predicted{hint}")

    def _own_alphas(self) -> Mapping[str, float]:
        config = self.config
        return config.alphas if isinstance(config, MultiLinearConfig) else {}

    def _alphas(self, errors: Errors) -> dict[str, float]:
        """Returns the penalty of each variable."""
        best = {
            name: min(found, key=found.__getitem__) for name, found in errors.items()
        }
        if not best:
            best = {JOINT: self.config.alpha, **self._own_alphas()}
        return {name: best[name if name in best else JOINT] for name in self.variables}

    def _parameters(self, solution: linear_solve.Solution) -> dict[str, np.ndarray]:
        found = {"w": solution.weights}
        if solution.basis is not None:
            found["basis"] = solution.basis
        if self.scaled:
            found |= {
                "b": np.zeros(self.shape.outputs),
                "input_mean": solution.inputs.mean,
                "input_scale": solution.inputs.scale,
                "output_mean": solution.outputs.mean,
                "output_scale": solution.outputs.scale,
            }
        else:
            found["b"] = solution.outputs.mean - solution.mean_of_features()
        return {name: v.astype(self._dtype, copy=False) for name, v in found.items()}


class _Judge:
    """Errors of candidates on samples that they were not fitted to."""

    def __init__(
        self, sums: linear_sums.Products | linear_sums.Samples, job: _Job
    ) -> None:
        equations = linear_solve.equations(sums, scaled=job.scaled, keep=True)
        self._spectrum = equations.spectrum()
        self._project = equations.projector(self._spectrum)
        self._outputs, self._job = equations.outputs, job
        candidates = job.config.fit.candidates
        self._squares = {alpha: np.zeros(job.shape.outputs) for alpha in candidates}
        self._count = 0

    def add(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Adds the errors of samples."""
        truth = (targets - self._outputs.mean) / self._outputs.scale
        projected = self._project(inputs)
        for alpha, squares in self._squares.items():
            weights = self._spectrum.inverse(alpha)
            error = (projected * weights) @ self._spectrum.rotated - truth
            squares += np.einsum("ij,ij->j", error, error)
        self._count += len(inputs)

    def errors(self) -> Errors:
        """Returns the mean square by variable and candidate."""
        job = self._job
        groups = {name: job.groups == i for i, name in enumerate(job.variables)}
        if not job.scaled:
            groups = {JOINT: np.ones(job.shape.outputs, bool)}
        return {
            name: {
                alpha: float(squares[chosen].mean() / self._count)
                for alpha, squares in self._squares.items()
            }
            for name, chosen in groups.items()
        }
