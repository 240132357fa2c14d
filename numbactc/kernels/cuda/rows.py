"""What happens to one frame's row of C scores: log-sum-exp, emissions of the target's classes, softmax minus posterior.

Bound by memory bandwidth: scores are read once on the way down, and once, with one write, on the way up. `warps` warps
share a row. A thread takes `vector` neighbouring scores at a time, and up to `groups` such vectors before it looks at
what they hold, so that loads overlap. Who takes which score depends on C alone, also where the vectors' addresses do
not allow them to be loaded in one piece: the order of a row's sum is that of any other row.

Logarithms are to base 2. See README.md for the arguments.
"""

from typing import Any

import numpy as np
from numba import cuda, float32, float64, int32, int64, uint16

from numbactc.kernels.cuda.facts import (
    BAD,
    COLUMNS,
    FRAMES,
    INFEASIBLE,
    LABELS,
    NOT_A_NUMBER,
    STATUS,
    WIDTH,
)
from numbactc.kernels.cuda.intrinsics import (
    LOADS,
    NARROW,
    STORES,
    WIDEN,
    add,
    exp2,
    maximum,
    mul,
    offset,
    quotient,
    reciprocal,
    store_scaled,
)
from numbactc.kernels.cuda.plan import WARP
from numbactc.kernels.cuda.scaled import IMPOSSIBLE, LEAST, LOG2_E, make_from_log

ALL_LANES = 0xFFFFFFFF

STORED = {"float32": float32, "float64": float64, "bfloat16": uint16, "float16": uint16}
"""How a score of each dtype lies in memory; Numba has no 16-bit floats, so kernels see their bits."""


def real_type(dtype: str) -> Any:
    """The type of the arithmetic on scores of this dtype."""
    return float64 if dtype == "float64" else float32


