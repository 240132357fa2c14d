"""The best path of one utterance through T frames and L labels: Viterbi's recursion, traced back block by block.

Pair j is blank j, before label j, and label j; the last pair, L, has a blank alone. With s the scores of one frame, the
best score of a path that ends in a state grows by

    label'[j] = max(label[j], blank[j], skip[j] + label[j - 1]) + s(target[j])
    blank'[j] = max(blank[j], label[j - 1]) + s(blank)

where skip[j] is 0 if target[j] != target[j - 1], else -inf. Of predecessors that are equal the one named first is
taken: to stay comes before the next state, and that before a skip. Sums are in float64, frame after frame from the
first, for any dtype: nothing is rounded that a half-precision score has, and a path's score is the plain sum of its
scores.

What was taken is kept as bits, 3 for a pair, and only for some hundred frames at a time: the forward sweep keeps its
states at each block's begin, and going back, a block is computed again where its path can run: a path moves by at most
one pair a frame. States stay in registers for 16 frames, as in `linear.py`, which says why.
"""

from typing import NamedTuple

import numpy as np

from numbactc.kernels.cpu import rows
from numbactc.kernels.cpu.lanes import at_least, bits_where_less, from_left, ordered_sum, splat
from numbactc.kernels.cpu.linear import BLOCK, VECTOR
from numbactc.kernels.cpu.load import load_row, widen
from numbactc.kernels.cpu.vector_memory import gather, load, store
from numbactc.kernels.jit import inlined, kernel

TILE = 2 * VECTOR
"""Pairs that are moved on together: two vectors, side by side so that each waits less for its own results."""

RECORD_AT_ONCE = 1 << 18
"""Words of decisions up to which a path is recorded as a whole: no state is computed twice."""

SHORTEST_BLOCK, PAIRS_PER_FRAME = 256, 16
"""A block has a frame for each 16 pairs: about a sixteenth of the states is computed twice, and memory does not depend
on the number of labels."""

FROM_LABEL, STEPPED, SKIPPED = 0, VECTOR, 2 * VECTOR
"""Where the bits of a word of decisions begin: a blank came from its label, a label from its blank, or over it."""


NOWHERE = np.int64(-1)
"""The row of decisions that are not wanted. As a plain constant, Numba would compile everything twice."""


class Scores(NamedTuple):
    """One utterance's scores: that of class c in frame t is storage[start + t * frame_stride + c * class_stride]."""

    storage: np.ndarray
    start: int
    frame_stride: int
    class_stride: int
    wildcard_cost: float
    scratch: np.ndarray  # (C,) in the dtype of the arithmetic


class Target(NamedTuple):
    """Labels at their places, a place for each pair, in whole tiles."""

    length: int
    slots: np.ndarray  # (places,) column of each label's score; that of no label where there is none
    skip: np.ndarray  # (places,) 0.0 where a label may follow its predecessor at once, else -inf
    offsets: np.ndarray  # (K,) where in a frame each column's score lies, the blank's first
    wildcard: int  # the wildcard's column, whose offset is the blank's; 0 without one


class States(NamedTuple):
    """Best scores of paths that end in each blank and in each label, (places,)."""

    b: np.ndarray
    l: np.ndarray


class Scratch(NamedTuple):
    """Arrays to work in."""

    table: np.ndarray  # (BLOCK, K + 1) scores of a few frames, the last column -inf
    history: np.ndarray  # (BLOCK, VECTOR)
    decisions: np.ndarray  # (vectors, frames of a block) uint32


@kernel
def tiles_of(pairs):
    """Places for so many pairs, in whole tiles."""
    return (pairs + TILE - 1) // TILE * TILE


@kernel
def target_of(slots, classes, wildcard, stride):
    """A target, given the number of each label's class and the class of each number, the blank's first.

    Args:
        wildcard: C, which is no class. stride: from a class's score to the next.
    """
    places = tiles_of(slots.size + 1)
    slot_at, skip = np.full(places, classes.size), np.full(places, -np.inf)
    for j in range(slots.size):
        slot_at[j] = slots[j]
        if j > 0 and slots[j] != slots[j - 1]:
            skip[j] = 0.0
    offsets, column = np.empty(classes.size, np.int64), 0
    for c in range(classes.size):
        column = c if classes[c] == wildcard else column
        offsets[c] = (classes[0] if classes[c] == wildcard else classes[c]) * stride
    return Target(slots.size, slot_at, skip, offsets, column)


