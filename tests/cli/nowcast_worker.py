"""Runs commands as `spread_worker` does, with functions in place of PreDiff's networks.

python -m tests.cli.nowcast_worker '[["nowcast", ...], ...]'
"""

import json
import sys

from tests.prediff import stage_cases
from weatherlib.cli import main
from weatherlib.prediff import latent_stage

if __name__ == "__main__":
    latent_stage.forecast_model = stage_cases.toy_model
    statuses = [main.main(words) for words in json.loads(sys.argv[1])]
    sys.stdout.write("\n" + json.dumps(statuses) + "\n")
