"""Some utterances of a batch, one after the other, on one thread: losses on the way down, gradients on the way up.

Each utterance is computed from its own scores alone, in the same order of operations wherever it stands in a batch: its
bits do not depend on its neighbours or on the number of threads.

Scores lie anywhere in a flat storage: score (t, n, c) at storage[t * strides[0] + n * strides[1] + c * strides[2]].
"""

import math
from typing import NamedTuple

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu import lattice, rows
from numbactc.kernels.cpu.lattice import Checkpoints, Emissions, Scratch, States, Target
from numbactc.kernels.cpu.linear import BLOCK, VECTOR
from numbactc.kernels.cpu.load import load_row, result_row, store_row
from numbactc.kernels.jit import entry, inlined, kernel
from numbactc.kernels.scaled import log2_bound

LN_2 = math.log(2.0)
COLUMNS = 16
"""Classes of a target come in whole vectors of scores, of either precision."""


class RowResults(NamedTuple):
    """Where the way down puts what it finds in each frame, and the classes it looks for; see `forward`."""

    row_stats: np.ndarray
    class_counts: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    lowest: np.ndarray  # (N, T) as in `lattice.Emissions`
    masked: np.ndarray  # (N, T)
    removed: np.ndarray  # (N,) nats by which log-probabilities were raised; NaN if a score is NaN or +inf


@kernel
def aligned_empty(rows, columns):
    """(rows, columns) float64 on a 64-byte boundary, where a vector lies in one line of the cache."""
    raw = np.empty(rows * columns + 8)
    start = (-(raw.ctypes.data >> 3)) & 7
    return raw[start : start + rows * columns].reshape(rows, columns)


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


@entry
def padded(count):
    """Columns for the scores of count classes and at least one for none, in whole vectors."""
    return (count + COLUMNS) // COLUMNS * COLUMNS


@kernel
def fewest_frames(slots):
    """Frames that a target needs: one for each label and one for the blank between equal neighbours."""
    needed = slots.size
    for j in range(1, slots.size):
        if slots[j] == slots[j - 1]:
            needed += 1
    return needed


@kernel
def read_rows(storage, strides, frames_max, input_lengths, utterances, scratch, to):
    """Raw scores on the way down, frame by frame through the batch, as they usually lie in memory.

    Each row's sum is taken while the next row comes from memory: see `rows.row_sum_and_next_max`.

    Args:
        scratch: (2, C) in the dtype of the arithmetic.
    """
    scratch, to = borrow(scratch), borrow(to)
    side = 0
    waiting = False  # a row whose maximum is known, and whose sum is not
    row, row_n, row_t = scratch[0], 0, 0
    largest = row.dtype.type(0)
    for t in range(frames_max):
        for n in utterances:
            if t < input_lengths[n]:
                next_row = load_row(storage, t * strides[0] + n * strides[1], strides[2], scratch[side])
                side = 1 - side
                if waiting:
                    total, next_largest = rows.row_sum_and_next_max(row, largest, next_row)
                    finish_row(row, largest, total, row_n, row_t, to)
                else:
                    next_largest = rows.row_max(next_row)
                row, largest, row_n, row_t, waiting = next_row, next_largest, n, t, True
    if waiting:
        # the same function for the last row: its sum must not depend on where it stood
        total, _ = rows.row_sum_and_next_max(row, largest, row)
        finish_row(row, largest, total, row_n, row_t, to)


@inlined
def finish_row(row, largest, total, n, t, to):
    """Keep what normalises frame t of utterance n, and the scores of its target's classes."""
    if largest == -np.inf and not rows.row_is_bad(row):
        largest, total = row.dtype.type(0), row.dtype.type(1)
    if total != total:
        to.removed[n] = np.nan
    else:
        columns = padded(to.class_counts[n])
        smallest = rows.gather_scores(row, to.classes[n, :columns], to.scores[n, t, :columns])
        keep_row(largest, total, smallest, n, t, to)


