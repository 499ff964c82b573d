"""Training of any predictor: loop, optimisers, schedules, batches, checkpoints, report.

Nothing here knows a model or where data come from. `Trainer` takes a loss, batches
with a position, and an optax transform; the other modules make those from settings:

    from weatherlib import training

    frames = training.Frames(dataset, task)
    objective = training.Objective(make_predictor)
    stage = training.Stage(
        steps=1000,
        batches=training.Feed(frames.loader(), frames.starts(), batch_size=4, seed=0),
        optimizer=optax.adam(1e-3),
    )
    result = training.Trainer(objective, [stage], folder="runs/first").run()

`weatherlib train` does the same from a YAML file. The `train` extra is needed for
batches (grain), checkpoints (orbax) and TensorBoard files.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weatherlib.training.config import (
    AdapterConfig,
    DataConfig,
    DistributedConfig,
    InitConfig,
    LeadRange,
    LossConfig,
    OptimizerConfig,
    Period,
    RadarConfig,
    Schedule,
    ShardingConfig,
    SourceConfig,
    StageConfig,
    TeacherForcing,
    TrainConfig,
    ValidationConfig,
)
from weatherlib.training.lead_config import Lead

if TYPE_CHECKING:
    from weatherlib.training.adapters import Adapted
    from weatherlib.training.faults import NonFiniteLossError, Stopped
    from weatherlib.training.feed import Feed
    from weatherlib.training.frames import Frames
    from weatherlib.training.leads import LeadSamples
    from weatherlib.training.loop import Trainer
    from weatherlib.training.mixing import MixedFeed, MixedObjective
    from weatherlib.training.objective import Objective
    from weatherlib.training.placement import Placement
    from weatherlib.training.plan import LoopConfig, Result, Stage
    from weatherlib.training.validation import LeadValidator, Validator

_LAZY = {
    "Adapted": "adapters",
    "Feed": "feed",
    "Frames": "frames",
    "LeadSamples": "leads",
    "LeadValidator": "validation",
    "LoopConfig": "plan",
    "MixedFeed": "mixing",
    "MixedObjective": "mixing",
    "NonFiniteLossError": "faults",
    "Objective": "objective",
    "Placement": "placement",
    "Result": "plan",
    "Stage": "plan",
    "Stopped": "faults",
    "Trainer": "loop",
    "Validator": "validation",
}

__all__ = [
    "Adapted",
    "AdapterConfig",
    "DataConfig",
    "DistributedConfig",
    "Feed",
    "Frames",
    "InitConfig",
    "Lead",
    "LeadRange",
    "LeadSamples",
    "LeadValidator",
    "LoopConfig",
    "LossConfig",
    "MixedFeed",
    "MixedObjective",
    "NonFiniteLossError",
    "Objective",
    "OptimizerConfig",
    "Period",
    "Placement",
    "RadarConfig",
    "Result",
    "Schedule",
    "ShardingConfig",
    "SourceConfig",
    "Stage",
    "StageConfig",
    "Stopped",
    "TeacherForcing",
    "TrainConfig",
    "Trainer",
    "ValidationConfig",
    "Validator",
]


def __getattr__(name: str) -> Any:
    """Imports what needs JAX when it is first asked for."""
    if name in _LAZY:
        module = importlib.import_module(f"weatherlib.training.{_LAZY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
