"""Weather data in and out: opening files, fitting them to a model, writing forecasts.

Nothing here imports JAX.
"""

from weatherlib.data.canonical_form import canonical
from weatherlib.data.conform import conform
from weatherlib.data.derived import DERIVABLE, add_derived
from weatherlib.data.hindcasts import (
    HindcastPlan,
    HindcastSlot,
    HindcastWriter,
    open_hindcasts,
)
from weatherlib.data.inputs import InitialStates
from weatherlib.data.open import open_dataset
from weatherlib.data.open_data import open_latest_analysis
from weatherlib.data.radar import open_radar
from weatherlib.data.radar_sequences import SequenceConfig, Sequences
from weatherlib.data.radar_series import series_sequences
from weatherlib.data.regrid import interpolate_levels, regrid, select_levels
from weatherlib.data.sampling import (
    accumulate_precipitation,
    deaccumulate,
    subsample,
)
from weatherlib.data.starts import StartRule, parse_starts
from weatherlib.data.synthetic import SyntheticRadarConfig, synthetic_radar
from weatherlib.data.writers import (
    Compression,
    ForecastWriter,
    MemoryWriter,
    open_writer,
)
from weatherlib.data_utils.climatology import climatology, climatology_at

__all__ = [
    "DERIVABLE",
    "Compression",
    "ForecastWriter",
    "HindcastPlan",
    "HindcastSlot",
    "HindcastWriter",
    "InitialStates",
    "MemoryWriter",
    "SequenceConfig",
    "Sequences",
    "StartRule",
    "SyntheticRadarConfig",
    "accumulate_precipitation",
    "add_derived",
    "canonical",
    "climatology",
    "climatology_at",
    "conform",
    "deaccumulate",
    "interpolate_levels",
    "open_dataset",
    "open_hindcasts",
    "open_latest_analysis",
    "open_radar",
    "open_writer",
    "parse_starts",
    "regrid",
    "select_levels",
    "series_sequences",
    "subsample",
    "synthetic_radar",
]
