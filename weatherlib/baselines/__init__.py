"""Models on the grid itself: one convolutional network of a step, and a zoo of frames.

`create` makes a model of the zoo by name. Predictors, and JAX with them, are loaded
when they are first asked for, so that configurations can be read without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weatherlib.baselines.common import FrameModelConfig
from weatherlib.baselines.config import RESIDUAL_CNN, CheckPoint, ResidualCnnConfig
from weatherlib.baselines.linear_config import LinearConfig, MultiLinearConfig
from weatherlib.baselines.registry import MODELS, create

if TYPE_CHECKING:
    from weatherlib.baselines.grid_predictor import GridPredictor
    from weatherlib.baselines.predictor import ResidualCnn
    from weatherlib.baselines.references import Climatology, Persistence

__all__ = [
    "MODELS",
    "RESIDUAL_CNN",
    "CheckPoint",
    "Climatology",
    "FrameModelConfig",
    "GridPredictor",
    "LinearConfig",
    "MultiLinearConfig",
    "Persistence",
    "ResidualCnn",
    "ResidualCnnConfig",
    "create",
]

_LAZY = {
    "Climatology": "references",
    "GridPredictor": "grid_predictor",
    "Persistence": "references",
    "ResidualCnn": "predictor",
}


def __getattr__(name: str) -> Any:
    """Imports predictors when they are first asked for."""
    if name in _LAZY:
        module = importlib.import_module(f"weatherlib.baselines.{_LAZY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
