"""Some utterances of a batch, one after the other, on one thread: losses on the way down, gradients on the way up.

Each utterance is computed from its own scores alone, in the same order of operations wherever it stands in a batch: its
bits do not depend on its neighbours or on the number of threads.

Scores lie anywhere in a flat storage: score (t, n, c) at storage[t * strides[0] + n * strides[1] + c * strides[2]].
"""

import math

import numpy as np

from numbactc.kernels.cpu import lattice, rows
from numbactc.kernels.cpu.load import load_row, result_row, store_row
from numbactc.kernels.jit import kernel

LN_2 = math.log(2.0)
LOWEST = np.finfo(np.float64).min


@kernel
def distinct_classes(labels, blank, last_seen, classes, slots):
    """Number the classes of a target in the order of their first label, the blank being number 0.

    Args:
        labels: (L,) classes, in range.
        last_seen: (C,) zeros; zeros again on return.
        classes: (min(L, C) + 1,) output: the class of each number.
        slots: (L,) output: the number of each label.

    Returns:
        How many classes there are, the blank among them.
    """
    classes[0] = blank
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
def fewest_frames(slots):
    """Frames that a target needs: one for each label and one for the blank between equal neighbours."""
    needed = slots.size
    for j in range(1, slots.size):
        if slots[j] == slots[j - 1]:
            needed += 1
    return needed


@kernel
def read_frames(storage, start, strides, scratch, normalise, classes, emissions, row_stats):
    """Rows of one utterance on the way down: what normalises them, and the emissions of the target's classes.

    Returns:
        log2 of the factor by which the emissions were scaled up in all; NaN if a score is NaN or +inf.
    """
    removed = 0.0
    for t in range(emissions.lowest.size):
        row = load_row(storage, start + t * strides[0], strides[2], scratch)
        if normalise:
            largest, log2_sum = rows.row_log_sum_exp(row)
        else:
            # the target's own best score: log-probabilities that need not be normalised may have any offset
            largest = row[classes[0]]
            for k in range(1, classes.size):
                largest = max(largest, row[classes[k]])
            log2_sum = 0.0
            if rows.row_is_bad(row):
                log2_sum = np.nan
            elif largest > -np.inf:
                removed += np.float64(largest) * rows.LOG2_E
        if log2_sum != log2_sum:
            return np.nan
        row_stats[0, t] = largest
        row_stats[1, t] = log2_sum
        emissions.lowest[t] = rows.row_emissions(
            row, classes, max(np.float64(largest), LOWEST), log2_sum, emissions.log2[t], emissions.values[t]
        )
    return removed


@kernel
def one_loss(slots, labels, classes, emissions, keep, posterior):
    """log2 of the target's probability under the emissions of `read_frames`; with `keep`, posteriors too."""
    frames = emissions.lowest.size
    frames_per_hold = lattice.held_frames(emissions.lowest)
    direction, mirrored = lattice.make_directions(slots, labels, classes)
    columns = direction.b.size
    blocks = lattice.count_blocks(frames, frames_per_hold) if keep else 0
    checkpoints = lattice.Checkpoints(
        np.empty((blocks, 2, columns)), np.empty((blocks, 2, columns), np.int64), np.empty(blocks, np.bool_)
    )
    m, e = lattice.forward(direction, emissions, labels, frames_per_hold, checkpoints, keep)
    if m == 0.0:
        return -np.inf
    if keep:
        lattice.posteriors(direction, mirrored, emissions, labels, frames_per_hold, checkpoints, e, posterior)
    return math.log2(m) + e


@kernel
def forward(
    storage, strides, classes_in_row, targets, starts, input_lengths, target_lengths, blank, normalise, keep, utterances,
    losses, row_stats, class_counts, classes, posteriors,
):  # fmt: skip
    """Losses of some utterances; with `keep`, also what `backward` needs.

    Args:
        storage, strides: scores, see above. classes_in_row: C.
        targets, starts: labels of utterance n at targets[starts[n]] and after.
        input_lengths, target_lengths: (N,) int64, in range.
        normalise: scores are raw and go through a softmax.
        utterances: which of the N to do, in this order.
        losses: (N,) output, nats; inf where no path fits, NaN where a score is NaN or +inf.
        row_stats: (N, 2, T) output: largest score, log2 of the sum, of each frame.
        class_counts, classes: (N,) and (N, K) outputs: the target's classes, the blank first.
        posteriors: (N, T, K) output; K may be 0 without `keep`.
    """
    frames_max, count_max = row_stats.shape[2], classes.shape[1]
    scratch = np.empty(classes_in_row, row_stats.dtype)
    last_seen = np.zeros(classes_in_row, np.int64)
    slots = np.empty(count_max + targets.size, np.int64)
    values = np.empty(frames_max * (count_max + 1))
    log2 = np.empty(frames_max * (count_max + 1))
    lowest = np.empty(frames_max)
    for n in utterances:
        frames, labels = input_lengths[n], target_lengths[n]
        target = targets[starts[n] : starts[n] + labels]
        count = distinct_classes(target, blank, last_seen, classes[n], slots)
        class_counts[n] = count
        columns = count + 1
        emissions = lattice.Emissions(
            values[: frames * columns].reshape(frames, columns), log2[: frames * columns].reshape(frames, columns), lowest[:frames]
        )
        removed = read_frames(
            storage, n * strides[1], strides, scratch, normalise, classes[n, :count], emissions, row_stats[n]
        )
        if removed != removed:
            losses[n] = np.nan
        elif fewest_frames(slots[:labels]) > frames:
            losses[n] = np.inf
        elif frames == 0:
            losses[n] = 0.0
        else:
            posterior = posteriors[n, :frames, :count]
            log2_probability = one_loss(slots, labels, count, emissions, keep, posterior)
            loss = -LN_2 * (log2_probability + removed)
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
    scratch = np.empty(classes_in_row, row_stats.dtype)
    result = np.empty(classes_in_row, row_stats.dtype)
    # frame by frame through the whole batch, as scores usually lie in memory: fresh pages are filled while still in cache
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
