"""ClimaX: a vision transformer for any set of variables and any lead time.

The predictors, and JAX with them, are loaded when they are first asked for, so that
configurations can be read without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weatherlib.climax.config import (
    CLIMAX,
    DEFAULT_VARIABLES,
    PARAMETER_AXES,
    PUBLISHED_CONFIGS,
    CheckPoint,
    ClimaXConfig,
)

if TYPE_CHECKING:
    from weatherlib.climax.predictor import (
        ClimateProjection,
        ClimaX,
        RegionalClimaX,
        make_predictor,
    )

__all__ = [
    "CLIMAX",
    "DEFAULT_VARIABLES",
    "PARAMETER_AXES",
    "PUBLISHED_CONFIGS",
    "CheckPoint",
    "ClimaX",
    "ClimaXConfig",
    "ClimateProjection",
    "RegionalClimaX",
    "make_predictor",
]

_PREDICTORS = ("ClimaX", "ClimateProjection", "RegionalClimaX", "make_predictor")


def __getattr__(name: str) -> Any:
    """Imports a predictor when it is first asked for."""
    if name in _PREDICTORS:
        return getattr(importlib.import_module("weatherlib.climax.predictor"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
