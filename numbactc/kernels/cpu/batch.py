"""Some utterances of a batch, one after the other, on one thread: losses on the way down, gradients on the way up.

Each utterance is computed from its own scores alone, in the same order of operations wherever it stands in a batch: its
bits do not depend on its neighbours or on the number of threads.

Scores lie anywhere in a flat storage: score (t, n, c) at storage[t * strides[0] + n * strides[1] + c * strides[2]].
"""

import math

import numpy as np

from numbactc.kernels.cpu import lattice, rows
from numbactc.kernels.cpu.load import load_row, result_row, store_row
from numbactc.kernels.jit import borrow, kernel

LN_2 = math.log(2.0)
VECTOR = 8


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
def read_row(row, normalise, classes, count, row_stats, t, emission):
    """One frame on the way down: what normalises it, and the emissions of the target's classes.

    Returns:
        What `rows.row_emissions` does, and log2 of the factor by which emissions are too large: NaN for a score of NaN or
        +inf.
    """
    if normalise:
        largest, log2_sum = rows.row_log_sum_exp(row)
    else:
        # the target's own best score: log-probabilities that need not be normalised may have any offset
        largest = row[classes[0]]
        for k in range(1, count):
            largest = max(largest, row[classes[k]])
        log2_sum = np.nan if rows.row_is_bad(row) else 0.0
    if log2_sum != log2_sum:
        return 0.0, False, np.nan
    row_stats[0, t] = largest
    row_stats[1, t] = log2_sum
    offset = max(np.float64(largest), rows.LOWEST)
    lowest, masked = rows.row_emissions(row, classes, count, offset, log2_sum, emission)
    return lowest, masked, 0.0 if normalise or largest == -np.inf else offset * rows.LOG2_E


@kernel
def one_loss(slots, labels, count, emissions, keep, posterior):
    """log2 of the target's probability under the emissions of `read_frames`; with `keep`, posteriors too."""
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
    storage, strides, classes_in_row, targets, starts, input_lengths, target_lengths, blank, normalise, keep, utterances,
    emission, losses, row_stats, class_counts, classes, posteriors,
):  # fmt: skip
    """Losses of some utterances; with `keep`, also what `backward` needs.

    Args:
        storage, strides: scores, see above. classes_in_row: C.
        targets, starts: labels of utterance n at targets[starts[n]] and after.
        input_lengths, target_lengths: (N,) int64, in range.
        normalise: scores are raw and go through a softmax.
        utterances: which of the N to do.
        emission: (N, T * K) float64 scratch.
        losses: (N,) output, nats; inf where no path fits, NaN where a score is NaN or +inf.
        row_stats: (N, 2, T) output: largest score, log2 of the sum, of each frame.
        class_counts, classes: (N,) and (N, K) outputs: the target's classes, the blank first; K is `padded`.
        posteriors: (N, T, classes of the target) output, or of no width without `keep`.
    """
    storage, emission, row_stats, classes = borrow(storage), borrow(emission), borrow(row_stats), borrow(classes)
    batch = losses.size
    frames_max = row_stats.shape[2]
    scratch = np.empty(classes_in_row, row_stats.dtype)
    last_seen = np.zeros(classes_in_row, np.int64)
    slots = np.empty(targets.size, np.int64)
    lowest = np.empty((batch, frames_max))
    masked = np.empty((batch, frames_max), np.bool_)
    removed = np.zeros(batch)
    for n in utterances:
        target = slice(starts[n], starts[n] + target_lengths[n])
        class_counts[n] = distinct_classes(targets[target], blank, last_seen, classes[n], slots[target])
    # frame by frame through the whole batch, as scores usually lie in memory
    for t in range(frames_max):
        for n in utterances:
            if t < input_lengths[n] and removed[n] == removed[n]:
                count = class_counts[n]
                row = load_row(storage, t * strides[0] + n * strides[1], strides[2], scratch)
                columns = padded(count)
                lowest[n, t], masked[n, t], factor = read_row(
                    row, normalise, classes[n, :columns], count, row_stats[n], t,
                    emission[n, t * columns : (t + 1) * columns],
                )  # fmt: skip
                removed[n] += factor
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
                emission[n, : frames * padded(count)].reshape(frames, padded(count)),
                lowest[n, :frames],
                masked[n, :frames],
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
