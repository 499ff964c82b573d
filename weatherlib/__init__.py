"""Machine-learned weather forecasting in JAX: one contract for every open model.

Importing this package loads nothing else. Each module, such as
`weatherlib.graphcast` or `weatherlib.rollout`, is imported on first use.
"""

from __future__ import annotations

import importlib
import pathlib
from typing import Any

__version__ = "0.1.0"

# Modules that the published GraphCast package has under its top level and that our
# tree files elsewhere. They live in `weatherlib/compat`, and because that folder is
# part of the search path, `import weatherlib.icosahedral_mesh` finds them too.
_COMPAT = pathlib.Path(__file__).parent / "compat"
__path__.append(str(_COMPAT))

_LAZY = frozenset(
    {
        "autoregressive",
        "baselines",
        "bundled",
        "casting",
        "checkpoint",
        "climatology_removal",
        "climax",
        "config",
        "data",
        "data_utils",
        "diffusion",
        "evaluation",
        "geometry",
        "graphcast",
        "host_memory",
        "hub",
        "latent",
        "losses",
        "nan_cleaning",
        "normalization",
        "plotting",
        "prediff",
        "predictor_base",
        "rollout",
        "simulation",
        "slopes",
        "stacking",
        "task",
        "training",
        "variables",
        "weights",
        "xarray_jax",
        "xarray_tree",
        # From weatherlib/compat.
        "deep_typed_graph_net",
        "grid_mesh_connectivity",
        "icosahedral_mesh",
        "mlp",
        "model_utils",
        "solar_radiation",
        "typed_graph",
        "typed_graph_net",
    }
)

# Functions that are worth a short name, and the modules they live in.
_FUNCTIONS = {"load_forecaster": "weatherlib.cli.forecasting"}


def __getattr__(name: str) -> Any:
    """Imports a public module or function when it is first asked for."""
    if name in _LAZY:
        return importlib.import_module(f"weatherlib.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'weatherlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists what is public beside what is loaded already."""
    return sorted(_LAZY | set(_FUNCTIONS) | set(globals()))
