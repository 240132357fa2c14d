"""Scaled numbers m * 2**e on a GPU: m of the type `real`, float32 or float64, and an int32 e.

e moves freely for up to 16 frames and is bounded by `normalise`, so that no sum of exponents leaves int32. What falls
below 2**ZERO counts as 0, and must not stand above what does not: a sum is aligned to the largest exponent in it.
"""

import math
from typing import Any

import numpy as np
from numba import cuda, int32, types

from numbactc.kernels.cuda.intrinsics import add, exp2, fma, mul, nearest_integer
from numbactc.kernels.cuda.plan import HALO

ZERO = -(1 << 29)
"""Exponent of a zero after `normalise`. 16 frames take off 2**28 at most, and two such numbers may be multiplied."""

IMPOSSIBLE = -(1 << 24)
"""log2 of an emission from which it counts as 0."""

LEAST = ZERO + HALO * IMPOSSIBLE
"""The least exponent that 16 frames can make of a number which is not 0; also that of an emission of 0."""

NO_PATH = ZERO - IMPOSSIBLE
"""log2 of a probability from which a target has no path: no state on its way may fall below 2**ZERO. The difference
keeps the exponent of a zero below the target's, whatever it is multiplied by: sums of paths grow by 2 bits a frame.
"""

LOG2_E = math.log2(math.e)
LOG2_E_REST = {types.float32: LOG2_E - float(np.float32(LOG2_E)), types.float64: 2.0355273740931033e-17}
"""What rounding log2(e) to each type takes away."""


def make_from_log(real: Any) -> Any:
    """A device function that makes scaled numbers of scores."""
    log2_e, log2_e_rest = real(LOG2_E), real(LOG2_E_REST[real])
    impossible = real(IMPOSSIBLE)
    c1, c2, c3, c4, c5, c6, c7 = (real(math.log(2.0) ** k / math.factorial(k)) for k in range(1, 8))
    single = real == types.float32

    @cuda.jit(device=True, inline="always")
    def from_log(x, origin):
        """exp(x - origin), x <= origin, as a scaled number, m about 1: what rounds off in the difference counts."""
        d = add(x, -origin)
        away = add(d, -x)
        rest = add(add(x, -add(d, -away)), -add(origin, away))
        y = mul(d, log2_e)
        if not y > impossible:
            return real(0), int32(LEAST)
        n = nearest_integer(y)
        f = add(y, -real(n))
        f = add(f, fma(rest, log2_e, fma(d, log2_e_rest, fma(d, log2_e, -y))))
        if single:
            m = fma(f, c7, c6)
            m = fma(fma(fma(fma(fma(fma(m, f, c5), f, c4), f, c3), f, c2), f, c1), f, real(1))
        else:
            m = exp2(f)
        return m, int32(n)

    return from_log
