"""The same recursion with an exponent for each state and frame: right for any scores, some times slower than `linear.py`.

It runs where a model is so sure of itself that the float64 mantissas of a held block could leave their range. Places are
those of `linear.py`; emissions are scaled numbers too. No frame reads what another one wrote without normalising it.
"""

import math

import numpy as np

from numbactc.kernels.cpu.exp2 import exp2
from numbactc.kernels.cpu.linear import PAD
from numbactc.kernels.jit import kernel
from numbactc.kernels.scaled import ZERO_EXPONENT, add, normalise, power_of_two


@kernel
def split_log2(y):
    """2**y as a scaled number; y = -inf is 0."""
    if y == -np.inf:
        return 0.0, ZERO_EXPONENT
    whole = math.floor(y)
    return exp2(y - whole), np.int64(whole)


@kernel
def step(direction, log2_emission, first, last, x, y, ex, ey):
    """Move the places first to last on by one frame, in place; x, y, ex, ey get the states before their emission.

    Args:
        direction: a `lattice.Direction` with normalised states.
        log2_emission: (K + 1,) of this frame.
    """
    b, l, eb, el = direction.b, direction.l, direction.eb, direction.el
    blank_m, blank_e = split_log2(log2_emission[0])
    left_m, left_e = 0.0, ZERO_EXPONENT
    for j in range(first, last):
        m, e = add(b[j], eb[j], left_m, left_e)
        n, f = add(l[j], el[j], b[j], eb[j])
        if direction.skip[j] != 0.0:
            n, f = add(n, f, left_m, left_e)
        left_m, left_e = l[j], el[j]
        x[j], ex[j] = normalise(m, e)
        y[j], ey[j] = normalise(n, f)
        label_m, label_e = split_log2(log2_emission[direction.slots[j]])
        b[j], eb[j] = normalise(x[j] * blank_m, ex[j] + blank_e)
        l[j], el[j] = normalise(y[j] * label_m, ey[j] + label_e)


@kernel
def normalise_states(b, l, eb, el):
    """Mantissas into [1, 2), each state with an exponent of its own."""
    for j in range(b.size):
        b[j], eb[j] = normalise(b[j], eb[j])
        l[j], el[j] = normalise(l[j], el[j])


@kernel
def meet(x, y, ex, ey, mirrored, offset, first, last, joint):
    """Forward times backward over 2**offset, for each state of one frame.

    Args:
        x, y, ex, ey: forward states before their emission, at their own places.
        mirrored: the backward direction, its states after the emission.
        joint: output of labels, at the mirrored places first to last.

    Returns:
        (sum over blanks, sum over labels)
    """
    blank_total = 0.0
    label_total = 0.0
    for i in range(first, last):
        j = x.size - 1 - i  # place of the blank that mirrors into i; its left neighbour's label does too
        weight = power_of_two(min(ex[j] + mirrored.eb[i] - offset, 1000))
        blank_total += x[j] * mirrored.b[i] * weight
        weight = power_of_two(min(ey[j - 1] + mirrored.el[i] - offset, 1000))
        joint[i] = y[j - 1] * mirrored.l[i] * weight
        label_total += joint[i]
    return blank_total, label_total


@kernel
def meet_block(direction, mirrored, log2_emission, first, last, offset, joint, totals):
    """What `linear.advance_and_record` and `linear.advance_and_meet` do together, for one block.

    Args:
        direction, mirrored: before and after the block, in time; states of mirrored are normalised.
        log2_emission: (frames, K + 1).
        joint, totals: outputs as in `linear.advance_and_meet`.
    """
    frames, columns = log2_emission.shape[0], joint.shape[1]
    recorded = np.zeros((frames, 2, columns))
    exponents = np.zeros((frames, 2, columns), np.int64)
    unused = np.empty((2, columns))
    unused_exponents = np.empty((2, columns), np.int64)
    normalise_states(direction.b, direction.l, direction.eb, direction.el)
    for k in range(frames):
        step(
            direction, log2_emission[k], PAD, columns - PAD,
            recorded[k, 0], recorded[k, 1], exponents[k, 0], exponents[k, 1],
        )  # fmt: skip
    for k in range(frames - 1, -1, -1):
        step(
            mirrored, log2_emission[k], first, last, unused[0], unused[1], unused_exponents[0], unused_exponents[1]
        )
        totals[k, 0], totals[k, 1] = meet(
            recorded[k, 0], recorded[k, 1], exponents[k, 0], exponents[k, 1], mirrored, offset, first, last, joint[k]
        )
