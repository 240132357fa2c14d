"""What happens to one frame's row of C scores: log-sum-exp, emissions of the target's classes, softmax minus posterior.

Bound by memory bandwidth for large C: scores are read once on the way down, and once, with one write, on the way up.
A row arrives as a contiguous float32 or float64 array; `load.py` makes it one. Logarithms are to base 2.
"""

import math

import numpy as np

from numbactc.kernels.cpu.exp2 import exp2
from numbactc.kernels.cpu.vector import maximum, minimum
from numbactc.kernels.jit import full_width_vectors, kernel

LOG2_E = math.log2(math.e)
LOWEST = np.finfo(np.float64).min
IMPOSSIBLE = -(2.0**39)
"""log2 of a probability from which it counts as 0, so that a mask of finfo.min is a mask: 3.8e11 nats."""


@kernel
def row_max(row):
    """Largest score of a row; NaN if one of them is."""
    full_width_vectors()
    largest = row[0]
    for c in range(1, row.size):
        largest = maximum(largest, row[c])
    return largest


@kernel
def row_sum_and_next_max(row, largest, next_row):
    """Sum of exp(row - largest), from 1 to C, and the largest score of the row that comes next, of the same size.

    The first is bound by arithmetic, for the row is in the cache since its maximum was taken; the second waits for
    memory. Both in one loop take little more than the longer one. The sum is NaN if a score is NaN or +inf.
    """
    full_width_vectors()
    log2_e = row.dtype.type(LOG2_E)
    total = row.dtype.type(0)
    next_largest = next_row[0]
    for c in range(row.size):
        total += exp2((row[c] - largest) * log2_e)
        next_largest = maximum(next_largest, next_row[c])
    return total, next_largest


@kernel
def log2_of_sum(total, largest):
    """log2 of `row_sum_and_next_max`'s sum; 0 for a row without a finite score, where that is NaN."""
    return 0.0 if largest == -np.inf else math.log2(np.float64(total))


@kernel
def row_is_bad(row):
    """True if a score is NaN or +inf: what the sum shows in passing, for scores that need no normalising."""
    full_width_vectors()
    bad = 0
    for c in range(row.size):
        bad += 0 if row[c] < np.inf else 1
    return bad > 0


TOO_SMALL = -900.0
"""log2 of a probability below which a frame's emissions are kept as logarithms: a float64 soon may not hold them."""


@kernel
def row_emissions(row, classes, count, offset, log2_sum, emission):
    """Probabilities of the target's classes in one frame.

    Args:
        row: (C,) scores, none of them NaN.
        classes: (K,) distinct classes, the blank first, then any, up to a whole number of vectors.
        count: how many are distinct, fewer than K.
        offset, log2_sum: what normalises the row, finite.
        emission: (K,) float64 output; those from count on stand for no class at all and are 0.

    Returns:
        (The lowest log2 that is not -inf, 0 if there is none; whether one is). Where the lowest is below TOO_SMALL,
        emission holds log2 of the probabilities.
    """
    full_width_vectors()
    for k in range(classes.size):
        emission[k] = np.float64(row[np.uint64(classes[k])])
    lowest = 0.0
    for k in range(classes.size):
        y = (emission[k] - offset) * LOG2_E - log2_sum
        emission[k] = y if y > IMPOSSIBLE else LOWEST
    for k in range(classes.size):
        lowest = minimum(lowest, emission[k])
    masked = lowest == LOWEST
    if masked:
        lowest = 0.0
        for k in range(classes.size):
            if emission[k] == LOWEST:
                emission[k] = -np.inf
            else:
                lowest = min(lowest, emission[k])
    if lowest < TOO_SMALL:
        emission[count:] = -np.inf
        return lowest, masked
    smallest = exp2(-np.inf)  # which exp2 gives instead of 0
    for k in range(classes.size):
        emission[k] = exp2(emission[k]) - smallest
    emission[count:] = 0.0
    return lowest, masked


@kernel
def row_softmax(row, largest, log2_sum, scale, gradient):
    """gradient = scale * softmax(row), and exactly 0 where the score is -inf."""
    full_width_vectors()
    log2_e = row.dtype.type(LOG2_E)
    # exp2 never gives 0 but its smallest value, which is taken off again: no other value feels that
    smallest = exp2(row.dtype.type(-np.inf))
    for c in range(row.size):
        gradient[c] = (exp2((row[c] - largest) * log2_e - log2_sum) - smallest) * scale


@kernel
def row_minus_posterior(gradient, classes, posterior, count, scale):
    """gradient -= scale * posterior, at the target's count classes; they are distinct, so that no order matters."""
    for k in range(count):
        gradient[np.uint64(classes[k])] -= scale * posterior[k]
