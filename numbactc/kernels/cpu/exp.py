"""exp of numbers <= 0, for vectors, in a handful of instructions; Numba's own calls libm per element.

Cody and Waite's scheme: x = n log(2) + r with n an integer and |r| <= log(2) / 2; a polynomial for exp(r); times 2**n,
which is made of bits. log(2) has one digit more than x: the relative error is that of the polynomial's last sum, and
grows by 3e-9 (float32) or 4e-17 (float64) for each unit of -x, where less and less depends on it.

Results are never 0: x is clamped to `LOWEST`. NaN stays NaN, whatever bits it carries. For x > 0 they mean nothing.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from numbactc.kernels.cpu.lanes import at_least, multiply_add, nearest_and_power, splat, where_not_less
from numbactc.kernels.cpu.vector import VectorType, constant, fused

# exp(r) for |r| <= log(2) / 2 with value 1 at 0, through Chebyshev's nodes; relative error 1e-8, and rounding
POLYNOMIAL_6 = (1.0, 1.0, 0.5, 0.16666505, 0.041666467, 0.008369149, 0.0013933642)
# ... 2e-12, for emissions in float64 of scores in float32 ...
POLYNOMIAL_8 = (
    1.0, 0.999999999995509, 0.4999999999995511, 0.16666666786308587, 0.04166666678626585, 0.008333283538708408,
    0.0013888839110552653, 0.0001990756931089598, 2.4867870189358295e-05,
)  # fmt: skip
# ... and 2e-17.
POLYNOMIAL_11 = (
    1.0, 1.0, 0.5000000000000001, 0.16666666666666685, 0.04166666666662367, 0.008333333333316269,
    0.0013888888917305174, 0.00019841269896675505, 2.480152122602995e-05, 2.755723590350417e-06,
    2.762010612775407e-07, 2.5111316711367628e-08,
)  # fmt: skip

LOWEST = {32: -87.3, 64: -708.3}
"""By width in bits: exp of what lies below is exp of this, hardly above the smallest normal number."""

LOG_2 = math.log(2.0)
LOG2_E = math.log2(math.e)


def polynomial(coefficients: tuple[float, ...]) -> Any:
    """A function for kernels: the polynomial's value in each lane, by Horner's scheme."""

    @intrinsic
    def value(typingctx: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = args[0].type
            result = constant(kind, coefficients[-1])
            for coefficient in reversed(coefficients[:-1]):
                result = fused(builder, result, args[0], constant(kind, coefficient))
            return result

        return x(x), generate

    return value


exp_reduced_6 = polynomial(POLYNOMIAL_6)
exp_reduced_8 = polynomial(POLYNOMIAL_8)
exp_reduced_11 = polynomial(POLYNOMIAL_11)


def exp(x: Any, like: Any) -> Any:
    """exp(x) of each lane, as exact as an array of `like`'s dtype deserves; for kernels only."""
    raise NotImplementedError("exp is compiled into kernels")


@overload(exp, jit_options={"forceinline": True})
def _exp(x, like):
    if not isinstance(x, VectorType):
        return None
    width = x.dtype.bitwidth
    number = np.float32 if width == 32 else float
    log2_e, minus_log_2, lowest = number(LOG2_E), number(-LOG_2), number(LOWEST[width])
    reduced = exp_reduced_6 if width == 32 else exp_reduced_8 if like.dtype == types.float32 else exp_reduced_11

    def exp_of_lanes(x, like):
        x = at_least(x, splat(lowest))
        n, power = nearest_and_power(x, splat(log2_e))
        return reduced(multiply_add(n, splat(minus_log_2), x)) * power

    return exp_of_lanes


def exp_times(x: Any, factor: Any, like: Any) -> Any:
    """exp(x) * factor of each lane, and exactly 0 where x < LOWEST; for kernels only."""
    raise NotImplementedError("exp_times is compiled into kernels")


@overload(exp_times, jit_options={"forceinline": True})
def _exp_times(x, factor, like):
    number = np.float32 if x.dtype.bitwidth == 32 else float
    lowest, zero = number(LOWEST[x.dtype.bitwidth]), number(0)
    # the factor is chosen, not the product: one with exp(LOWEST) is subnormal, and costs a hundred cycles
    return lambda x, factor, like: exp(x, like) * where_not_less(x, splat(lowest), factor, splat(zero))
