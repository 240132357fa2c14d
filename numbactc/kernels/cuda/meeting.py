"""Where alpha and beta meet: the probability of the target, from the states that both have reached."""

from typing import Any

from numba import cuda, float64, int32, int64

from numbactc.kernels.cuda.device import device
from numbactc.kernels.cuda.intrinsics import fma, load_scaled, mul, nearest_integer, normalise, power_of_two
from numbactc.kernels.cuda.plan import WARP
from numbactc.kernels.cuda.scaled import NO_PATH, ZERO

ALL_LANES = 0xFFFFFFFF
NOTHING = 2 * ZERO
"""Exponent of a product that is 0."""


def make_meet(real: Any) -> Any:
    """A device function for all threads of a block.

    Terms are added as integers, in units of the largest term's exponent less as many bits as there is room for: such a
    sum does not depend on who adds what, so neither on the number of threads.
    """
    nothing = int32(NOTHING)

    @device(real, int32, real, int32)
    def terms(p, labels, count, width, states):
        """The mass through label p and that through blank p between the two middle frames, each as (m, e)."""
        columns = int32(width + 4)
        bm, be = load_scaled(states, int32(2 * p + 1))
        lm, le = real(0), int32(ZERO)
        skips = False
        if p > 0:
            lm, le = load_scaled(states, int32(2 * p - 2))
            skips = p < count and labels[int64(p)] != labels[int64(p) - 1]
        e = max(be, le)
        into_blank = fma(lm, power_of_two(int32(le - e), real(0)), mul(bm, power_of_two(int32(be - e), real(0))))
        om, oe = load_scaled(states, int32(2 * int32(columns + int32(width - p)) + 1))
        blank_m, blank_e = normalise(mul(into_blank, om), int32(e + oe), nothing)
        label_m, label_e = real(0), nothing
        if p < count:
            sm, se = load_scaled(states, int32(2 * p))
            rm, re = (into_blank, e) if skips else (bm, be)
            e = max(se, re)
            y = fma(sm, power_of_two(int32(se - e), real(0)), mul(rm, power_of_two(int32(re - e), real(0))))
            om, oe = load_scaled(states, int32(2 * int32(columns + int32(width - 1 - p))))
            label_m, label_e = normalise(mul(y, om), int32(e + oe), nothing)
        return label_m, label_e, blank_m, blank_e

    @device(int64)
    def fixed(m, e, unit):
        """m * 2**e in units of 2**unit."""
        return nearest_integer(float64(m) * power_of_two(int32(e - unit), float64(0)))

    @device(float64, int32)
    def meet(labels, count, width, states, tops, sums):
        """The target's probability as (m, e), m in [1, 2), or m = 0. Every thread has it.

        Args:
            labels, count: the target's, (L,) and L.
            states: of this utterance: alpha's (width + 4) positions, then beta's.
            tops, sums: shared, an int32 and an int64 for each warp.
        """
        thread, block = int32(cuda.threadIdx.x), int32(cuda.blockDim.x)
        top = nothing
        p = thread
        while p <= width:
            _, label_e, _, blank_e = terms(p, labels, count, width, states)
            top = max(top, max(label_e, blank_e))
            p = int32(p + block)
        for k in range(5):
            top = max(top, int32(cuda.shfl_xor_sync(ALL_LANES, top, int32(16 >> k))))
        if (thread & int32(31)) == 0:
            tops[thread >> int32(5)] = top
        cuda.syncthreads()
        for w in range(block // WARP):
            top = max(top, tops[w])

        room = int32(60)
        many = int32(2 * count + 2)
        while many > 0:
            many = int32(many >> 1)
            room = int32(room - 1)
        unit = int32(top - room)
        total = int64(0)
        p = thread
        while p <= width:
            label_m, label_e, blank_m, blank_e = terms(p, labels, count, width, states)
            total += fixed(label_m, label_e, unit) + fixed(blank_m, blank_e, unit)
            p = int32(p + block)
        for k in range(5):
            total += cuda.shfl_xor_sync(ALL_LANES, total, int32(16 >> k))
        if (thread & int32(31)) == 0:
            sums[thread >> int32(5)] = total
        cuda.syncthreads()
        total = int64(0)
        for w in range(block // WARP):
            total += sums[w]
        return normalise(float64(total), unit, int32(NO_PATH))

    return meet
