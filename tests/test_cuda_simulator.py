"""The simulator notices what a GPU may not: each mistake in a kernel of a few lines, and none in a right one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import cuda
from numba.types import CPointer, float32, int32

from cuda_simulator import Buffer, Deadlock, Fault, Race, launch
from numbactc.kernels.cuda.intrinsics import LOADS, offset

ALL_LANES = 0xFFFFFFFF
SIZE = 64
FLOATS = CPointer(float32)


def run(kernel: Callable[..., None], block: int = SIZE, grid: int = 1, seed: int = 0) -> np.ndarray:
    """What a kernel (source, result) makes of 0, 1, 2, ..."""
    source = Buffer(np.arange(SIZE, dtype=np.float32), "source", written=True)
    result = Buffer(np.empty(SIZE, np.float32), "result")
    launch(kernel, (FLOATS, FLOATS), (grid, 1), block, [source, result], seed)
    return result.array


@pytest.mark.parametrize("seed", range(3))
def test_a_right_kernel_runs(seed: int) -> None:
    def reverse(source: Any, result: Any) -> None:
        shared = cuda.shared.array(64, float32)
        i = cuda.threadIdx.x
        shared[i] = cuda.shfl_xor_sync(ALL_LANES, source[i], 1)
        cuda.syncthreads()
        result[i] = shared[63 - i]

    assert run(reverse, seed=seed).tolist() == [float((63 - i) ^ 1) for i in range(SIZE)]


def test_a_missing_barrier_is_a_race() -> None:
    def reverse(source: Any, result: Any) -> None:
        shared = cuda.shared.array(64, float32)
        i = cuda.threadIdx.x
        shared[i] = source[i]
        cuda.syncwarp()
        result[i] = shared[63 - i]

    with pytest.raises((Race, Fault)):
        run(reverse)


def test_reading_what_another_block_wrote_is_a_race() -> None:
    def twice(source: Any, result: Any) -> None:
        i = cuda.threadIdx.x
        if cuda.blockIdx.x == 0:
            result[i] = source[i]
        else:
            result[i + 32] = source[i]
            cuda.syncthreads()
            result[i] = source[i]

    with pytest.raises(Race, match="result"):
        run(twice, block=32, grid=2)


def test_a_barrier_within_a_branch_is_a_deadlock() -> None:
    def half(source: Any, result: Any) -> None:
        i = cuda.threadIdx.x
        if i < 32:
            cuda.syncthreads()
        result[i] = source[i]

    with pytest.raises(Deadlock):
        run(half)


def test_a_warp_operation_without_all_lanes_is_a_deadlock() -> None:
    def some(source: Any, result: Any) -> None:
        i = cuda.threadIdx.x
        result[i] = source[i]
        if i % 32 < 16:
            result[i] = cuda.shfl_up_sync(ALL_LANES, source[i], 1)

    with pytest.raises(Deadlock):
        run(some)


@pytest.mark.parametrize("away", [-1, 1])
def test_out_of_bounds_is_a_fault(away: int) -> None:
    def shift(source: Any, result: Any) -> None:
        i = cuda.threadIdx.x
        result[i] = offset(source, away)[i]

    with pytest.raises(Fault, match="source"):
        run(shift)


def test_what_was_never_written_is_a_fault() -> None:
    def read_result(source: Any, result: Any) -> None:
        i = cuda.threadIdx.x
        result[i] = result[i] + source[i]

    with pytest.raises(Fault, match="never written"):
        run(read_result)


def test_an_unaligned_vector_is_refused() -> None:
    load = LOADS[4]

    def unaligned(source: Any, result: Any) -> None:
        i = cuda.threadIdx.x
        a, _, _, _ = load(source, int32(i + 1))
        result[i] = a

    with pytest.raises(AssertionError, match="vector"):
        run(unaligned, block=32)


def test_int32_wraps_and_float32_rounds() -> None:
    def arithmetic(source: Any, result: Any) -> None:
        i = cuda.threadIdx.x
        big = int32(2**31 - 1 - i)
        if int32(big + i + int32(1)) < 0:
            result[i] = (source[i] + float32(2.0**24)) - float32(2.0**24)

    expected = (np.arange(SIZE, dtype=np.float32) + np.float32(2.0**24)) - np.float32(2.0**24)
    assert (run(arithmetic) == expected).all()
