"""Weather data in and out: opening files, fitting them to a model, writing forecasts.

Nothing here imports JAX.
"""

from weatherlib.data.writers import (
    Compression,
    ForecastWriter,
    MemoryWriter,
    open_writer,
)

__all__ = ["Compression", "ForecastWriter", "MemoryWriter", "open_writer"]
