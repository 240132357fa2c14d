"""A few frames of the recursion with exponents held still: plain multiplications and additions in float64.

Over K frames a state keeps the exponent that `hold_exponents` gave it, and only mantissas move. Their range is known
beforehand from the smallest emission and from the neighbours that can reach the state in K frames; where a float64
could leave its range, `hold_exponents` says so and the frames are done by `stepwise.py`. Nothing that counts is lost.

States stay in registers over all frames of a block: two vectors of pairs at a time, side by side so that each waits
less for its own results. What their neighbours had been before each frame is in `history`.

Arrays of places have PAD to spare at both ends, and first and last are multiples of PAD. Forward, a pair is blank j and
label j, and takes mass from label j - 1, its left neighbour; backward, it is label j and the blank behind it, and takes
mass from label j + 1, its right neighbour. With that both directions have the same recursion and the same places.
"""

import numpy as np

from numbactc.kernels.cpu.lanes import (
    at_least,
    at_most,
    exponents,
    from_left,
    from_right,
    largest_of,
    splat,
    transpose,
    where_positive,
    with_exponents,
)
from numbactc.kernels.cpu.vector import I64
from numbactc.kernels.cpu.vector_memory import gather, load, store
from numbactc.kernels.jit import kernel
from numbactc.kernels.scaled import ZERO_EXPONENT

VECTOR = I64.lanes
PAD = 2 * VECTOR
BLOCK = 16
"""Frames in a block at most; a tile has this many vectors."""

# Binary digits that float64 mantissas may use within a held block. SPAN bounds how far one rises, by mass from pairs
# with a larger exponent; 3**16 paths add 26 digits. RANGE_BITS bounds how far what counts may fall: from its pair's
# exponent at the start, and by the block's emissions. So it never leaves 2**-900 to 2**154. Where a forward and a
# backward mantissa meet, WEIGHT_BITS bounds what they are multiplied by, for a product up to 2**1014.
SPAN = 128
RANGE_BITS = 900
WEIGHT_BITS = 860
STEP_BITS = 1000

EMISSION_BITS = 480
"""What an ordinary block's emissions may take of RANGE_BITS."""

FAINT_BITS = 512
"""Posteriors below 2**(2 * 154 - 512) are 0: most are in long audio, and products of theirs would be subnormal."""

LEFT, RIGHT = np.int64(-1), np.int64(1)
"""On which side a pair's neighbour stands. As plain constants, Numba would compile everything for each of them."""

NO_MASS = -(1 << 40)
"""Exponent of a pair that no mass reaches within the block."""

ABSENT = -ZERO_EXPONENT
"""The exponent of a zero where the smallest is asked for."""


@kernel
def bounded_powers_of_two(e, bound):
    """2**e for lanes of exponents clamped to [-bound, bound], so that a product with a zero stays zero."""
    return with_exponents(at_most(at_least(e, splat(-bound)), splat(bound)) + splat(1023))


