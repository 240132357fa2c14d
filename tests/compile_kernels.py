"""Compile the CUDA kernels that tests and benchmarks use, on all cores, into the cache on disk; needs no GPU.

    NUMBA_CACHE_DIR=folder python tests/compile_kernels.py 9.0        for a compute capability
    NUMBA_CACHE_DIR=folder python tests/compile_kernels.py            for the GPU that is there

One after the other, as each is first used, they would take minutes.
"""

import itertools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from numbactc.kernels.cuda import launch
from numbactc.kernels.cuda.alignment_plan import AlignmentCall, alignment_plan
from numbactc.kernels.cuda.plan import SCORE_BYTES, Call, Kernel, plan

CLASSES = (29, 40, 257, 1024, 5000)
"""One score a lane, two, and four, in one warp and in four; in step with 16 bytes or not."""

WIDTHS = (1, 40, 60, 100, 250, 400, 2000)


def kernels() -> list[Kernel]:
    """Those of all dtypes, for rows and targets of ordinary sizes; the slowest to compile first."""
    found: set[Kernel] = set()
    for dtype, C, S in itertools.product(SCORE_BYTES, CLASSES, WIDTHS):
        its_plan = plan(Call(4000, 4, C, S, False, dtype, True, True))
        alignment = alignment_plan(AlignmentCall(4000, 4, 4 * S, S, dtype))
        found |= {each.kernel for each in its_plan.forward + its_plan.backward + alignment.launches}
    return sorted(found, key=lambda kernel: ("lattice" not in kernel.name, kernel.name, kernel.options))


def capability_of_the_gpu() -> tuple[int, int]:
    import torch

    if not torch.cuda.is_available():
        sys.exit("there is no GPU: name a compute capability, such as 9.0")
    return torch.cuda.get_device_capability()


def main(arguments: list[str]) -> None:
    major, _, minor = arguments[0].partition(".") if arguments else ("", "", "")
    capability = (int(major), int(minor)) if arguments else capability_of_the_gpu()
    start, chosen = time.perf_counter(), kernels()
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        sizes = [len(code) for code in pool.map(launch.cubin, chosen, itertools.repeat(capability))]
    print(f"{len(sizes)} kernels, {sum(sizes) // 1024} KiB, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
