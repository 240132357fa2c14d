"""A few frames of the recursion with exponents held still: plain multiplications and additions in float64.

Over K frames a state keeps the exponent that `hold_exponents` gave it, and only mantissas move. Their range is known
beforehand from the smallest emission and from the neighbours that can reach the state in K frames; where a float64
could leave its range, `hold_exponents` says so and the frames are done by `stepwise.py`. Nothing that counts is lost.

A place of a state array holds one pair, blank j and label j; before and behind the W places of the pairs there are PAD
more. All loops run over whole vectors. The backward recursion is the same one on the mirrored target. Both directions
are placed such that a label's two places add up to the number of columns less 1: reversed vectors stay whole.
"""

import numpy as np

from numbactc.kernels.jit import full_width_vectors, kernel
from numbactc.kernels.scaled import ZERO_EXPONENT, bounded_power_of_two, exponent_of

PAD = 8

# Binary digits that a float64 mantissa may use within one held block. GAP and EMISSION_BITS bound how far it falls:
# from its pair's exponent at the start, and by the block's emissions. SPAN bounds how far it rises, by mass from pairs
# with a larger exponent; 3**16 paths add 26 digits. What a forward and a backward mantissa of one state lack together
# of the total is then at most 2 * GAP + EMISSION_BITS <= WEIGHT_BITS, and what counts never leaves 2**-580 to 2**1014.
SPAN = 128
EMISSION_BITS = 320
GAP = 260
WEIGHT_BITS = 860

NO_MASS = -(1 << 40)
"""Exponent of a pair that no mass reaches within the block."""

ABSENT = -ZERO_EXPONENT
"""The exponent of a zero where the smallest is asked for."""


@kernel
def hold_exponents(b, l, eb, el, first, last, frames, masked, scratch):
    """Choose exponents for the places first to last that serve for the given number of frames.

    Args:
        b, l, eb, el: (PAD + W + PAD,) mantissas and exponents of blanks and labels.
        first, last: places of the pairs that can hold mass in these frames; multiples of PAD.
        frames: 1, 2, 4, 8 or 16.
        masked: whether a state may lose all its mass to an emission of 0 on the way.
        scratch: (5, PAD + W + 2 * PAD) int64, ZERO_EXPONENT or more before the place PAD.

    Returns:
        False, with nothing changed, if float64 mantissas could leave their range.
    """
    full_width_vectors()
    b, l, eb, el = b[first:last], l[first:last], eb[first:last], el[first:last]
    top, low, own, wide_top, wide_low = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    size = last - first
    for j in range(PAD):
        top[j] = wide_top[j] = ZERO_EXPONENT
        low[j] = wide_low[j] = ABSENT
    # the largest exponent of a pair, the smallest that is not of a 0, and the same if neither state is 0
    lasting = ZERO_EXPONENT if masked else ABSENT
    pair_top, pair_low, pair_own = top[PAD : PAD + size], low[PAD : PAD + size], own[PAD : PAD + size]
    for j in range(size):
        x = exponent_of(b[j])
        y = exponent_of(l[j])
        high_b = x + eb[j] if x > ZERO_EXPONENT else ZERO_EXPONENT
        high_l = y + el[j] if y > ZERO_EXPONENT else ZERO_EXPONENT
        low_b = high_b if x > ZERO_EXPONENT else ABSENT
        low_l = high_l if y > ZERO_EXPONENT else ABSENT
        pair_top[j] = max(high_b, high_l)
        pair_low[j] = min(low_b, low_l)
        pair_own[j] = min(low_b, low_l) if max(low_b, low_l) < lasting else ABSENT
    # what can arrive from pairs up to `frames` places to the left, each step of the way down by the slope: shifts by
    # 1, 2, .. frames / 2 see frames - 1 of them, and one more shift by 1 the last
    slope = SPAN // frames
    shift = 1
    seen = 1
    while True:
        fall = shift * slope
        left_top, left_low = top[PAD - shift : PAD - shift + size], low[PAD - shift : PAD - shift + size]
        next_top, next_low = wide_top[PAD : PAD + size], wide_low[PAD : PAD + size]
        here_top, here_low = top[PAD : PAD + size], low[PAD : PAD + size]
        for j in range(size):
            next_top[j] = max(here_top[j], left_top[j] - fall)
            next_low[j] = min(here_low[j], left_low[j])
        top, wide_top = wide_top, top
        low, wide_low = wide_low, low
        if seen > frames:
            break
        seen *= 2
        shift = seen if seen < frames else 1
        if seen == frames:
            seen = frames + 1
    # Where both states of a pair hold mass, what reaches them counts only if it is not far smaller, for it shares their
    # future. A state that is 0, or that a masked class can make 0, takes whatever comes.
    pair_top, pair_low = top[PAD : PAD + size], low[PAD : PAD + size]
    gap = 0
    for j in range(size):
        gap = max(gap, pair_top[j] - (pair_own[j] if pair_own[j] < ABSENT else pair_low[j]))
    if gap > GAP:
        return False
    for j in range(size):
        e = pair_top[j] if pair_top[j] > ZERO_EXPONENT // 2 else NO_MASS
        b[j] *= bounded_power_of_two(eb[j] - e, 1022)
        l[j] *= bounded_power_of_two(el[j] - e, 1022)
        eb[j] = e
        el[j] = e
    return True


