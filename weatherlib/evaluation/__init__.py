"""Scores of forecasts: computed in blocks, compared with references and one another.

`evaluate` is the way in, `evaluate_nowcasts` for radar; single scores on arrays are in
`deterministic`, `ensemble`, `events` and `spectra`. Nothing here imports JAX.
"""

from weatherlib.evaluation.accumulation import Accumulated, accumulate, evaluate
from weatherlib.evaluation.bootstrap import block_counts
from weatherlib.evaluation.climatology import fit_climatology, open_climatology
from weatherlib.evaluation.events import Threshold, parse_threshold
from weatherlib.evaluation.metrics import METRICS
from weatherlib.evaluation.nowcasts import (
    NowcastConfig,
    NowcastScores,
    evaluate_nowcasts,
)
from weatherlib.evaluation.references import REFERENCES
from weatherlib.evaluation.regions import REGIONS, Box, parse_box
from weatherlib.evaluation.results import canonical_results
from weatherlib.evaluation.settings import Execution, Settings
from weatherlib.evaluation.sevir_skill import SevirSkill
from weatherlib.evaluation.tables import (
    open_results,
    score_rows,
    write_csv,
    write_results,
)

__all__ = [
    "METRICS",
    "REFERENCES",
    "REGIONS",
    "Accumulated",
    "Box",
    "Execution",
    "NowcastConfig",
    "NowcastScores",
    "Settings",
    "SevirSkill",
    "Threshold",
    "accumulate",
    "block_counts",
    "canonical_results",
    "evaluate",
    "evaluate_nowcasts",
    "fit_climatology",
    "open_climatology",
    "open_results",
    "parse_box",
    "parse_threshold",
    "score_rows",
    "write_csv",
    "write_results",
]
