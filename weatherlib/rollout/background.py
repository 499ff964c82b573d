"""Work done in order by one thread, beside the main one."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

__all__ = ["Background"]

_T = TypeVar("_T")
_R = TypeVar("_R")

# Long enough to cost nothing, short enough that a failure or Ctrl-C shows at once.
_WAIT_SECONDS = 0.05


class Background(Generic[_T, _R]):
    """Applies a function to items in order in a thread of its own.

    A failure there is raised in the main thread, at the next `submit` or `finish`. When
    the context is left, the items handed over are completed first; but when it is left
    by Ctrl-C or the like, only the one in work is, and those waiting are dropped.
    """

    def __init__(self, work: Callable[[_T], _R], *, depth: int) -> None:
        """Prepares the thread; entering the context starts it.

        Args:
          work: Called with one item at a time.
          depth: Items that may wait. `submit` blocks while there are as many.
        """
        self._work = work
        self._waiting: queue.Queue[Any] = queue.Queue(depth)
        self._results: queue.SimpleQueue[_R] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._closing = threading.Event()
        self._dropping = threading.Event()
        self._thread = threading.Thread(
            target=self._loop, name="weatherlib-writer", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self._dropping.set()
        self._closing.set()
        self._thread.join()

    def submit(self, item: _T) -> None:
        """Hands over an item; waits while too many wait already.

        Raises:
          BaseException: Whatever the work raised.
        """
        while True:
            self._raise_failure()
            try:
                self._waiting.put(item, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return

    def results(self) -> list[_R]:
        """Returns what the work returned since the last call, in order."""
        found = []
        while True:
            try:
                found.append(self._results.get_nowait())
            except queue.Empty:
                return found

    def finish(self, on_wait: Callable[[], None]) -> None:
        """Waits until every item is done, calling `on_wait` again and again.

        Raises:
          BaseException: Whatever the work raised.
        """
        self._closing.set()
        while self._thread.is_alive():
            self._thread.join(_WAIT_SECONDS)
            on_wait()
        self._raise_failure()
        on_wait()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _loop(self) -> None:
        while not self._dropping.is_set():
            try:
                item = self._waiting.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                if self._closing.is_set():
                    return
                continue
            try:
                self._results.put(self._work(item))
            except BaseException as error:
                self._failure = error
                return
            del item
