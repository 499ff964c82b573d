"""What ends a run before its time."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["NonFiniteLossError", "Stopped", "Watch", "watch_signals"]


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient is no number any more.

    Attributes:
      step: The update at which it happened, from 1.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop, and its state has been kept.

    Attributes:
      step: Updates made.
      signal_name: Which signal.
    """

    def __init__(self, step: int, signal_name: str) -> None:
        super().__init__(f"stopped by {signal_name} after update {step}")
        self.step = step
        self.signal_name = signal_name


class Watch:
    """Notes whether a signal arrived.

    Attributes:
      received: Name of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Takes a signal; a second one interrupts at once."""
        del frame
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


@contextlib.contextmanager
def watch_signals() -> Iterator[Watch]:
    """Lets SIGTERM and SIGINT be noted instead of ending the process at once.

    Outside of the main thread, where Python takes no signals, nothing is watched.
    """
    watch = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watch
        return
    before = {
        number: signal.signal(number, watch)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield watch
    finally:
        for number, handler in before.items():
            # None is a handler that does not come from Python, such as that of JAX for
            # SIGTERM in a run of several processes.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
