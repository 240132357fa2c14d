"""The recursion over T frames and L labels of each utterance, in two launches; see README.md for its shape and arguments.

Alpha comes from the first frame, beta from the last, one block each, and they meet in the middle. `lattice_outer` takes
both there; with a gradient, they leave behind what the other will need. `lattice_inner` joins them to the loss, and
lets each go on through the other's half, where what it finds, times what the other left, is a posterior.

Beta is alpha's recursion on the mirrored target: position p of alpha is pair p, position p of beta is label
width - 1 - p and blank width - p. So positions that four lanes load together lie together for both.
"""

import math
from typing import Any

from numba import cuda, float32, float64, int32, int64

from numbactc.kernels.cuda import classes as by_class
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
from numbactc.kernels.cuda.intrinsics import (
    LOADS,
    STORES,
    fma,
    load_scaled,
    mul,
    nearest_integer,
    offset,
    reciprocal,
    store_scaled,
)
from numbactc.kernels.cuda.meeting import make_meet
from numbactc.kernels.cuda.plan import HALO, MOST_LATTICE_WARPS, WARP
from numbactc.kernels.cuda.scaled import ZERO, scaled_numbers

ALL_LANES = 0xFFFFFFFF
LN_2 = math.log(2.0)


def frames_ahead(pairs: int) -> int:
    """Frames whose emissions are on their way: enough to hide a load from memory, few enough for the registers."""
    return 8 if pairs < 4 else 4


