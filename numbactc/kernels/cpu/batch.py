"""Some utterances of a batch, one after the other, on one thread: losses on the way down, gradients on the way up.

Each utterance is computed from its own scores alone, in the same order of operations wherever it stands in a batch: its
bits do not depend on its neighbours or on the number of threads.

Scores lie anywhere in a flat storage: score (t, n, c) at storage[t * strides[0] + n * strides[1] + c * strides[2]].
"""

import math
from typing import NamedTuple

import numpy as np

from numbactc.kernels.cpu import lattice, rows
from numbactc.kernels.cpu.load import load_row, result_row, store_row
from numbactc.kernels.jit import borrow, kernel

LN_2 = math.log(2.0)
VECTOR = 8


class RowResults(NamedTuple):
    """Where the way down puts what it finds, and the classes it looks for; see `forward`."""

    row_stats: np.ndarray
    class_counts: np.ndarray
    classes: np.ndarray
    emission: np.ndarray
    lowest: np.ndarray  # (N, T) as in `lattice.Emissions`
    masked: np.ndarray  # (N, T)
    removed: np.ndarray  # (N,) log2 of the factor by which emissions are too small; NaN if a score is NaN or +inf


@kernel
def distinct_classes(labels, blank, last_seen, classes, slots):
    """Number the classes of a target in the order of their first label, the blank being number 0.

    Args:
        labels: (L,) classes, in range.
        last_seen: (C,) zeros; zeros again on return.
        classes: output: the class of each number, then the blank again as far as it goes.
        slots: (L,) output: the number of each label.

    Returns:
        How many classes there are, the blank among them.
    """
    classes[:] = blank
    count = 1
    for j in range(labels.size):
        label = labels[j]
        if last_seen[label] == 0:
            last_seen[label] = count
            classes[count] = label
            count += 1
        slots[j] = last_seen[label]
    for k in range(1, count):
        last_seen[classes[k]] = 0
    return count


@kernel
def padded(count):
    """Columns for the emissions of count classes and at least one for none, in whole vectors."""
    return (count + VECTOR) // VECTOR * VECTOR


@kernel
def fewest_frames(slots):
    """Frames that a target needs: one for each label and one for the blank between equal neighbours."""
    needed = slots.size
    for j in range(1, slots.size):
        if slots[j] == slots[j - 1]:
            needed += 1
    return needed


@kernel
def read_rows(storage, strides, classes_in_row, frames_max, input_lengths, utterances, to):
    """Raw scores on the way down, frame by frame through the batch, as they usually lie in memory.

    Each row's sum is taken while the next row comes from memory: see `rows.row_sum_and_next_max`.
    """
    row_stats = to.row_stats
    scratch = np.empty((2, classes_in_row), row_stats.dtype)
    side = 0
    waiting = False  # a row whose maximum is known, and whose sum is not
    row = scratch[0]
    largest = row_stats.dtype.type(0)
    row_n, row_t = 0, 0
    for t in range(frames_max):
        for n in utterances:
            if t >= input_lengths[n]:
                continue
            next_row = load_row(storage, t * strides[0] + n * strides[1], strides[2], scratch[side])
            side = 1 - side
            if waiting:
                total, next_largest = rows.row_sum_and_next_max(row, largest, next_row)
                finish_row(row, rows.log2_of_sum(total, largest), largest, row_n, row_t, to)
            else:
                next_largest = rows.row_max(next_row)
            row, largest, row_n, row_t, waiting = next_row, next_largest, n, t, True
    if waiting:
        # the same function for the last row: its sum must not depend on where it stood
        total, _ = rows.row_sum_and_next_max(row, largest, row)
        finish_row(row, rows.log2_of_sum(total, largest), largest, row_n, row_t, to)


@kernel
def read_log_rows(storage, strides, classes_in_row, frames_max, input_lengths, utterances, to):
    """Log-probabilities on the way down. They need not be normalised, and may have any offset: the target's own best
    score takes the place of the sum, and what it takes away is added up.
    """
    row_stats = to.row_stats
    scratch = np.empty(classes_in_row, row_stats.dtype)
    for t in range(frames_max):
        for n in utterances:
            if t >= input_lengths[n]:
                continue
            row = load_row(storage, t * strides[0] + n * strides[1], strides[2], scratch)
            classes = to.classes[n]
            largest = row[classes[0]]
            for k in range(1, to.class_counts[n]):
                largest = max(largest, row[classes[k]])
            bad = rows.row_is_bad(row)
            finish_row(row, np.nan if bad else 0.0, largest, n, t, to)
            if largest > -np.inf:
                to.removed[n] += np.float64(largest) * rows.LOG2_E


@kernel
def finish_row(row, log2_sum, largest, n, t, to):
    """What normalises frame t of utterance n, and the emissions of the target's classes; nothing if it is bad."""
    if log2_sum != log2_sum:
        to.removed[n] = np.nan
    if to.removed[n] != to.removed[n]:
        return
    to.row_stats[n, 0, t] = largest
    to.row_stats[n, 1, t] = log2_sum
    count = to.class_counts[n]
    columns = padded(count)
    offset = max(np.float64(largest), rows.LOWEST)
    to.lowest[n, t], to.masked[n, t] = rows.row_emissions(
        row, to.classes[n][:columns], count, offset, log2_sum, to.emission[t][n][:columns]
    )


