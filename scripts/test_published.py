"""Runs the unit tests of a GraphCast checkout against weatherlib.

    python scripts/test_published.py CHECKOUT

Copies the `*_test.py` files of the checkout to a temporary folder, makes their imports
of the `graphcast` package import weatherlib, changes nothing else, and runs them. Fails
when a test fails or none is found.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

_IMPORT = re.compile(r"^(\s*)(from|import) graphcast\b(?=[ .\n])", re.MULTILINE)
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def rewrite_imports(source: str) -> str:
    """Returns Python source that imports weatherlib wherever it imported graphcast."""
    return _IMPORT.sub(r"\1\2 weatherlib", source)


def find_tests(checkout: pathlib.Path) -> list[pathlib.Path]:
    """Returns the test files of the package in a checkout.

    Args:
      checkout: The root of the checkout, or the package folder itself.
    """
    package = checkout / "graphcast"
    folder = package if package.is_dir() else checkout
    return sorted(folder.glob("*_test.py"))


def run(checkout: pathlib.Path, pytest_args: list[str]) -> int:
    """Runs the tests and prints their number.

    Args:
      checkout: As in `find_tests`.
      pytest_args: More arguments for pytest.

    Returns:
      The exit code: 0 when at least one test ran and all passed.
    """
    files = find_tests(checkout)
    if not files:
        print(f"no *_test.py under {checkout}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="published-tests-") as folder:
        for file in files:
            copy = pathlib.Path(folder, file.name)
            copy.write_text(rewrite_imports(file.read_text("utf8")), "utf8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        # The root of the run is the folder, so that no setting of ours applies.
        command += [f"--rootdir={folder}", "-c", os.devnull, *pytest_args, folder]
        path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    print(result.stdout)
    passed = re.search(r"(\d+) passed", result.stdout)
    count = int(passed.group(1)) if passed else 0
    print(f"{count} published tests passed, from {len(files)} files")
    return result.returncode if result.returncode or count else 1


def main() -> int:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=pathlib.Path, help="folder with the tests")
    arguments, pytest_args = parser.parse_known_args()
    if not arguments.checkout.is_dir():
        parser.error(f"no such folder: {arguments.checkout}")
    return run(arguments.checkout, pytest_args)


if __name__ == "__main__":
    sys.exit(main())
