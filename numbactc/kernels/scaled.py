"""Scaled numbers: a value is ``m * 2**e``, with m a float64 in [1, 2) or 0, and e an int64.

No sum, product or power of probabilities overflows or underflows, for any number of frames. These few operations on the
bits of a float64 are all that it takes; see README.md for why not logarithms.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbactc.kernels.jit import kernel

ZERO_EXPONENT = -(1 << 60)
"""The exponent of a zero: below that of any product that fits in memory, and far enough from the end of int64."""


@intrinsic
def bits_of(typingctx: Any, x: Any) -> Any:
    """The 64 bits of a float64 as an int64."""
    return types.int64(types.float64), lambda context, builder, sig, args: builder.bitcast(args[0], ir.IntType(64))


@intrinsic
def float_of(typingctx: Any, bits: Any) -> Any:
    """The float64 that has these 64 bits."""
    return types.float64(types.int64), lambda context, builder, sig, args: builder.bitcast(args[0], ir.DoubleType())


@kernel
def exponent_of(x):
    """floor(log2(x)) for a normal x > 0; ZERO_EXPONENT for 0."""
    bits = bits_of(x)
    return (bits >> 52) - 1023 if bits > 0 else ZERO_EXPONENT


@kernel
def log2_bound(x):
    """An upper bound of log2(x) for a normal x > 0, less than 0.09 above it."""
    return bits_of(x) * 2.0**-52 - 1023 + 0.0861


@kernel
def power_of_two(e):
    """2**e for e <= 1023, and 0 for e < -1022: a term so much smaller than its neighbours does not count."""
    return float_of(max(e + 1023, 0) << 52)


@kernel
def normalise(m, e):
    """The same value with m in [1, 2), or (0, ZERO_EXPONENT)."""
    shift = exponent_of(m)
    if shift == ZERO_EXPONENT:
        return 0.0, ZERO_EXPONENT
    return m * power_of_two(-shift), e + shift


@kernel
def add(m0, e0, m1, e1):
    """Sum of two scaled numbers, not normalised: align to the larger exponent."""
    e = max(e0, e1)
    return m0 * power_of_two(e0 - e) + m1 * power_of_two(e1 - e), e
