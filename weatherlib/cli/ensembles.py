"""How the members of a set of forecasts are made."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import xarray

from weatherlib import config, data, rollout
from weatherlib.cli import models, predict_options, setups

__all__ = ["Ensemble", "batches", "earlier_steps", "require_earlier"]


class Ensemble:
    """How the members of a set are made.

    Attributes:
      config: How they differ at the start.
      members: How many there are.
      per_batch: How many are computed at a time.
      scales: Standard deviations that perturbations are scaled with.
      scale_name: What these are of.
      seed: Of all random numbers.
      is_drawn: Whether all start from the data as they are, and the model draws.
    """

    def __init__(
        self,
        options: predict_options.Options,
        members: int,
        statistics: models.Statistics,
        *,
        is_drawn: bool = False,
    ) -> None:
        """Takes the options.

        Args:
          options: What the user asks for.
          members: How many.
          statistics: Of the model.
          is_drawn: Whether the model draws its forecasts, so that members differ
            without perturbations.

        Raises:
          ValueError: A number is out of range.
        """
        for label, value in (
            ("--members", members),
            ("--members-per-batch", options.members_per_batch),
        ):
            if value < 1:
                raise ValueError(f"{label}: at least 1 is needed, found {value}")
        config.require_seed(options.seed, "--seed")
        settings = {
            "amplitude": options.amplitude,
            "correlation_length": options.correlation_length,
            "cycles": options.breeding_cycles,
        }
        self.config = rollout.PerturbationConfig(
            kind=options.perturb or "spherical",
            control=not options.perturb_all,
            **{name: value for name, value in settings.items() if value is not None},
        )
        self.members = members
        self.per_batch = min(options.members_per_batch, members)
        self.scale_name = options.perturb_scale or "differences"
        self.scales = (
            statistics.stddev_by_level
            if self.scale_name == "values"
            else statistics.diffs_stddev_by_level
        )
        self.seed = options.seed
        self.is_drawn = is_drawn and options.perturb is None
        if self.is_drawn and options.perturbations:
            raise ValueError(
                f"{options.perturbations[0]}: members of this model differ by what it "
                "draws; add --perturb to perturb their start as well"
            )

    @property
    def attrs(self) -> dict[str, str | int]:
        """What a file says about its members."""
        if self.is_drawn:
            text = f"none: drawn by the model, {self.members} members"
            return {"perturbation": text, "seed": self.seed}
        text = self.config.describe(self.members)
        if self.config.kind != "lagged":
            text += f", scaled with standard deviations of {self.scale_name}"
        return {"perturbation": text, "seed": self.seed}

    def inputs(
        self,
        forecaster: rollout.Forecaster,
        model: models.Model,
        states: data.InitialStates,
        start: np.datetime64,
        numbers: range,
    ) -> xarray.Dataset:
        """Returns the initial states of some members.

        Raises:
          ValueError: A state or statistic is missing.
        """
        step = states.time_step.to_timedelta64()

        @functools.cache
        def state(back: int) -> tuple[xarray.Dataset, xarray.Dataset]:
            return setups.step_from(model, states, start - back * step)

        if self.is_drawn:
            return state(0)[0]
        return rollout.initial_members(
            forecaster,
            model.task_config,
            state,
            self.scales,
            self.config,
            key=rollout.start_key(self.seed, start),
            numbers=numbers,
        )


def batches(ensemble: Ensemble | None) -> Iterator[range | None]:
    """Yields the numbers of the members of each batch, all of one size.

    The last batch makes members again that an earlier one has made, where the size
    does not divide their number: a smaller batch would have to be compiled anew, and
    they come out the same.
    """
    if ensemble is None:
        yield None
        return
    size, members = ensemble.per_batch, ensemble.members
    for first in range(0, members, size):
        first = min(first, members - size)
        yield range(first, first + size)


def earlier_steps(ensemble: Ensemble | None) -> int:
    """Returns how many steps before each start members need a state."""
    if ensemble is None or ensemble.is_drawn:
        return 0
    return rollout.steps_before(ensemble.config, ensemble.members)


def require_earlier(
    states: data.InitialStates, starts: np.ndarray, ensemble: Ensemble | None
) -> None:
    """Checks that the data hold what members need before each start."""
    earlier = earlier_steps(ensemble)
    if ensemble is None or not earlier:
        return
    kind = ensemble.config.kind
    why = f"--perturb {kind} needs, {earlier} step(s) back from each start"
    states.require(starts, earlier=earlier, why=why)