@inlined
def score_of(scores, t, c):
    """Score of a class in a frame, whatever it is; the wildcard, class C, has that of the best class less its cost."""
    at = scores.start + t * scores.frame_stride
    if c < scores.scratch.size:
        return np.float64(widen(scores.storage[np.uint64(at + c * scores.class_stride)]))
    row = load_row(scores.storage, at, scores.class_stride, scores.scratch)
    if rows.row_is_bad(row):
        return np.nan
    return np.float64(rows.row_max(row)) - scores.wildcard_cost


@kernel
def set_table(scores, target, begin, end, table):
    """Scores of the frames begin to end; False if one of them is NaN or +inf."""
    bad = 0
    none = target.offsets.size
    for t in range(begin, end):
        row = table[t - begin]
        at = scores.start + t * scores.frame_stride
        for c in range(none):
            row[np.uint64(c)] = np.float64(widen(scores.storage[np.uint64(at + target.offsets[c])]))
        if target.wildcard:
            row[target.wildcard] = score_of(scores, t, scores.scratch.size)
        row[none] = -np.inf
        bad += rows.row_is_bad(row[:none])
    return bad == 0


@kernel
def live_places(begin, end, frames, labels):
    """First and last place, in whole tiles, of what is on a path in the frames begin to end."""
    low, high = max(0, labels - 1 - frames + begin), min(labels, end - 1)
    return low // TILE * TILE, (high // TILE + 1) * TILE


@kernel
def clear_history(history):
    """No path comes from beyond the first pair."""
    for k in range(BLOCK):
        store(history, (k, 0), splat(-np.inf))


@inlined
def step(b, l, left, skip):
    """Best predecessors of a vector's blanks and labels, and a word that says which they are."""
    stayed, skipped = at_least(l, b), left + skip
    word = (
        (bits_where_less(b, left) << FROM_LABEL)
        | (bits_where_less(l, b) << STEPPED)
        | (bits_where_less(stayed, skipped) << SKIPPED)
    )
    return at_least(b, left), at_least(stayed, skipped), word


@kernel
def advance(states, target, table, frames, first, last, history, decisions, origin, row):
    """Move the states at places first to last on by at most BLOCK frames, in place.

    Args:
        decisions: what was taken goes there, from place `origin` and from row `row` on; nowhere if row < 0.
    """
    b, l, slots, skip = states.b, states.l, target.slots, target.skip
    clear_history(history)
    for j in range(first, last, TILE):
        i, g = j + VECTOR, (j - origin) // VECTOR
        b0, l0, slots0, skip0 = load(b, j), load(l, j), load(slots, j), load(skip, j)
        b1, l1, slots1, skip1 = load(b, i), load(l, i), load(slots, i), load(skip, i)
        for k in range(frames):
            blank = splat(table[k, 0])
            left0, left1 = from_left(load(history, (k, 0)), l0), from_left(l0, l1)
            store(history, (k, 0), l1)
            b0, l0, word0 = step(b0, l0, left0, skip0)
            b1, l1, word1 = step(b1, l1, left1, skip1)
            if row >= 0:
                decisions[g, row + k] = word0
                decisions[g + 1, row + k] = word1
            b0, b1 = ordered_sum(b0, blank), ordered_sum(b1, blank)
            l0 = ordered_sum(l0, gather(table, (k, 0), slots0))
            l1 = ordered_sum(l1, gather(table, (k, 0), slots1))
        store(b, j, b0)
        store(l, j, l0)
        store(b, i, b1)
        store(l, i, l1)


@kernel
def sweep(states, target, scores, frames, begin, end, origin, limit, recording, scratch):
    """Move the states from place `origin` to `limit` on over the frames begin to end, and record the way or not.

    Returns:
        False if a score is NaN or +inf.
    """
    for t in range(begin, end, BLOCK):
        stop = min(end, t + BLOCK)
        if not set_table(scores, target, t, stop, scratch.table):
            return False
        first, last = live_places(t, stop, frames, target.length)
        advance(
            states, target, scratch.table, stop - t, max(first, origin), min(last, limit), scratch.history,
            scratch.decisions, origin, t - begin if recording else NOWHERE,
        )  # fmt: skip
    return True


