"""GraphCast: deterministic forecasts by a graph network on an icosahedral multi-mesh.

Lam et al. (2023), doi:10.1126/science.adi2336. The public names are those of module
`graphcast` in the published package.

The predictor, and JAX with it, is loaded when it is first asked for, so that
configurations can be read without.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from weatherlib.graphcast.config import (
    PARAMETER_AXES,
    CheckPoint,
    MemoryConfig,
    ModelConfig,
    SlopesCheckPoint,
    SlopesModelConfig,
)
from weatherlib.task import (
    ALL_ATMOSPHERIC_VARS,
    EXTERNAL_FORCING_VARS,
    FORCING_VARS,
    GENERATED_FORCING_VARS,
    PRESSURE_LEVELS,
    PRESSURE_LEVELS_ERA5_37,
    PRESSURE_LEVELS_HRES_25,
    PRESSURE_LEVELS_WEATHERBENCH_13,
    STATIC_VARS,
    TARGET_ATMOSPHERIC_NO_W_VARS,
    TARGET_ATMOSPHERIC_VARS,
    TARGET_SURFACE_NO_PRECIP_VARS,
    TARGET_SURFACE_VARS,
    TASK,
    TASK_13,
    TASK_13_PRECIP_OUT,
    TaskConfig,
)

if TYPE_CHECKING:
    from weatherlib.graphcast.predictor import GraphCast

__all__ = [
    "ALL_ATMOSPHERIC_VARS",
    "EXTERNAL_FORCING_VARS",
    "FORCING_VARS",
    "GENERATED_FORCING_VARS",
    "GNN",
    "PARAMETER_AXES",
    "PRESSURE_LEVELS",
    "PRESSURE_LEVELS_ERA5_37",
    "PRESSURE_LEVELS_HRES_25",
    "PRESSURE_LEVELS_WEATHERBENCH_13",
    "STATIC_VARS",
    "TARGET_ATMOSPHERIC_NO_W_VARS",
    "TARGET_ATMOSPHERIC_VARS",
    "TARGET_SURFACE_NO_PRECIP_VARS",
    "TARGET_SURFACE_VARS",
    "TASK",
    "TASK_13",
    "TASK_13_PRECIP_OUT",
    "CheckPoint",
    "GraphCast",
    "Kwargs",
    "MemoryConfig",
    "ModelConfig",
    "SlopesCheckPoint",
    "SlopesModelConfig",
    "TaskConfig",
]

# Published names of types. There a graph is one of jraph, which is not needed here.
Kwargs = Mapping[str, Any]
GNN = Callable[[Any], Any]


def __getattr__(name: str) -> Any:
    """Imports the predictor when it is first asked for."""
    if name == "GraphCast":
        return importlib.import_module("weatherlib.graphcast.predictor").GraphCast
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
