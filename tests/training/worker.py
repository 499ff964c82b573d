"""A run in a process of its own, to be killed: folder, and how slow batches are.

It kills itself where KILL_AT in the environment says so; see `killing`.
"""

import sys

from tests.training import killing, toys

if __name__ == "__main__":
    folder, slow = sys.argv[1], float(sys.argv[2])
    killing.arm()
    toys.brief_trainer(folder, slow=slow).run(resume=True)
