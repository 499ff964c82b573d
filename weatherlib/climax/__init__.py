"""ClimaX: a vision transformer for any set of variables and any lead time.

The predictors, and JAX with them, are loaded when they are first asked for, so that
configurations can be read without.
"""

from weatherlib.climax.config import (
    CLIMAX,
    DEFAULT_VARIABLES,
    PUBLISHED_CONFIGS,
    CheckPoint,
    ClimaXConfig,
)

__all__ = [
    "CLIMAX",
    "DEFAULT_VARIABLES",
    "PUBLISHED_CONFIGS",
    "CheckPoint",
    "ClimaXConfig",
]
