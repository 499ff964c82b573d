"""Models on the grid itself, to compare with: at present a convolutional network.

The predictor, and JAX with it, is loaded when it is first asked for, so that
configurations can be read without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weatherlib.baselines.config import RESIDUAL_CNN, CheckPoint, ResidualCnnConfig

if TYPE_CHECKING:
    from weatherlib.baselines.predictor import ResidualCnn

__all__ = ["RESIDUAL_CNN", "CheckPoint", "ResidualCnn", "ResidualCnnConfig"]


def __getattr__(name: str) -> Any:
    """Imports the predictor when it is first asked for."""
    if name == "ResidualCnn":
        return importlib.import_module("weatherlib.baselines.predictor").ResidualCnn
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
