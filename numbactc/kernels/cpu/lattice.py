"""The recursion over T frames and L labels of one utterance: its log-probability, and the posterior of each class.

Frames are taken in blocks of at most 16. The forward sweep keeps the states before each block; the backward sweep
computes a block's forward states again and multiplies. Memory: 4 numbers per pair and block.
"""

from typing import NamedTuple

import numpy as np

from numbactc.kernels.cpu import linear, stepwise
from numbactc.kernels.cpu.linear import PAD
from numbactc.kernels.cpu.rows import TOO_SMALL
from numbactc.kernels.jit import kernel
from numbactc.kernels.scaled import add, normalise

BLOCK = 16


class Direction(NamedTuple):
    """One direction's target and states, each (PAD + W + PAD,), at the places that `linear.py` describes."""

    first: int  # place of the first pair
    slots: np.ndarray  # column of each label's emission; that of "no label" where there is none
    skip: np.ndarray  # 1.0 where a label differs from its predecessor, else 0.0
    b: np.ndarray  # states: mantissas and exponents of blanks and labels
    l: np.ndarray
    eb: np.ndarray
    el: np.ndarray
    right: np.ndarray  # factors of a held block
    skip_right: np.ndarray


class Checkpoints(NamedTuple):
    """The forward states before each block, and whether the block's exponents are held."""

    values: np.ndarray  # (blocks, 2, columns) float64, blanks and labels
    exponents: np.ndarray  # (blocks, 2, columns) int64
    held: np.ndarray  # (blocks,) bool


class Emissions(NamedTuple):
    """What `rows.row_emissions` wrote for each frame: column 0 the blank, the last columns no label at all."""

    values: np.ndarray  # (T, K), any strides: probabilities, or log2 of them in frames with lowest < rows.TOO_SMALL
    lowest: np.ndarray  # (T,) smallest finite log2
    masked: np.ndarray  # (T,) whether a class of the target has probability 0


@kernel
def aligned_empty(rows, columns):
    """(rows, columns) float64 on a 64-byte boundary, where full-width vectors load and store in one piece."""
    raw = np.empty(rows * columns + 8)
    start = (-(raw.ctypes.data >> 3)) & 7
    return raw[start : start + rows * columns].reshape(rows, columns)


@kernel
def make_directions(slots, labels, none):
    """Both directions of a target, with all mass on their first blank, one frame before their first.

    Args:
        slots: (L,) column of each label's emission.
        none: the column that stands for no label.
    """
    width = (labels + 1 + PAD) // PAD * PAD  # one more than the pairs, which lets the two directions mirror
    columns = width + 2 * PAD
    forward_slots = slots[:labels]
    return (
        make_direction(forward_slots, none, PAD + 1, columns),
        make_direction(forward_slots[::-1].copy(), none, PAD + width - 1 - labels, columns),
    )


@kernel
def make_direction(slots, none, first, columns):
    placed = np.full(columns, none, np.uint64)  # unsigned: an index that could be negative costs a comparison
    floats = aligned_empty(5, columns)
    floats[:] = 0.0
    exponents = np.full((2, columns), linear.NO_MASS, np.int64)
    skip = floats[0]
    for j in range(slots.size):
        placed[first + j] = slots[j]
        skip[first + j] = 1.0 if j > 0 and slots[j] != slots[j - 1] else 0.0
    floats[1, first] = 1.0
    exponents[0, first] = 0
    return Direction(
        first, placed, skip, floats[1], floats[2], exponents[0], exponents[1], floats[3], floats[4]
    )


@kernel
def live_places(direction, start, stop, frames, labels):
    """First and last place, in whole vectors, that lie on a path from start to end in the frames start to stop.

    Frames are counted from the direction's own beginning. The first is taken one frame early: what leaves a pair then
    is still needed.
    """
    offset = direction.first - PAD
    low = offset + max(0, labels - frames + start - 1)
    high = offset + min(labels, stop - 1) + 1
    return PAD + low // PAD * PAD, PAD + (high + PAD - 1) // PAD * PAD


@kernel
def block_length(lowest):
    """Frames for which exponents can be held, as far as the emissions of an ordinary frame go: 1, 2, 4, 8 or 16."""
    bits = -lowest.mean()
    frames = BLOCK
    while frames > 1 and bits * frames > linear.EMISSION_BITS:
        frames //= 2
    return frames


@kernel
def hold(direction, first, last, emissions, start, stop, frames, scratch):
    """Hold the exponents for the frames start to stop; False if emissions or states range too far."""
    if -emissions.lowest[start:stop].sum() > linear.EMISSION_BITS:
        return False
    masked = emissions.masked[start:stop].any()
    if not linear.hold_exponents(
        direction.b, direction.l, direction.eb, direction.el, first, last, frames, masked, scratch
    ):
        return False
    linear.step_factors(direction.eb, direction.skip, direction.right, direction.skip_right, first, last)
    return True