def make_lattice(real_name: str, pairs: int, tiled: int, inner: bool) -> Any:
    """One of the two kernels.

    Args:
        real_name: type of the arithmetic.
        pairs: positions a lane has in registers.
        tiled: the block is too small for all positions, and takes them 16 frames and some warps at a time, with the
            states in memory between.
        inner: the second launch.
    """
    real, fixed, fixed_bits = (float64, int64, 60) if real_name == "float64" else (float32, int32, 29)
    K, D = pairs, frames_ahead(pairs)
    DK = D * K
    numbers = scaled_numbers(real)
    power, normalise_state = numbers.power, numbers.normalise
    load_reals, load_integers, store_reals, store_integers = LOADS[K], LOADS[K], STORES[K], STORES[K]
    meet = make_meet(real)
    step_of_segment = K * WARP - HALO
    halo_lanes = HALO // K
    zero, unit = real(0), real(2.0**fixed_bits)
    exchange_size = 2 * MOST_LATTICE_WARPS * HALO * 2
    parts_size = 2 * MOST_LATTICE_WARPS

    @cuda.jit(device=True, inline="always")
    def frame_at(c, tick, backward):
        """The frame of a chunk's tick."""
        return int32(int32(c * HALO) + (int32(int32(HALO - 1) - tick) if backward else tick))

    @cuda.jit(device=True, inline="always")
    def place_of(p, width, backward):
        """Where the K neighbours of position p on begin in memory; in reverse order if backward."""
        return int32(int32(width - int32(K)) - p) if backward else p

    @cuda.jit(device=True, inline="always")
    def set_up(p0, backward, table, C, blank, labels, places, count, width, slot, skip):
        """The emission columns of a lane's K labels, that of no label where there is none, and who may skip a blank."""
        for k in range(K):
            p = int32(p0 + k)
            j = int32(int32(width - 1) - p) if backward else p
            slot[k] = C if table else int32(count + 1)
            skip[k] = int32(0)
            if j >= 0 and j < count:
                label = labels[places + int64(j)]
                slot[k] = label if table else int32(j + 1)
                before = int32(j + 1) if backward else int32(j - 1)
                if before >= 0 and before < count and labels[places + int64(before)] != label:
                    skip[k] = int32(1)

    @cuda.jit(device=True, inline="always")
    def start_states(p0, first, b, eb, l, el):
        """All mass on the blank at position first, one frame before the direction's own first."""
        for k in range(K):
            here = int32(p0 + k) == first
            b[k], eb[k] = (real(1) if here else zero), (int32(0) if here else int32(ZERO))
            l[k], el[k] = zero, int32(ZERO)

    @cuda.jit(device=True, inline="always")
    def load_states(states, p0, width, b, eb, l, el):
        for k in range(K):
            p = int32(p0 + k)
            b[k], eb[k], l[k], el[k] = zero, int32(ZERO), zero, int32(ZERO)
            if p <= width:
                l[k], el[k] = load_scaled(states, int32(2 * p))
                b[k], eb[k] = load_scaled(states, int32(2 * p + 1))

    @cuda.jit(device=True, inline="always")
    def save_states(states, p0, width, owned, b, eb, l, el):
        for k in range(K):
            p = int32(p0 + k)
            if owned and p <= width:
                store_scaled(states, int32(2 * p), l[k], el[k])
                store_scaled(states, int32(2 * p + 1), b[k], eb[k])

    @cuda.jit(device=True, inline="always")
    def fetch(d, frame, frames, emissions, columns, blank_slot, slot, pm, pe, qm, qe):
        """Start the loads of a frame's emissions to place d of the ring; of some frame that there is, at both ends."""
        t = min(max(frame, int32(0)), int32(frames - 1))
        row = offset(emissions, int64(t) * int64(int32(2 * columns)))
        qm[d], qe[d] = load_scaled(row, blank_slot)
        for k in range(K):
            pm[d * K + k], pe[d * K + k] = load_scaled(row, slot[k])

    @cuda.jit(device=True, inline="always")
    def fetch_opposite(d, frame, frames, at, width, backward, mantissas, exponents, om, oe):
        """The same for what the other direction left for this lane's labels."""
        t = min(max(frame, int32(0)), int32(frames - 1))
        index = int64(t) * int64(width) + int64(at)
        m, e = load_reals(mantissas, index), load_integers(exponents, index)
        for k in range(K):
            om[d * K + k] = m[K - 1 - k] if backward else m[k]
            oe[d * K + k] = e[K - 1 - k] if backward else e[k]

    @cuda.jit(device=True, inline="always")
    def put(mantissas, index, values, backward):
        ordered = cuda.local.array(K, real)
        for k in range(K):
            ordered[k] = values[K - 1 - k] if backward else values[k]
        store_reals(mantissas, index, ordered)

    @cuda.jit(device=True, inline="always")
    def put_integers(exponents, index, values, backward):
        ordered = cuda.local.array(K, int32)
        for k in range(K):
            ordered[k] = values[K - 1 - k] if backward else values[k]
        store_integers(exponents, index, ordered)

    @cuda.jit(device=True, inline="always")
    def weight(m1, e1, m2, e2, reference):
        """The product of two states in units of 2**(reference - fixed_bits), as an integer: sums have no order."""
        return nearest_integer(mul(mul(mul(m1, m2), unit), power(int32(int32(e1 + e2) - reference))))

    @cuda.jit(device=True, inline="always")
    def enter(left_m, left_e, skips, b, eb, l, el):
        """The mass that enters a pair in one frame, before its emissions: that of the label, and that of the blank.

        A label is reached from itself, from its blank, and, if it may skip, from the label before; exponents are
        aligned to the largest of those that count, so that what counts is never lost beside what does not.
        """
        e2 = max(eb, left_e)
        into_blank = fma(left_m, power(int32(left_e - e2)), mul(b, power(int32(eb - e2))))
        m1, e1 = (into_blank, e2) if skips else (b, eb)
        e = max(el, e1)
        return fma(l, power(int32(el - e)), mul(m1, power(int32(e1 - e)))), e, into_blank, e2

    @cuda.jit(device=True, inline="always")
    def sweep(
        backward, chunk, chunks, C, blank, table, keep, frames, count, width, places, labels, emissions, columns,
        states, mantissas, exponents, blanks, normaliser_m, normaliser_e, shared_m, shared_e, parts,
    ):  # fmt: skip
        """One direction through `chunks` chunks of 16 frames from number `chunk` on.

        All pointers are to what belongs to this utterance; states to this direction's, with copies beyond both.
        """
        lane, warp = int32(int32(cuda.threadIdx.x) & int32(31)), int32(int32(cuda.threadIdx.x) >> int32(5))
        warps = int32(int32(cuda.blockDim.x) >> int32(5))
        b, eb = cuda.local.array(K, real), cuda.local.array(K, int32)
        l, el = cuda.local.array(K, real), cuda.local.array(K, int32)
        y, ey = cuda.local.array(K, real), cuda.local.array(K, int32)
        z, ez = cuda.local.array(K, real), cuda.local.array(K, int32)
        slot, skip = cuda.local.array(K, int32), cuda.local.array(K, int32)
        pm, pe = cuda.local.array(DK, real), cuda.local.array(DK, int32)
        om, oe = cuda.local.array(DK, real), cuda.local.array(DK, int32)
        qm, qe = cuda.local.array(D, real), cuda.local.array(D, int32)
        obm, obe = cuda.local.array(K, real), cuda.local.array(K, int32)

        first = int32(width - count) if backward else int32(0)
        blank_slot = blank if table else int32(0)
        segments = int32(1)
        if width >= K * WARP:
            segments = int32(1 + int32(width - K * WARP) // step_of_segment + 1)
        copy = int32(4 * int32(width + 4) * 2)  # reals in one copy of both directions' states
        inverse = reciprocal(real(normaliser_m))
        reference = int32(normaliser_e)

        i = int32(0)
        while i < chunks:
            c = int32(chunk - i) if backward else int32(chunk + i)
            last = i + 1 == chunks
            part = fixed(0)
            segment = warp
            while segment < segments:
                p0 = int32(int32(segment * step_of_segment) + int32(lane * K))
                owned = segment == 0 or lane >= halo_lanes
                stores = owned and p0 < width
                at = place_of(p0, width, backward)
                if tiled or i == 0:
                    set_up(p0, backward, table, C, blank, labels, places, count, width, slot, skip)
                    if i > 0:
                        load_states(offset(states, int64(copy) * int64(1 + ((i - 1) & 1))), p0, width, b, eb, l, el)
                    elif inner:
                        load_states(states, p0, width, b, eb, l, el)
                    else:
                        start_states(p0, first, b, eb, l, el)
                    for d in range(D):
                        frame = frame_at(c, int32(d), backward)
                        fetch(d, frame, frames, emissions, columns, blank_slot, slot, pm, pe, qm, qe)
                        if inner:
                            for k in range(K):
                                om[d * K + k], oe[d * K + k] = zero, int32(ZERO)
                            if stores:
                                fetch_opposite(d, frame, frames, at, width, backward, mantissas, exponents, om, oe)
                checkpoint = offset(blanks, 2 * int64(c) * int64(width + 4))
                if inner:
                    for k in range(K):
                        p = int32(p0 + k)
                        obm[k], obe[k] = zero, int32(ZERO)
                        if owned and p <= width and frame_at(c, int32(HALO - 1), backward) < frames:
                            obm[k], obe[k] = load_scaled(checkpoint, int32(width - p) if backward else p)

                tick = int32(0)
                while tick < HALO:
                    for d in range(D):
                        frame = frame_at(c, int32(tick + d), backward)
                        left_m = cuda.shfl_up_sync(ALL_LANES, l[K - 1], 1)
                        left_e = cuda.shfl_up_sync(ALL_LANES, el[K - 1], 1)
                        if lane == 0:
                            left_m, left_e = zero, int32(ZERO)
                        if frame < frames:
                            for kk in range(K):
                                k = K - 1 - kk
                                if k > 0:
                                    y[k], ey[k], z[k], ez[k] = enter(
                                        l[k - 1], el[k - 1], skip[k] != 0, b[k], eb[k], l[k], el[k]
                                    )
                                else:
                                    y[k], ey[k], z[k], ez[k] = enter(
                                        left_m, left_e, skip[k] != 0, b[k], eb[k], l[k], el[k]
                                    )
                                l[k], el[k] = y[k] * pm[d * K + k], int32(ey[k] + pe[d * K + k])
                                b[k], eb[k] = z[k] * qm[d], int32(ez[k] + qe[d])
                            if backward:
                                # alpha leaves and brings what enters a frame, beta what has its emission
                                for k in range(K):
                                    y[k], ey[k], z[k], ez[k] = l[k], el[k], b[k], eb[k]
                            if inner:
                                if d == D - 1 and tick == HALO - D:
                                    for k in range(K):
                                        part = fixed(part + weight(y[k], ey[k], om[d * K + k], oe[d * K + k], reference))
                                        part = fixed(part + weight(z[k], ez[k], obm[k], obe[k], reference))
                                for k in range(K):
                                    m = mul(mul(y[k], om[d * K + k]), inverse)
                                    y[k] = mul(m, power(int32(int32(ey[k] + oe[d * K + k]) - reference)))
                                if stores:
                                    put(mantissas, int64(frame) * int64(width) + int64(at), y, backward)
                            elif keep:
                                if d == 0 and tick == 0:
                                    for k in range(K):
                                        p = int32(p0 + k)
                                        if owned and p <= width:
                                            to = int32(width - p) if backward else p
                                            store_scaled(checkpoint, to, z[k], ez[k])
                                if stores:
                                    index = int64(frame) * int64(width) + int64(at)
                                    put(mantissas, index, y, backward)
                                    put_integers(exponents, index, ey, backward)
                        frame = frame_at(c, int32(tick + d), backward)
                        frame = int32(frame - int32(D)) if backward else int32(frame + int32(D))
                        fetch(d, frame, frames, emissions, columns, blank_slot, slot, pm, pe, qm, qe)
                        if inner:
                            if stores:
                                fetch_opposite(d, frame, frames, at, width, backward, mantissas, exponents, om, oe)
                    tick = int32(tick + D)

                for k in range(K):
                    b[k], eb[k] = normalise_state(b[k], eb[k], int32(ZERO))
                    l[k], el[k] = normalise_state(l[k], el[k], int32(ZERO))
                if not inner and last:
                    save_states(states, p0, width, owned, b, eb, l, el)
                elif tiled:
                    save_states(offset(states, int64(copy) * int64(1 + (i & 1))), p0, width, owned, b, eb, l, el)
                segment = int32(segment + warps)

            side = int32((i & 1) * MOST_LATTICE_WARPS)  # two places in turn: one barrier is enough
            if inner:
                for k in range(5):
                    part = fixed(part + cuda.shfl_xor_sync(ALL_LANES, part, int32(16 >> k)))
                if lane == 0:
                    parts[side + warp] = part
            if not tiled and lane >= WARP - halo_lanes:
                to = int32(int32(int32(side + warp) * HALO + int32(lane - (WARP - halo_lanes)) * K) * 2)
                for k in range(K):
                    shared_m[to + 2 * k], shared_e[to + 2 * k] = l[k], el[k]
                    shared_m[to + 2 * k + 1], shared_e[to + 2 * k + 1] = b[k], eb[k]
            if warps > 1:
                cuda.syncthreads()
            else:
                cuda.syncwarp()
            if not tiled and warp > 0 and lane < halo_lanes:
                to = int32(int32(int32(side + warp - 1) * HALO + lane * K) * 2)
                for k in range(K):
                    l[k], el[k] = shared_m[to + 2 * k], shared_e[to + 2 * k]
                    b[k], eb[k] = shared_m[to + 2 * k + 1], shared_e[to + 2 * k + 1]
            if inner:
                # rounding lets alpha times beta drift by some 1e-8 a frame: what follows is divided by their new sum
                total = fixed(0)
                for w in range(warps):
                    total = fixed(total + parts[side + w])
                inverse = mul(unit, reciprocal(real(total)))
            i = int32(i + 1)

    @cuda.jit(device=True, inline="always")
    def save_start(states, width, first):
        """The states of a direction that has no frames of its own."""
        p = int32(cuda.threadIdx.x)
        while p <= width:
            store_scaled(states, int32(2 * p), zero, int32(ZERO))
            store_scaled(states, int32(2 * p + 1), real(1) if p == first else zero, int32(0 if p == first else ZERO))
            p = int32(p + int32(cuda.blockDim.x))

    def lattice(
        T, C, blank, normalise, table, keep, facts, starts, labels, row_stats, emissions, states, sums,
        posteriors, exponents, blanks, order, classes, begins, class_counts, outcomes, losses,
    ):  # fmt: skip
        n, side, thread = int32(cuda.blockIdx.x), int32(cuda.blockIdx.y), int32(cuda.threadIdx.x)
        shared_m = cuda.shared.array(exchange_size, real)
        shared_e = cuda.shared.array(exchange_size, int32)
        parts = cuda.shared.array(parts_size, fixed)
        few = cuda.shared.array(MOST_LATTICE_WARPS, int32)
        long_parts = cuda.shared.array(MOST_LATTICE_WARPS, int64)
        status = facts[COLUMNS * n + STATUS]
        frames, count = facts[COLUMNS * n + FRAMES], facts[COLUMNS * n + LABELS]
        width, middle = facts[COLUMNS * n + WIDTH], facts[COLUMNS * n + MIDDLE]
        places = starts[n]
        if not inner and side == 2:
            if status != BAD and thread < WARP:
                log2 = by_class.sum_of_logs(offset(row_stats, 2 * int64(n) * int64(T)), frames, normalise, thread)
                if thread == 0:
                    sums[n] = log2
            if status == GOOD and keep:
                by_class.sort_by_class(labels, places, count, order, classes, begins, class_counts, n, few)
            return

        if table:
            columns = int32(C + 1)
            emissions = offset(emissions, 2 * int64(n) * int64(T) * int64(columns))
        else:
            columns = int32(width + 4)
            emissions = offset(emissions, 2 * (places + 4 * int64(n)) * int64(T))
        states = offset(states, 2 * 4 * (places + 4 * int64(n)) * (3 if tiled else 1))
        mantissas = offset(posteriors, places * int64(T))
        integers = offset(exponents, places * int64(T))
        checkpoints = offset(blanks, 2 * (places + 4 * int64(n)) * int64(int32(int32(T + HALO - 1) // HALO)))
        all_chunks = int32(int32(frames + int32(HALO - 1)) >> 4)
        alpha_chunks = int32(middle >> 4)
        m, e = float64(1), int32(0)
        if inner:
            outcome = status
            if status != BAD and sums[n] != sums[n]:
                outcome = int32(NOT_A_NUMBER)
            if outcome == GOOD and frames > 0:
                m, e = meet(labels, places, count, width, states, few, long_parts)
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

        other = 4 * int64(int32(width + 4))
        if side == 0:
            chunk = alpha_chunks if inner else int32(0)
            chunks = int32(all_chunks - alpha_chunks) if inner else alpha_chunks
            if not inner and chunks == 0:
                save_start(states, width, int32(0))
            sweep(
                False, chunk, chunks, C, blank, table, keep, frames, count, width, places, labels, emissions, columns,
                states, mantissas, integers, checkpoints, m, e, shared_m, shared_e, parts,
            )  # fmt: skip
        else:
            chunk = int32(alpha_chunks - 1) if inner else int32(all_chunks - 1)
            chunks = alpha_chunks if inner else int32(all_chunks - alpha_chunks)
            sweep(
                True, chunk, chunks, C, blank, table, keep, frames, count, width, places, labels, emissions, columns,
                offset(states, other), mantissas, integers, checkpoints, m, e, shared_m, shared_e, parts,
            )  # fmt: skip

    return lattice
