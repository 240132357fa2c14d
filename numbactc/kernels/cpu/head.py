"""A batch whose scores come in chunks of rows, each gone before the next: what a projection fused with its loss needs.

The order of the calls: `begin`; `read_chunk` for rows until each of the batch's has been read once; `finish`. What is
kept between them is of the size of the targets' classes, not of all classes.

A chunk is a flat array of rows, one behind the other, row r being frame frames[r] of utterance utterances[r].
"""

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu import rows
from numbactc.kernels.cpu.batch import (
    RowResults,
    distinct_classes,
    fewest_frames,
    find_losses,
    finish_row,
    padded,
)
from numbactc.kernels.cpu.load import load_row, result_row, store_row
from numbactc.kernels.jit import entry


@entry
def begin(targets, starts, target_lengths, blank, classes_in_row, class_counts, classes, slots, needed):
    """Number the classes of all targets.

    Args:
        class_counts, classes, slots: outputs, as `batch.forward` has them.
        needed: (N,) output, how many frames a target takes at least.
    """
    targets, classes, slots = borrow(targets), borrow(classes), borrow(slots)
    last_seen = np.zeros(classes_in_row, np.int64)
    for n in range(starts.size):
        target = slice(starts[n], starts[n] + target_lengths[n])
        class_counts[n] = distinct_classes(targets[target], blank, last_seen, classes[n], slots[target])
        needed[n] = fewest_frames(slots[target])


@entry
def read_chunk(
    chunk, classes_in_row, utterances, frames, read, first, last, weights, coefficients,
    row_stats, class_counts, classes, scores, lowest, masked, removed,
):  # fmt: skip
    """Some rows of a chunk of logits.

    Args:
        chunk: flat; with weights, rows become weights[n] * softmax, and 0 at the classes of the row's target.
        read: rows are seen for the first time; else of the last line only the first three are there, and are known.
        first, last: which of the rows to do.
        weights: (N,) in the dtype of the arithmetic, or empty.
        coefficients: (N, T, K) output, or empty: softmax at the target's classes.
        row_stats, class_counts, classes, scores, lowest, masked, removed: of the batch, see `batch.RowResults`.
    """
    chunk, weights, coefficients = borrow(chunk), borrow(weights), borrow(coefficients)
    to = borrow(RowResults(row_stats, class_counts, classes, scores, lowest, masked, removed))
    scratch, one = np.empty(classes_in_row, row_stats.dtype), row_stats.dtype.type(1)
    for r in range(first, last):
        n, t, at = utterances[r], frames[r], r * classes_in_row
        row = load_row(chunk, at, 1, borrow(scratch))
        if read:
            largest = rows.row_max(row)
            total, _ = rows.row_sum_and_next_max(row, largest, row)
            # what stays where the sum is NaN
            to.row_stats[n, 0, t], to.row_stats[n, 1, t] = largest, total
            finish_row(row, largest, total, n, t, to)
        offset, scale, count = to.row_stats[n, 0, t], one / to.row_stats[n, 1, t], to.class_counts[n]
        if read and coefficients.size:
            columns = padded(count)
            rows.row_softmax(to.scores[n, t, :columns], offset, scale, coefficients[n, t, :columns])
        if weights.size:
            out = result_row(chunk, at, borrow(scratch))
            rows.row_softmax(row, offset, weights[n] * scale, out)
            for k in range(count):
                out[np.uint64(to.classes[n, k])] = 0
            store_row(out, chunk, at)


@entry
def finish(
    slots, starts, input_lengths, target_lengths, room, some, losses, coefficients,
    row_stats, class_counts, classes, scores, lowest, masked, removed,
):  # fmt: skip
    """Losses of some utterances whose rows have all been read; with `room`, also their sparse part of the gradient.

    Args:
        slots: from `begin`. losses: (N,) output, as of `batch.forward`.
        coefficients: (N, T, K), softmax at the target's classes, from which their posteriors are taken.
    """
    scores, coefficients = borrow(scores), borrow(coefficients)
    rows_of = RowResults(row_stats, class_counts, classes, scores, lowest, masked, removed)
    find_losses(slots, starts, input_lengths, target_lengths, True, room, some, losses, rows_of)
    if room:
        for n in some:
            if np.isfinite(losses[n]):
                T, K = input_lengths[n], class_counts[n]
                coefficients[n, :T, :K] -= scores[n, :T, :K]
