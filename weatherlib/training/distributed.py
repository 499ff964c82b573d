"""Several processes that work on one run.

    with distributed.start() as run:  # arguments, environment, or a single process
        layout = sharding.Layout(config)
        ...
        with run.guard():
            state = step(state, layout.place_batch(batch))

A process that dies makes the others raise `LostWorkerError` within seconds, with what
to do, instead of waiting for it for ever.
"""

import contextlib
import inspect
import io
import itertools
import os
import secrets
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias

import jax
import numpy as np

from weatherlib.training import lock
from weatherlib.training.distributed_config import DistributedConfig
from weatherlib.training.distributed_watch import (
    EXIT_LOST_WORKER,
    Hub,
    Line,
    LostWorkerError,
)

__all__ = [
    "EXIT_LOST_WORKER",
    "DistributedConfig",
    "LostWorkerError",
    "Report",
    "Run",
    "report_error",
    "start",
]

_ADDRESS_BYTES = 256
_MARGIN = 60
# Seconds for the others to hear why process 0 ends, before JAX aborts them.
_LAST_WORDS = 5.0
# A broken collective and a broken line are noticed up to so many seconds apart.
_SAME_CAUSE = 2.0
_RESUME = (
    "Nothing that was saved is lost: start the same command again, on as many "
    "processes or fewer, and it goes on from what was saved last"
)


Report: TypeAlias = Callable[[BaseException], int]
"""Prints an error and returns an exit status."""


