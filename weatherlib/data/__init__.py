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

__all__ = [
    "Compression",
    "ForecastWriter",
    "MemoryWriter",
    "conform",
    "open_dataset",
    "open_writer",
]
