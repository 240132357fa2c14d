"""What happens to one frame's row of C scores: sum of exp, scores of the target's classes, softmax minus posterior.

Bound by memory bandwidth for large C: scores are read once on the way down, and once, with one write, on the way up.
A row arrives as a contiguous float32 or float64 array; `load.py` makes it one.
"""

import numpy as np

from numbactc.kernels.cpu.exp import exp, exp_times
from numbactc.kernels.cpu.lanes import (
    at_least,
    at_most,
    lanes_of,
    largest_of,
    smallest_of,
    splat,
    splat_like,
    sum_of,
    where_not_less,
)
from numbactc.kernels.cpu.vector_memory import gather_listed, load, load_first, prefetch, store, store_first
from numbactc.kernels.jit import kernel

AHEAD = 4096
"""How many scores ahead to ask memory for: beyond a row's end lies the next one, which the machine does not foresee."""

IMPOSSIBLE = -(2.0**24) * np.log(2.0)
"""How far below what normalises its frame a score counts as -inf, in nats: -1e9 and finfo.min are masks, too."""


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
def row_sum_and_next_max(row, largest, next_row):
    """Sum of exp(row - largest), from 1 to C, and `row_max` of the row that comes next, of the same size.

    The first is bound by arithmetic, for the row is in the cache since its maximum was taken; the second waits for
    memory. Both in one loop take little more than the longer one.

    The sum is NaN if a score is NaN or +inf, or if all are -inf.
    """
    lanes = lanes_of(row)
    less = splat(largest)
    total, next_largest = splat_like(0, row), splat_like(-np.inf, row)
    whole = row.size // lanes * lanes
    for c in range(0, whole, lanes):
        prefetch(next_row, c + AHEAD)
        total = total + exp(load(row, c) - less, row)
        next_largest = at_least(load(next_row, c), next_largest)
    if whole < row.size:
        rest = row.size - whole
        total = total + exp(load_first(row, whole, rest, -np.inf) - less, row)
        next_largest = at_least(load_first(next_row, whole, rest, -np.inf), next_largest)
    return sum_of(total), largest_of(next_largest)


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
        store(gradient, c, exp_times(load(row, c) - less, factor, row))
    if whole < row.size:
        rest = row.size - whole
        store_first(gradient, whole, rest, exp_times(load_first(row, whole, rest, -np.inf) - less, factor, row))


@kernel
def row_minus_posterior(gradient, classes, posterior, count, scale):
    """gradient -= scale * posterior, at the target's count classes; they are distinct, so that no order matters."""
    for k in range(count):
        gradient[np.uint64(classes[k])] -= scale * posterior[k]
