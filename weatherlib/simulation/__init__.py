"""A simulated atmosphere: weather to learn from, made offline.

The primitive equations of the package `dinosaur` (extra `sim`) with idealised heating,
friction and water, written with the names and units of ERA5. Physics that GraphCast has
to learn in it: jets, travelling storms, fronts, rain, and a daily cycle over land.
"""

from weatherlib.simulation.config import RESOLUTIONS, Resolution, SimulationConfig
from weatherlib.simulation.driver import ATTRIBUTES, Writer, run, simulate

__all__ = [
    "ATTRIBUTES",
    "RESOLUTIONS",
    "Resolution",
    "SimulationConfig",
    "Writer",
    "run",
    "simulate",
]
