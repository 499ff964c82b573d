"""Datasets made ready for a model: extraction, forcings, templates and checks.

This package carries the public names of the published module `data_utils`. It never
imports JAX.
"""

from weatherlib.data_utils.checks import check, require
from weatherlib.data_utils.extract import (
    extract_input_target_times,
    extract_inputs_targets_forcings,
)
from weatherlib.data_utils.problems import Problem
from weatherlib.data_utils.progress import (
    AVG_SEC_PER_YEAR,
    COMPUTABLE_FORCINGS,
    DAY_PROGRESS,
    SEC_PER_DAY,
    TISR,
    YEAR_PROGRESS,
    add_derived_vars,
    add_tisr_var,
    featurize_progress,
    get_day_progress,
    get_seconds_since_epoch,
    get_year_progress,
)
from weatherlib.data_utils.templates import forcings, split_initial, targets_template
from weatherlib.data_utils.times import (
    TargetLeadTimes,
    TimedeltaLike,
    TimedeltaStr,
    decode_time,
    infer_time_step,
    valid_times,
)

__all__ = [
    "AVG_SEC_PER_YEAR",
    "COMPUTABLE_FORCINGS",
    "DAY_PROGRESS",
    "SEC_PER_DAY",
    "TISR",
    "YEAR_PROGRESS",
    "Problem",
    "TargetLeadTimes",
    "TimedeltaLike",
    "TimedeltaStr",
    "add_derived_vars",
    "add_tisr_var",
    "check",
    "decode_time",
    "extract_input_target_times",
    "extract_inputs_targets_forcings",
    "featurize_progress",
    "forcings",
    "get_day_progress",
    "get_seconds_since_epoch",
    "get_year_progress",
    "infer_time_step",
    "require",
    "split_initial",
    "targets_template",
    "valid_times",
]
