"""One direction of the recursion, through some chunks of 16 frames: what each lane and each frame does.

Beta is alpha's recursion on the mirrored target: position p of alpha is pair p, position p of beta is label
width - 1 - p and blank width - p. So the positions of one lane lie together in memory for both, on the same boundaries.

A lane holds K neighbouring positions in registers; each warp but the first starts with the 16 positions before its own,
the halo, which it recomputes, so that warps need to meet once in 16 frames only. Emissions come some frames ahead.
"""

from typing import Any

from numba import cuda, float64, int32, int64

from numbactc.kernels.cuda.device import device
from numbactc.kernels.cuda.intrinsics import (
    LOADS,
    LOADS_BACKWARD,
    STORES,
    STORES_BACKWARD,
    fma,
    load_scaled,
    mul,
    nearest_integer,
    normalise,
    offset,
    power_of_two,
    prefetch,
    reciprocal,
    store_scaled,
)
from numbactc.kernels.cuda.plan import HALO, MOST_LATTICE_WARPS, MOST_PAIRS, WARP
from numbactc.kernels.cuda.scaled import LEAST, ZERO
from numbactc.kernels.cuda.task import Chunk, Lane

ALL_LANES = 0xFFFFFFFF


def frames_ahead(real: Any, pairs: int) -> int:
    """Frames whose emissions are on their way to registers: enough to hide a load from L2, and no spill."""
    return 2 if pairs == MOST_PAIRS or (real == float64 and pairs > 1) else 4


FRAMES_TO_L2 = 8
"""Frames that are on their way from memory to L2."""


