"""Devices and processes of a training run, from its settings."""

from __future__ import annotations

import math

import jax

from weatherlib import training
from weatherlib.cli import families
from weatherlib.training import distributed, sharding

__all__ = ["make"]


def make(
    config: training.TrainConfig, processes: distributed.Run
) -> tuple[training.Placement, list[tuple[str, str]]]:
    """Returns where a run computes, and what there is to say of it.

    Without `sharding` in the settings, a single process shares batches between as many
    of its devices as divide them, and several processes between all.

    Args:
      config: Settings of the run.
      processes: Its processes.

    Raises:
      ValueError: The mesh does not make up the devices, or does not divide a batch.
    """
    family, _ = families.find_family(config.model)
    devices = jax.devices()
    if config.sharding is None and processes.num_processes == 1:
        count = math.gcd(len(devices), *_samples(config))
        if count == 1:
            return training.Placement(), _unused(len(devices), 1)
        facts, devices = _unused(len(devices), count), devices[:count]
    else:
        facts = []
    layout = sharding.Layout(
        config.sharding, family_axes=family.parameter_axes, devices=devices
    )
    placement = training.Placement.over(layout, processes)
    _check_batches(config, placement.batch_parts)
    sizes = ", ".join(f"{name}: {size}" for name, size in layout.mesh.shape.items())
    text = f"{sizes} on {layout.mesh.size} {devices[0].platform} devices"
    if processes.num_processes > 1:
        text += f" of {processes.num_processes} processes"
    facts = [("layout", text), *facts]
    size = config.validation.batch_size
    if config.data.validation is not None and size % placement.batch_parts:
        advice = (
            f"every device judges all; a validation.batch_size that "
            f"{placement.batch_parts} divides, now {size}, would share them"
        )
        facts.append(("validation", advice))
    return placement, facts


def _samples(config: training.TrainConfig) -> list[int]:
    """Returns the samples that devices work on at once, of each stage."""
    return [stage.batch_size // config.optimizer.accumulate for stage in config.stages]


def _unused(found: int, used: int) -> list[tuple[str, str]]:
    if used == found:
        return []
    return [
        (
            "devices",
            f"{used} of {found}: the batch_size of all stages must divide to use more, "
            "or set sharding.mesh",
        )
    ]


def _check_batches(config: training.TrainConfig, parts: int) -> None:
    """Checks that devices can share every batch.

    Raises:
      ValueError: They cannot; the message has the stage and what would do.
    """
    accumulate = config.optimizer.accumulate
    for index, samples in enumerate(_samples(config)):
        if samples % parts:
            size = samples * accumulate
            wanted = parts * accumulate
            after = f" in {accumulate} accumulated parts" if accumulate > 1 else ""
            raise ValueError(
                f"stages[{index}].batch_size {size}{after} cannot be shared by the "
                f"{parts} devices along the batch; use "
                f"{math.ceil(size / wanted) * wanted}, or sharding.mesh with data: "
                f"{math.gcd(samples, parts)}"
            )
