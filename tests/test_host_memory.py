"""Freed memory stays with a process that asked for it."""

import json
import subprocess
import sys

import pytest

from weatherlib import host_memory
from weatherlib.cli import main

_LINUX = sys.platform.startswith("linux")

# In a thread, as JAX computes, and in a process of its own: nothing undoes the setting.
_PROGRAM = """
import json, resource, sys, threading
import numpy as np
from weatherlib import host_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def pages():
    return int(open("/proc/self/statm").read().split()[1])

def step():
    np.empty(int(sys.argv[2]), np.uint8)[:2**26].fill(1)

def measure():
    step()
    before = faults()
    for _ in range(4):
        step()
    found["faults"] = (faults() - before) / 4
    kept = pages()
    host_memory.release_unused()
    found["released"] = kept - pages()

found = {"done": host_memory.keep_freed() if sys.argv[1] == "keep" else None}
thread = threading.Thread(target=measure)
thread.start()
thread.join()
print(json.dumps(found))
"""


def run(word, size=2**26):
    """Returns what the program found out about blocks of which it uses 64 MB.

    That is 16384 small pages.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, word, str(size)],
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(not _LINUX, reason="glibc")
@pytest.mark.parametrize("size", [2**26, 2**31 + 2**26])
def test_a_block_that_was_freed_is_used_again_without_new_pages(size):
    kept = run("keep", size)
    assert kept["done"]
    assert kept["faults"] < 100


@pytest.mark.skipif(not _LINUX, reason="glibc")
def test_kept_memory_can_be_released():
    # Most of 64 MB, of which huge pages would count the same.
    assert run("keep")["released"] * 4096 > 2**25


@pytest.mark.skipif(not _LINUX, reason="glibc")
def test_nothing_is_kept_or_released_unasked():
    left = run("leave")
    assert left["done"] is None
    assert left["faults"] > 0
    assert left["released"] * 4096 < 2**20


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not host_memory.keep_freed()


def test_only_the_program_keeps_freed_memory(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(host_memory, "keep_freed", lambda: calls.append(1))
    assert main.main(["--version"]) == 0
    assert not calls
    monkeypatch.setattr(sys, "argv", ["weatherlib", "--version"])
    assert main.main() == 0
    assert calls
