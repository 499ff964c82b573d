"""Two programs timed in turns, each in a process of its own.

They take turns, so that a busy machine slows both alike: compare the ratios. A worker
prepares one program, says how long that took, runs a step for each line it reads, and
says at its end by how much its memory grew.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weatherlib import host_memory

__all__ = ["HEAD", "add_options", "compare", "names", "our_training", "serve"]

HEAD = f"{'':<38}" + "".join(
    f"{column:>11}" for column in ("compile s", "s/step", "CPU s", "adds MB")
)
"""Names of the columns that `compare` prints."""

OURS, TORCH = "weatherlib", "torch"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what all such comparisons are asked with."""
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PATH")
    parser.add_argument(
        "--keep-freed",
        choices=("ours", "both", "none"),
        default="ours",
        help="who keeps freed memory between steps, as the command weatherlib does",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def names(python: str) -> list[str]:
    """Returns the programs that can be timed; without torch only ours."""
    found = subprocess.run(
        [python, "-c", "import torch"], capture_output=True, check=False
    )
    if found.returncode == 0:
        return [OURS, TORCH]
    print(f"no torch in {python}: only weatherlib is timed")
    return [OURS]


def compare(
    module: str, job: dict[str, Any], label: str, options: argparse.Namespace
) -> dict[str, float]:
    """Times one kind of step of all programs, and prints a line for each.

    Args:
      module: The benchmark, which calls `serve` when it is given `--worker`.
      job: What a worker needs to know. `name` and `output` are added.
      label: Before each line.
      options: With those of `add_options`.

    Returns:
      How many times as fast ours is by the clock and by processor time, and its share
      of the memory; empty where it is alone.
    """
    programs = names(options.torch_python)
    with tempfile.TemporaryDirectory() as folder:
        workers, results = {}, {}
        for name in programs:
            output = str(pathlib.Path(folder, f"{name}.npy"))
            python = options.torch_python if name == TORCH else sys.executable
            given = {**job, "name": name, "output": output}
            keepers = {"ours": (OURS,), "both": (OURS, TORCH), "none": ()}
            given["keeps_freed"] = name in keepers[options.keep_freed]
            workers[name] = _start(module, python, given)
            results[name] = {"steps": [], **_ask(workers[name], "")}
        for _ in range(options.steps):
            for name in programs:
                results[name]["steps"].append(_ask(workers[name], "step\n"))
        for name in programs:
            results[name].update(_ask(workers[name], "end\n"))
            workers[name].wait()
        outputs = [np.load(pathlib.Path(folder, f"{name}.npy")) for name in programs]
    return _print(results, label, outputs)


def _print(
    results: dict[str, Any], label: str, outputs: list[np.ndarray]
) -> dict[str, float]:
    best = {
        name: [min(step[key] for step in found["steps"]) for key in ("seconds", "cpu")]
        for name, found in results.items()
    }
    for name, found in results.items():
        numbers = (found["compile"], *best[name], found["added_mb"])
        print(f"{label + ' ' + name:<38}" + "".join(f"{n:>11.4g}" for n in numbers))
    if len(results) < 2:
        return {}
    wall, cpu = (theirs / ours for ours, theirs in zip(best[OURS], best[TORCH]))
    memory = results[OURS]["added_mb"] / max(results[TORCH]["added_mb"], 1e-9)
    apart = np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[1]).max()
    what = "outputs" if outputs[0].ndim > 1 else "losses of steps"
    print(
        f"{'':<38}  ours {wall:.2f}x speed, {cpu:.2f}x CPU, {memory:.2f} of memory; "
        f"{what} differ by {apart:.1e} of the largest"
    )
    return {"speed": wall, "cpu": cpu, "memory": memory}


def _start(module: str, python: str, job: dict[str, Any]) -> subprocess.Popen:
    # As a module: files of this folder must not stand in for those of the language.
    return subprocess.Popen(
        [python, "-m", module, "--worker", json.dumps(job)],
        cwd=pathlib.Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(worker: subprocess.Popen, message: str) -> dict[str, Any]:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(message)
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("a worker failed")
    return json.loads(line)


def serve(
    text: str, makers: dict[str, Callable[[dict[str, Any]], Callable[[], Any]]]
) -> None:
    """Makes one program ready, then runs a step for each line that is read.

    Args:
      text: What `--worker` was given.
      makers: From the name of a program to what takes the job and returns a function
        that compiles and returns the step. A step returns an output, or a loss where
        the job's `kind` is "train".
    """
    job = json.loads(text)
    threads = job.get("threads")
    if threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if job["keeps_freed"]:
        host_memory.keep_freed()
    prepare = makers[job["name"]](job)
    # Making the weights takes more for a while than keeping them.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5", "ascii")
    before = _peak_mb()
    started = time.perf_counter()
    step = prepare()
    seconds = time.perf_counter() - started
    host_memory.release_unused()
    results = [step()]
    host_memory.release_unused()
    _answer(compile=seconds)
    for line in sys.stdin:
        if line == "end\n":
            break
        started, processor = time.perf_counter(), time.process_time()
        result = step()
        seconds = time.perf_counter() - started
        cpu = time.process_time() - processor
        if job["kind"] == "train":
            results.append(result)
        _answer(seconds=seconds, cpu=cpu)
    added = _peak_mb() - before
    is_loss = job["kind"] == "train"
    np.save(job["output"], np.array(results) if is_loss else results[0])
    _answer(added_mb=added)


def our_training(
    update: Any, held: list[Any], data: Sequence[Any]
) -> Callable[[], Callable[[], float]]:
    """Returns what compiles a training step of ours.

    Args:
      update: Jitted; takes parameters, moments and data, returns the first two anew,
        and the loss.
      held: Parameters and moments; only this list holds them, and each step replaces
        them.
      data: Of every step.
    """

    def train() -> Callable[[], float]:
        import jax

        compiled = update.lower(*held, *data).compile()

        def step() -> float:
            held[0], held[1], value = compiled(*held, *data)
            jax.block_until_ready(held)
            return float(value)

        return step

    return train


def _answer(**values: float) -> None:
    print(json.dumps(values), flush=True)


def _peak_mb() -> float:
    with contextlib.suppress(OSError):
        status = pathlib.Path("/proc/self/status").read_text("ascii")
        (line,) = [x for x in status.splitlines() if x.startswith("VmHWM")]
        return float(line.split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
