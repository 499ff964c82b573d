"""A run in a process of its own, to be killed: folder, and how slow batches are."""

import sys

from tests.training import toys

if __name__ == "__main__":
    folder, slow = sys.argv[1], float(sys.argv[2])
    with toys.quick_compilation():
        toys.brief_trainer(folder, slow=slow).run(resume=True)
