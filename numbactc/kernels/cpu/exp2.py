"""2**x for float32 and float64 in a handful of instructions that LLVM vectorises; Numba's own calls libm per element.

Cody and Waite's scheme: x = n + f with n an integer and |f| <= 1/2, a polynomial for 2**f, n added to the exponent.
The results are never 0: x is clamped to the smallest normal exponent, see `TINY_EXPONENT`. NaN stays NaN.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from numbactc.kernels.cpu.vector import at_least, nearest

# 2**f on [-1/2, 1/2] with value 1 at 0: minimax, relative error 2e-9 before rounding to float32 ...
MINIMAX_6 = tuple(
    np.float32(c)
    for c in (1.0, 0.6931471825, 0.2402264774, 0.0555033237, 0.0096184369, 0.0013398875, 0.0001535336)
)
# ... and Taylor's, relative error 2e-16.
TAYLOR_13 = tuple(math.log(2.0) ** k / math.factorial(k) for k in range(14))

TINY_EXPONENT = {32: -126.0, 64: -1022.0}
"""By width in bits: exp2 of anything smaller gives exactly 2**TINY_EXPONENT."""


@intrinsic
def scale_by_power_of_two(typingctx: Any, x: Any, n: Any) -> Any:
    """x * 2**n for an integral float n, by adding n to the exponent bits of x."""
    width, mantissa_bits = (32, 23) if x == types.float32 else (64, 52)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = ir.IntType(width)
        shifted = builder.shl(builder.fptosi(args[1], integer), ir.Constant(integer, mantissa_bits))
        return builder.bitcast(builder.add(builder.bitcast(args[0], integer), shifted), args[0].type)

    return x(x, x), generate


def exp2(x: Any) -> Any:
    """2**x in the precision of x (float32 or float64), x <= 127 or 1023; for kernels only."""
    raise NotImplementedError("exp2 is compiled into kernels")


@overload(exp2, inline="never")
def _exp2(x):
    low = x.bitwidth
    if x == types.float32:
        c0, c1, c2, c3, c4, c5, c6 = MINIMAX_6
        tiny = np.float32(TINY_EXPONENT[low])

        def exp2_float32(x):
            x = at_least(x, tiny)
            n = nearest(x)
            f = x - n
            return scale_by_power_of_two((((((c6 * f + c5) * f + c4) * f + c3) * f + c2) * f + c1) * f + c0, n)

        return exp2_float32
    d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13 = TAYLOR_13
    tiny_double = TINY_EXPONENT[low]

    def exp2_float64(x):
        x = at_least(x, tiny_double)
        n = nearest(x)
        f = x - n
        # Estrin's scheme: rows of a few classes wait for the longest chain of operations, not for their number
        f2 = f * f
        f4 = f2 * f2
        q0 = (d0 + d1 * f) + (d2 + d3 * f) * f2
        q1 = (d4 + d5 * f) + (d6 + d7 * f) * f2
        q2 = (d8 + d9 * f) + (d10 + d11 * f) * f2
        q3 = d12 + d13 * f
        return scale_by_power_of_two((q0 + q1 * f4) + (q2 + q3 * f4) * (f4 * f4), n)

    return exp2_float64
