"""The recursion over T frames and L labels of one utterance: its log-probability, and the posterior of each class.

Frames are taken in blocks of at most 16. The forward sweep keeps the states before each block; the backward sweep
computes a block's forward states again and multiplies. Memory: 4 numbers per pair and block. Where that is too much,
the states before every so-manyth block are kept, some sqrt(T) of them, and those between are computed once more.
"""

import math
from typing import NamedTuple

import numpy as np

from numbactc.kernels.cpu import linear, stepwise
from numbactc.kernels.cpu.exp import exp_times
from numbactc.kernels.cpu.lanes import at_least, splat, transpose
from numbactc.kernels.cpu.linear import BLOCK, LEFT, NO_MASS, PAD, RIGHT, VECTOR
from numbactc.kernels.cpu.vector_memory import load, load_as_float64, store
from numbactc.kernels.jit import kernel
from numbactc.kernels.scaled import add, normalise

LABEL = PAD + 1
"""The place of label 0. The one before has blank 0 alone, for the backward direction."""

CHECKPOINT_BYTES = 1 << 24
"""What an utterance's checkpoints may take before some are left out, and computed once more."""


class Target(NamedTuple):
    """Labels at their places; arrays (places,)."""

    length: int
    slots: np.ndarray  # column of each label's emission; that of "no label" where there is none
    skip: np.ndarray  # 1.0 where a label differs from its predecessor, else 0.0


class States(NamedTuple):
    """One direction's states, mantissas and exponents of blanks and labels, each (places,); see `linear.py`."""

    b: np.ndarray
    l: np.ndarray
    eb: np.ndarray
    el: np.ndarray


class Emissions(NamedTuple):
    """What `rows.py` found in each frame of an utterance: its emissions are exp(scores - offset) / sum."""

    scores: np.ndarray  # (T, K) of the target's classes, the blank first; others are of no class
    stats: np.ndarray  # (2, T) offset and sum
    lowest: np.ndarray  # (T,) a lower bound of log2 of the emissions that are not 0
    masked: np.ndarray  # (T,) whether one is 0
    classes: int  # how many columns are of a class


class Checkpoints(NamedTuple):
    """The forward states before some blocks, and whether the block's exponents are held."""

    values: np.ndarray  # (blocks kept, 2, places) float64, blanks and labels
    exponents: np.ndarray  # (blocks kept, 2, places) int64
    held: np.ndarray  # (blocks kept,) bool


class Scratch(NamedTuple):
    """Arrays to work in."""

    table: np.ndarray  # (BLOCK, K) float64 emissions of a block's frames
    sums: np.ndarray  # (K, BLOCK) float64
    history: np.ndarray  # (BLOCK, VECTOR) float64
    tiles: np.ndarray  # (places / VECTOR, BLOCK, VECTOR) float64
    integers: np.ndarray  # (5, places) int64


@kernel
def places_of(labels):
    """Places for a target: from blank 0 to the blank behind the last label, in whole vectors, and PAD at both ends."""
    return 2 * PAD + (labels + 2 + PAD - 1) // PAD * PAD


@kernel
def set_target(slots, none, target):
    """Put a target's labels in their places.

    Args:
        slots: (L,) column of each label's emission.
        none: the column that stands for no label.
    """
    target.slots[:] = none
    target.skip[:] = 0.0
    for j in range(slots.size):
        target.slots[LABEL + j] = slots[j]
        target.skip[LABEL + j] = 1.0 if j > 0 and slots[j] != slots[j - 1] else 0.0


@kernel
def start(states, place):
    """All mass in the blank at a place, one frame before the first or after the last."""
    states.b[:] = 0.0
    states.l[:] = 0.0
    states.eb[:] = NO_MASS
    states.el[:] = NO_MASS
    states.b[place] = 1.0
    states.eb[place] = 0


@kernel
def live_places(begin, end, frames, labels):
    """First and last place, in whole vectors, of and next to what is on a path in the frames begin to end."""
    low = max(-1, labels - frames + begin - 2)
    high = min(labels, end + 1)
    return PAD + (low + 1) // PAD * PAD, PAD + (high + 1 + PAD) // PAD * PAD


@kernel
def clear(states, first, last):
    """What lies on no path from start to end must not grow unwatched."""
    states.b[first:last] = 0.0
    states.l[first:last] = 0.0


@kernel
def block_length(lowest):
    """Frames for which exponents can be held, as far as the emissions of an ordinary frame go: 1, 2, 4, 8 or 16."""
    bits = -lowest.mean()
    frames = BLOCK
    while frames > 1 and bits * frames > linear.EMISSION_BITS:
        frames //= 2
    return frames


