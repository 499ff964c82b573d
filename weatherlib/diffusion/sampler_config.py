"""Which sampler draws, by name. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal, get_args

from weatherlib import config
from weatherlib.diffusion import samplers, schedules

__all__ = ["SamplerConfig", "make_sampler"]

Kind = Literal["ancestral", "ddim", "dpm_solver", "ddpm", "dpmsolver++"]
_OTHER_NAMES = {"ddpm": "ancestral", "dpmsolver++": "dpm_solver"}

_SPACINGS = {"ancestral": "leading", "ddim": "leading", "dpm_solver": "linspace"}
_STEPS = {"ddim": 50, "dpm_solver": 20}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig(config.Mapping):
    """How futures are drawn.

    Attributes:
      kind: "dpm_solver" (DPM-Solver++), which needs about 20 steps; "ddim", about 50;
        or "ancestral", as published, all steps of the schedule. "dpmsolver++" and
        "ddpm" are other names of the first and the last.
      steps: Steps to make; None for those named above.
      spacing: Which steps of noise are visited; None for what suits the kind.
        "truncated" is what the published program does with fewer ancestral steps;
        "log_snr", even in the logarithm of signal over noise, keeps small differences
        between samples with few steps.
      eta: Of "ddim": 0 draws no noise on the way, 1 as much as ancestral sampling does.
      order: Of "dpm_solver": 1, 2 or 3.
      stochastic: Whether "dpm_solver" draws noise on the way.
      clip: Largest magnitude of a predicted latent field; None sets none.

    Raises:
      ValueError: A name is unknown or a number is out of range.
    """

    kind: Kind = "dpm_solver"
    steps: int | None = None
    spacing: schedules.Spacing | None = None
    eta: float = 0.0
    order: int = 2
    stochastic: bool = False
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            hint = config.closest_hint(self.kind, get_args(Kind))
            raise ValueError(f"kind: there is no sampler {self.kind!r}{hint}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, found {self.steps!r}")
        if self.spacing == "truncated" and self.method == "dpm_solver":
            raise ValueError("spacing truncated is of ancestral and ddim only")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be in [0, 1], found {self.eta!r}")

    @classmethod
    def parse(cls, text: str) -> SamplerConfig:
        """Returns what one word says, `KIND[:STEPS][:SETTING]...`.

        Such as "ddim:50:eta=1", "dpm_solver:20:stochastic:spacing=log_snr" or
        "ancestral:100:truncated": a setting is NAME=VALUE, the name of a spacing, or
        "stochastic".

        Raises:
          ValueError: It says something else.
        """
        kind, *words = text.split(":")
        values: dict[str, Any] = {"kind": kind}
        if words and words[0].isdecimal():
            values["steps"] = int(words.pop(0))
        for word in words:
            name, equals, value = word.partition("=")
            found: Any = _value(value)
            if not equals and word in get_args(schedules.Spacing):
                name, found = "spacing", word
            elif not equals:
                found = word == "stochastic"
            if name in values or not (equals or found):
                raise ValueError(
                    "sampler: expected KIND[:STEPS][:SETTING]..., each setting once, "
                    "such as ddim:50, dpm_solver:20:stochastic:spacing=log_snr or "
                    f"ancestral:100:truncated, found {word!r} in {text!r}"
                )
            values[name] = found
        try:
            return config.from_dict(cls, values)
        except ValueError as error:
            raise ValueError(f"sampler {text!r}: {error}") from error

    @property
    def method(self) -> str:
        """One name for each kind: "ancestral", "ddim" or "dpm_solver"."""
        return _OTHER_NAMES.get(self.kind, self.kind)


def make_sampler(
    settings: SamplerConfig, schedule: schedules.NoiseSchedule, prediction: str
) -> samplers.Sampler:
    """Returns the steps of a sampler.

    Args:
      settings: Which.
      schedule: How much noise there is.
      prediction: What the denoiser predicts.

    Raises:
      ValueError: Settings do not fit each other or the schedule.
    """
    kind, clip = settings.method, settings.clip
    steps = settings.steps or min(_STEPS.get(kind, schedule.steps), schedule.steps - 1)
    if kind == "ancestral" and settings.steps is None:
        steps = schedule.steps
    spacing = settings.spacing or _SPACINGS[kind]
    if steps > schedule.steps:
        raise ValueError(
            f"sampler.steps {steps}: the schedule has {schedule.steps} steps of noise"
        )
    options = {"prediction": prediction, "clip": clip, "spacing": spacing}
    if kind == "ancestral":
        return samplers.ancestral(schedule, steps, **options)
    if kind == "ddim":
        return samplers.ddim(schedule, steps, eta=settings.eta, **options)
    return samplers.dpm_solver(
        schedule,
        steps,
        order=settings.order,
        stochastic=settings.stochastic,
        **options,
    )


def _value(text: str) -> Any:
    """Returns a number or a truth value as such, other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