@kernel
def step_factors(e, skip, right, skip_right, first, last):
    """What label j - 1 is multiplied by on its way to blank j (`right`) and to label j (`skip_right`)."""
    full_width_vectors()
    e, e_left = e[first:last], e[first - 1 : last - 1]
    skip, right, skip_right = skip[first:last], right[first:last], skip_right[first:last]
    for j in range(e.size):
        right[j] = bounded_power_of_two(e_left[j] - e[j], 1000)
        skip_right[j] = skip[j] * right[j]


@kernel
def meeting_weights(e, e_mirrored, offset, weight, first, last):
    """2**(forward exponent + backward exponent - offset) of each label, at the forward places."""
    full_width_vectors()
    mirrored = e.size - last
    e, weight = e[first:last], weight[first:last]
    e_mirrored = e_mirrored[mirrored : mirrored + e.size]
    for j in range(e.size):
        back = np.uint64(e.size - 1 - j)
        weight[j] = bounded_power_of_two(e[j] + e_mirrored[back] - offset, WEIGHT_BITS)


@kernel
def expand(emission, slots, p, first, last):
    """p[k, place] = emission of the label at that place in frame k; slots point to a zero where there is no label."""
    full_width_vectors()
    slots = slots[first:last]
    for k in range(emission.shape[0]):
        table = emission[k]
        row = p[k][first:last]
        for j in range(row.size):
            row[j] = table[slots[j]]


@kernel
def advance(b, l, right, skip_right, p, emission, first, last):
    """Move the states at places first to last on by emission.shape[0] frames, in place.

    Args:
        b, l, right, skip_right: state arrays and the factors of `step_factors`.
        p: (K, PAD + W + PAD) emissions of labels, from `expand`, at this direction's places.
        emission: (K, classes + 1), the blank's at [:, 0].
    """
    full_width_vectors()
    b, l = b[first:last], l[first:last]
    right, skip_right = right[first:last], skip_right[first:last]
    for k in range(emission.shape[0]):
        p_blank = emission[k, 0]
        p_label = p[k][first:last]
        label_left = 0.0
        for j in range(b.size):
            blank, label = b[j], l[j]
            b[j] = (blank + label_left * right[j]) * p_blank
            l[j] = (label + blank + label_left * skip_right[j]) * p_label[j]
            label_left = label


@kernel
def advance_and_record(b, l, right, skip_right, weight, p, emission, first, last, recorded):
    """`advance`, and keep each frame's labels before their emission, weighted and mirrored, for `advance_and_meet`.

    Args:
        weight: from `meeting_weights`.
        p: (K, PAD + W + PAD) emissions of labels, at the *mirrored* places.
        recorded: (K, PAD + W + PAD) output, at the mirrored places.
    """
    full_width_vectors()
    b, l, weight = b[first:last], l[first:last], weight[first:last]
    right, skip_right = right[first:last], skip_right[first:last]
    mirrored = recorded.shape[1] - last
    for k in range(emission.shape[0]):
        p_blank = emission[k, 0]
        p_label = p[k][mirrored : mirrored + b.size]
        row = recorded[k][mirrored : mirrored + b.size]
        label_left = 0.0
        for j in range(b.size):
            back = np.uint64(b.size - 1 - j)  # unsigned: a possibly negative index would not vectorise
            blank, label = b[j], l[j]
            y = label + blank + label_left * skip_right[j]
            row[back] = y * weight[j]
            b[j] = (blank + label_left * right[j]) * p_blank
            l[j] = y * p_label[back]
            label_left = label


@kernel
def advance_and_meet(b, l, right, skip_right, p, emission, first, last, order, joint):
    """`advance` backwards in time, multiplying with what the forward direction recorded for the same frame.

    Args:
        order: (K,) K - 1 to 0. From memory, for LLVM hoists its test that no arrays overlap out of a loop that counts
            down, and then gets it wrong, on the safe side: it would run the scalar loop.
        joint: from `advance_and_record`; overwritten with forward times backward of each label.
    """
    full_width_vectors()
    b, l = b[first:last], l[first:last]
    right, skip_right = right[first:last], skip_right[first:last]
    for step in range(order.size):
        k = order[step]
        p_blank = emission[k, 0]
        p_label = p[k][first:last]
        row = joint[k][first:last]
        label_left = 0.0
        for j in range(b.size):
            blank, label = b[j], l[j]
            y = (label + blank + label_left * skip_right[j]) * p_label[j]
            row[j] = row[j] * y
            b[j] = (blank + label_left * right[j]) * p_blank
            l[j] = y
            label_left = label


@kernel
def copy_pair(x, y, to_x, to_y):
    """Copy two arrays."""
    full_width_vectors()
    for j in range(x.size):
        to_x[j] = x[j]
        to_y[j] = y[j]


@kernel
def copy(x, to):
    """Copy one array."""
    full_width_vectors()
    for j in range(x.size):
        to[j] = x[j]