@kernel
def hold(states, target, first, last, emissions, begin, end, frames, side, integers):
    """Hold the exponents for the frames begin to end; False if emissions or states range too far."""
    room = linear.RANGE_BITS + emissions.lowest[begin:end].sum()
    masked = emissions.masked[begin:end].any()
    lone = LABEL + target.length if side < 0 else LABEL - 1
    return linear.hold_exponents(
        states.b, states.l, states.eb, states.el, first, last, lone, frames, side, room, masked, integers
    )


@kernel
def set_table(emissions, begin, end, table):
    """Emissions of the frames begin to end."""
    for k in range(end - begin):
        offset = splat(np.float64(emissions.stats[0, begin + k]))
        scale = splat(1.0 / np.float64(emissions.stats[1, begin + k]))
        for c in range(0, table.shape[1], VECTOR):
            x = load_as_float64(emissions.scores, (begin + k, c)) - offset
            store(table, (k, c), exp_times(x, scale, emissions.scores))
        table[k, emissions.classes] = 0.0


@kernel
def spacing(blocks, places, most_bytes):
    """Checkpoints are kept before every so-manyth block: each, if they fit, or some sqrt(blocks) of them."""
    return 1 if 32 * blocks * places <= most_bytes else math.ceil(math.sqrt(blocks))


@kernel
def checkpoints_for(blocks, places):
    """Memory for as many."""
    return Checkpoints(
        np.empty((blocks, 2, places)), np.empty((blocks, 2, places), np.int64), np.empty(blocks, np.bool_)
    )


