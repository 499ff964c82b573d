"""The work in blocks: on threads, or on the workers of a dask cluster."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from weatherlib import optional
from weatherlib.evaluation import (
    climatology,
    events,
    fields,
    reading,
    regions,
    settings,
    statistics,
    totals,
)

__all__ = ["Block", "Model", "Plan", "run"]


@dataclasses.dataclass(frozen=True)
class Model:
    """One forecast or reference.

    Attributes:
      source: Its values.
      members: Members of its ensemble.
      wanted: For each variable the statistics to compute.
    """

    source: reading.Source
    members: int
    wanted: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that blocks have in common.

    Attributes:
      models: By name.
      truth: What happened.
      climatology: What is normal, None where nothing needs it.
      limits: For each variable its thresholds; quantiles as [level, row, column].
      inits: Starts.
      leads: Lead times.
      levels: For each variable its levels, None where it has none.
      weights: Of each region, [region, row, column].
      grid: The points.
      neighbourhoods: Sides of squares, in points.
      truncation: Highest total wavenumber.
      seed: Of random ranks.
      stored_starts: Starts in one chunk of the forecasts' files.
    """

    models: Mapping[str, Model]
    truth: reading.TruthReader
    climatology: climatology.Climatology | None
    limits: Mapping[str, tuple[tuple[events.Threshold, Any], ...]]
    inits: np.ndarray
    leads: np.ndarray
    levels: Mapping[str, np.ndarray | None]
    weights: np.ndarray
    grid: regions.Grid
    neighbourhoods: tuple[int, ...]
    truncation: int
    seed: int
    stored_starts: int = 1


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of the work.

    Attributes:
      variable: Name.
      inits: Which starts.
      leads: Which lead times.
      levels: Which levels.
    """

    variable: str
    inits: slice
    leads: slice
    levels: slice


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a block gives.

    Attributes:
      sums: For each model and statistic sums and weights.
      missing: For each model how many values it lacks where the truth is known.
    """

    sums: Mapping[str, Mapping[str, fields.Sums]]
    missing: Mapping[str, int]