@kernel
def hold_exponents(b, l, eb, el, first, last, lone, frames, side, room, masked, scratch):
    """Choose exponents for the places first to last that serve for the given number of frames.

    Args:
        b, l, eb, el: mantissas and exponents of blanks and labels.
        first, last: places of the pairs that can hold mass in these frames.
        lone: place of the last blank on the way, in whose pair is no label.
        frames: 1, 2, 4, 8 or 16.
        side: LEFT or RIGHT, where the neighbour is from which mass comes.
        room: how many binary digits below its pair's exponent a state may lie.
        masked: whether a state may lose all its mass to an emission of 0 on the way.
        scratch: (5, as many places as the states have) int64.

    Returns:
        False, with nothing changed, if float64 mantissas could leave their range.
    """
    top, low, own, wide_top, wide_low = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    zero, absent, bias = splat(ZERO_EXPONENT), splat(ABSENT), splat(1023)
    for j in (first - PAD, first - VECTOR, last, last + VECTOR):
        store(top, j, zero)
        store(low, j, absent)
        store(wide_top, j, zero)
        store(wide_low, j, absent)
    # the largest exponent of a pair, the smallest that is not of a 0, and the same if neither state is 0
    lasting = zero if masked else absent
    for j in range(first, last, VECTOR):
        x, y = exponents(load(b, j)), exponents(load(l, j))
        ex, ey = x - bias + load(eb, j), y - bias + load(el, j)
        low_b, low_l = where_positive(x, ex, absent), where_positive(y, ey, absent)
        smaller = at_most(low_b, low_l)
        store(top, j, at_least(where_positive(x, ex, zero), where_positive(y, ey, zero)))
        store(low, j, smaller)
        store(own, j, where_positive(lasting - at_least(low_b, low_l), smaller, absent))
    # no label stands beside the lone blank to be waited for, and nothing arrives beyond it
    if not masked:
        own[lone] = low[lone]
    for j in range(lone + 1 if side < 0 else first, last if side < 0 else lone):
        own[j] = ABSENT - 1
    # what can arrive from pairs up to `frames` places away, each step of the way down by the slope: shifts by 1, 2, ..
    # frames / 2 see frames - 1 of them, and one more shift by 1 the last
    slope = SPAN // frames
    shift = 1
    while True:
        final = shift >= frames
        away = side if final else side * shift
        fall = splat(slope if final else slope * shift)
        for j in range(first, last, VECTOR):
            store(wide_top, j, at_least(load(top, j), load(top, j + away) - fall))
            store(wide_low, j, at_most(load(low, j), load(low, j + away)))
        top, wide_top = wide_top, top
        low, wide_low = wide_low, low
        if final:
            break
        shift *= 2
    # Where both states of a pair hold mass, or the lone blank, what reaches them counts only if it is not far smaller,
    # for it shares their future. A state that is 0, or that a masked class can make 0, takes whatever comes.
    gap = splat(0)
    for j in range(first, last, VECTOR):
        least = load(own, j)
        gap = at_least(gap, load(top, j) - where_positive(absent - least, least, load(low, j)))
    if largest_of(gap) > room:
        return False
    half, none = splat(ZERO_EXPONENT // 2), splat(NO_MASS)
    for j in range(first, last, VECTOR):
        here = load(top, j)
        e = where_positive(here - half, here, none)
        store(b, j, load(b, j) * bounded_powers_of_two(load(eb, j) - e, 1022))
        store(l, j, load(l, j) * bounded_powers_of_two(load(el, j) - e, 1022))
        store(eb, j, e)
        store(el, j, e)
    return True


@kernel
def factors(e, skip, j, side):
    """What the neighbour's label is multiplied by on its way to blank and to label, for the pairs from place j on.

    Args:
        e: the held exponents. skip: 1.0 where a label differs from its left neighbour, else 0.0.
    """
    right = bounded_powers_of_two(load(e, j + side) - load(e, j), STEP_BITS)
    return right, right * load(skip, j if side < 0 else j + 1)


@kernel
def can_meet(e, e_back, offset, first, last):
    """Whether no weight is too large. Where both mantissas of a pair are small, its exponents exceed the total's."""
    largest = splat(NO_MASS)
    for j in range(first, last, VECTOR):
        largest = at_least(largest, load(e, j) + load(e_back, j))
    return largest_of(largest) - offset <= WEIGHT_BITS


@kernel
def weights(e):
    """2**e for pairs whose forward and backward exponents together are e above the total's; 0 where nothing counts."""
    return with_exponents(where_positive(e + splat(FAINT_BITS), at_most(e, splat(WEIGHT_BITS)) + splat(1023), splat(0)))


@kernel
def clear_history(history, frames):
    """No mass comes from beyond the first pair."""
    for k in range(frames):
        store(history, (k, 0), splat(0.0))


@kernel
def advance(states, target, table, frames, first, last, history):
    """Move the forward states at places first to last on by some frames, in place.

    Args:
        states: a `lattice.States`, its exponents held.
        target: a `lattice.Target`.
        table: (BLOCK, K) emissions, the blank's at [:, 0].
        history: (BLOCK, VECTOR) scratch.
    """
    b, l, e, slots = states.b, states.l, states.eb, target.slots
    clear_history(history, frames)
    for j in range(first, last, PAD):
        i = j + VECTOR
        b0, l0, slots0 = load(b, j), load(l, j), load(slots, j)
        b1, l1, slots1 = load(b, i), load(l, i), load(slots, i)
        to_blank0, to_label0 = factors(e, target.skip, j, LEFT)
        to_blank1, to_label1 = factors(e, target.skip, i, LEFT)
        for k in range(frames):
            p_blank = splat(table[k, 0])
            left0, left1 = from_left(load(history, (k, 0)), l0), from_left(l0, l1)
            store(history, (k, 0), l1)
            l0, b0 = (l0 + b0 + left0 * to_label0) * gather(table, (k, 0), slots0), (b0 + left0 * to_blank0) * p_blank
            l1, b1 = (l1 + b1 + left1 * to_label1) * gather(table, (k, 0), slots1), (b1 + left1 * to_blank1) * p_blank
        store(b, j, b0)
        store(l, j, l0)
        store(b, i, b1)
        store(l, i, l1)


@kernel
def advance_and_record(states, e_back, offset, target, table, frames, first, last, history, tiles):
    """`advance`, and keep each frame's labels before their emission, weighted for `advance_and_meet`.

    Args:
        e_back: held exponents of the backward states.
        offset: what the sum of a forward and a backward exponent is counted from.
        tiles: (places / VECTOR, BLOCK, VECTOR) output: [g, k] has the labels of the g-th vector in frame k.
    """
    b, l, e, slots = states.b, states.l, states.eb, target.slots
    clear_history(history, frames)
    for j in range(first, last, PAD):
        i, g = j + VECTOR, j // VECTOR
        b0, l0, slots0 = load(b, j), load(l, j), load(slots, j)
        b1, l1, slots1 = load(b, i), load(l, i), load(slots, i)
        to_blank0, to_label0 = factors(e, target.skip, j, LEFT)
        to_blank1, to_label1 = factors(e, target.skip, i, LEFT)
        weight0 = weights(load(e, j) + load(e_back, j) - splat(offset))
        weight1 = weights(load(e, i) + load(e_back, i) - splat(offset))
        for k in range(frames):
            p_blank = splat(table[k, 0])
            left0, left1 = from_left(load(history, (k, 0)), l0), from_left(l0, l1)
            store(history, (k, 0), l1)
            y0, b0 = l0 + b0 + left0 * to_label0, (b0 + left0 * to_blank0) * p_blank
            y1, b1 = l1 + b1 + left1 * to_label1, (b1 + left1 * to_blank1) * p_blank
            store(tiles, (g, k, 0), y0 * weight0)
            store(tiles, (g + 1, k, 0), y1 * weight1)
            l0 = y0 * gather(table, (k, 0), slots0)
            l1 = y1 * gather(table, (k, 0), slots1)
        store(b, j, b0)
        store(l, j, l0)
        store(b, i, b1)
        store(l, i, l1)


@kernel
def advance_and_meet(states, target, table, frames, first, last, history, tiles):
    """`advance` of the backward states, multiplying with what the forward ones recorded for the same frame.

    Args:
        tiles: from `advance_and_record`; overwritten with forward times backward of each label.
    """
    b, l, e, slots = states.b, states.l, states.eb, target.slots
    clear_history(history, frames)
    for j in range(last - PAD, first - 1, -PAD):
        i, g = j + VECTOR, j // VECTOR
        b0, l0, slots0 = load(b, j), load(l, j), load(slots, j)
        b1, l1, slots1 = load(b, i), load(l, i), load(slots, i)
        to_blank0, to_label0 = factors(e, target.skip, j, RIGHT)
        to_blank1, to_label1 = factors(e, target.skip, i, RIGHT)
        for k in range(frames - 1, -1, -1):
            p_blank = splat(table[k, 0])
            right0, right1 = from_right(l0, l1), from_right(l1, load(history, (k, 0)))
            store(history, (k, 0), l0)
            l0, b0 = (l0 + b0 + right0 * to_label0) * gather(table, (k, 0), slots0), (b0 + right0 * to_blank0) * p_blank
            l1, b1 = (l1 + b1 + right1 * to_label1) * gather(table, (k, 0), slots1), (b1 + right1 * to_blank1) * p_blank
            store(tiles, (g, k, 0), load(tiles, (g, k, 0)) * l0)
            store(tiles, (g + 1, k, 0), load(tiles, (g + 1, k, 0)) * l1)
        store(b, j, b0)
        store(l, j, l0)
        store(b, i, b1)
        store(l, i, l1)


@kernel
def columns_of_tile(tiles, g, k):
    """For each of 8 places, one vector g, its numbers in the 8 frames from k on."""
    return transpose(
        (
            load(tiles, (g, k, 0)), load(tiles, (g, k + 1, 0)), load(tiles, (g, k + 2, 0)), load(tiles, (g, k + 3, 0)),
            load(tiles, (g, k + 4, 0)), load(tiles, (g, k + 5, 0)), load(tiles, (g, k + 6, 0)),
            load(tiles, (g, k + 7, 0)),
        )
    )  # fmt: skip


@kernel
def gather_classes(tiles, slots, first, last, sums):
    """Sum over the labels of each class, frame by frame, in the order of their places: the same bits every time.

    Args:
        sums: (K, BLOCK) output; those of frames behind the block's end mean nothing.
    """
    sums[:] = 0.0
    for j in range(first, last, VECTOR):
        for k in range(0, BLOCK, VECTOR):
            columns = columns_of_tile(tiles, j // VECTOR, k)
            for i in range(VECTOR):
                place = (np.uint64(slots[j + i]), k)
                store(sums, place, load(sums, place) + columns[i])