@kernel
def forward(states, target, emissions, frames_per_block, checkpoints, every, scratch):
    """Sweep all frames; returns the target's probability as a scaled number.

    The states before each `every`-th block, the first among them, and how it was done go to checkpoints, if there is
    room for any.
    """
    frames, labels = emissions.lowest.size, target.length
    start(states, LABEL)
    cleared = PAD
    for block in range((frames + frames_per_block - 1) // frames_per_block):
        begin = block * frames_per_block
        end = min(frames, begin + frames_per_block)
        first, last = live_places(begin, end, frames, labels)
        clear(states, cleared, first)
        cleared = first
        held = settle(states, target, first, last, emissions, begin, end, frames_per_block, scratch)
        if checkpoints.held.size and block % every == 0:
            save(states, first, last, checkpoints, block // every, held)
        advance(states, target, emissions, begin, end, first, last, held, scratch)
    end = LABEL + labels
    m, e = normalise(states.b[end], states.eb[end])
    n, f = normalise(states.l[end - 1], states.el[end - 1])
    return normalise(*add(m, e, n, f))


@kernel
def settle(states, target, first, last, emissions, begin, end, frames_per_block, scratch):
    """Make forward states ready for the frames begin to end; returns whether their exponents are held."""
    held = hold(states, target, first, last, emissions, begin, end, frames_per_block, LEFT, scratch.integers)
    if not held:
        stepwise.normalise_states(states, first, last)
    return held


@kernel
def advance(states, target, emissions, begin, end, first, last, held, scratch):
    """Move forward states on by the frames begin to end."""
    if held:
        set_table(emissions, begin, end, scratch.table)
        linear.advance(states, target, scratch.table, end - begin, first, last, scratch.history)
    else:
        unused, unused_exponents = scratch.tiles.reshape(-1), scratch.integers[0]
        for t in range(begin, end):
            stepwise.step(states, target, LEFT, emissions, t, first, last, unused, unused_exponents)


@kernel
def fill_in(states, target, emissions, frames_per_block, checkpoints, every, group, between, scratch):
    """Compute the checkpoints between two that were kept, with the bits of the first time.

    Args:
        group: of the kept ones, which to begin from.
        between: output: checkpoints of `every` blocks, the kept one being the first.
    """
    frames, labels = emissions.lowest.size, target.length
    blocks = (frames + frames_per_block - 1) // frames_per_block
    start(states, LABEL)
    states.b[LABEL] = 0.0
    cleared = PAD
    for block in range(group * every, min(blocks, (group + 1) * every)):
        begin = block * frames_per_block
        end = min(frames, begin + frames_per_block)
        first, last = live_places(begin, end, frames, labels)
        clear(states, cleared, first)
        cleared = first
        if block == group * every:
            restore(states, first, last, checkpoints, group)
            held = checkpoints.held[group]
        else:
            held = settle(states, target, first, last, emissions, begin, end, frames_per_block, scratch)
        save(states, first, last, between, block - group * every, held)
        advance(states, target, emissions, begin, end, first, last, held, scratch)


@kernel
def save(states, first, last, checkpoints, block, held):
    for j in range(first, last, VECTOR):
        store(checkpoints.values, (block, 0, j), load(states.b, j))
        store(checkpoints.values, (block, 1, j), load(states.l, j))
        store(checkpoints.exponents, (block, 0, j), load(states.eb, j))
        if not held:
            store(checkpoints.exponents, (block, 1, j), load(states.el, j))
    checkpoints.held[block] = held


@kernel
def restore(states, first, last, checkpoints, block):
    el = 0 if checkpoints.held[block] else 1
    for j in range(first, last, VECTOR):
        store(states.b, j, load(checkpoints.values, (block, 0, j)))
        store(states.l, j, load(checkpoints.values, (block, 1, j)))
        store(states.eb, j, load(checkpoints.exponents, (block, 0, j)))
        store(states.el, j, load(checkpoints.exponents, (block, el, j)))


@kernel
def posteriors(states, back, target, emissions, frames_per_block, checkpoints, every, probability, scratch):
    """Probability of each class of the target in each frame, given the target, in place of the emissions' scores.

    Only those of labels are computed; the blank has what they leave, which float64 gives to 1e-12. So rows sum to 1.
    Columns of no class get 0.

    Args:
        states, back: forward and backward; the forward sweep has run.
        checkpoints, every: as it left them.
        probability: (m, e) that `forward` returned.
    """
    mantissa, offset = probability
    frames, labels = emissions.lowest.size, target.length
    blocks = (frames + frames_per_block - 1) // frames_per_block
    # of this group of blocks; where all were kept there is one group
    near = checkpoints_for(every, states.b.size) if every > 1 else checkpoints
    start(back, LABEL + labels - 1)
    scratch.tiles[:] = 0.0
    cleared = states.b.size - PAD
    for block in range(blocks - 1, -1, -1):
        begin = block * frames_per_block
        end = min(frames, begin + frames_per_block)
        first, last = live_places(begin, end, frames, labels)
        if every > 1 and (block == blocks - 1 or block % every == every - 1):
            fill_in(states, target, emissions, frames_per_block, checkpoints, every, block // every, near, scratch)
            scratch.tiles[:] = 0.0
        place = block % every if every > 1 else block
        clear(back, last, cleared)
        cleared = last
        restore(states, first, last, near, place)
        if (
            near.held[place]
            and hold(back, target, first, last, emissions, begin, end, frames_per_block, RIGHT, scratch.integers)
            and linear.can_meet(states.eb, back.eb, offset, first, last)
        ):
            set_table(emissions, begin, end, scratch.table)
            linear.advance_and_record(
                states, back.eb, offset, target, scratch.table, end - begin, first, last, scratch.history,
                scratch.tiles,
            )  # fmt: skip
            linear.advance_and_meet(
                back, target, scratch.table, end - begin, first, last, scratch.history, scratch.tiles
            )
        else:
            stepwise.meet_block(
                states, back, target, emissions, begin, end, first, last, offset, scratch.tiles
            )
        linear.gather_classes(scratch.tiles, target.slots, first, last, scratch.sums)
        write_posteriors(scratch.sums, 1.0 / mantissa, begin, end, emissions.scores)


@kernel
def write_posteriors(sums, scale, begin, end, scores):
    """Scaled sums of the labels' classes for the frames begin to end, and for the blank what they leave of 1."""
    factor = splat(scale)
    for k in range(0, BLOCK, VECTOR):
        blank = splat(1.0)
        for c in range(1, sums.shape[0]):
            posterior = load(sums, (c, k)) * factor
            store(sums, (c, k), posterior)
            blank = blank - posterior
        store(sums, (0, k), at_least(blank, splat(0.0)))
    for t in range(begin, end):
        # a masked blank has nothing, where round-off would leave something
        if scores[t, 0] == -np.inf:
            sums[0, t - begin] = 0.0
    for k in range(0, end - begin, VECTOR):
        for c in range(0, sums.shape[0], VECTOR):
            rows = transpose(
                (
                    load(sums, (c, k)), load(sums, (c + 1, k)), load(sums, (c + 2, k)), load(sums, (c + 3, k)),
                    load(sums, (c + 4, k)), load(sums, (c + 5, k)), load(sums, (c + 6, k)), load(sums, (c + 7, k)),
                )
            )  # fmt: skip
            for i in range(min(VECTOR, end - begin - k)):
                store(scores, (begin + k + i, c), rows[i])
