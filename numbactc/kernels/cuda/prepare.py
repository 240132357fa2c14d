"""Targets and lengths as they came, checked on the device: a block for each utterance. See README.md for arguments.

What is out of range is never used as an index; its utterance is marked as bad and has no frames and no labels.
"""

from typing import Any

from numba import cuda, int32, int64

from numbactc.kernels.cuda.facts import (
    BAD,
    COLUMNS,
    FRAMES,
    GOOD,
    INFEASIBLE,
    LABELS,
    MIDDLE,
    STATUS,
    WIDTH,
)
from numbactc.kernels.cuda.plan import HALO, WARP

ALL_LANES = 0xFFFFFFFF
PADDED, EXACT, AT_MOST = range(3)
"""Forms of targets: (N, S); concatenated, with lengths that add up to S; that add up to S at most."""

WARPS = 4
THREADS = WARPS * WARP


def make_prepare() -> Any:
    @cuda.jit(device=True, inline="always")
    def read(integers, i, wide):
        """Element i of int32 or, if wide, of int64, which lie as two of 32 bits, the lower one first."""
        if wide:
            low = int64(integers[2 * i]) & int64(0xFFFFFFFF)
            return int64(int64(integers[2 * i + 1]) << int64(32)) | low
        return int64(integers[i])

    @cuda.jit(device=True, inline="always")
    def block_sum(x, thread, partial):
        """Sum of an int64 over the block; every thread has it."""
        for k in range(5):
            x += cuda.shfl_xor_sync(ALL_LANES, x, int32(16 >> k))
        if (thread & int32(31)) == 0:
            partial[thread >> int32(5)] = x
        cuda.syncthreads()
        total = int64(0)
        for w in range(WARPS):
            total += partial[w]
        cuda.syncthreads()
        return total

    def prepare(
        targets, targets_wide, targets_stride_n, targets_stride_s, input_lengths, input_wide, input_stride,
        target_lengths, target_wide, target_stride, T, N, C, S, blank, form, facts, starts, labels,
    ):  # fmt: skip
        n = int32(cuda.blockIdx.x)
        thread = int32(cuda.threadIdx.x)
        partial = cuda.shared.array(WARPS, int64)
        frames = read(input_lengths, int64(n) * input_stride, input_wide)
        count = read(target_lengths, int64(n) * target_stride, target_wide)
        good = frames >= 0 and frames <= T and count >= 0 and count <= S

        if form == PADDED:
            source = int64(n) * targets_stride_n
            place = int64(n) * ((S + 3) // 4 * 4)
        else:
            before, places_before, total = int64(0), int64(0), int64(0)
            i = int64(thread)
            while i < N:
                length = min(max(read(target_lengths, i * target_stride, target_wide), int64(0)), S + 1)
                total += length
                if i < n:
                    before += length
                    places_before += (length + 3) // 4 * 4
                i += THREADS
            total = block_sum(total, thread, partial)
            source = block_sum(before, thread, partial) * targets_stride_s
            place = block_sum(places_before, thread, partial)
            good = good and (total == S if form == EXACT else total <= S)
        if not good:
            frames, count, place = int64(0), int64(0), int64(0)

        repeats, wrong = int64(0), int64(0)
        j = int64(thread)
        while j < count:
            label = read(targets, source + j * targets_stride_s, targets_wide)
            if label < 0 or label >= C or label == blank:
                wrong += 1
                label = int64(0)
            elif j > 0 and read(targets, source + (j - 1) * targets_stride_s, targets_wide) == label:
                repeats += 1
            labels[place + j] = int32(label)
            j += THREADS
        wrong = block_sum(wrong, thread, partial)
        repeats = block_sum(repeats, thread, partial)

        if thread == 0:
            if not good or wrong > 0:
                status, frames, count = BAD, int64(0), int64(0)
            elif count + repeats > frames:
                status = INFEASIBLE
            else:
                status = GOOD
            at = COLUMNS * int64(n)
            facts[at + STATUS] = int32(status)
            facts[at + FRAMES] = int32(frames)
            facts[at + LABELS] = int32(count)
            facts[at + WIDTH] = int32((count + 3) // 4 * 4)
            facts[at + MIDDLE] = int32(frames // (2 * HALO) * HALO)
            starts[n] = place

    return prepare
