"""Weather data in and out: opening files, fitting them to a model, writing forecasts.

Nothing here imports JAX.
"""

from weatherlib.data.conform import conform
from weatherlib.data.open import open_dataset
from weatherlib.data.writers import (
    Compression,
    ForecastWriter,
    MemoryWriter,
    open_writer,
)
from weatherlib.data_utils.climatology import climatology, climatology_at

__all__ = [
    "Compression",
    "ForecastWriter",
    "MemoryWriter",
    "climatology",
    "climatology_at",
    "conform",
    "open_dataset",
    "open_writer",
]