@kernel
def record(states, target, scores, frames, begin, end, pair, scratch):
    """`sweep` where a path can run that ends in a pair; returns the first recorded place, or -1 for a bad score.

    To the left of the places that are swept there is no path for this sweep. One that enters there would have to move
    by more than a pair a frame to meet the path that ends in `pair`.
    """
    origin = max(0, pair - (end - begin)) // TILE * TILE
    origin = max(origin, live_places(begin, end, frames, target.length)[0])
    good = sweep(states, target, scores, frames, begin, end, origin, tiles_of(pair + 1), True, scratch)
    return origin if good else -1


@kernel
def trace(decisions, origin, begin, end, state, spans):
    """Follow a path back through the frames begin to end; returns the state before them, 2 j + 1 for label j.

    Args:
        state: after them.
        spans: (L, 2) first frame of each label and the one behind its last; zeros where none is known.
    """
    for t in range(end - 1, begin - 1, -1):
        j = state >> 1
        word = np.int64(decisions[(j - origin) // VECTOR, t - begin]) >> (j % VECTOR)
        if state & 1:
            spans[j, 0] = t
            spans[j, 1] = max(spans[j, 1], t + 1)
            if (word >> SKIPPED) & 1:
                state -= 2
            else:
                state -= (word >> STEPPED) & 1
        else:
            state -= (word >> FROM_LABEL) & 1
    return state


@kernel
def frames_per_block(frames, places):
    """All frames where the record is small, else a multiple of BLOCK."""
    if frames * (places // VECTOR) <= RECORD_AT_ONCE:
        return frames
    return max(SHORTEST_BLOCK, places // PAIRS_PER_FRAME // BLOCK * BLOCK)


@kernel
def best_end(states, labels):
    """The better of the two states in which a path may end: the last label, or the blank behind it."""
    blank, label = states.b[labels], states.l[labels - 1] if labels else -np.inf
    return (label, 2 * labels - 1) if labels and label >= blank else (blank, 2 * labels)


@kernel
def best_path(scores, target, frames, spans):
    """Score of the best path, and where its labels lie.

    Args:
        spans: (L, 2) zeros; output as in `trace`, untouched without a path.

    Returns:
        Nats; -inf if no path fits, NaN if one of the scores that count is NaN or +inf.
    """
    places, labels = target.slots.size, target.length
    if frames == 0:
        return 0.0 if labels == 0 else -np.inf
    per_block = frames_per_block(frames, places)
    blocks = (frames + per_block - 1) // per_block
    states = States(np.full(places, -np.inf), np.full(places, -np.inf))
    checkpoints = np.empty((blocks - 1, 2, places))
    scratch = Scratch(
        np.empty((BLOCK, target.offsets.size + 1)), np.empty((BLOCK, VECTOR)),
        np.empty((min(places, tiles_of(per_block + 1) + TILE) // VECTOR, per_block), np.uint32),
    )  # fmt: skip
    states.b[0] = 0.0  # one frame before the first
    for block in range(blocks - 1):
        checkpoints[block, 0], checkpoints[block, 1] = states.b, states.l
        begin = block * per_block
        if not sweep(states, target, scores, frames, begin, begin + per_block, 0, places, False, scratch):
            return np.nan
    score, state = 0.0, 2 * labels
    for block in range(blocks - 1, -1, -1):
        begin, end = block * per_block, min(frames, (block + 1) * per_block)
        if block < blocks - 1:
            states.b[:], states.l[:] = checkpoints[block, 0], checkpoints[block, 1]
        origin = record(states, target, scores, frames, begin, end, state >> 1, scratch)
        if origin < 0:
            return np.nan
        if block == blocks - 1:
            score, state = best_end(states, labels)
            if score == -np.inf:
                return score
        state = trace(scratch.decisions, origin, begin, end, state, spans)
    return score
