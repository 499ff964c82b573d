"""Runs the quick form of every benchmark, one after the other.

    python -m benchmarks [NAME ...]

Each runs in a process of its own, so that one's memory does not count for the next.
"""

import argparse
import pathlib
import subprocess
import sys

_QUICK = {
    "geometry": ["geometry.py"],
    "graphcast_step": ["graphcast_step.py", "--config", "10deg"],
    "statistics": ["statistics.py", "--frames", "400"],
    "training": ["training.py", "--updates", "20", "--blocks", "4"],
    "gradients": ["gradients.py", "--batches", "1", "--turns", "3"],
    "rollout": ["rollout.py", "--steps", "10", "40"],
    "climax": ["climax.py", "--config", "small"],
    "grid_models": ["grid_models.py", "--batch", "1", "--steps", "3"],
    "prediff": ["prediff.py", "--config", "small", "--steps", "3"],
    "evaluation": ["evaluation.py", "--starts", "120"],
}


def main() -> int:
    """Runs the chosen benchmarks and returns the number of those that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_QUICK))
    names = parser.parse_args().names or list(_QUICK)
    if unknown := set(names) - set(_QUICK):
        parser.error(f"no benchmark {sorted(unknown)}; there are {', '.join(_QUICK)}")
    folder = pathlib.Path(__file__).parent
    failures = 0
    for name in names:
        script, *arguments = _QUICK[name]
        print(f"== {name}", flush=True)
        command = [sys.executable, str(folder / script), *arguments]
        failures += subprocess.run(command, check=False).returncode != 0
    return failures


if __name__ == "__main__":
    sys.exit(main())
