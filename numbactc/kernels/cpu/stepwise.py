"""The same recursion with an exponent for each state and frame: right for any scores, slower than `linear.py`.

It runs where a model is so sure of itself that the float64 mantissas of a held block could leave their range. Places
are those of `linear.py`; emissions are scaled numbers too.
"""

import math

import numpy as np

from numbactc.kernels.cpu.exp2 import exp2
from numbactc.kernels.cpu.rows import TOO_SMALL
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
def scaled_emissions(emissions, t):
    """Mantissas and exponents of one frame's emissions."""
    values = emissions.values[t]
    mantissas = np.empty(values.size)
    exponents = np.empty(values.size, np.int64)
    for c in range(values.size):
        if emissions.lowest[t] < TOO_SMALL:
            mantissas[c], exponents[c] = split_log2(values[c])
        else:
            mantissas[c], exponents[c] = normalise(values[c], 0)
    return mantissas, exponents


@kernel
def step(direction, emissions, t, first, last, y, ey):
    """Move the places first to last on by frame t, in place; y, ey get the labels before their emission.

    Args:
        direction: a `lattice.Direction` with normalised states.
        emissions: `lattice.Emissions`.
    """
    b, l, eb, el = direction.b, direction.l, direction.eb, direction.el
    emission, emission_exponent = scaled_emissions(emissions, t)
    left_m, left_e = 0.0, ZERO_EXPONENT
    for j in range(first, last):
        m, e = add(b[j], eb[j], left_m, left_e)
        n, f = add(l[j], el[j], b[j], eb[j])
        if direction.skip[j] != 0.0:
            n, f = add(n, f, left_m, left_e)
        left_m, left_e = l[j], el[j]
        y[j], ey[j] = n, f
        slot = direction.slots[j]
        b[j], eb[j] = normalise(m * emission[0], e + emission_exponent[0])
        l[j], el[j] = normalise(n * emission[slot], f + emission_exponent[slot])


@kernel
def normalise_states(b, l, eb, el):
    """Mantissas into [1, 2), each state with an exponent of its own."""
    for j in range(b.size):
        b[j], eb[j] = normalise(b[j], eb[j])
        l[j], el[j] = normalise(l[j], el[j])


@kernel
def meet(y, ey, mirrored, offset, first, last, joint):
    """Forward times backward over 2**offset, for each label of one frame.

    Args:
        y, ey: forward labels before their emission, at their own places.
        mirrored: the backward direction, its states after the emission.
        joint: output, at the mirrored places first to last.
    """
    for i in range(first, last):
        j = y.size - 1 - i  # the place of the label that mirrors into i
        joint[i] = y[j] * mirrored.l[i] * power_of_two(min(ey[j] + mirrored.el[i] - offset, 1000))


@kernel
def meet_block(direction, mirrored, emissions, start, stop, from_, to, first, last, offset, joint):
    """What `linear.advance_and_record` and `linear.advance_and_meet` do together, for one block.

    Args:
        direction, mirrored: before and after the block, in time.
        emissions, start, stop: the block's are frames start to stop.
        from_, to, first, last: live places of direction and of mirrored.
        joint: output as in `linear.advance_and_meet`.
    """
    frames, columns = stop - start, joint.shape[1]
    recorded = np.zeros((frames, columns))
    exponents = np.zeros((frames, columns), np.int64)
    unused = np.empty(columns)
    unused_exponents = np.empty(columns, np.int64)
    normalise_states(direction.b, direction.l, direction.eb, direction.el)
    normalise_states(mirrored.b, mirrored.l, mirrored.eb, mirrored.el)
    for k in range(frames):
        step(direction, emissions, start + k, from_, to, recorded[k], exponents[k])
    for k in range(frames - 1, -1, -1):
        step(mirrored, emissions, start + k, first, last, unused, unused_exponents)
        meet(recorded[k], exponents[k], mirrored, offset, first, last, joint[k])