@kernel
def one_loss(slots, labels, count, emissions, keep, posterior):
    """log2 of the target's probability under the emissions of its frames; with `keep`, posteriors too."""
    frames = emissions.lowest.size
    frames_per_block = lattice.block_length(emissions.lowest)
    direction, mirrored = lattice.make_directions(slots, labels, count)
    columns = direction.b.size
    blocks = (frames + frames_per_block - 1) // frames_per_block if keep else 0
    checkpoints = lattice.Checkpoints(
        np.empty((blocks, 2, columns)), np.empty((blocks, 2, columns), np.int64), np.empty(blocks, np.bool_)
    )
    m, e = lattice.forward(direction, emissions, labels, frames_per_block, checkpoints, keep)
    if m == 0.0:
        return -np.inf
    if keep:
        lattice.posteriors(
            direction, mirrored, emissions, labels, count, frames_per_block, checkpoints, (m, e), posterior
        )
    return math.log2(m) + e


@kernel
def forward(
    storage, strides, classes_in_row, targets, starts, input_lengths, target_lengths, blank, normalise, keep,
    utterances, emission, losses, row_stats, class_counts, classes, posteriors,
):  # fmt: skip
    """Losses of some utterances; with `keep`, also what `backward` needs.

    Args:
        storage, strides: scores, see above. classes_in_row: C.
        targets, starts: labels of utterance n at targets[starts[n]] and after.
        input_lengths, target_lengths: (N,) int64, in range.
        normalise: scores are raw and go through a softmax.
        utterances: which of the N to do.
        emission: (T, N, K) float64 scratch, frames outermost: it is written in the order in which rows are read.
        losses: (N,) output, nats; inf where no path fits, NaN where a score is NaN or +inf.
        row_stats: (N, 2, T) output: largest score, log2 of the sum, of each frame.
        class_counts, classes: (N,) and (N, K) outputs: the target's classes, the blank first; K is `padded`.
        posteriors: (N, T, classes of the target) output, or of no width without `keep`.
    """
    storage, emission, row_stats, classes = borrow(storage), borrow(emission), borrow(row_stats), borrow(classes)
    batch = losses.size
    frames_max = row_stats.shape[2]
    last_seen = np.zeros(classes_in_row, np.int64)
    slots = np.empty(targets.size, np.int64)
    removed = np.zeros(batch)
    for n in utterances:
        target = slice(starts[n], starts[n] + target_lengths[n])
        class_counts[n] = distinct_classes(targets[target], blank, last_seen, classes[n], slots[target])
    rows_to = RowResults(
        row_stats, class_counts, classes, emission,
        np.empty((batch, frames_max)), np.empty((batch, frames_max), np.bool_), removed,
    )  # fmt: skip
    if normalise:
        read_rows(storage, strides, classes_in_row, frames_max, input_lengths, utterances, rows_to)
    else:
        read_log_rows(storage, strides, classes_in_row, frames_max, input_lengths, utterances, rows_to)
    for n in utterances:
        frames, labels, count = input_lengths[n], target_lengths[n], class_counts[n]
        target_slots = slots[starts[n] : starts[n] + labels]
        if removed[n] != removed[n]:
            losses[n] = np.nan
        elif fewest_frames(target_slots) > frames:
            losses[n] = np.inf
        elif frames == 0:
            losses[n] = 0.0
        else:
            emissions = lattice.Emissions(
                emission[:frames, n, : padded(count)],
                rows_to.lowest[n][:frames],
                rows_to.masked[n][:frames],
            )
            log2_probability = one_loss(target_slots, labels, count, emissions, keep, posteriors[n])
            loss = -LN_2 * (log2_probability + removed[n])
            # round-off alone can make a normalised probability larger than 1
            losses[n] = max(loss, 0.0) if normalise else loss


@kernel
def backward(
    storage, strides, input_lengths, normalise, utterances, losses, row_stats, class_counts, classes, posteriors,
    grad_output, gradient, gradient_strides, classes_in_row,
):  # fmt: skip
    """gradient = grad_output * d loss / d score of some utterances, every element written.

    Args:
        losses, row_stats, class_counts, classes, posteriors: from `forward`.
        grad_output: (N,) in the dtype of the arithmetic.
        gradient, gradient_strides: flat output in the dtype of the scores, rows contiguous.
    """
    storage, row_stats, classes = borrow(storage), borrow(row_stats), borrow(classes)
    posteriors, gradient = borrow(posteriors), borrow(gradient)
    scratch = np.empty(classes_in_row, row_stats.dtype)
    result = np.empty(classes_in_row, row_stats.dtype)
    # frame by frame through the batch: memory that the kernel has just zeroed is written while it is still in cache
    for t in range(row_stats.shape[2]):
        for n in utterances:
            at = n * gradient_strides[1] + t * gradient_strides[0]
            out = result_row(gradient, at, result)
            if t >= input_lengths[n] or losses[n] == np.inf:
                out[:] = 0
            elif losses[n] != losses[n]:
                out[:] = np.nan
            else:
                count = class_counts[n]
                if normalise:
                    row = load_row(storage, n * strides[1] + t * strides[0], strides[2], scratch)
                    rows.row_softmax(row, row_stats[n, 0, t], row_stats[n, 1, t], grad_output[n], out)
                else:
                    out[:] = 0
                rows.row_minus_posterior(out, classes[n], posteriors[n, t], count, grad_output[n])
            store_row(out, gradient, at)
