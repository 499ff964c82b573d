"""Batches of the stages of a training run, and the lead times they have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weatherlib import predictor_base, training
from weatherlib.cli import families, run_data, training_samples
from weatherlib.training import mixing, patterns, schedules
from weatherlib.training.forcing_config import TEACHER_FORCING_RATIO
from weatherlib.training.lead_config import LeadRange
from weatherlib.training.leads import LeadSamples

__all__ = [
    "completed",
    "feed",
    "first_sample",
    "loss_options",
    "require_decoder",
    "require_single_steps",
    "starts",
    "trained_leads",
    "validator",
    "with_held",
]


def starts(
    source: run_data.Source,
    stage: training.StageConfig,
    targets: int,
    period: training.Period | None = None,
) -> int:
    """Returns how many first frames a stage has in a source, whatever the lead time.

    Args:
      source: The data.
      stage: Says which lead times.
      targets: Frames of the targets, where it says none.
      period: Holds the samples; None is that of training.

    Raises:
      ValueError: There is no sample.
    """
    period = period or source.settings.train
    if stage.lead is None:
        return len(source.frames.starts(period, targets=targets))
    leads = source.lead_steps(stage.lead)
    return LeadSamples(source.fields, leads, period).starts


def first_sample(
    source: run_data.Source, stage: training.StageConfig, targets: int
) -> Any:
    """Returns a batch of the first sample of a stage.

    Args:
      source: The data.
      stage: Says which lead times.
      targets: Frames of the targets, where it says none.

    Raises:
      ValueError: There is no sample.
    """
    frames, period = source.frames, source.settings.train
    if stage.lead is None:
        first = frames.starts(period, targets=targets)[:1]
        return frames.batch(first, targets, period)
    samples = LeadSamples(source.fields, source.lead_steps(stage.lead), period)
    return samples(samples.numbers[:1])


def completed(
    settings: training.TrainConfig,
    source: run_data.Source,
    family: families.Family,
    model: Any,
) -> tuple[Any, dict[str, Any]]:
    """Returns the whole configuration of a model, and parameters that stay as they are.

    Args:
      settings: Of the run.
      source: The data.
      family: Of the model.
      model: Its configuration, which may take something from other files.

    Raises:
      ValueError: Something is missing or does not fit, or the model is to be trained
        as its family cannot be.
      OSError: A file cannot be read.
    """
    if family.own_loss:
        _require_own_loss(settings)
    if not family.forecasts and settings.validation.metric != "loss":
        raise ValueError(
            f"validation.metric {settings.validation.metric}: the family "
            f"{settings.model['family']} makes no forecasts; use loss"
        )
    if family.complete is None:
        return model, {}
    return family.complete(model, training_samples.TrainingSamples(source))


def feed(
    sources: Sequence[run_data.Source],
    stage: training.StageConfig,
    targets: int,
    settings: training.TrainConfig,
    *,
    index: int,
    placement: training.Placement,
) -> training.Feed | mixing.MixedFeed:
    """Returns the batches of a stage.

    Args:
      sources: Where they come from.
      stage: Size of the batches, and lead times.
      targets: Frames of the targets, where the stage says no lead times.
      settings: Of the run.
      index: Of the stage; stages must not repeat each other's order.
      placement: Devices and processes.

    Raises:
      ValueError: A source has no sample.
    """
    feeds = []
    for number, source in enumerate(sources):
        load: Any
        if stage.lead is None:
            period = source.settings.train
            load = source.frames.loader(targets, period)
            samples = source.frames.starts(period, targets=targets)
        else:
            leads = source.lead_steps(stage.lead)
            load = LeadSamples(source.fields, leads, source.settings.train)
            samples = load.numbers
        if len(sources) > 1:
            load = mixing.marked(load, number)
        entropy = [settings.seed, index, *([number] if number else [])]
        feeds.append(
            training.Feed(
                load,
                samples,
                batch_size=stage.batch_size,
                seed=int(np.random.SeedSequence(entropy).generate_state(1)[0]),
                accumulate=settings.optimizer.accumulate,
                threads=settings.data.threads,
                prefetch=settings.data.prefetch,
                placement=placement,
            )
        )
    if len(feeds) == 1:
        return feeds[0]
    return mixing.MixedFeed(feeds, [source.settings.weight for source in sources])


def trained_leads(
    stages: Sequence[training.StageConfig],
    sources: Sequence[run_data.Source],
    family: families.Family,
    model: Any,
    given: Sequence[str],
) -> Any:
    """Returns the configuration of the model with the lead times it is trained on.

    Args:
      stages: Of the run.
      sources: Their steps count where a stage names no lead times.
      family: Of the model.
      model: Its configuration.
      given: Fields of it that the user set, which stay.

    Raises:
      ValueError: A stage has lead times, and the model takes none.
    """
    for number, stage in enumerate(stages):
        if stage.lead is not None and not family.takes_lead_time:
            raise ValueError(
                f"stages[{number}].lead: this family predicts one step of the data; "
                "set data.time_step for a longer one, or take the family climax"
            )
    if not family.takes_lead_time or "lead_hours" in given:
        return model
    found = [
        run_data.hours(source, steps)
        for stage in stages
        for source in sources
        for steps in ((1,) if stage.lead is None else source.lead_steps(stage.lead))
    ]
    return model.replace(lead_hours=(min(found), max(found)))


def validator(
    objective: Any,
    source: run_data.Source,
    settings: training.TrainConfig,
    family: families.Family,
    *,
    placement: training.Placement,
) -> training.Validator | training.LeadValidator:
    """Returns what judges the weights, on the validation period of a source.

    Args:
      objective: Without the randomness of training.
      source: The data.
      settings: Of the run.
      family: Of the model.
      placement: Devices and processes.

    Raises:
      ValueError: The period has no sample, or a lead time does not fit.
    """
    judging, period = settings.validation, settings.data.validation
    if not family.forecasts:
        judging = judging.replace(leads=())
    leads = _validation_leads(settings, source, family)
    if leads is not None:
        return training.LeadValidator(
            objective,
            source.fields,
            leads,
            judging,
            period=period,
            placement=placement,
        )
    frames = objective.frames_per_step
    steps = max(judging.rollout, -(-max(judging.leads, default=1) // frames))
    longest = steps * frames
    return training.Validator(
        objective,
        functools.partial(source.frames.loader, period=period),
        source.frames.starts(period, targets=longest),
        judging,
        placement=placement,
    )


def loss_options(
    family: families.Family, stage: training.StageConfig, updates: int, begin: int
) -> Callable[[Any], dict[str, Any]] | None:
    """Returns the options of the loss by updates of the whole run; None for none.

    Args:
      family: Of the model, which may take the number of updates as `update`.
      stage: Says how true frames are read.
      updates: Of the stage.
      begin: Updates before it.
    """
    if family.counts_updates:
        return lambda count: {"update": count}
    if stage.teacher_forcing is None:
        return None
    ratio = schedules.make_forcing(stage.teacher_forcing, updates)
    return lambda count: {TEACHER_FORCING_RATIO: ratio(count - begin)}


def require_decoder(stages: Sequence[training.StageConfig], model: Any) -> None:
    """Checks that a model can read true frames where a stage tells it to.

    Args:
      stages: Of the run.
      model: The configuration of the model; one that can says so.

    Raises:
      ValueError: It cannot.
    """
    for number, stage in enumerate(stages):
        if stage.teacher_forcing and not getattr(model, "takes_teacher_forcing", False):
            raise ValueError(
                f"stages[{number}].teacher_forcing: this family does not predict frame "
                "by frame; leave it out, or take the family convlstm_seq2seq"
            )


def _require_own_loss(settings: training.TrainConfig) -> None:
    """Checks that a model is trained as it has to be: on its own loss of single steps.

    Raises:
      ValueError: Another loss is asked for, or a longer rollout.
    """
    name = settings.model["family"]
    if not settings.loss.is_own:
        raise ValueError(f"loss: the family {name} has a loss of its own; leave it out")
    rollouts = [steps for stage in settings.stages for steps in stage.rollouts]
    longest = {"stages.rollout": max(rollouts)}
    if settings.data.validation is not None:
        longest["validation.rollout"] = settings.validation.rollout
    for label, steps in longest.items():
        if steps > 1:
            raise ValueError(
                f"{label} {steps}: the family {name} is trained on single steps; 1 "
                "would work"
            )


def with_held(
    optimizer: training.OptimizerConfig, held: Mapping[str, Any]
) -> training.OptimizerConfig:
    """Returns an optimiser that leaves the parameters of another file as they are.

    Args:
      optimizer: Of the run.
      held: These parameters, by path.

    Raises:
      ValueError: It is to train one of them.
    """
    for module, values in held.items():
        for name in values:
            if patterns.first_match(f"{module}/{name}", optimizer.trained) is not None:
                raise ValueError(
                    f"optimizer.trained: {module}/{name} comes from another file and "
                    "is not trained"
                )
    roots = sorted({module.split("/")[0] for module in held})
    frozen = (*optimizer.frozen, *(f"{root}/*" for root in roots))
    return optimizer.replace(frozen=frozen)


def require_single_steps(settings: training.TrainConfig) -> None:
    """Checks that no step starts from a predicted part of the grid.

    Raises:
      ValueError: A rollout is longer than one step.
    """
    rollouts = [steps for stage in settings.stages for steps in stage.rollouts]
    longest = {"stages.rollout": max(rollouts)}
    validation = settings.validation
    leads = [validation.lead, *(stage.lead for stage in settings.stages)]
    if settings.data.validation is not None and not any(leads):
        longest["validation.rollout"] = validation.rollout
        longest["validation.leads"] = max(validation.leads, default=1)
    for name, steps in longest.items():
        if steps > 1:
            raise ValueError(f"{name} {steps}: {predictor_base.ONE_PART}; 1 would work")


def _validation_leads(
    settings: training.TrainConfig, source: run_data.Source, family: families.Family
) -> tuple[int, ...] | None:
    """Returns the lead times that validation judges in one step, in steps.

    None where it judges rollouts.

    Raises:
      ValueError: They are named, and the model takes no lead time.
    """
    lead = settings.validation.lead
    if lead is not None:
        if not family.takes_lead_time:
            raise ValueError(
                "lead: this family predicts one step of the data; name "
                "steps in validation.leads"
            )
        return source.lead_steps(lead)
    given = [stage.lead for stage in settings.stages if stage.lead is not None]
    if not given:
        return None
    steps = source.lead_steps(given[-1])
    if isinstance(given[-1], LeadRange):
        return tuple(sorted({steps[0], steps[len(steps) // 2], steps[-1]}))
    return steps
