"""How the command line tells a user that something is wrong.

What a user can put right ends with one message on the error stream and exit code 2,
never a traceback. What is our own mistake keeps its traceback, so it can be reported.
The two are told apart by where an exception was raised: a `ValueError` from a line of
this package is addressed to the user, one from inside another package is not.
"""

from __future__ import annotations

import argparse
import contextlib
import contextvars
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, NoReturn, TextIO

__all__ = [
    "ArgumentParser",
    "complain",
    "hush_the_end",
    "own_the_log",
    "report",
    "run_reported",
]

_USER_ERROR = 2
_BUG = 1
_INTERRUPTED = 130
_OURS = (
    "weatherlib",
    "__main__",
    "benchmarks",
    "inference",
    "compare_models",
    "finetune_climax",
    "nowcast",
    "train",
    "train_stage1_direct",
)

# orbax logs tracebacks of failures that it also raises.
_CHATTY = ("absl", "asyncio")

_debug: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "weatherlib_debug", default=False
)


class ArgumentParser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all commands do; for scripts."""

    def error(self, message: str) -> NoReturn:
        """Raises the message.

        Raises:
          ValueError: Always.
        """
        raise ValueError(f"{message}; --help tells more")


def complain(message: str, notes: list[str] | None = None) -> int:
    """Prints one message for the user and returns the exit code that goes with it."""
    print(f"weatherlib: error: {message}", file=sys.stderr)
    for note in notes or []:
        print(f"  {note}", file=sys.stderr)
    return _USER_ERROR


def run_reported(work: Callable[[], None], *, debug: bool = False) -> int:
    """Runs something and returns the exit code of the process.

    Args:
      work: What to do. Notes added to an exception are printed below its message.
      debug: Whether to print the traceback in every case.

    Returns:
      0; 2 after an error the user can put right; 130 after Ctrl-C; 1 after an error of
      our own, whose traceback is printed.
    """
    token = _debug.set(debug)
    try:
        with warnings.catch_warnings(), _shown_log(), _hushed(debug):
            warnings.showwarning = _show_warning
            work()
    except (Exception, KeyboardInterrupt) as error:
        return report(error)
    finally:
        _debug.reset(token)
    return 0


def report(error: BaseException) -> int:
    """Prints an exception and returns the exit code of the process, as `run_reported`.

    Args:
      error: As it was caught.
    """
    notes = getattr(error, "__notes__", [])
    if isinstance(error, KeyboardInterrupt):
        print("\nweatherlib: interrupted", *notes, sep="\n  ", file=sys.stderr)
        return _INTERRUPTED
    if not isinstance(error, Exception) or not _is_for_the_user(error):
        traceback.print_exception(error)
        return _BUG
    if _debug.get():
        traceback.print_exception(error)
        return _USER_ERROR
    # JAX adds a note on tracebacks, which are not shown.
    notes = [note for note in notes if "JAX_TRACEBACK_FILTERING" not in note]
    return complain(_message(error), notes)


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message of an exception tells a user what to do."""
    # A field that is no weather any more: the guard's or the simulation's message.
    if isinstance(error, OSError | FloatingPointError):
        return True
    if not isinstance(error, ValueError | ImportError):
        return False
    module = _raised_in(error.__traceback__)
    return module.partition(".")[0] in _OURS


def _raised_in(trace: TracebackType | None) -> str:
    """Returns the name of the module whose line raised an exception."""
    module = ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return module


def _message(error: Exception) -> str:
    """Returns the message of an exception, without the number of a system error."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Prints a warning as one line without the place in our code."""
    del category, filename, lineno, line
    print(f"weatherlib: warning: {message}", file=file or sys.stderr)


@contextlib.contextmanager
def _shown_log() -> Generator[None, None, None]:
    """Prints what the package logs as warnings are printed, each text once."""
    handler = _Once()
    logger = logging.getLogger("weatherlib")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _hushed(debug: bool) -> Generator[None, None, None]:
    """Keeps back what threads of other packages print of errors that we report."""
    if debug:
        yield
        return
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    hooks = threading.excepthook, sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    threading.excepthook = _without_system_errors(hooks[0])
    sys.unraisablehook = _without_system_errors(hooks[1])
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
        threading.excepthook, sys.unraisablehook = hooks


def _without_system_errors(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Returns a hook that is not told of errors of the system, as of a full disk."""

    def changed(found: Any) -> None:
        if not issubclass(found.exc_type, OSError):
            hook(found)

    return changed


def own_the_log() -> None:
    """Says that this process has no other place for what the package logs.

    Other packages give the root logger a handler, which would print it again.
    """
    logging.getLogger("weatherlib").propagate = False


def hush_the_end() -> None:
    """Keeps back what other packages print when this process ends after an error.

    They try to write again what could not be written.
    """
    sys.unraisablehook = _without_system_errors(sys.unraisablehook)
    threading.excepthook = _without_system_errors(threading.excepthook)
    logging.disable()


class _Once(logging.Handler):
    """Prints each message once: what is traced several times warns several times."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message of a record, unless it was printed before."""
        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            print(f"weatherlib: warning: {message}", file=sys.stderr)
