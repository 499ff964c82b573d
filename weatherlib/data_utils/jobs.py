"""Independent pieces of work on local threads or on a dask.distributed cluster."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from weatherlib import optional

__all__ = ["run_jobs"]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def run_jobs(
    function: Callable[[_Job], _Result],
    jobs: Sequence[_Job],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    report: Callable[[_Job], None] = lambda job: None,
) -> list[_Result]:
    """Returns `function(job)` of every job, in the order of the jobs.

    Args:
      function: Importable by its name where there is a scheduler.
      jobs: What it takes. They are sent to the workers where there is a scheduler.
      scheduler: Address of a dask.distributed scheduler, such as
        "tcp://10.0.0.1:8786"; None for threads of this process.
      workers: Threads; those of the machine by default.
      report: Called with each job that is done, in this thread.

    Raises:
      ValueError: There are less than one worker.
      OSError: The scheduler cannot be reached, or its workers were lost.
      ImportError: `distributed` is not installed, and there is a scheduler.
    """
    if scheduler is not None:
        return _run_on_cluster(function, jobs, scheduler, report)
    if workers is not None and workers < 1:
        raise ValueError(f"workers: {workers} is too few; use at least 1")
    count = workers or _processors()
    pool = concurrent.futures.ThreadPoolExecutor(count)
    try:
        futures = {pool.submit(function, job): job for job in jobs}
        for future in concurrent.futures.as_completed(futures):
            future.result()
            report(futures[future])
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


def _processors() -> int:
    """Returns the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run_on_cluster(
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    scheduler: str,
    report: Callable[[Any], None],
) -> list[Any]:
    """Returns the results of workers of a cluster."""
    distributed = optional.require("distributed", extra="cluster")
    try:
        client = distributed.Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no dask scheduler answers at {scheduler} ({error}); start one with "
            "`dask scheduler`, and workers with `dask worker ADDRESS`"
        ) from error
    with client, client.as_current():
        futures = {client.submit(function, job, pure=False): job for job in jobs}
        try:
            for future in distributed.as_completed(futures):
                future.result()
                report(futures[future])
            return [future.result() for future in futures]
        except distributed.KilledWorker as error:
            raise OSError(f"the workers of {scheduler} were lost: {error}") from error
        finally:
            client.cancel(list(futures))