class Run:
    """The processes of a run as seen from one of them.

    Attributes:
      process_id: Number of this process.
      num_processes: How many there are.
    """

    def __init__(
        self,
        settings: DistributedConfig | None = None,
        line: Line | None = None,
        hub: Hub | None = None,
        report: Report | None = None,
    ) -> None:
        """Takes what `start` set up; a run of one process has neither line nor hub."""
        settings, report = settings or DistributedConfig(), report or report_error
        self._report = report
        self.process_id = jax.process_index() if line else 0
        self.num_processes = jax.process_count() if line else 1
        self._settings, self._line, self._hub = settings, line, hub
        self._numbers = itertools.count()

    @property
    def is_main(self) -> bool:
        """Whether this process writes what is written once."""
        return self.process_id == 0

    def check(self) -> None:
        """Raises if a process is lost; costs nothing, so it fits into every step.

        Raises:
          LostWorkerError: It is.
        """
        if self._line is not None:
            self._line.check()

    def barrier(self, name: str = "barrier", timeout: float | None = None) -> None:
        """Waits until all processes are here.

        Args:
          name: For the error.
          timeout: Seconds; None takes that of the configuration.

        Raises:
          LostWorkerError: A process is lost.
          TimeoutError: Not all came in time.
        """
        self.any_of(False, name, timeout)

    def any_of(
        self, flag: bool, name: str = "any_of", timeout: float | None = None
    ) -> bool:
        """Returns whether any process says `flag`; all have to ask.

        So that all stop at the same step when one is told to.

        Args:
          flag: What this process says.
          name: As in `barrier`.
          timeout: As in `barrier`.

        Raises:
          LostWorkerError: As `barrier`.
          TimeoutError: As `barrier`.
        """
        if self._line is None:
            return flag
        label = f"{name}#{next(self._numbers)}"
        limit = self._settings.barrier_timeout if timeout is None else timeout
        return self._line.barrier(label, limit, flag)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Turns the errors of a collective whose partner died into `LostWorkerError`.

        Raises:
          LostWorkerError: A process is lost.
        """
        try:
            yield
        except LostWorkerError:
            raise
        except Exception:  # JAX raises a ValueError where a connection breaks.
            if self._line is not None:
                self._line.wait_for_loss(_SAME_CAUSE)
            self.check()
            raise
        self.check()

    def shutdown(self) -> None:
        """Ends the run in an orderly way, once all processes are here.

        Raises:
          LostWorkerError: As `barrier`.
          TimeoutError: As `barrier`.
        """
        if self._line is None:
            return
        self.barrier("shutdown")
        self._line.close()
        if self._hub is not None:
            self._hub.close()
        self._line = self._hub = None
        jax.distributed.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shuts down, or ends this process at once where it or another has failed.

        At the end of a process JAX waits for the others, and then aborts with a message
        of its own. So an error is reported here, the others are told, and the status is
        that of the error, or `EXIT_LOST_WORKER` where another process is lost. An error
        that all processes meet is reported in full by process 0 alone.
        """
        if self._line is None:
            return
        if error is None:
            try:
                self.shutdown()
            except Exception as late:
                self._fail(late)
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Ends this process because of an error."""
        assert self._line is not None
        together = False
        with contextlib.suppress(LostWorkerError, TimeoutError):
            self._line.barrier("failed", _SAME_CAUSE)
            together = True
        first = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if self._line.lost is not None:
            status = self._line.status  # Reported when it was noticed.
            if not isinstance(error, LostWorkerError):
                sys.stderr.write(f"  here: {first}\n")
        else:
            if together and not self.is_main:
                with contextlib.redirect_stderr(io.StringIO()):
                    status = self._report(error)
                sys.stderr.write(f"process {self.process_id}: {first}\n")
            else:
                status = self._report(error)
            reason = f"ended with {type(error).__name__}, see its log"
            self._line.close("" if together else reason, status)
            if self._hub is not None:
                self._hub.drain(_LAST_WORDS)
        sys.stdout.flush()
        sys.stderr.flush()
        lock.abandon()
        os._exit(status)


def report_error(error: BaseException) -> int:
    """Prints an error as Python does; returns the status that Python ends with."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, int) or error.code is None:
            return error.code or 0
        sys.stderr.write(f"{error.code}\n")
        return 1
    traceback.print_exception(error)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def start(
    settings: DistributedConfig | None = None, report: Report = report_error
) -> Run:
    """Joins the processes of a run, before anything else is done with JAX.

    A single process without any sign of others starts nothing. Where the others do not
    come in time, the process ends with a message and the status `EXIT_LOST_WORKER`.

    Args:
      settings: How to find the others; by default from the environment.
      report: Prints an error that ends this process while others run, and returns the
        exit status.

    Raises:
      ValueError: Arguments or variables contradict each other.
    """
    settings = (settings or DistributedConfig()).with_environment(os.environ)
    explicit = settings.coordinator is not None
    if (settings.num_processes or 0) == 1 or not (explicit or _in_cluster(os.environ)):
        return Run(settings, None, None, report)
    if _on_cpu():
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    arguments: dict[str, Any] = {
        "initialization_timeout": settings.start_timeout + _MARGIN
    }
    if explicit:
        arguments |= {
            "coordinator_address": settings.coordinator,
            "num_processes": settings.num_processes,
            "process_id": settings.process_id,
            "cluster_detection_method": "deactivate",
        }
        if _is_loopback(settings.coordinator):
            arguments["coordinator_bind_address"] = settings.coordinator
    known = inspect.signature(jax.distributed.initialize).parameters
    arguments = {name: value for name, value in arguments.items() if name in known}
    with _deadline(settings.start_timeout), _sigterm_kept():
        jax.distributed.initialize(**arguments)
        return _connect(settings, report)


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keeps what SIGTERM does; JAX would have it do nothing but make a note."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Ends this process where the others do not start in time.

    JAX waits outside of Python, where nothing can be raised, and then aborts with pages
    of its own.
    """

    def give_up() -> None:
        sys.stderr.write(
            f"error: not all processes of the run started within {seconds:g} s; look "
            "at the logs of the others, or raise start_timeout\n"
        )
        sys.stderr.flush()
        os._exit(EXIT_LOST_WORKER)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _connect(settings: DistributedConfig, report: Report) -> Run:
    """Opens the line between the processes, at an address that JAX broadcasts."""
    from jax.experimental import multihost_utils

    hub = None
    message = np.zeros(_ADDRESS_BYTES, np.uint8)
    if jax.process_index() == 0:
        host = "127.0.0.1"
        if not _is_loopback(settings.coordinator):
            host = socket.gethostname()
        token = secrets.token_hex(16)
        bind = host if host == "127.0.0.1" else ""
        hub = Hub(bind, jax.process_count(), token, settings.lost_after)
        text = f"{host} {hub.port} {token}".encode()
        message[: len(text)] = list(text)
    message = np.asarray(multihost_utils.broadcast_one_to_all(message), np.uint8)
    host, port, token = bytes(message).rstrip(b"\0").decode().split()
    line = Line(
        (host, int(port)),
        jax.process_index(),
        token,
        lost_after=settings.lost_after,
        grace=settings.grace,
        advice=_RESUME,
    )
    return Run(settings, line, hub, report)


def _in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows started several processes."""
    if "SLURM_STEP_NODELIST" in environment and "SLURM_PROCID" in environment:
        return int(environment.get("SLURM_NTASKS", "1")) > 1
    if "OMPI_COMM_WORLD_SIZE" in environment:
        return int(environment["OMPI_COMM_WORLD_SIZE"]) > 1
    return "," in environment.get("TPU_WORKER_HOSTNAMES", "")


def _is_loopback(coordinator: str | None) -> bool:
    host = (coordinator or "").rpartition(":")[0]
    return host in ("127.0.0.1", "localhost", "[::1]")


def _on_cpu() -> bool:
    return (jax.config.jax_platforms or "").split(",")[0] == "cpu"