def make_sweep(real: Any, pairs: int, tiled: int, inner: bool, backward: bool) -> Any:
    """A device function for all threads of a block: sweep(task, shared, chunk, chunks) does so many chunks.

    Args:
        real: float32 or float64.
        pairs: K.
        tiled: the block is too small for all positions. It takes them in segments, as many at a time as it has warps,
            and states stay in memory between chunks.
        inner: through the half that the other direction has done, where posteriors are found.
        backward: beta.
    """
    K, D = pairs, frames_ahead(real, pairs)
    DK = D * K
    fixed, fixed_bits = (int64, 60) if real == float64 else (int32, 29)
    load, store = (LOADS_BACKWARD[K], STORES_BACKWARD[K]) if backward else (LOADS[K], STORES[K])
    step = K * WARP - HALO
    halo_lanes = HALO // K
    zero, one, unit = real(0), real(1), real(2.0**fixed_bits)
    nothing, least = int32(ZERO), int32(LEAST)
    one_frame = -1 if backward else 1

    @cuda.jit(device=True, inline="always")
    def new_lane():
        return Lane(
            cuda.local.array(K, real), cuda.local.array(K, int32),
            cuda.local.array(K, real), cuda.local.array(K, int32),
            cuda.local.array(K, int32), cuda.local.array(K, int32),
            cuda.local.array(DK, real), cuda.local.array(DK, int32),
            cuda.local.array(D, real), cuda.local.array(D, int32),
            cuda.local.array(DK, real), cuda.local.array(DK, int32),
            cuda.local.array(K, real), cuda.local.array(K, int32),
        )  # fmt: skip

    @cuda.jit(device=True, inline="always")
    def chunk_of(task, chunk):
        first = int32(chunk * HALO)
        rows = int64(first) * int64(task.width)
        return Chunk(
            first, offset(task.emissions, 2 * int64(first) * int64(task.columns)),
            offset(task.mantissas, rows), offset(task.exponents, rows),
            offset(task.blanks, 2 * int64(chunk) * int64(int32(task.width + 4))),
        )  # fmt: skip

    @device()
    def fetch(task, here, lane, d, frame, stores, at):
        """Start the loads of a frame to place d of the ring; at both ends, of some frame that there is."""
        t = int32(min(max(frame, int32(0)), int32(task.frames - 1)) - here.first)
        row = offset(here.emissions, int64(int32(int32(2 * t) * task.columns)))
        lane.qm[d], lane.qe[d] = load_scaled(row, task.blank_column)
        for k in range(K):
            lane.pm[d * K + k], lane.pe[d * K + k] = load_scaled(row, lane.slot[k])
        if inner and stores:
            index = int32(int32(t * task.width) + at)
            ms, es = load(here.mantissas, index), load(here.exponents, index)
            for k in range(K):
                lane.om[d * K + k], lane.oe[d * K + k] = ms[k], es[k]

    @device()
    def fetch_to_l2(task, here, lane, frame, stores, at):
        """The same as far as L2."""
        t = int32(min(max(frame, int32(0)), int32(task.frames - 1)) - here.first)
        prefetch(here.emissions, int32(int32(2 * int32(t * task.columns)) + int32(2 * lane.slot[0])))
        if inner and stores:
            index = int32(int32(t * task.width) + at)
            prefetch(here.mantissas, index)
            prefetch(here.exponents, index)

    @device()
    def set_up(task, here, lane, p0, stores, at, fresh, states):
        """A lane's labels, states and first emissions; states from memory unless fresh."""
        for k in range(K):
            p = int32(p0 + k)
            j = int32(int32(task.width - 1) - p) if backward else p
            lane.slot[k], lane.skip[k] = task.no_label_column, int32(0)
            if j >= 0 and j < task.count:
                label = task.labels[int64(j)]
                lane.slot[k] = label if task.first_label_column < 0 else int32(task.first_label_column + j)
                before = int32(j + 1) if backward else int32(j - 1)
                if before >= 0 and before < task.count and task.labels[int64(before)] != label:
                    lane.skip[k] = int32(1)
            lane.b[k], lane.eb[k], lane.l[k], lane.el[k] = zero, nothing, zero, nothing
            if fresh:
                # all mass on the first blank, one frame before the first
                if p == (int32(task.width - task.count) if backward else int32(0)):
                    lane.b[k], lane.eb[k] = one, int32(0)
            elif p <= task.width:
                lane.l[k], lane.el[k] = load_scaled(states, int32(2 * p))
                lane.b[k], lane.eb[k] = load_scaled(states, int32(2 * p + 1))
        for k in range(DK):
            lane.om[k], lane.oe[k] = zero, nothing
        # not a loop, which might stay one and keep the ring out of registers
        first = here.first
        if backward:
            first = int32(first + int32(HALO - 1))
        fetch(task, here, lane, 0, first, stores, at)
        fetch(task, here, lane, 1, int32(first + one_frame), stores, at)
        if D > 2:
            fetch(task, here, lane, 2, int32(first + 2 * one_frame), stores, at)
            fetch(task, here, lane, 3, int32(first + 3 * one_frame), stores, at)

    @device(fixed)
    def weight(m1, e1, m2, e2, reference):
        """The product of two states in units of 2**(reference - fixed_bits), as an integer: sums have no order."""
        k = int32(int32(e1 + e2) - reference)
        return nearest_integer(mul(mul(mul(m1, m2), unit), power_of_two(k, zero)))

    @device(fixed)
    def do_frame(task, here, lane, d, frame, at_start, at_end, p0, owned, stores, at, inverse):
        """One frame, whose emissions are in place d of the ring; inner, at the end of a chunk: the sum of `weight`s."""
        # alpha leaves and brings what enters a frame, beta what has its emission: y and z
        y, ey = cuda.local.array(K, real), cuda.local.array(K, int32)
        z, ez = cuda.local.array(K, real), cuda.local.array(K, int32)
        part = fixed(0)
        left_m = cuda.shfl_up_sync(ALL_LANES, lane.l[K - 1], 1)
        left_e = cuda.shfl_up_sync(ALL_LANES, lane.el[K - 1], 1)
        if (int32(cuda.threadIdx.x) & int32(31)) == 0:
            left_m, left_e = zero, nothing
        if frame < task.frames:
            for kk in range(K):
                k = K - 1 - kk
                b, eb, l, el = lane.b[k], lane.eb[k], lane.l[k], lane.el[k]
                if k > 0:
                    before_m, before_e = lane.l[k - 1], lane.el[k - 1]
                else:
                    before_m, before_e = left_m, left_e
                # what enters the blank: from itself and the label before. Exponents are aligned to the largest of those
                # that count, so that nothing is lost beside what does not
                e = max(eb, before_e)
                into = fma(before_m, power_of_two(int32(before_e - e), zero), mul(b, power_of_two(int32(eb - e), zero)))
                # what enters the label: from itself and the blank; and, if it may skip, from the label before
                m1, e1 = into, e
                if lane.skip[k] == 0:
                    m1, e1 = b, eb
                e2 = max(el, e1)
                enters = fma(l, power_of_two(int32(el - e2), zero), mul(m1, power_of_two(int32(e1 - e2), zero)))
                # zeros sink no further, frame after frame, so that two exponents have room in 32 bits
                lane.l[k], lane.el[k] = mul(enters, lane.pm[d * K + k]), max(int32(e2 + lane.pe[d * K + k]), least)
                lane.b[k], lane.eb[k] = mul(into, lane.qm[d]), max(int32(e + lane.qe[d]), least)
                if backward:
                    y[k], ey[k], z[k], ez[k] = lane.l[k], lane.el[k], lane.b[k], lane.eb[k]
                else:
                    y[k], ey[k], z[k], ez[k] = enters, e2, into, e
            index = int32(int32(int32(frame - here.first) * task.width) + at)
            if inner:
                if at_end:
                    for k in range(K):
                        of_label = weight(y[k], ey[k], lane.om[d * K + k], lane.oe[d * K + k], task.e)
                        of_blank = weight(z[k], ez[k], lane.obm[k], lane.obe[k], task.e)
                        part = fixed(part + fixed(of_label + of_blank))
                for k in range(K):
                    e3 = int32(int32(ey[k] + lane.oe[d * K + k]) - task.e)
                    y[k] = mul(mul(mul(y[k], lane.om[d * K + k]), inverse), power_of_two(e3, zero))
                if stores:
                    store(here.mantissas, index, y)
            elif task.keep:
                if at_start:
                    for k in range(K):
                        p = int32(p0 + k)
                        if owned and p <= task.width:
                            store_scaled(here.blanks, int32(task.width - p) if backward else p, z[k], ez[k])
                if stores:
                    store(here.mantissas, index, y)
                    store(here.exponents, index, ey)
        fetch(task, here, lane, d, int32(frame + D * one_frame), stores, at)
        fetch_to_l2(task, here, lane, int32(frame + FRAMES_TO_L2 * one_frame), stores, at)
        return part

    @device(fixed)
    def run_chunk(task, here, lane, p0, owned, stores, at, ticks, inverse):
        """16 frames; what `do_frame` has to say of the last of them."""
        part = fixed(0)
        frame = here.first
        if inner:
            # the other direction's first frame of the chunk is the last of this one
            last = frame if backward else int32(frame + int32(HALO - 1))
            for k in range(K):
                p = int32(p0 + k)
                lane.obm[k], lane.obe[k] = zero, nothing
                if owned and p <= task.width and last < task.frames:
                    lane.obm[k], lane.obe[k] = load_scaled(here.blanks, int32(task.width - p) if backward else p)
        if backward:
            frame = int32(frame + int32(HALO - 1))
        tick = int32(0)
        while tick < ticks:
            start, end = tick == 0, tick == HALO - D
            # not a loop, which might stay one and keep the ring out of registers
            do_frame(task, here, lane, 0, frame, start, False, p0, owned, stores, at, inverse)
            frame = int32(frame + one_frame)
            if D > 2:
                do_frame(task, here, lane, 1, frame, False, False, p0, owned, stores, at, inverse)
                frame = int32(frame + one_frame)
                do_frame(task, here, lane, 2, frame, False, False, p0, owned, stores, at, inverse)
                frame = int32(frame + one_frame)
            part = do_frame(task, here, lane, D - 1, frame, False, end, p0, owned, stores, at, inverse)
            frame = int32(frame + one_frame)
            tick = int32(tick + D)
        for k in range(K):
            lane.b[k], lane.eb[k] = normalise(lane.b[k], lane.eb[k], nothing)
            lane.l[k], lane.el[k] = normalise(lane.l[k], lane.el[k], nothing)
        return part

    @device()
    def save(lane, states, p0, owned, width):
        for k in range(K):
            p = int32(p0 + k)
            if owned and p <= width:
                store_scaled(states, int32(2 * p), lane.l[k], lane.el[k])
                store_scaled(states, int32(2 * p + 1), lane.b[k], lane.eb[k])

    @device()
    def publish(shared, side, part):
        """Let the block have this warp's part of a sum."""
        for k in range(5):
            part = fixed(part + cuda.shfl_xor_sync(ALL_LANES, part, int32(16 >> k)))
        if (int32(cuda.threadIdx.x) & int32(31)) == 0:
            shared.parts[side + (int32(cuda.threadIdx.x) >> int32(5))] = part

    @device(real)
    def inverse_of_sum(shared, side, warps):
        """What products are to be multiplied by from now on. Rounding lets them drift by some 1e-8 a frame."""
        total = fixed(0)
        for w in range(warps):
            total = fixed(total + shared.parts[side + w])
        return mul(unit, reciprocal(real(total)))

    @device()
    def sweep_resident(task, shared, chunk, chunks):
        """Each warp has one segment, in registers from the first frame to the last."""
        thread = int32(cuda.threadIdx.x)
        lane_number, warp = int32(thread & int32(31)), int32(thread >> int32(5))
        warps = int32(int32(cuda.blockDim.x) >> int32(5))
        ticks = min(int32(cuda.blockDim.x), int32(HALO))  # always HALO; a compiler that knew would unroll them all
        lane = new_lane()
        p0 = int32(int32(warp * step) + int32(lane_number * K))
        owned = warp == 0 or lane_number >= halo_lanes
        stores = owned and p0 < task.width
        at = int32(int32(task.width - K) - p0) if backward else p0
        live = warp == 0 or int32(int32(warp * step) + HALO) <= task.width
        inverse = reciprocal(real(task.m))
        if live:
            set_up(task, chunk_of(task, chunk), lane, p0, stores, at, not inner, task.states)
        i = int32(0)
        while i < chunks:
            side = int32((i & 1) * MOST_LATTICE_WARPS)  # two places in turn: one barrier is enough
            part = fixed(0)
            here = chunk_of(task, chunk)
            if live:
                part = run_chunk(task, here, lane, p0, owned, stores, at, ticks, inverse)
            if inner:
                publish(shared, side, part)
            if live and lane_number >= WARP - halo_lanes:
                to = int32(int32(int32(side + warp) * HALO + int32(lane_number - (WARP - halo_lanes)) * K) * 2)
                for k in range(K):
                    shared.mantissas[to + 2 * k], shared.exponents[to + 2 * k] = lane.l[k], lane.el[k]
                    shared.mantissas[to + 2 * k + 1], shared.exponents[to + 2 * k + 1] = lane.b[k], lane.eb[k]
            if warps > 1:
                cuda.syncthreads()
            else:
                cuda.syncwarp()
            if live and warp > 0 and lane_number < halo_lanes:
                to = int32(int32(int32(side + warp - 1) * HALO + lane_number * K) * 2)
                for k in range(K):
                    lane.l[k], lane.el[k] = shared.mantissas[to + 2 * k], shared.exponents[to + 2 * k]
                    lane.b[k], lane.eb[k] = shared.mantissas[to + 2 * k + 1], shared.exponents[to + 2 * k + 1]
            if inner:
                inverse = inverse_of_sum(shared, side, warps)
            i = int32(i + 1)
            chunk = int32(chunk - 1) if backward else int32(chunk + 1)
        if not inner and live:
            save(lane, task.states, p0, owned, task.width)

    @device()
    def sweep_tiled(task, shared, chunk, chunks):
        """Segments come and go; their states are read from one copy and written to another."""
        thread = int32(cuda.threadIdx.x)
        lane_number, warp = int32(thread & int32(31)), int32(thread >> int32(5))
        warps = int32(int32(cuda.blockDim.x) >> int32(5))
        ticks = min(int32(cuda.blockDim.x), int32(HALO))
        lane = new_lane()
        copy = 2 * 4 * int64(int32(task.width + 4))
        inverse = reciprocal(real(task.m))
        i = int32(0)
        while i < chunks:
            side = int32((i & 1) * MOST_LATTICE_WARPS)
            source = offset(task.states, copy * int64(int32(2 - (i & 1)))) if i > 0 else task.states
            last = i + 1 == chunks and not inner
            target = task.states if last else offset(task.states, copy * int64(int32(1 + (i & 1))))
            part = fixed(0)
            here = chunk_of(task, chunk)
            start = int32(warp * step)
            while start == 0 or int32(start + HALO) <= task.width:
                p0 = int32(start + int32(lane_number * K))
                owned = start == 0 or lane_number >= halo_lanes
                stores = owned and p0 < task.width
                at = int32(int32(task.width - K) - p0) if backward else p0
                set_up(task, here, lane, p0, stores, at, i == 0 and not inner, source)
                part = fixed(part + run_chunk(task, here, lane, p0, owned, stores, at, ticks, inverse))
                save(lane, target, p0, owned, task.width)
                start = int32(start + int32(warps * step))
            if inner:
                publish(shared, side, part)
            cuda.syncthreads()
            if inner:
                inverse = inverse_of_sum(shared, side, warps)
            i = int32(i + 1)
            chunk = int32(chunk - 1) if backward else int32(chunk + 1)

    return sweep_tiled if tiled else sweep_resident
