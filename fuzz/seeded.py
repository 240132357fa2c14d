"""The same cases from bytes of Python's `random`, without atheris: for another that looks on, such as valgrind.

    python -m fuzz.seeded 1000    those of seeds 0 to 999; seeds that fail are said, and the next ones follow
"""

import collections
import random
import sys

import torch

from fuzz.cases import draw
from fuzz.checks import check

BYTES = 160


def main(count: int) -> int:
    torch.set_num_threads(1)
    outcomes: collections.Counter[str] = collections.Counter()
    for seed in range(count):
        case = draw(random.Random(seed).randbytes(BYTES))
        try:
            outcomes[check(case)] += 1
        except AssertionError as error:
            outcomes["failed"] += 1
            print(f"seed {seed}: {case}: {error}", flush=True)
    print(f"{outcomes['right']} calls gave what they must, {outcomes['refused']} were refused as they must be")
    return outcomes["failed"]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])) > 0)
