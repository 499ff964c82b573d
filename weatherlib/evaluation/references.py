"""Forecasts that need no model: what a forecast has to beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from weatherlib.evaluation import climatology as climatologies
from weatherlib.evaluation import periods, reading

__all__ = [
    "REFERENCES",
    "ClimatologyForecast",
    "DampedPersistence",
    "Persistence",
    "Ridge",
    "fit_damping",
    "fit_ridge",
]

REFERENCES = ("persistence", "climatology", "damped-persistence", "ridge")

_MOST_BYTES = 4 * 2**30
_LONGER = (
    "give a longer --period, and an archive that holds it as --reference-data (in "
    "Python period and reference_data)"
)


@dataclasses.dataclass(frozen=True)
class Persistence:
    """The weather stays as it is at the start.

    Attributes:
      truth: What happened.
    """

    truth: reading.TruthReader

    def read(
        self,
        variable: str,
        inits: np.ndarray,
        leads: np.ndarray,
        levels: np.ndarray | None,
    ) -> np.ndarray:
        """Returns values as `reading.Source.read`."""
        state = self.truth.at(variable, inits, levels)[None, :, None]
        shape = (1, len(inits), len(leads), *state.shape[3:])
        return np.broadcast_to(state, shape)


@dataclasses.dataclass(frozen=True)
class ClimatologyForecast:
    """The weather is normal for the date.

    Attributes:
      climatology: What is normal.
    """

    climatology: climatologies.Climatology

    def read(
        self,
        variable: str,
        inits: np.ndarray,
        leads: np.ndarray,
        levels: np.ndarray | None,
    ) -> np.ndarray:
        """Returns values as `reading.Source.read`."""
        valid = inits[:, None] + leads[None, :]
        return self.climatology.at(variable, valid, levels)[None]


@dataclasses.dataclass(frozen=True)
class DampedPersistence:
    """The anomaly at the start fades towards the climatology.

    Attributes:
      truth: What happened.
      climatology: What is normal.
      damping: For each variable the factor of the anomaly, shape [lead, level, row,
        column].
      leads: Lead times of the factors.
      levels: Levels of the factors of variables that have them.
    """

    truth: reading.TruthReader
    climatology: climatologies.Climatology
    damping: Mapping[str, np.ndarray]
    leads: np.ndarray
    levels: np.ndarray | None

    def read(
        self,
        variable: str,
        inits: np.ndarray,
        leads: np.ndarray,
        levels: np.ndarray | None,
    ) -> np.ndarray:
        """Returns values as `reading.Source.read`."""
        anomaly = _anomaly(self.truth, self.climatology, variable, inits, levels)
        factors = self.damping[variable][np.searchsorted(self.leads, leads)]
        factors = _on_levels(factors, self.levels, levels)
        valid = inits[:, None] + leads[None, :]
        normal = self.climatology.at(variable, valid, levels)
        return (normal + anomaly[:, None] * factors[None])[None]


def fit_damping(
    truth: reading.TruthReader,
    climatology: climatologies.Climatology,
    names: Sequence[str],
    leads: np.ndarray,
    period: periods.Period,
) -> DampedPersistence:
    """Returns persistence whose anomaly is damped by its regression on a later one.

    The factor sum a(t) a(t + lead) / sum a(t)^2 is that of each point, over pairs both
    of whose times lie in the period.

    Args:
      truth: What happened.
      climatology: What is normal.
      names: Variables.
      leads: Lead times, ascending, timedelta64[ns], shape [lead].
      period: First and last time of the fit.

    Raises:
      ValueError: The period has no pair of times for a lead.
    """
    moments = periods.period_times(truth, period)
    found = {}
    for name in names:
        levels = _levels_of(truth, name)
        each = 8 * truth.dataset[name].isel(time=0).size * 4
        factors = []
        for lead in leads:
            starts = moments[np.isin(moments + lead, moments)]
            if not starts.size:
                raise _too_few("damped-persistence", truth, moments, lead, lead)
            product, square = 0.0, 0.0
            for block in climatologies.blocks_of(starts, each):
                now, later = (
                    _anomaly(truth, climatology, name, times, levels)
                    for times in (block, block + lead)
                )
                product = product + np.nansum(now * later, axis=0)
                square = square + np.nansum(now**2 * ~np.isnan(later), axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                factors.append(np.asarray(product) / np.asarray(square))
        found[name] = np.stack(factors)
    return DampedPersistence(
        truth, climatology, found, leads, climatologies.levels_of(truth.dataset)
    )


@dataclasses.dataclass(frozen=True)
class Ridge:
    """A linear forecast from the last two states, all variables and points together.

    Attributes:
      truth: What happened.
      climatology: What is normal.
      names: Variables in the order of the state.
      step: Time between the two states.
      scale: For each variable the standard deviation of the anomaly at each point.
      states: Pairs of states of the training, shape [sample, 2 state].
      weights: For each lead the weights of the samples, shape [sample, state].
      leads: Lead times of the weights.
      levels: Levels of variables that have them.
    """

    truth: reading.TruthReader
    climatology: climatologies.Climatology
    names: tuple[str, ...]
    step: np.timedelta64
    scale: Mapping[str, np.ndarray]
    states: np.ndarray
    weights: tuple[np.ndarray, ...]
    leads: np.ndarray
    levels: np.ndarray | None

    def read(
        self,
        variable: str,
        inits: np.ndarray,
        leads: np.ndarray,
        levels: np.ndarray | None,
    ) -> np.ndarray:
        """Returns values as `reading.Source.read`."""
        pair = np.concatenate([self.state(inits), self.state(inits - self.step)], 1)
        likeness = pair @ self.states.T
        scale = self.scale[variable]
        first = sum(
            self.scale[n].size for n in self.names[: self.names.index(variable)]
        )
        part = slice(first, first + scale.size)
        found = []
        for lead in leads:
            weights = self.weights[int(np.searchsorted(self.leads, lead))]
            anomaly = (likeness @ weights[:, part]).reshape(len(inits), *scale.shape)
            anomaly = _on_levels(anomaly * scale, self.levels, levels)
            normal = self.climatology.at(variable, inits + lead, levels)
            found.append(normal + anomaly)
        return np.stack(found, axis=1)[None]

    def state(self, moments: np.ndarray) -> np.ndarray:
        """Returns the scaled anomalies at some times as vectors, [time, state]."""
        return _states(self.truth, self.climatology, self.names, moments, self.scale)


def fit_ridge(
    truth: reading.TruthReader,
    climatology: climatologies.Climatology,
    names: Sequence[str],
    leads: np.ndarray,
    period: periods.Period,
    *,
    penalty: float = 100.0,
) -> Ridge:
    """Returns the ridge regression of each lead time on the last two states.

    Anomalies are divided by their standard deviation at each point, so that the penalty
    means the same for every variable. Solved in the space of the samples, of which
    there are mostly fewer than points; the training states are held in memory.

    Args:
      truth: What happened.
      climatology: What is normal.
      names: Variables of the state.
      leads: Lead times, ascending, timedelta64[ns], shape [lead].
      period: First and last time of the training; targets lie in it too.
      penalty: Added to the diagonal.

    Raises:
      ValueError: The period is too short, or the states do not fit into memory.
    """
    moments = periods.period_times(truth, period)
    _require_learnable(truth, names, moments)
    step = np.diff(moments).min()
    scale = {name: _spread(truth, climatology, name, moments) for name in names}
    states = _states(truth, climatology, names, moments, scale)
    if not np.isfinite(states).all():
        raise ValueError(
            f"ridge: {truth.name} has missing values in the period; leave out the "
            "variable or this reference"
        )
    starts = moments[np.isin(moments - step, moments)]
    place = np.searchsorted(moments, starts)
    before = np.searchsorted(moments, starts - step)
    pairs = np.concatenate([states[place], states[before]], axis=1)
    gram = pairs @ pairs.T
    weights = []
    for lead in leads:
        later = starts + lead
        held = np.isin(later, moments)
        if not held.any():
            raise _too_few("ridge", truth, moments, lead, lead + step)
        targets = states[np.searchsorted(moments, later[held])]
        weights.append(_solved(gram, held, targets, penalty))
    return Ridge(
        truth,
        climatology,
        tuple(names),
        step,
        scale,
        pairs,
        tuple(weights),
        leads,
        climatologies.levels_of(truth.dataset),
    )


def _require_learnable(
    truth: reading.TruthReader,
    names: Sequence[str],
    moments: np.ndarray,
) -> None:
    """Checks that a regression has enough times, and memory for their states.

    Raises:
      ValueError: It has not.
    """
    if len(moments) < 3:
        held = periods.describe_held(truth, moments)
        raise ValueError(f"ridge: {held}: too few to learn from; {_LONGER}")
    size = sum(truth.dataset[name].isel(time=0).size for name in names)
    needed = 8 * len(moments) * (3 * size + len(moments))
    if needed > _MOST_BYTES:
        raise ValueError(
            f"ridge: {len(moments)} states of {size} numbers need "
            f"{needed / 2**30:.0f} GiB; choose fewer variables or levels, a shorter "
            "period, or leave this reference out"
        )


def _solved(
    gram: np.ndarray, held: np.ndarray, targets: np.ndarray, penalty: float
) -> np.ndarray:
    """Returns the weights of all samples, nothing for those without a target.

    Args:
      gram: Products of the samples with each other, shape [sample, sample].
      held: Which samples have a target, shape [sample].
      targets: States to be predicted from those, shape [held, state].
      penalty: Added to the diagonal.

    Returns:
      Shape [sample, state].
    """
    system = gram[np.ix_(held, held)] + penalty * np.eye(int(held.sum()))
    solved = np.zeros((len(held), targets.shape[1]))
    solved[held] = np.linalg.solve(system, targets)
    return solved


def _levels_of(truth: reading.TruthReader, name: str) -> np.ndarray | None:
    """Returns the levels of a variable, None where it has none."""
    if "level" not in truth.dataset[name].dims:
        return None
    return climatologies.levels_of(truth.dataset)


def _on_levels(
    array: np.ndarray, held: np.ndarray | None, levels: np.ndarray | None
) -> np.ndarray:
    """Returns the chosen ones of the levels held, which are the second axis."""
    if levels is None or held is None:
        return array
    return array[:, [held.tolist().index(level) for level in levels]]


def _anomaly(
    truth: reading.TruthReader,
    climatology: climatologies.Climatology,
    name: str,
    moments: np.ndarray,
    levels: np.ndarray | None,
) -> np.ndarray:
    """Returns departures from the climatology, [*moments.shape, level, row, column]."""
    return truth.at(name, moments, levels) - climatology.at(name, moments, levels)


def _spread(
    truth: reading.TruthReader,
    climatology: climatologies.Climatology,
    name: str,
    moments: np.ndarray,
) -> np.ndarray:
    """Returns the standard deviation of the anomaly at each point, 1 where it is 0."""
    anomaly = _anomaly(truth, climatology, name, moments, _levels_of(truth, name))
    deviation = anomaly.std(axis=0)
    return np.where(deviation > 0, deviation, 1.0)


def _states(
    truth: reading.TruthReader,
    climatology: climatologies.Climatology,
    names: Sequence[str],
    moments: np.ndarray,
    scale: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Returns scaled anomalies of all variables as vectors, [time, state]."""
    parts = []
    for name in names:
        anomaly = _anomaly(truth, climatology, name, moments, _levels_of(truth, name))
        parts.append((anomaly / scale[name]).reshape(len(moments), -1))
    return np.concatenate(parts, axis=1)


def _too_few(
    name: str,
    truth: reading.TruthReader,
    moments: np.ndarray,
    lead: np.timedelta64,
    needed: np.timedelta64,
) -> ValueError:
    """Returns the error for a lead time that no times of the period can teach.

    Args:
      name: Of the reference.
      truth: What it is fitted to.
      moments: Times of the period, ascending, shape [time].
      lead: The lead time.
      needed: What the period has to last for it.
    """
    far = periods.describe_length(lead)
    held = periods.describe_held(truth, moments)
    if moments[-1] - moments[0] < needed:
        return ValueError(
            f"{name}: {held}: too few for a lead time of {far}; {_LONGER}"
        )
    return ValueError(
        f"{name}: {held}: no two of them are {far} apart; give data that have the lead "
        "times of the forecasts"
    )
