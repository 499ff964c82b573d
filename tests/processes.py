"""Starts the processes of a run on this machine, for the tests of several processes."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
TIME_LIMIT = 240


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def environment(**more):
    """Returns the variables of a process that knows of no others."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XLA_", "JAX_", "SLURM_", "OMPI_"))
        and not name.lower().endswith("_proxy")
    }
    return kept | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | more


def launch(*words, **variables):
    """Starts one process; returns it."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch_together(processes, *words):
    """Starts processes that find each other by their environment; returns them."""
    shared = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": str(processes),
    }
    return [
        launch(*words, **shared, JAX_PROCESS_ID=str(process))
        for process in range(processes)
    ]


def outputs(started, expected=0):
    """Waits for processes; returns what each printed."""
    results = []
    try:
        for process in started:
            results.append(process.communicate(timeout=TIME_LIMIT))
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()
    for process, (_, errors) in zip(started, results):
        assert process.returncode == expected, errors[-2000:]
    return [output for output, _ in results]


def finished(started, expected=0):
    """Returns the JSON objects that processes printed as their last lines."""
    found = outputs(started, expected)
    return [json.loads(output.strip().splitlines()[-1]) for output in found]


def survivor(started, dead):
    """Waits for a run in which one dies; returns status and errors of the other.

    The dead one is killed by its process id in case it was only stopped.
    """
    other = started[1 - dead]
    try:
        _, errors = other.communicate(timeout=TIME_LIMIT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started[dead].wait(timeout=10)
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        started[dead].communicate()
    return other.returncode, errors
