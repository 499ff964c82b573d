"""GraphCast: deterministic forecasts by a graph network on an icosahedral multi-mesh.

Lam et al. (2023), doi:10.1126/science.adi2336. The public names are those of module
`graphcast` in the published package.
"""

from weatherlib.graphcast.config import CheckPoint, MemoryConfig, ModelConfig
from weatherlib.graphcast.predictor import GraphCast
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

__all__ = [
    "ALL_ATMOSPHERIC_VARS",
    "EXTERNAL_FORCING_VARS",
    "FORCING_VARS",
    "GENERATED_FORCING_VARS",
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
    "MemoryConfig",
    "ModelConfig",
    "TaskConfig",
]
