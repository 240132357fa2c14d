"""The same cases from bytes of Python's `random`, without atheris: for another that looks on, such as valgrind.

    python -m fuzz.seeded 1000    those of seeds 0 to 999
"""

import collections
import random
import sys

import torch

from fuzz.cases import draw
from fuzz.checks import check

BYTES = 160


def main(count: int) -> None:
    torch.set_num_threads(1)
    outcomes = collections.Counter(check(draw(random.Random(seed).randbytes(BYTES))) for seed in range(count))
    print(f"{outcomes['right']} calls gave what they must, {outcomes['refused']} were refused as they must be")


if __name__ == "__main__":
    main(int(sys.argv[1]))
