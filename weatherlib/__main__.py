"""Runs the command line: `python -m weatherlib` is `weatherlib`."""

import sys

from weatherlib.cli import main

if __name__ == "__main__":
    sys.exit(main.main())
