"""Rolls a model out: the published functions, and a `Forecaster` for repeated use."""

from weatherlib.rollout.forecaster import Forecaster
from weatherlib.rollout.guard import Guard, GuardError, GuardWarning, Violation
from weatherlib.rollout.members import initial_members, steps_before
from weatherlib.rollout.memory import FitReport
from weatherlib.rollout.perturbations import PerturbationConfig, start_key, start_keys
from weatherlib.rollout.published import (
    PredictorFn,
    chunked_prediction,
    chunked_prediction_generator,
    chunked_prediction_generator_multiple_runs,
    extend_targets_template,
)
from weatherlib.rollout.running import Progress, RunSummary, Writer

__all__ = [
    "FitReport",
    "Forecaster",
    "Guard",
    "GuardError",
    "GuardWarning",
    "PerturbationConfig",
    "PredictorFn",
    "Progress",
    "RunSummary",
    "Violation",
    "Writer",
    "chunked_prediction",
    "chunked_prediction_generator",
    "chunked_prediction_generator_multiple_runs",
    "extend_targets_template",
    "initial_members",
    "start_key",
    "start_keys",
    "steps_before",
]
