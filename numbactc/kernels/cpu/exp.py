"""exp for vectors of float32 and float64 in a handful of instructions; Numba's own calls libm per element.

Cody and Waite's scheme: x / log(2) = n + f with n an integer and |f| <= 1/2, to twice the precision; a polynomial for
2**f; n added to the exponent. Results are never 0 or inf: x is clamped to `LOWEST` and `HIGHEST`. NaN stays NaN.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from numbactc.kernels.cpu.lanes import (
    at_least,
    at_most,
    multiply_add,
    nearest,
    scale_by_power_of_two,
    splat,
    where_not_less,
)
from numbactc.kernels.cpu.vector import VectorType

# 2**f on [-1/2, 1/2] with value 1 at 0: minimax, relative error 2e-9 before rounding to float32 ...
POLYNOMIAL_6 = tuple(
    np.float32(c)
    for c in (1.0, 0.6931471825, 0.2402264774, 0.0555033237, 0.0096184369, 0.0013398875, 0.0001535336)
)
# ... and through Chebyshev's nodes, relative error 2e-17.
POLYNOMIAL_11 = (
    1.0, 0.6931471805599453, 0.24022650695910097, 0.0555041086648216, 0.009618129107606888, 0.0013333558146416936,
    0.0001540353044173605, 1.525273382983612e-05, 1.321544258792169e-06, 1.0178062445845774e-07,
    7.072585949269223e-09, 4.4549605981865186e-10,
)  # fmt: skip

LOWEST, HIGHEST = {32: -87.3, 64: -708.3}, {32: 88.0, 64: 709.0}
"""By width in bits: exp of what lies outside is exp of these; that of LOWEST is hardly above the smallest normal."""

LOG2_E = math.log2(math.e)
LOG2_E_HIGH_32 = np.float32(LOG2_E)
LOG2_E_LOW_32 = np.float32(LOG2_E - float(LOG2_E_HIGH_32))
LOG2_E_LOW_64 = 2.0355273740931033e-17  # log2(e) less its float64


def constant(vector: VectorType, by_width: dict[int, float]) -> Any:
    """A number in the precision of a vector."""
    width = vector.dtype.bitwidth
    return np.float32(by_width[width]) if width == 32 else by_width[width]


def exp(x: Any) -> Any:
    """exp(x) of each lane, to the precision of x; for kernels only."""
    raise NotImplementedError("exp is compiled into kernels")


@overload(exp, jit_options={"forceinline": True})
def _exp(x):
    if not isinstance(x, VectorType):
        return None
    lowest, highest = constant(x, LOWEST), constant(x, HIGHEST)
    if x.dtype == types.float32:
        c0, c1, c2, c3, c4, c5, c6 = POLYNOMIAL_6

        def exp_float32(x):
            x = at_most(at_least(x, splat(lowest)), splat(highest))
            n = nearest(x * splat(LOG2_E_HIGH_32))
            f = multiply_add(x, splat(LOG2_E_LOW_32), multiply_add(x, splat(LOG2_E_HIGH_32), splat(np.float32(0)) - n))
            p = multiply_add(splat(c6), f, splat(c5))
            p = multiply_add(p, f, splat(c4))
            p = multiply_add(p, f, splat(c3))
            p = multiply_add(p, f, splat(c2))
            p = multiply_add(p, f, splat(c1))
            return scale_by_power_of_two(multiply_add(p, f, splat(c0)), n)

        return exp_float32
    d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11 = POLYNOMIAL_11

    def exp_float64(x):
        x = at_most(at_least(x, splat(lowest)), splat(highest))
        n = nearest(x * splat(LOG2_E))
        f = multiply_add(x, splat(LOG2_E_LOW_64), multiply_add(x, splat(LOG2_E), splat(0.0) - n))
        p = multiply_add(splat(d11), f, splat(d10))
        p = multiply_add(p, f, splat(d9))
        p = multiply_add(p, f, splat(d8))
        p = multiply_add(p, f, splat(d7))
        p = multiply_add(p, f, splat(d6))
        p = multiply_add(p, f, splat(d5))
        p = multiply_add(p, f, splat(d4))
        p = multiply_add(p, f, splat(d3))
        p = multiply_add(p, f, splat(d2))
        p = multiply_add(p, f, splat(d1))
        return scale_by_power_of_two(multiply_add(p, f, splat(d0)), n)

    return exp_float64


def exp_times(x: Any, factor: Any) -> Any:
    """exp(x) * factor of each lane, and exactly 0 where x < LOWEST; for kernels only."""
    raise NotImplementedError("exp_times is compiled into kernels")


@overload(exp_times, jit_options={"forceinline": True})
def _exp_times(x, factor):
    lowest, zero = constant(x, LOWEST), constant(x, {32: 0.0, 64: 0.0})
    # chosen, not subtracted: a multiple of exp(LOWEST) is subnormal, which costs a hundred cycles wherever it occurs
    return lambda x, factor: where_not_less(x, splat(lowest), exp(x) * factor, splat(zero))
