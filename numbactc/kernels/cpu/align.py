"""Best paths of some utterances of a batch, one after the other, on one thread; `batch.py` does so for the loss."""

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu import viterbi
from numbactc.kernels.cpu.batch import distinct_classes
from numbactc.kernels.cpu.viterbi import Scores
from numbactc.kernels.jit import entry, kernel


@kernel
def mean_scores(scores, labels, spans, log_means):
    """Mean score of each label over the frames of its span."""
    for j in range(labels.size):
        total = 0.0
        for t in range(spans[j, 0], spans[j, 1]):
            total += viterbi.score_of(scores, t, labels[j])
        log_means[j] = total / (spans[j, 1] - spans[j, 0])


@entry
def align(
    storage, strides, targets, starts, input_lengths, target_lengths, blank, wildcard_cost, utterances, scratch,
    path_scores, spans, log_means,
):  # fmt: skip
    """The best path of each of some utterances.

    Args:
        storage, strides: score (t, n, c) at storage[t * strides[0] + n * strides[1] + c * strides[2]].
        targets, starts: labels of utterance n at targets[starts[n]] and after; C is the wildcard.
        input_lengths, target_lengths: (N,) int64, in range.
        wildcard_cost: nats by which a wildcard's score in a frame is less than the best class's.
        utterances: which of the N to do.
        scratch: (C,) in the dtype of the arithmetic.
        path_scores: (N,) output, nats; -inf where no path fits, NaN where a score of the blank, of a label of the
            target, or with a wildcard of any class is NaN or +inf.
        spans: zeros, as long as targets, 2 columns; output: first frame of each label and the one behind its last.
        log_means: as long as targets; output: mean score of each label in its span. Both are written only for paths.
    """
    storage, scratch, spans, log_means = borrow(storage), borrow(scratch), borrow(spans), borrow(log_means)
    last_seen = np.zeros(scratch.size + 1, np.int64)
    for n in utterances:
        of_target = slice(starts[n], starts[n] + target_lengths[n])
        labels = targets[of_target]
        slots, classes = np.empty(labels.size, np.int64), np.empty(labels.size + 1, np.int64)
        count = distinct_classes(labels, blank, last_seen, classes, slots)
        target = viterbi.target_of(slots, classes[:count], scratch.size, strides[2])
        scores = Scores(storage, n * strides[1], strides[0], strides[2], wildcard_cost, scratch)
        path_scores[n] = viterbi.best_path(scores, target, input_lengths[n], spans[of_target])
        if path_scores[n] > -np.inf:
            mean_scores(scores, labels, spans[of_target], log_means[of_target])
