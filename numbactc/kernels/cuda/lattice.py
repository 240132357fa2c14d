"""The recursion over T frames and L labels of each utterance, in two launches; see README.md for its arguments.

Alpha comes from the first frame, beta from the last, one block each, and they meet in the middle. `lattice_outer` takes
both there; with a gradient, they leave behind what the other will need. `lattice_inner` joins them to the loss, and
lets each go on through the other's half, where what it finds, times what the other left, is a posterior.
"""

import math
from typing import Any

from numba import cuda, float32, float64, int32, int64

from numbactc.kernels.cuda.classes import sort_by_class, sum_of_logs
from numbactc.kernels.cuda.device import device
from numbactc.kernels.cuda.facts import (
    BAD,
    COLUMNS,
    FRAMES,
    GOOD,
    INFEASIBLE,
    LABELS,
    MIDDLE,
    NOT_A_NUMBER,
    STATUS,
    WIDTH,
)
from numbactc.kernels.cuda.intrinsics import offset, store_scaled
from numbactc.kernels.cuda.meeting import make_meet
from numbactc.kernels.cuda.plan import HALO, MOST_LATTICE_WARPS, WARP
from numbactc.kernels.cuda.scaled import ZERO
from numbactc.kernels.cuda.sweep import make_sweep
from numbactc.kernels.cuda.task import EXCHANGE, PARTS, Shared, Task

LN_2 = math.log(2.0)


def make_lattice(real_name: str, pairs: int, tiled: int, inner: bool) -> Any:
    """One of the two kernels; see `sweep.make_sweep`."""
    real, fixed = (float64, int64) if real_name == "float64" else (float32, int32)
    sweep_alpha = make_sweep(real, pairs, tiled, inner, backward=False)
    sweep_beta = make_sweep(real, pairs, tiled, inner, backward=True)
    meet = make_meet(real)
    zero, one = real(0), real(1)
    copies = 3 if tiled else 1

    @device()
    def save_start(states, width):
        """Alpha's states where it has no frames of its own."""
        p = int32(cuda.threadIdx.x)
        while p <= width:
            store_scaled(states, int32(2 * p), zero, int32(ZERO))
            store_scaled(states, int32(2 * p + 1), one if p == 0 else zero, int32(0) if p == 0 else int32(ZERO))
            p = int32(p + int32(cuda.blockDim.x))

    def lattice(
        T, C, blank, normalise, table, keep, facts, starts, labels, row_stats, emissions, states, sums,
        posteriors, exponents, blanks, order, classes, begins, class_counts, outcomes, losses,
    ):  # fmt: skip
        n, side, thread = int32(cuda.blockIdx.x), int32(cuda.blockIdx.y), int32(cuda.threadIdx.x)
        shared_m = cuda.shared.array(EXCHANGE, real)
        shared_e = cuda.shared.array(EXCHANGE, int32)
        parts = cuda.shared.array(PARTS, fixed)
        few = cuda.shared.array(MOST_LATTICE_WARPS, int32)
        long_parts = cuda.shared.array(MOST_LATTICE_WARPS, int64)
        status = facts[COLUMNS * n + STATUS]
        frames, count = facts[COLUMNS * n + FRAMES], facts[COLUMNS * n + LABELS]
        width, middle = facts[COLUMNS * n + WIDTH], facts[COLUMNS * n + MIDDLE]
        places = starts[n]
        if not inner and side == 2:
            if status != BAD and thread < WARP:
                log2 = sum_of_logs(offset(row_stats, 2 * int64(n) * int64(T)), frames, normalise, thread)
                if thread == 0:
                    sums[n] = log2
            if status == GOOD and keep:
                sort_by_class(labels, places, count, order, classes, begins, class_counts, n, few)
            return

        here = places + 4 * int64(n)
        columns = int32(C + 1) if table else int32(width + 4)
        rows_before = int64(n) * int64(columns) if table else here
        states = offset(states, 2 * 4 * copies * here)
        all_chunks = int32(int32(frames + int32(HALO - 1)) // HALO)
        alpha_chunks = int32(middle // HALO)
        m, e = float64(1), int32(0)
        if inner:
            outcome = status
            if status != BAD and sums[n] != sums[n]:
                outcome = int32(NOT_A_NUMBER)
            if outcome == GOOD and frames > 0:
                m, e = meet(offset(labels, places), count, width, states, few, long_parts)
                if m == 0.0:
                    outcome = int32(INFEASIBLE)
            if side == 0 and thread == 0:
                loss = 0.0
                if outcome == INFEASIBLE:
                    loss = math.inf
                elif outcome != GOOD:
                    loss = math.nan
                elif frames > 0:
                    loss = LN_2 * (sums[n] - (math.log2(m) + float64(e)))
                    if normalise and loss < 0.0:
                        loss = 0.0  # round-off alone can make a normalised probability larger than 1
                losses[n] = loss
                outcomes[n] = outcome
            if not keep:
                return
        else:
            outcome = status
        if outcome != GOOD or frames == 0:
            return

        if side == 1:
            states = offset(states, 4 * int64(int32(width + 4)))
        task = Task(
            frames, count, width, offset(labels, places),
            offset(emissions, 2 * rows_before * int64(T)), columns,
            blank if table else int32(0), int32(-1) if table else int32(1), C if table else int32(count + 1),
            keep, states, offset(posteriors, places * int64(T)), offset(exponents, places * int64(T)),
            offset(blanks, 2 * here * int64(int32(int32(T + HALO - 1) // HALO))), m, e,
        )  # fmt: skip
        shared = Shared(shared_m, shared_e, parts)
        if side == 0:
            chunk = alpha_chunks if inner else int32(0)
            chunks = int32(all_chunks - alpha_chunks) if inner else alpha_chunks
            if tiled and chunks == 0:
                save_start(states, width)
            sweep_alpha(task, shared, chunk, chunks)
        else:
            chunk = int32(alpha_chunks - 1) if inner else int32(all_chunks - 1)
            chunks = alpha_chunks if inner else int32(all_chunks - alpha_chunks)
            if chunks > 0:
                sweep_beta(task, shared, chunk, chunks)

    return lattice