class RowTools:
    """Device functions that both directions use, for one dtype and one division of a row among threads."""

    def __init__(self, dtype: str, vector: int, warps: int) -> None:
        real = real_type(dtype)
        width = STORED[dtype]
        load = LOADS[vector]
        widen = WIDEN[dtype]
        threads = WARP * warps

        @cuda.jit(device=True, inline="always")
        def load_group(row, c, C, stride_c, in_vectors, values, first):
            """values[first + k] = score c + k, for k < vector; -inf where the row has ended."""
            if c >= C:
                for k in range(vector):
                    values[first + k] = real(-np.inf)
            elif in_vectors:
                loaded = load(row, int64(c))
                for k in range(vector):
                    values[first + k] = widen(loaded[k])
            else:
                for k in range(vector):
                    values[first + k] = widen(row[int64(int64(c) + int64(k)) * stride_c])

        @cuda.jit(device=True, inline="always")
        def row_of_thread(T, N, time_inner):
            """(t, n) of this thread's row, its place in the row's team, and whether there is such a row."""
            thread = int32(cuda.threadIdx.x)
            team = int32(thread // int32(threads))
            teams = int32(int32(cuda.blockDim.x) // int32(threads))
            row = int64(int64(cuda.blockIdx.x) * int64(teams) + int64(team))
            there = row < int64(T) * int64(N)
            r = int32(row) if there else int32(0)
            inner = T if time_inner else N
            major = quotient(r, inner)
            minor = int32(r - int32(major * inner))
            place = int32(thread - int32(team * int32(threads)))
            if time_inner:
                return minor, major, place, there
            return major, minor, place, there

        def reduction(combine):
            @cuda.jit(device=True, inline="always")
            def of_team(x, place, partial):
                """Over a row's threads, in one order; every thread has it. partial: shared, one for each warp."""
                for k in range(5):
                    x = combine(x, cuda.shfl_xor_sync(ALL_LANES, x, int32(16 >> k)))
                if warps > 1:
                    if (place & int32(31)) == 0:
                        partial[place >> int32(5)] = x
                    cuda.syncthreads()
                    x = partial[0]
                    for w in range(1, warps):
                        x = combine(x, partial[w])
                    cuda.syncthreads()
                return x

            return of_team

        self.real, self.stored, self.threads = real, width, threads
        self.load_group, self.row_of_thread = load_group, row_of_thread
        self.team_sum, self.team_max = reduction(add), reduction(maximum)


def make_rows_forward(dtype: str, vector: int, warps: int, groups: int) -> Any:
    """The kernel that reads each row once; groups * vector scores of it at a time."""
    tools = RowTools(dtype, vector, warps)
    load_group, row_of_thread, team_sum, team_max = (
        tools.load_group, tools.row_of_thread, tools.team_sum, tools.team_max,
    )  # fmt: skip
    real, threads, widen = tools.real, tools.threads, WIDEN[dtype]
    from_log = make_from_log(real)
    lowest = real(float(np.finfo(np.float64 if real == float64 else np.float32).min))
    log2_e = real(LOG2_E)
    at_once = groups * vector

    def rows_forward(
        scores, stride_t, stride_n, stride_c, aligned, time_inner, T, N, C, blank, normalise, table,
        facts, starts, labels, row_stats, emissions,
    ):  # fmt: skip
        t, n, place, there = row_of_thread(T, N, time_inner)
        partial = cuda.shared.array(warps, real)
        values = cuda.local.array(at_once, real)
        status = facts[COLUMNS * n + STATUS]
        if not there or t >= facts[COLUMNS * n + FRAMES] or status == BAD:
            return
        row = offset(scores, int64(t) * stride_t + int64(n) * stride_n)

        # the sum of exp(score - largest), while largest grows
        largest = lowest
        total = real(0)
        c = int32(place * vector)
        while c < C:
            for g in range(groups):
                load_group(row, int32(c + g * threads * vector), C, stride_c, aligned != 0, values, g * vector)
            higher = largest
            for k in range(at_once):
                higher = maximum(higher, values[k])
            total = mul(total, exp2(mul(add(largest, -higher), log2_e)))
            for k in range(at_once):
                total = add(total, exp2(mul(add(values[k], -higher), log2_e)))
            largest = higher
            c = int32(c + threads * at_once)
        row_max = team_max(largest, place, partial)
        row_sum = team_sum(mul(total, exp2(mul(add(largest, -row_max), log2_e))), place, partial)

        count = facts[COLUMNS * n + LABELS]
        place_of_labels = starts[n]
        if normalise:
            origin = row_max
            if row_sum == real(0):
                row_sum = real(1)  # all of the row is -inf: nothing to normalise, and no path
        else:
            # the sum shows whether a score is NaN or +inf; the target's own best score takes its place
            best = lowest
            k = place
            while k <= count:
                c = labels[place_of_labels + int64(k) - int64(1)] if k > 0 else blank
                best = maximum(best, widen(row[int64(c) * stride_c]))
                k = int32(k + threads)
            origin = team_max(best, place, partial)
            row_sum = real(1) if row_sum == row_sum else row_sum
        if place == 0:
            at = 2 * (int64(n) * int64(T) + int64(t))
            row_stats[at] = origin
            row_stats[at + 1] = row_sum

        if table:
            columns = int32(C + 1)
            to = offset(emissions, 2 * ((int64(n) * int64(T) + int64(t)) * int64(columns)))
            k = place
            while k < columns:
                m, e = real(0), int32(LEAST)
                if k < C:
                    m, e = from_log(widen(row[int64(k) * stride_c]), origin)
                store_scaled(to, k, m, e)
                k = int32(k + threads)
        else:
            columns = int32(facts[COLUMNS * n + WIDTH] + 4)
            to = offset(emissions, 2 * ((place_of_labels + 4 * int64(n)) * int64(T) + int64(t) * int64(columns)))
            k = place
            while k <= int32(count + 1):
                m, e = real(0), int32(LEAST)
                if k <= count:
                    c = labels[place_of_labels + int64(k) - int64(1)] if k > 0 else blank
                    m, e = from_log(widen(row[int64(c) * stride_c]), origin)
                store_scaled(to, k, m, e)
                k = int32(k + threads)

    return rows_forward


def make_rows_backward(dtype: str, vector: int, warps: int, groups: int) -> Any:
    """The kernel that reads each row once more and writes the gradient's."""
    tools = RowTools(dtype, vector, warps)
    load_group, row_of_thread, team_sum = tools.load_group, tools.row_of_thread, tools.team_sum
    real, stored, threads, widen, narrow = tools.real, tools.stored, tools.threads, WIDEN[dtype], NARROW[dtype]
    store = STORES[vector]
    log2_e = real(LOG2_E)
    impossible = real(IMPOSSIBLE)
    zero, one, not_a_number = real(0), real(1), real(np.nan)
    at_once = groups * vector

    @cuda.jit(device=True, inline="always")
    def fill(out, place, C, value):
        """Every element of a row of the gradient is value."""
        same = cuda.local.array(vector, stored)
        for k in range(vector):
            same[k] = narrow(value)
        c = int32(place * vector)
        while c < C:
            store(out, int64(c), same)
            c = int32(c + threads * vector)

    def rows_backward(
        scores, stride_t, stride_n, stride_c, aligned, time_inner, T, N, C, blank, normalise,
        facts, starts, row_stats, posteriors, order, classes, begins, class_counts, outcomes,
        grad_losses, grad_stride, gradient, gradient_stride_t, gradient_stride_n,
    ):  # fmt: skip
        t, n, place, there = row_of_thread(T, N, time_inner)
        partial = cuda.shared.array(warps, real)
        values = cuda.local.array(at_once, real)
        narrowed = cuda.local.array(vector, stored)
        if not there:
            return
        out = offset(gradient, int64(t) * gradient_stride_t + int64(n) * gradient_stride_n)
        outcome = outcomes[n]
        no_path = outcome == INFEASIBLE
        if t >= facts[COLUMNS * n + FRAMES] or no_path or outcome == BAD:
            fill(out, place, C, zero)
            return
        if outcome == NOT_A_NUMBER:
            fill(out, place, C, not_a_number)
            return
        row = offset(scores, int64(t) * stride_t + int64(n) * stride_n)
        at = 2 * (int64(n) * int64(T) + int64(t))
        origin = row_stats[at]
        grad = real(grad_losses[int64(n) * grad_stride])
        scale = mul(grad, reciprocal(row_stats[at + 1]))

        if normalise:
            c = int32(place * vector)
            while c < C:
                for g in range(groups):
                    load_group(row, int32(c + g * threads * vector), C, stride_c, aligned != 0, values, g * vector)
                for g in range(groups):
                    at_c = int32(c + g * threads * vector)
                    if at_c < C:
                        for k in range(vector):
                            x = values[g * vector + k]
                            narrowed[k] = narrow(mul(exp2(mul(add(x, -origin), log2_e)), scale))
                        store(out, int64(at_c), narrowed)
                c = int32(c + threads * at_once)
        else:
            fill(out, place, C, zero)
        # what follows writes over some of it
        if warps > 1:
            cuda.syncthreads()
        else:
            cuda.syncwarp()

        count = facts[COLUMNS * n + LABELS]
        places = starts[n]
        posterior = offset(posteriors, places * int64(T) + int64(t) * int64(facts[COLUMNS * n + WIDTH]))
        of_labels = zero
        j = place
        while j < count:
            of_labels = add(of_labels, posterior[j])
            j = int32(j + threads)
        of_labels = team_sum(of_labels, place, partial)

        # each class belongs to one thread, which adds its labels in the order of their places; the blank comes last
        class_count = class_counts[n]
        k = place
        while k <= class_count:
            if k < class_count:
                c = classes[places + int64(k)]
                i = begins[places + int64(k)]
                end = begins[places + int64(k) + 1] if k + 1 < class_count else count
                q = zero
                while i < end:
                    q = add(q, posterior[order[places + int64(i)]])
                    i = int32(i + 1)
            else:
                c = blank
                q = maximum(zero, add(one, -of_labels))
            x = mul(add(widen(row[int64(c) * stride_c]), -origin), log2_e)
            if not x > impossible:
                q = zero  # a masked blank would keep what round-off has left of 1
            value = mul(exp2(x), scale) if normalise else zero
            out[int64(c)] = narrow(add(value, -mul(grad, q)))
            k = int32(k + threads)

    return rows_backward