@kernel
def read_log_rows(storage, strides, frames_max, input_lengths, utterances, scratch, to):
    """Log-probabilities on the way down. They need not be normalised, and may have any offset: the target's own best
    score takes the place of the sum, and what it takes away is added up.

    Args:
        scratch: as for `read_rows`.
    """
    scratch, to = borrow(scratch), borrow(to)
    for t in range(frames_max):
        for n in utterances:
            if t < input_lengths[n]:
                row = load_row(storage, t * strides[0] + n * strides[1], strides[2], scratch[0])
                if rows.row_is_bad(row):
                    to.removed[n] = np.nan
                else:
                    columns = padded(to.class_counts[n])
                    scores = to.scores[n, t, :columns]
                    smallest = rows.gather_scores(row, to.classes[n, :columns], scores)
                    best = best_score(scores)
                    keep_row(best, row.dtype.type(1), smallest, n, t, to)
                    to.removed[n] += np.float64(best)


@inlined
def keep_row(offset, total, smallest, n, t, to):
    """Note what normalises a frame and how small its emissions are; scores that count as -inf become -inf."""
    to.row_stats[n, 0, t] = offset
    to.row_stats[n, 1, t] = total
    to.masked[n, t] = smallest - offset < rows.IMPOSSIBLE
    if to.masked[n, t]:
        smallest = mask_scores(to.scores[n, t, : padded(to.class_counts[n])], offset)
    to.lowest[n, t] = (np.float64(smallest) - np.float64(offset)) / LN_2 - log2_bound(np.float64(total))


@kernel
def best_score(scores):
    """The largest; 0 if all are -inf."""
    largest = scores[0]
    for k in range(1, scores.size):
        largest = max(largest, scores[k])
    return largest if largest > -np.inf else scores.dtype.type(0)


@kernel
def mask_scores(scores, offset):
    """Turn scores that count as -inf into -inf; returns the smallest that does not, or the offset."""
    smallest = scores.dtype.type(np.inf)
    for k in range(scores.size):
        if scores[k] - offset < rows.IMPOSSIBLE:
            scores[k] = -np.inf
        else:
            smallest = min(smallest, scores[k])
    return smallest if smallest < np.inf else offset


