"""A line between the processes of a run that tells when one of them is gone.

Process 0 listens, all connect, and everyone sends a sign of life every few seconds. A
killed process is noticed at once, because its connection closes; one that hangs, or
whose machine is cut off, after `lost_after` seconds. Messages are lines of JSON, and
hold no instructions. The same line carries barriers, so that they can time out.
"""

import contextlib
import hmac
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from weatherlib.training import lock

__all__ = ["EXIT_LOST_WORKER", "Hub", "Line", "LostWorkerError"]

EXIT_LOST_WORKER = 75
"""Exit status of a process that ends because another was lost (EX_TEMPFAIL)."""

EXIT_MISTAKE = 2
"""Exit status after an error that starting again does not mend; all end with it."""

_BEATS_PER_TIMEOUT = 5
_LONGEST_LINE = 4096


class LostWorkerError(RuntimeError):
    """Another process of the run is gone; the message says how to go on."""


class _Wire:
    """A connection that several threads may write to."""

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        connection.settimeout(timeout)
        self._connection, self._lock = connection, threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message whole."""
        with self._lock:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yields what arrives until the connection closes.

        Raises:
          TimeoutError: Nothing came for too long.
          OSError: The connection broke.
          ValueError: Something else than messages came.
        """
        rest = b""
        while data := self._connection.recv(_LONGEST_LINE):
            *whole, rest = (rest + data).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                raise ValueError("a message without an end")
            for line in whole:
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError(f"expected a message, found {message!r}")
                yield message

    def close(self) -> None:
        """Closes the connection, which also wakes who waits for messages."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Hub:
    """The end of the line in process 0.

    Attributes:
      port: Where it listens.
    """

    def __init__(
        self, host: str, count: int, token: str, lost_after: float, port: int = 0
    ) -> None:
        """Listens in a thread.

        Args:
          host: Address to bind.
          count: Processes of the run.
          token: What a process has to show.
          lost_after: Seconds of silence after which a process is lost.
          port: 0 takes a free one.
        """
        self._count, self._token, self._lost_after = count, token, lost_after
        self._changed = threading.Condition()
        self._members: dict[int, _Wire] = {}
        self._waiting: dict[str, dict[int, bool]] = {}
        self._server = socket.create_server((host, port))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stops listening; lines that are open stay so until their ends close."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # Wakes who waits in accept.
        self._server.close()

    def drain(self, seconds: float) -> None:
        """Gives the processes so many seconds to end, once they know of a failure."""
        with self._changed:
            self._changed.wait_for(lambda: not self._members, seconds)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        wire = _Wire(connection, self._lost_after)
        process, reason, status = None, "closed its connection", EXIT_LOST_WORKER
        try:
            messages = wire.messages()
            process = self._welcome(wire, next(messages, {}))
            if process is None:
                return
            for message in messages:
                if message.get("bye"):
                    reason = str(message.get("reason", ""))
                    if message.get("status") == EXIT_MISTAKE:
                        status = EXIT_MISTAKE
                    break
                self._handle(process, message)
        except TimeoutError:
            reason = f"has been silent for {self._lost_after:g} s"
        except (OSError, ValueError):
            pass
        finally:
            wire.close()
        if process is not None:
            self._leave(process, reason, status)

    def _welcome(self, wire: _Wire, hello: dict[str, Any]) -> int | None:
        """Returns the number of a process that belongs to the run."""
        process, token = hello.get("process"), str(hello.get("token"))
        known = hmac.compare_digest(token.encode(), self._token.encode())
        if not known or not isinstance(process, int):
            return None
        if not 0 <= process < self._count:
            return None
        with self._changed:
            self._members[process] = wire
        return process

    def _handle(self, process: int, message: dict[str, Any]) -> None:
        if "barrier" not in message:
            self._members[process].send({"beat": True})
            return
        name = str(message["barrier"])
        with self._changed:
            arrived = self._waiting.setdefault(name, {})
            arrived[process] = bool(message.get("flag"))
            if len(arrived) < self._count:
                return
            del self._waiting[name]
            reply = {"release": name, "flag": any(arrived.values())}
            members = list(self._members.values())
        self._tell(members, reply)

    def _leave(self, process: int, reason: str, status: int) -> None:
        with self._changed:
            self._members.pop(process, None)
            self._changed.notify_all()
            members = list(self._members.values())
        if reason:
            lost = {"lost": process, "reason": reason, "status": status}
            self._tell(members, lost)

    @staticmethod
    def _tell(members: Iterable[_Wire], message: dict[str, Any]) -> None:
        for member in members:
            with contextlib.suppress(OSError):
                member.send(message)


class Line:
    """The end of the line in each process.

    Attributes:
      status: With what this process ends if another is lost.
    """

    def __init__(
        self,
        address: tuple[str, int],
        process: int,
        token: str,
        *,
        lost_after: float,
        grace: float,
        advice: str,
    ) -> None:
        """Connects.

        Args:
          address: Of the hub.
          process: Number of this process.
          token: As in `Hub`.
          lost_after: As in `Hub`.
          grace: Seconds that this process may go on after another was lost, before it
            is ended from outside of whatever it waits for. None if process 0 is lost.
          advice: How to go on, for the error.

        Raises:
          OSError: There is no hub.
        """
        self._advice, self._grace = advice, grace
        self._process = process
        self._changed = threading.Condition()
        self._released: dict[str, bool] = {}
        self._lost: str | None = None
        self.status = EXIT_LOST_WORKER
        self._handled = threading.Event()
        self._closed = False
        self._wire = _Wire(socket.create_connection(address, lost_after), lost_after)
        self._wire.send({"process": process, "token": token})
        pause = lost_after / _BEATS_PER_TIMEOUT
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, args=(pause,), daemon=True).start()

    @property
    def lost(self) -> str | None:
        """What became of the other processes, None if they are well."""
        return self._lost

    def check(self) -> None:
        """Raises if a process is lost.

        Raises:
          LostWorkerError: It is.
        """
        if self._lost is not None:
            self._handled.set()
            raise LostWorkerError(self._lost)

    def wait_for_loss(self, seconds: float) -> None:
        """Gives news of a lost process up to so many seconds to arrive."""
        with self._changed:
            self._changed.wait_for(lambda: self._lost is not None, seconds)

    def barrier(self, name: str, timeout: float, flag: bool = False) -> bool:
        """Waits for all processes; returns whether any of them gave `flag`.

        Raises:
          LostWorkerError: A process is lost.
          TimeoutError: Not all came in time.
        """
        self.check()
        with contextlib.suppress(OSError):
            self._wire.send({"barrier": name, "flag": flag})
        with self._changed:
            came = self._changed.wait_for(
                lambda: name in self._released or self._lost is not None, timeout
            )
            if name in self._released:
                return self._released.pop(name)
        self.check()
        assert not came
        raise TimeoutError(
            f"process {self._process} waited {timeout:g} s at {name!r} for the others; "
            "they run, but did not get there: look at their logs"
        )

    def close(self, reason: str = "", status: int = 0) -> None:
        """Says goodbye, so that nobody takes this process for lost.

        Args:
          reason: What the others are told if it fails instead.
          status: With what it ends then.
        """
        self._closed = True
        self._handled.set()
        with contextlib.suppress(OSError):
            self._wire.send({"bye": True, "reason": reason, "status": status})
        self._wire.close()

    def _beat(self, pause: float) -> None:
        while not self._closed and self._lost is None:
            try:
                self._wire.send({"beat": True})
            except OSError:
                return
            time.sleep(pause)

    def _listen(self) -> None:
        reason = "closed its connection"
        try:
            for message in self._wire.messages():
                if "release" in message:
                    with self._changed:
                        self._released[message["release"]] = bool(message["flag"])
                        self._changed.notify_all()
                elif "lost" in message:
                    self.status = int(message["status"])
                    self._lose(int(message["lost"]), str(message["reason"]))
                    return
        except TimeoutError:
            reason = "has been silent for too long"
        except (OSError, ValueError):
            pass
        if not self._closed:
            self._lose(0, reason)

    def _lose(self, process: int, reason: str) -> None:
        lost = f"process {process} of the run is lost: it {reason}"
        if self.status != EXIT_MISTAKE:
            lost += f". {self._advice}"
        # At once: without process 0, JAX aborts the others within milliseconds, with a
        # message that names no reason. Nothing orderly is possible then. And before the
        # other threads know, one of which may end the process.
        sys.stderr.write(f"error: {lost}\n")
        sys.stderr.flush()
        with self._changed:
            self._lost = lost
            self._changed.notify_all()
        if process == 0 or not self._handled.wait(self._grace):
            # Whatever waits for the lost process inside a collective cannot be woken.
            lock.abandon()
            os._exit(self.status)
