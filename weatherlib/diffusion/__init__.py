"""Diffusion on arrays: noise, losses, samplers and guidance, for any denoiser.

`schedules` holds tables of noise, `forward` adds it and converts predictions, `losses`
compares them, `samplers` are tables of steps that `sampling.sample` runs, `guidance`
draws samples towards a constraint, and `ema` averages weights. Nothing here knows a
network. Modules that need JAX are loaded when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from weatherlib.diffusion.config import PREDIFF, DiffusionConfig
from weatherlib.diffusion.sampler_config import SamplerConfig, make_sampler
from weatherlib.diffusion.schedules import NoiseSchedule, ScheduleConfig, make_schedule

__all__ = [
    "PREDIFF",
    "DiffusionConfig",
    "NoiseSchedule",
    "SamplerConfig",
    "ScheduleConfig",
    "make_sampler",
    "make_schedule",
]

_MODULES = (
    "ema",
    "forward",
    "guidance",
    "losses",
    "samplers",
    "sampling",
)


def __getattr__(name: str) -> Any:
    """Imports a module when it is first asked for."""
    if name in _MODULES:
        return importlib.import_module(f"weatherlib.diffusion.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names and modules."""
    return sorted([*__all__, *_MODULES])