@kernel
def one_loss(slots, emissions, keep, workspace):
    """Logarithm of the target's probability; with `keep`, posteriors take the place of the scores.

    Args:
        slots: (L,) number of each label's class.
        workspace: as `forward` allocates it.
    """
    floats, integers, tables, history, tiles = borrow(workspace)
    places, columns = lattice.places_of(slots.size), emissions.scores.shape[1]
    target = Target(slots.size, integers[0, :places], floats[0, :places])
    states = States(floats[1, :places], floats[2, :places], integers[1, :places], integers[2, :places])
    back = States(floats[3, :places], floats[4, :places], integers[3, :places], integers[4, :places])
    scratch = Scratch(
        tables[0, : columns * BLOCK].reshape(BLOCK, columns), tables[1, : columns * BLOCK].reshape(columns, BLOCK),
        history, tiles[: places // VECTOR], integers[5:],
    )  # fmt: skip
    lattice.set_target(slots, emissions.classes, target)
    frames = emissions.lowest.size
    frames_per_block = lattice.block_length(emissions.lowest)
    blocks = (frames + frames_per_block - 1) // frames_per_block if keep else 0
    checkpoints = Checkpoints(
        np.empty((blocks, 2, places)), np.empty((blocks, 2, places), np.int64), np.empty(blocks, np.bool_)
    )
    m, e = lattice.forward(states, target, emissions, frames_per_block, checkpoints, keep, scratch)
    if m == 0.0:
        return -np.inf
    if keep:
        lattice.posteriors(states, back, target, emissions, frames_per_block, checkpoints, (m, e), scratch)
    return (math.log2(m) + e) * LN_2


@kernel
def find_losses(slots, starts, input_lengths, target_lengths, normalise, keep, utterances, losses, rows_of):
    """Losses of some utterances whose rows have been read; with `keep`, posteriors take the place of their scores.

    Args:
        slots: number of each label's class, at the label's place in targets.
        rows_of: RowResults. The others are those of `forward`.
    """
    slots, rows_of = borrow(slots), borrow(rows_of)
    longest = 0
    for n in utterances:
        longest = max(longest, target_lengths[n])
    places = lattice.places_of(longest)
    workspace = (
        aligned_empty(5, places), np.empty((10, places), np.int64), aligned_empty(2, BLOCK * rows_of.classes.shape[1]),
        aligned_empty(BLOCK, VECTOR), aligned_empty(places, BLOCK).reshape(places // VECTOR, BLOCK, VECTOR),
    )  # fmt: skip
    for n in utterances:
        frames, labels, count = input_lengths[n], target_lengths[n], rows_of.class_counts[n]
        target_slots = slots[starts[n] : starts[n] + labels]
        if rows_of.removed[n] != rows_of.removed[n]:
            losses[n] = np.nan
        elif fewest_frames(target_slots) > frames:
            losses[n] = np.inf
        elif frames == 0:
            losses[n] = 0.0
        else:
            emissions = Emissions(
                rows_of.scores[n][:, : padded(count)], rows_of.row_stats[n], rows_of.lowest[n, :frames],
                rows_of.masked[n, :frames], count,
            )  # fmt: skip
            loss = -(one_loss(target_slots, emissions, keep, workspace) + rows_of.removed[n])
            # round-off alone can make a normalised probability larger than 1
            losses[n] = max(loss, 0.0) if normalise else loss


@entry
def forward(
    storage, strides, classes_in_row, targets, starts, input_lengths, target_lengths, blank, normalise, keep,
    utterances, losses, row_stats, class_counts, classes, posteriors,
):  # fmt: skip
    """Losses of some utterances; with `keep`, also what `backward` needs.

    Args:
        storage, strides: scores, see above. classes_in_row: C.
        targets, starts: labels of utterance n at targets[starts[n]] and after.
        input_lengths, target_lengths: (N,) int64, in range.
        normalise: scores are raw and go through a softmax.
        utterances: which of the N to do.
        losses: (N,) output, nats; inf where no path fits, NaN where a score is NaN or +inf.
        row_stats: (N, 2, T) output: of each frame, an offset, and the sum of exp(scores - offset).
        class_counts, classes: (N,) and (N, K) outputs: the target's classes, the blank first; K is `padded`.
        posteriors: (N, T, K) output. At first it holds the scores of the target's classes, and without `keep` to the
            end.
    """
    storage, row_stats, classes = borrow(storage), borrow(row_stats), borrow(classes)
    class_counts, posteriors = borrow(class_counts), borrow(posteriors)
    batch = losses.size
    frames_max = row_stats.shape[2]
    last_seen = np.zeros(classes_in_row, np.int64)
    slots = np.empty(targets.size, np.int64)
    lowest, masked, removed = np.empty((batch, frames_max)), np.empty((batch, frames_max), np.bool_), np.zeros(batch)
    scratch = np.empty((2, classes_in_row), row_stats.dtype)
    for n in utterances:
        target = slice(starts[n], starts[n] + target_lengths[n])
        class_counts[n] = distinct_classes(targets[target], blank, last_seen, classes[n], slots[target])
    rows_to = RowResults(row_stats, class_counts, classes, posteriors, lowest, masked, removed)
    if normalise:
        read_rows(storage, strides, frames_max, input_lengths, utterances, scratch, rows_to)
    else:
        read_log_rows(storage, strides, frames_max, input_lengths, utterances, scratch, rows_to)
    find_losses(slots, starts, input_lengths, target_lengths, normalise, keep, utterances, losses, rows_to)


@entry
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
            out = result_row(gradient, at, borrow(result))
            if t >= input_lengths[n] or losses[n] == np.inf:
                out[:] = 0
            elif losses[n] != losses[n]:
                out[:] = np.nan
            else:
                count = class_counts[n]
                if normalise:
                    row = load_row(storage, n * strides[1] + t * strides[0], strides[2], borrow(scratch))
                    rows.row_softmax(row, row_stats[n, 0, t], grad_output[n] / row_stats[n, 1, t], out)
                else:
                    out[:] = 0
                rows.row_minus_posterior(out, classes[n], posteriors[n, t], count, grad_output[n])
            store_row(out, gradient, at)