def run(
    plan: Plan, found: Mapping[str, totals.Totals], execution: settings.Execution
) -> dict[str, int]:
    """Adds all blocks to the totals and returns the missing values of each model.

    Args:
      plan: What to do.
      found: Totals of zero for each model, filled here.
      execution: Where and how.

    Raises:
      OSError: The scheduler cannot be reached.
    """
    blocks = list(_blocks(plan, execution.memory // execution.workers))
    missing = dict.fromkeys(plan.models, 0)
    started = time.monotonic()
    work = _on_threads if execution.scheduler is None else _on_cluster
    for done, (block, outcome) in enumerate(work(plan, blocks, execution), start=1):
        place = {
            "init_time": block.inits,
            "lead_time": block.leads,
            "level": block.levels,
        }
        for name, sums in outcome.sums.items():
            found[name].add(block.variable, place, sums)
            missing[name] += outcome.missing[name]
        if execution.progress is not None:
            execution.progress(done, len(blocks), time.monotonic() - started)
    return missing


def run_block(plan: Plan, block: Block) -> Outcome:
    """Returns the sums of one block."""
    inits, leads = plan.inits[block.inits], plan.leads[block.leads]
    every = plan.levels[block.variable]
    levels = None if every is None else every[block.levels]
    valid = inits[:, None] + leads[None, :]
    truth = plan.truth.at(block.variable, valid, levels)
    normal = None
    if plan.climatology is not None and _needs_climatology(plan, block.variable):
        normal = plan.climatology.at(block.variable, valid, levels)
    shared = {
        "truth": truth,
        "climatology": normal,
        "limits": tuple(
            fields.Limit(t, v if np.ndim(v) == 0 else v[block.levels])
            for t, v in plan.limits.get(block.variable, ())
        ),
        "neighbourhoods": plan.neighbourhoods,
        "reduce": fields.Reducer(plan.weights),
        "grid": plan.grid,
        "key": _keys(plan, block, levels),
        "truncation": plan.truncation,
    }
    sums, missing = {}, {}
    for name, model in plan.models.items():
        members = model.source.read(block.variable, inits, leads, levels)
        part = fields.Fields(members=members, **shared)
        sums[name] = {
            statistic: statistics.STATISTICS[statistic].compute(part)
            for statistic in model.wanted[block.variable]
        }
        broken = np.isfinite(truth) & ~np.isfinite(part.mean)
        missing[name] = int(broken.sum())
    return Outcome(sums, missing)


def _needs_climatology(plan: Plan, variable: str) -> bool:
    return any(
        "climatology" in statistics.STATISTICS[name].needs
        for model in plan.models.values()
        for name in model.wanted[variable]
    )


def _keys(plan: Plan, block: Block, levels: np.ndarray | None) -> np.ndarray:
    """Returns a random seed for each field that does not depend on the blocks."""
    name = zlib.crc32(block.variable.encode())
    numbers = [
        np.int64(plan.seed * 1_000_003 + name),
        plan.inits[block.inits].astype("datetime64[s]").astype(np.int64),
        plan.leads[block.leads].astype("timedelta64[s]").astype(np.int64),
        np.zeros(1, np.int64) if levels is None else np.asarray(levels * 100, np.int64),
    ]
    start, lead, level = np.ix_(*numbers[1:])
    mixed = (start * 1_000_003 + lead) * 7919 + level * 104_729 + numbers[0]
    return np.abs(mixed)


def _blocks(plan: Plan, memory: int) -> Iterator[Block]:
    """Yields the work cut so that each part fits into memory.

    Levels stay together first, then lead times, since files mostly hold them so.
    """
    points = int(np.prod(plan.grid.shape))
    # Each member once as read and once as a temporary, and about ten fields beside.
    fields_each = 2 * max(model.members for model in plan.models.values()) + 10
    room = max(1, memory // (8 * points * fields_each))
    for variable, levels in plan.levels.items():
        sizes = [1 if levels is None else len(levels), len(plan.leads), len(plan.inits)]
        chunks, left = [], room
        for size in sizes:
            chunks.append(max(1, min(size, left)))
            left //= chunks[-1]
        # A chunk of the file that is cut would be read more than once.
        stored = plan.stored_starts
        if chunks[2] > stored:
            chunks[2] -= chunks[2] % stored
        for init in range(0, sizes[2], chunks[2]):
            for lead in range(0, sizes[1], chunks[1]):
                for level in range(0, sizes[0], chunks[0]):
                    yield Block(
                        variable,
                        slice(init, init + chunks[2]),
                        slice(lead, lead + chunks[1]),
                        slice(level, level + chunks[0]),
                    )


def _on_threads(
    plan: Plan, blocks: list[Block], execution: settings.Execution
) -> Iterator[tuple[Block, Outcome]]:
    """Yields finished blocks; no more are in work than there are threads."""
    if execution.workers == 1 or len(blocks) == 1:
        for block in blocks:
            yield block, run_block(plan, block)
        return
    waiting = iter(blocks)
    with concurrent.futures.ThreadPoolExecutor(execution.workers) as pool:
        running: dict[concurrent.futures.Future[Outcome], Block] = {}
        try:
            for block in waiting:
                running[pool.submit(run_block, plan, block)] = block
                if len(running) >= execution.workers:
                    yield from _finished(running)
            while running:
                yield from _finished(running)
        finally:
            for future in running:
                future.cancel()


def _finished(
    running: dict[concurrent.futures.Future[Outcome], Block],
) -> Iterator[tuple[Block, Outcome]]:
    done, _ = concurrent.futures.wait(
        running, return_when=concurrent.futures.FIRST_COMPLETED
    )
    for future in done:
        yield running.pop(future), future.result()


def _on_cluster(
    plan: Plan, blocks: list[Block], execution: settings.Execution
) -> Iterator[tuple[Block, Outcome]]:
    """Yields blocks finished by the workers of a dask cluster."""
    distributed = optional.require("distributed", extra="cluster")
    try:
        client = distributed.Client(execution.scheduler, timeout="20s")
    except (OSError, ValueError, TimeoutError) as error:
        raise OSError(
            f"scheduler {execution.scheduler}: cannot be reached ({error}); start one "
            "with `dask scheduler` and give the address it prints"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise OSError(
                f"scheduler {execution.scheduler}: has no worker; start one with `dask "
                f"worker {execution.scheduler}`"
            )
        shared = client.scatter(plan, broadcast=True)
        places = {
            client.submit(run_block, shared, block, pure=False): block
            for block in blocks
        }
        for future in distributed.as_completed(list(places)):
            yield places.pop(future), future.result()
            future.release()
