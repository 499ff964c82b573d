import contextlib
import json
import socket
import threading
import time

import pytest

from weatherlib.training import distributed_watch as watch

PATIENCE = 60.0


@contextlib.contextmanager
def processes(count, *, lost_after=PATIENCE):
    """A hub and the lines of so many processes, all in this one."""
    hub = watch.Hub("127.0.0.1", count, "secret", lost_after)
    lines = []
    try:
        for process in range(count):
            lines.append(
                watch.Line(
                    ("127.0.0.1", hub.port),
                    process,
                    "secret",
                    lost_after=lost_after,
                    grace=PATIENCE,
                    advice="Start again.",
                )
            )
        yield hub, lines
    finally:
        for line in lines:
            line.close()
        hub.close()


def bare_member(hub, process, count):
    """A connection like that of a process, which does nothing on its own."""
    hub._count = count
    connection = socket.create_connection(("127.0.0.1", hub.port), timeout=PATIENCE)
    hello = {"process": process, "token": "secret"}
    connection.sendall(json.dumps(hello).encode() + b"\n")
    connection.sendall(b'{"beat": true}\n')
    assert b"beat" in connection.recv(100)  # Now it is known.
    return connection


def at_barrier(lines, flags, name="here"):
    """What each line gets from a barrier that all reach, in their own threads."""
    results = [None] * len(lines)

    def wait(i):
        results[i] = lines[i].barrier(name, PATIENCE, flags[i])

    threads = [threading.Thread(target=wait, args=(i,)) for i in range(len(lines))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("flags", [(False,) * 3, (False, True, False)])
def test_a_barrier_lets_all_go_and_tells_whether_any_said_yes(flags):
    with processes(3) as (_, lines):
        assert at_barrier(lines, flags) == [any(flags)] * 3


def test_a_barrier_times_out_where_another_does_not_come():
    with (
        processes(2) as (_, lines),
        pytest.raises(TimeoutError, match=r"process 1 waited 0.1 s at 'save'"),
    ):
        lines[1].barrier("save", 0.1)


def test_a_closed_connection_is_a_lost_process_with_advice():
    with processes(2) as (hub, lines):
        bare_member(hub, 2, count=3).close()
        for line in lines:
            line.wait_for_loss(PATIENCE)
            with pytest.raises(
                watch.LostWorkerError, match=r"process 2 .* is lost.*Start again"
            ):
                line.check()


def test_a_lost_process_wakes_those_at_a_barrier():
    with processes(1) as (hub, lines):
        member = bare_member(hub, 1, count=2)
        threading.Timer(0.1, member.close).start()
        with pytest.raises(watch.LostWorkerError, match="process 1"):
            lines[0].barrier("save", PATIENCE)


def test_silence_is_a_lost_process():
    with processes(1, lost_after=0.5) as (hub, lines):
        silent = bare_member(hub, 1, count=2)
        lines[0].wait_for_loss(PATIENCE)
        silent.close()
        with pytest.raises(watch.LostWorkerError, match=r"1 .* silent for 0.5 s"):
            lines[0].check()


def test_a_process_that_says_goodbye_is_not_lost():
    with processes(2) as (_, lines):
        assert at_barrier(lines, (False, False)) == [False, False]
        lines[1].close()
        lines[0].wait_for_loss(0.3)
        lines[0].check()


@pytest.mark.parametrize(
    "hello",
    [
        b'{"process": 1, "token": "guess"}\n',
        b'{"process": 7, "token": "secret"}\n',
        b"[1]\n",
        b"GET / HTTP/1.1\n",
        b"x" * 20000,
    ],
)
def test_strangers_are_turned_away(hello):
    with processes(1) as (hub, lines):
        stranger = socket.create_connection(("127.0.0.1", hub.port), timeout=PATIENCE)
        stranger.sendall(hello)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(100) == b""
        stranger.close()
        assert lines[0].barrier("alone", PATIENCE) is False


def test_signs_of_life_keep_a_quiet_run_together():
    with processes(2, lost_after=0.5) as (_, lines):
        time.sleep(1.5)
        assert at_barrier(lines, (False, False)) == [False, False]


@pytest.mark.parametrize(
    ("status", "expected", "advised"),
    [(2, 2, False), (1, watch.EXIT_LOST_WORKER, True)],
)
def test_a_mistake_of_one_process_is_that_of_all(status, expected, advised):
    with processes(2) as (hub, lines):
        member = bare_member(hub, 2, count=3)
        farewell = {"bye": True, "reason": "ended with OSError", "status": status}
        member.sendall(json.dumps(farewell).encode() + b"\n")
        lines[1].wait_for_loss(PATIENCE)
        with pytest.raises(watch.LostWorkerError, match="it ended with OSError") as at:
            lines[1].check()
        assert lines[1].status == expected
        assert ("Start again." in str(at.value)) is advised
        member.close()
        # Handled, so that nothing ends this process.
        lines[0].wait_for_loss(PATIENCE)
        with pytest.raises(watch.LostWorkerError):
            lines[0].check()
