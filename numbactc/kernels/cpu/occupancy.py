"""How probable each state of a target is in each frame, given the target: all 2 L + 1 of them, blanks one by one.

The loss needs the posteriors of classes alone, and `lattice.py` computes no more. Here alpha and beta are written down
as Graves et al. have them, state by state, in scaled numbers: states are blank 0, label 0, blank 1, and so on. Frames
are taken in blocks: the forward sweep keeps alpha at each block's begin, and the backward sweep computes a block again.
"""

from typing import NamedTuple

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu.batch import distinct_classes
from numbactc.kernels.cpu.load import widen
from numbactc.kernels.cpu.stepwise import scaled_exp
from numbactc.kernels.jit import entry, kernel
from numbactc.kernels.scaled import ZERO_EXPONENT, add, normalise, power_of_two


class Scaled(NamedTuple):
    """Scaled numbers: mantissas, and exponents of the same shape."""

    m: np.ndarray
    e: np.ndarray


class Lattice(NamedTuple):
    """One utterance: its scores, where they lie, and the target's states."""

    storage: np.ndarray
    start: int
    frame_stride: int
    class_stride: int
    classes: np.ndarray  # (K,) distinct classes of the target, the blank first
    columns: np.ndarray  # (2 L + 1,) which of them each state has
    may_skip: np.ndarray  # (2 L + 1,) whether the state may follow the one before the last


@kernel
def empty_scaled(rows, states):
    return Scaled(np.empty((rows, states)), np.empty((rows, states), np.int64))


@kernel
def set_emissions(lattice, t, scores, emissions):
    """exp of the scores of one frame less the best.

    Args:
        scores: (K,) scratch. emissions: (1, K) output.
    """
    at = lattice.start + t * lattice.frame_stride
    best = -np.inf
    for c in range(scores.size):
        scores[c] = np.float64(widen(lattice.storage[np.uint64(at + lattice.classes[c] * lattice.class_stride)]))
        best = max(best, scores[c])
    for c in range(scores.size):
        m, e = scaled_exp(scores[c] - best)
        emissions.m[0, c], emissions.e[0, c] = normalise(m, e)


@kernel
def arrive(lattice, alpha, row, emissions, to):
    """Move alpha, in a row, on by one frame into row `to`: what enters a state, times its emission."""
    states = lattice.columns.size
    for s in range(states - 1, -1, -1):
        m, e = alpha.m[row, s], alpha.e[row, s]
        if s >= 1:
            m, e = add(m, e, alpha.m[row, s - 1], alpha.e[row, s - 1])
        if lattice.may_skip[s]:
            m, e = add(m, e, alpha.m[row, s - 2], alpha.e[row, s - 2])
        c = lattice.columns[s]
        alpha.m[to, s], alpha.e[to, s] = normalise(m * emissions.m[0, c], e + emissions.e[0, c])


@kernel
def leave(lattice, beta):
    """What leaves each state for the next frame, in place of what the states hold there."""
    states = lattice.columns.size
    for s in range(states):
        m, e = beta.m[0, s], beta.e[0, s]
        if s + 1 < states:
            m, e = add(m, e, beta.m[0, s + 1], beta.e[0, s + 1])
        if s + 2 < states and lattice.may_skip[s + 2]:
            m, e = add(m, e, beta.m[0, s + 2], beta.e[0, s + 2])
        beta.m[0, s], beta.e[0, s] = normalise(m, e)


@kernel
def meet(alpha, row, beta, out):
    """Products of alpha and beta of one frame over their sum, which is the target's probability in each frame."""
    top = alpha.e[row, 0] + beta.e[0, 0]
    for s in range(out.size):
        top = max(top, alpha.e[row, s] + beta.e[0, s])
    total = 0.0
    for s in range(out.size):
        total += alpha.m[row, s] * beta.m[0, s] * power_of_two(alpha.e[row, s] + beta.e[0, s] - top)
    for s in range(out.size):
        out[s] = alpha.m[row, s] * beta.m[0, s] * power_of_two(alpha.e[row, s] + beta.e[0, s] - top) / total


