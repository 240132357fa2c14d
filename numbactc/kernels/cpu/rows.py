"""What happens to one frame's row of C scores: sum of exp, scores of the target's classes, softmax minus posterior.

Bound by memory bandwidth for large C: scores are read once on the way down, and once, with one write, on the way up.
A row arrives as a contiguous float32 or float64 array; `load.py` makes it one.
"""

import numpy as np

from numbactc.kernels.cpu.exp import exp, exp_times
from numbactc.kernels.cpu.simd import (
    at_least,
    at_most,
    gather_listed,
    lanes_of,
    largest_of,
    load,
    load_first,
    prefetch,
    smallest_of,
    splat,
    splat_like,
    store,
    store_first,
    sum_of,
    where_not_less,
)
from numbactc.kernels.jit import kernel

AHEAD = 8192
"""How many scores ahead to ask memory for: beyond a row's end lies the next one, which the machine does not foresee."""

IMPOSSIBLE = -(2.0**39) * np.log(2.0)
"""How far below what normalises its frame a score counts as -inf, in nats: finfo.min is a mask, too."""


@kernel
def normaliser(row):
    """(offset, sum of exp(row - offset)) of a row: softmax is exp(row - offset) / sum.

    The offset is the largest score. The sum is NaN if a score is NaN or +inf, and 1 if all are -inf.
    """
    largest = row_max(row)
    if largest == -np.inf:  # max passes over NaN
        return row.dtype.type(0), row.dtype.type(np.nan if row_is_bad(row) else 1.0)
    return largest, row_sum(row, largest)


@kernel
def row_max(row):
    """Largest score of a row; whatever there is if one is NaN."""
    lanes = lanes_of(row)
    largest = splat_like(-np.inf, row)
    whole = row.size // lanes * lanes
    for c in range(0, whole, lanes):
        largest = at_least(load(row, c), largest)
    if whole < row.size:
        largest = at_least(load_first(row, whole, row.size - whole, -np.inf), largest)
    return largest_of(largest)


@kernel
def row_sum(row, offset):
    """Sum of exp(row - offset); NaN if a score is NaN or, as the offset then, +inf."""
    lanes = lanes_of(row)
    less = splat(offset)
    total = splat_like(0, row)
    whole = row.size // lanes * lanes
    for c in range(0, whole, lanes):
        prefetch(row, c + AHEAD)
        total = total + exp(load(row, c) - less)
    if whole < row.size:
        total = total + exp(load_first(row, whole, row.size - whole, -np.inf) - less)
    return sum_of(total)


@kernel
def row_is_bad(row):
    """True if a score is NaN or +inf: what the sum shows in passing, for scores that need no normalising."""
    lanes = lanes_of(row)
    zero, one, infinity = splat_like(0, row), splat_like(1, row), splat_like(np.inf, row)
    bad = zero
    whole = row.size // lanes * lanes
    for c in range(0, whole, lanes):
        bad = bad + where_not_less(load(row, c), infinity, one, zero)
    if whole < row.size:
        bad = bad + where_not_less(load_first(row, whole, row.size - whole, 0), infinity, one, zero)
    return sum_of(bad) > 0


@kernel
def gather_scores(row, classes, to):
    """Copy the scores of some classes, none NaN; returns the smallest.

    Args:
        classes: (K,) the target's classes, then any of them again up to a whole number of vectors.
        to: (K,) output.
    """
    lanes = lanes_of(row)
    smallest = splat_like(np.inf, row)
    for k in range(0, classes.size, lanes):
        chosen = gather_listed(row, classes, k)
        store(to, k, chosen)
        smallest = at_most(chosen, smallest)
    return smallest_of(smallest)


@kernel
def row_softmax(row, offset, scale, gradient):
    """gradient = scale * exp(row - offset), and exactly 0 where the score is -inf."""
    lanes = lanes_of(row)
    less, factor = splat(offset), splat(scale)
    whole = row.size // lanes * lanes
    for c in range(0, whole, lanes):
        prefetch(row, c + AHEAD)
        store(gradient, c, exp_times(load(row, c) - less, factor))
    if whole < row.size:
        rest = row.size - whole
        store_first(gradient, whole, rest, exp_times(load_first(row, whole, rest, -np.inf) - less, factor))


@kernel
def row_minus_posterior(gradient, classes, posterior, count, scale):
    """gradient -= scale * posterior, at the target's count classes; they are distinct, so that no order matters."""
    for k in range(count):
        gradient[np.uint64(classes[k])] -= scale * posterior[k]
