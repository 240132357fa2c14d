"""The same recursion with an exponent for each state and frame: right for any scores, slower than `linear.py`.

It runs where a model is so sure of itself that the float64 mantissas of a held block could leave their range. Places,
pairs and sides are those of `linear.py`; emissions are scaled numbers too.
"""

import math

import numpy as np

from numbactc.kernels.cpu.linear import LEFT, RIGHT, VECTOR
from numbactc.kernels.jit import kernel
from numbactc.kernels.scaled import ZERO_EXPONENT, add, normalise, power_of_two

LN_2 = math.log(2.0)


@kernel
def scaled_exp(x):
    """exp(x) as a scaled number; x = -inf is 0."""
    if x == -np.inf:
        return 0.0, ZERO_EXPONENT
    y = x / LN_2
    whole = math.floor(y)
    return math.exp((y - whole) * LN_2), np.int64(whole)


@kernel
def scaled_emissions(emissions, t):
    """Mantissas and exponents of one frame's emissions; the last stands for no label."""
    mantissas = np.empty(emissions.classes + 1)
    exponents = np.empty(emissions.classes + 1, np.int64)
    for c in range(emissions.classes):
        x = np.float64(emissions.scores[t, c]) - np.float64(emissions.stats[0, t])
        m, e = scaled_exp(x)
        mantissas[c], exponents[c] = normalise(m / np.float64(emissions.stats[1, t]), e)
    mantissas[emissions.classes], exponents[emissions.classes] = 0.0, ZERO_EXPONENT
    return mantissas, exponents


@kernel
def step(states, target, side, emissions, t, first, last, y, ey):
    """Move the places first to last on by frame t, in place; y, ey get the labels before their emission.

    Args:
        states: a `lattice.States`, normalised.
        target: a `lattice.Target`.
        side: LEFT or RIGHT, where the neighbour is from which mass comes.
        emissions: a `lattice.Emissions`.
    """
    b, l, eb, el = states.b, states.l, states.eb, states.el
    emission, emission_exponent = scaled_emissions(emissions, t)
    next_m, next_e = 0.0, ZERO_EXPONENT
    for i in range(last - first):
        j = first + i if side < 0 else last - 1 - i
        m, e = add(b[j], eb[j], next_m, next_e)
        n, f = add(l[j], el[j], b[j], eb[j])
        if target.skip[j if side < 0 else j + 1] != 0.0:
            n, f = add(n, f, next_m, next_e)
        next_m, next_e = l[j], el[j]
        y[j], ey[j] = n, f
        slot = target.slots[j]
        b[j], eb[j] = normalise(m * emission[0], e + emission_exponent[0])
        l[j], el[j] = normalise(n * emission[slot], f + emission_exponent[slot])


@kernel
def normalise_states(states, first, last):
    """Mantissas into [1, 2), each state with an exponent of its own."""
    for j in range(first, last):
        states.b[j], states.eb[j] = normalise(states.b[j], states.eb[j])
        states.l[j], states.el[j] = normalise(states.l[j], states.el[j])


@kernel
def meet_block(forward, backward, target, emissions, start, stop, first, last, offset, tiles):
    """What `linear.advance_and_record` and `linear.advance_and_meet` do together, for one block.

    Args:
        forward, backward: states before and after the block, in time.
        emissions, start, stop: the block's are frames start to stop.
        first, last: live places.
        tiles: output as in `linear.advance_and_meet`: forward times backward of each label over 2**offset.
    """
    frames, places = stop - start, forward.b.size
    y, ey = np.zeros((frames, places)), np.zeros((frames, places), np.int64)
    unused, unused_exponents = np.empty(places), np.empty(places, np.int64)
    normalise_states(forward, first, last)
    normalise_states(backward, first, last)
    for k in range(frames):
        step(forward, target, LEFT, emissions, start + k, first, last, y[k], ey[k])
    for k in range(frames - 1, -1, -1):
        step(backward, target, RIGHT, emissions, start + k, first, last, unused, unused_exponents)
        for j in range(first, last):
            shift = min(ey[k, j] + backward.el[j] - offset, 1000)
            tiles[j // VECTOR, k, j % VECTOR] = y[k, j] * backward.l[j] * power_of_two(shift)