@kernel
def occupancy(lattice, out):
    """Posteriors of one utterance that has a path.

    Args:
        out: (T, 2 L + 1) output, T at least 1.
    """
    frames, states = out.shape
    per_block = np.int64(np.ceil(np.sqrt(frames)))
    blocks = (frames + per_block - 1) // per_block
    checkpoints = empty_scaled(blocks + 1, states)
    alpha, beta = empty_scaled(per_block + 1, states), empty_scaled(1, states)
    emissions, scores = empty_scaled(1, lattice.classes.size), np.empty(lattice.classes.size)
    # all mass in the first blank, one frame before the first
    alpha.m[0], alpha.e[0] = 0.0, ZERO_EXPONENT
    alpha.m[0, 0], alpha.e[0, 0] = 1.0, 0
    for t in range(frames):
        if t % per_block == 0:
            checkpoints.m[t // per_block], checkpoints.e[t // per_block] = alpha.m[0], alpha.e[0]
        set_emissions(lattice, t, scores, emissions)
        arrive(lattice, alpha, 0, emissions, 0)
    # one frame behind the last, in the last blank, which the last label can reach, too
    beta.m[0], beta.e[0] = 0.0, ZERO_EXPONENT
    beta.m[0, states - 1], beta.e[0, states - 1] = 1.0, 0
    for block in range(blocks - 1, -1, -1):
        begin, end = block * per_block, min(frames, (block + 1) * per_block)
        alpha.m[0], alpha.e[0] = checkpoints.m[block], checkpoints.e[block]
        for t in range(begin, end):
            set_emissions(lattice, t, scores, emissions)
            arrive(lattice, alpha, t - begin, emissions, t - begin + 1)
        for t in range(end - 1, begin - 1, -1):
            leave(lattice, beta)
            meet(alpha, t - begin + 1, beta, out[t])
            set_emissions(lattice, t, scores, emissions)
            for s in range(states):
                c = lattice.columns[s]
                m, e = normalise(beta.m[0, s] * emissions.m[0, c], beta.e[0, s] + emissions.e[0, c])
                beta.m[0, s], beta.e[0, s] = m, e


@entry
def occupancies(
    storage, strides, classes_in_row, targets, starts, input_lengths, target_lengths, blank, losses, utterances, out
):  # fmt: skip
    """Posteriors of the states of some utterances.

    Args:
        storage, strides: score (t, n, c) at storage[t * strides[0] + n * strides[1] + c * strides[2]].
        classes_in_row: C.
        targets, starts: labels of utterance n at targets[starts[n]] and after.
        input_lengths, target_lengths: (N,) int64, in range.
        losses: (N,) from `batch.forward`.
        utterances: which of the N to do.
        out: (T, N, 2 S + 1) zeros; output. Zeros stay where no path fits and in what is not an utterance's own; an
            utterance whose loss is NaN has NaN in what is its own.
    """
    storage, out = borrow(storage), borrow(out)
    last_seen = np.zeros(classes_in_row, np.int64)
    for n in utterances:
        frames, labels = input_lengths[n], targets[starts[n] : starts[n] + target_lengths[n]]
        states = 2 * labels.size + 1
        if losses[n] != losses[n]:
            out[:frames, n, :states] = np.nan
        elif losses[n] < np.inf and frames:
            classes, slots = np.empty(min(labels.size, classes_in_row) + 1, np.int64), np.empty(labels.size, np.int64)
            count = distinct_classes(labels, blank, last_seen, classes, slots)
            columns, may_skip = np.zeros(states, np.int64), np.zeros(states, np.bool_)
            for j in range(labels.size):
                columns[2 * j + 1] = slots[j]
                may_skip[2 * j + 1] = j > 0 and slots[j] != slots[j - 1]
            lattice = Lattice(
                storage, n * strides[1], strides[0], strides[2], classes[:count], columns, may_skip
            )
            occupancy(lattice, out[:frames, n, :states])
