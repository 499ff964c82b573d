"""Weather data in and out: opening files, fitting them to a model, writing forecasts.

Nothing here imports JAX.
"""

from weatherlib.data.conform import conform
from weatherlib.data.hindcasts import HindcastPlan, HindcastWriter, open_hindcasts
from weatherlib.data.inputs import InitialStates
from weatherlib.data.open import open_dataset
from weatherlib.data.starts import StartRule, parse_starts
from weatherlib.data.writers import (
    Compression,
    ForecastWriter,
    MemoryWriter,
    open_writer,
)

__all__ = [
    "Compression",
    "ForecastWriter",
    "HindcastPlan",
    "HindcastWriter",
    "InitialStates",
    "MemoryWriter",
    "StartRule",
    "conform",
    "open_dataset",
    "open_hindcasts",
    "open_writer",
    "parse_starts",
]
