"""Runs several commands in one process, which is quicker than one for each.

python -m tests.cli.spread_worker '[["predict", ...], ...]'
"""

import json
import sys

from weatherlib.cli import main

if __name__ == "__main__":
    statuses = [main.main(words) for words in json.loads(sys.argv[1])]
    sys.stdout.write("\n" + json.dumps(statuses) + "\n")
