"""Scores of nowcasts: of single forecasts and ensembles, per lead, beside references.

Nowcasts and truth are pixels on the scale of SEVIR. Scores are those of the rest of the
library, made of sums over points and samples, so that samples come in any number and
order:

    from weatherlib.evaluation import nowcasts, nowcast_references

    scores = nowcasts.evaluate_nowcasts(
        {"model": forecast, "persistence": nowcast_references.persistence}, sequences
    )
    scores["csi"].sel(pool=1).mean("threshold")       # by model and lead

Published numbers of SEVIR are reproduced by `sevir_skill`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import xarray

from weatherlib.evaluation.nowcast_scores import NowcastConfig, NowcastScores

__all__ = [
    "MEMBERS",
    "NowcastConfig",
    "NowcastScores",
    "Nowcaster",
    "Samples",
    "call",
    "evaluate_nowcasts",
]

MEMBERS = " (members)"
"""Ends the name of an ensemble whose members are scored one by one."""

Nowcaster = Callable[..., np.ndarray]
"""Returns pixels [member, batch, lead, lat, lon], or without members, of context pixels
[batch, time, lat, lon], NaN where missing, and the number of leads. One that has an
attribute `needs_truth`, true, is also handed what follows, as `truth`."""


class Samples(Protocol):
    """What is evaluated on: `weatherlib.data.radar_sequences.Sequences`.

    Attributes:
      config: Has `inputs` and `targets`, frames that are known and that follow.
      step: Time between frames.
      cell_km: Side of a cell, km.
    """

    config: Any
    step: Any
    cell_km: Any

    def __len__(self) -> int:
        """Returns how many samples there are."""
        ...

    def pixels(self, number: int) -> np.ndarray:
        """Returns the frames of one, [time, lat, lon], NaN where missing."""
        ...


def evaluate_nowcasts(
    nowcasters: Mapping[str, Nowcaster],
    samples: Samples,
    config: NowcastConfig | None = None,
    *,
    numbers: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 4,
    single_members: bool = True,
    over_leads: bool | Literal["both"] = False,
    progress: Callable[[int, int, float], None] | None = None,
) -> xarray.Dataset:
    """Returns the scores of several nowcasts of the same samples, along `model`.

    Args:
      nowcasters: Models and references by name.
      samples: What happened.
      config: What is judged.
      numbers: Samples to use; all by default.
      batch_size: Samples at a time.
      single_members: Whether the members of ensembles are also scored one by one, as
        "NAME (members)": what a user of a single future gets, and the spectrum of one.
      over_leads: As for `NowcastScores.results`.
      progress: Is told the samples done, those in all, and the seconds.

    Raises:
      ValueError: There are no nowcasts or samples, or a nowcast has another shape.
    """
    config = config or NowcastConfig()
    chosen = np.arange(len(samples)) if numbers is None else np.asarray(numbers)
    if not nowcasters or not len(chosen):
        raise ValueError(
            f"{len(nowcasters)} nowcast(s) of {len(chosen)} sample(s): there is "
            "nothing to evaluate"
        )
    inputs, leads = samples.config.inputs, samples.config.targets
    found: dict[str, NowcastScores] = {}
    began = time.perf_counter()
    for first in range(0, len(chosen), batch_size):
        part = chosen[first : first + batch_size]
        frames = np.stack([samples.pixels(int(number)) for number in part])
        context, truth = frames[:, :inputs], frames[:, inputs:]
        for name, nowcaster in nowcasters.items():
            members = _called(name, nowcaster, context, truth)
            _scores_of(found, name, leads, len(members), config).update(members, truth)
            if single_members and len(members) > 1:
                single = _scores_of(found, name + MEMBERS, leads, 1, config)
                for member in members:
                    single.update(member, truth)
        if progress is not None:
            progress(first + len(part), len(chosen), time.perf_counter() - began)
    scores = {
        name: one.results(samples.step, float(samples.cell_km), over_leads=over_leads)
        for name, one in found.items()
    }
    return _joined(scores, len(chosen))


def _joined(scores: Mapping[str, xarray.Dataset], samples: int) -> xarray.Dataset:
    """Returns scores by name of the nowcast as one dataset, along `model`."""
    joined = xarray.concat(
        list(scores.values()),
        xarray.Variable("model", list(scores)),
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
        combine_attrs="override",
    )
    counts = [one.attrs["members"] for one in scores.values()]
    missing = [one.attrs.get("missing", 0) for one in scores.values()]
    joined = joined.assign_coords(members=("model", counts))
    lacking = [f"{n}: {m} pixels" for n, m in zip(scores, missing) if m]
    attrs: dict[str, Any] = {
        "samples": samples,
        "thresholds_of": "pixels on the scale of SEVIR",
    }
    if lacking:
        attrs["notes"] = (
            f"missing where the truth is known, left out: {', '.join(lacking)}"
        )
    joined.attrs = attrs
    return joined


def _scores_of(
    found: dict[str, NowcastScores],
    name: str,
    leads: int,
    members: int,
    config: NowcastConfig,
) -> NowcastScores:
    """Returns the sums of a model, begun when it is first met."""
    if name not in found:
        found[name] = NowcastScores(leads, members=members, config=config)
    return found[name]


def call(nowcaster: Nowcaster, context: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns what a nowcast makes of a context.

    Args:
      nowcaster: Sees copies, which it may write into.
      context: Pixels [batch, time, lat, lon].
      truth: What follows, likewise, one frame for each lead; only one that
        `needs_truth` is handed it.
    """
    told: dict[str, Any] = {}
    if getattr(nowcaster, "needs_truth", False):
        told["truth"] = truth.copy()
    return np.asarray(nowcaster(context.copy(), truth.shape[1], **told))


def _called(
    name: str, nowcaster: Nowcaster, context: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """Returns the members of a nowcast.

    Raises:
      ValueError: It has another shape.
    """
    members = call(nowcaster, context, truth)
    members = members[np.newaxis] if members.ndim == 4 else members
    if members.ndim != 5 or members.shape[1:] != truth.shape:
        raise ValueError(
            f"{name}: the nowcast has the shape {members.shape}, expected "
            f"[member, {', '.join(map(str, truth.shape))}]"
        )
    return members