@kernel
def forward(direction, emissions, labels, frames_per_block, checkpoints, keep):
    """Sweep all frames; returns the target's probability as a scaled number.

    With `keep`, the states before each block and how it was done go to checkpoints.
    """
    frames = emissions.lowest.size
    columns = direction.b.size
    p = aligned_empty(BLOCK, columns)
    table = aligned_empty(BLOCK, emissions.values.shape[1])
    scratch = np.empty((5, columns + PAD), np.int64)
    unused = np.empty(columns)
    cleared = PAD
    for block in range((frames + frames_per_block - 1) // frames_per_block):
        start = block * frames_per_block
        stop = min(frames, start + frames_per_block)
        first, last = live_places(direction, start, stop, frames, labels)
        # what can no longer reach the end must not grow unwatched
        direction.b[cleared:first] = 0.0
        direction.l[cleared:first] = 0.0
        cleared = first
        held = hold(direction, first, last, emissions, start, stop, frames_per_block, scratch)
        if not held:
            stepwise.normalise_states(direction.b, direction.l, direction.eb, direction.el)
        if keep:
            save(direction, checkpoints, block, held)
        if held:
            emission = block_emissions(emissions, start, stop, table)
            linear.expand(emission, direction.slots, p, first, last)
            linear.advance(direction.b, direction.l, direction.right, direction.skip_right, p, emission, first, last)
        else:
            for t in range(start, stop):
                stepwise.step(direction, emissions, t, first, last, unused, scratch[0])
    end = direction.first + labels
    m, e = normalise(direction.b[end], direction.eb[end])
    if labels > 0:
        n, f = normalise(direction.l[end - 1], direction.el[end - 1])
        m, e = add(m, e, n, f)
    return normalise(m, e)


@kernel
def block_emissions(emissions, start, stop, table):
    """The emissions of some frames, copied to the first rows of table, where they lie together."""
    for k in range(stop - start):
        for c in range(table.shape[1]):
            table[k, c] = emissions.values[start + k, c]
    return table[: stop - start]


@kernel
def save(direction, checkpoints, block, held):
    checkpoints.held[block] = held
    linear.copy_pair(direction.b, direction.l, checkpoints.values[block, 0], checkpoints.values[block, 1])
    linear.copy(direction.eb, checkpoints.exponents[block, 0])
    if not held:
        linear.copy(direction.el, checkpoints.exponents[block, 1])


@kernel
def restore(direction, checkpoints, block):
    linear.copy_pair(checkpoints.values[block, 0], checkpoints.values[block, 1], direction.b, direction.l)
    linear.copy(checkpoints.exponents[block, 0], direction.eb)
    linear.copy(checkpoints.exponents[block, 0 if checkpoints.held[block] else 1], direction.el)


@kernel
def posteriors(direction, mirrored, emissions, labels, count, frames_per_block, checkpoints, probability, posterior):
    """Probability of each class of the target in each frame, given the target: rows of posterior sum to 1.

    Only those of labels are computed; the blank has what they leave, which float64 gives to 1e-12.

    Args:
        direction, mirrored: of `make_directions`; the forward sweep has run.
        probability: (m, e) that `forward` returned.
        count: classes of the target, the blank among them.
        posterior: (T, count) output.
    """
    mantissa, exponent = probability
    frames = emissions.lowest.size
    columns = direction.b.size
    scratch = np.empty((5, columns + PAD), np.int64)
    values = aligned_empty(2 * BLOCK + 1, columns)
    # at places that a block does not write, a state has no mass in the other direction
    values[:] = 0.0
    p, joint, weight = values[:BLOCK], values[BLOCK : 2 * BLOCK], values[2 * BLOCK]
    order = np.arange(BLOCK - 1, -1, -1).astype(np.uint64)
    sums = np.empty(emissions.values.shape[1])
    table = aligned_empty(BLOCK, sums.size)
    for block in range(checkpoints.held.size - 1, -1, -1):
        start = block * frames_per_block
        stop = min(frames, start + frames_per_block)
        first, last = live_places(mirrored, frames - stop, frames - start, frames, labels)
        # the forward places whose labels mirror into first to last, and those that are live
        from_, to = live_places(direction, start, stop, frames, labels)
        from_, to = min(from_, columns - last), max(to, columns - first)
        restore(direction, checkpoints, block)
        held = checkpoints.held[block] and hold(
            mirrored, first, last, emissions, start, stop, frames_per_block, scratch
        )
        if held:
            emission = block_emissions(emissions, start, stop, table)
            linear.step_factors(direction.eb, direction.skip, direction.right, direction.skip_right, from_, to)
            linear.meeting_weights(direction.eb, mirrored.eb, exponent, weight, from_, to)
            linear.expand(emission, mirrored.slots, p, columns - to, columns - from_)
            linear.advance_and_record(
                direction.b, direction.l, direction.right, direction.skip_right, weight,
                p, emission, from_, to, joint,
            )  # fmt: skip
            linear.advance_and_meet(
                mirrored.b, mirrored.l, mirrored.right, mirrored.skip_right,
                p, emission, first, last, order[BLOCK - stop + start :], joint,
            )  # fmt: skip
        else:
            stepwise.meet_block(
                direction, mirrored, emissions, start, stop, from_, to, first, last, exponent, joint
            )
        for k in range(stop - start):
            gather_classes(joint[k], mirrored.slots, first, last, sums)
            write_posterior(sums, 1.0 / mantissa, posterior[start + k][:count])
            if emissions.values[start + k, 0] == impossible(emissions.lowest[start + k]):
                posterior[start + k, 0] = 0.0  # a masked blank has nothing, where round-off would leave something
        if not held:
            joint[:] = 0.0


@kernel
def impossible(lowest):
    """How `rows.row_emissions` writes a probability of 0 in a frame with this lowest log2."""
    return -np.inf if lowest < TOO_SMALL else 0.0


@kernel
def write_posterior(sums, scale, posterior):
    """Scaled sums of the labels' classes, and for the blank what they leave of 1."""
    blank = 1.0
    for c in range(1, posterior.size):
        blank -= sums[c] * scale
        posterior[c] = sums[c] * scale
    posterior[0] = max(blank, 0.0)


@kernel
def gather_classes(joint, slots, first, last, sums):
    """Sum over the labels of each class, in the order of their places: the same bits every time."""
    sums[:] = 0.0
    joint, slots = joint[first:last], slots[first:last]
    for j in range(joint.size):
        sums[slots[j]] += joint[j]
