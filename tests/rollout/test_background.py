import threading
import time

import pytest

from weatherlib.rollout.background import Background


def test_items_are_done_in_order_beside_the_main_thread():
    threads = set()

    def work(item):
        threads.add(threading.current_thread())
        return item * 2

    with Background(work, depth=2) as worker:
        for item in range(10):
            worker.submit(item)
        worker.finish(lambda: None)
        assert worker.results() == [2 * item for item in range(10)]
        assert worker.results() == []
    assert threading.main_thread() not in threads


def test_a_failure_shows_at_the_next_item():
    def work(item):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Background(work, depth=1) as worker:
        for item in range(100):
            worker.submit(item)
        pytest.fail("not noticed")


def test_a_failure_of_the_last_item_shows_at_the_end():
    def work(item):
        time.sleep(0.1)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Background(work, depth=1) as worker:
        worker.submit(0)
        worker.finish(lambda: None)


def test_submitting_waits_while_too_many_wait():
    release, done = threading.Event(), []

    def work(item):
        release.wait(30)
        done.append(item)

    with Background(work, depth=1) as worker:
        worker.submit(0)
        worker.submit(1)
        blocked = threading.Thread(target=worker.submit, args=(2,))
        blocked.start()
        blocked.join(0.5)
        assert blocked.is_alive()
        release.set()
        blocked.join(30)
        worker.finish(lambda: None)
    assert done == [0, 1, 2]


def test_ctrl_c_completes_the_item_in_work_and_drops_the_others():
    started, release, done = threading.Event(), threading.Event(), []

    def work(item):
        started.set()
        release.wait(30)
        done.append(item)

    with pytest.raises(KeyboardInterrupt), Background(work, depth=3) as worker:
        for item in range(3):
            worker.submit(item)
        started.wait(30)
        threading.Timer(0.2, release.set).start()
        raise KeyboardInterrupt
    assert done == [0]


def test_an_error_in_the_main_thread_completes_what_was_handed_over():
    done = []
    with (
        pytest.raises(ValueError, match="other"),
        Background(done.append, depth=3) as w,
    ):
        for item in range(3):
            w.submit(item)
        raise ValueError("other")
    assert done == [0, 1, 2]
