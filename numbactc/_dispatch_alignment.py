"""From torch tensors to the kernels of alignments; as `_dispatch.py` for the loss.

What comes back is on the host, for it becomes Python's lists.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbactc import _memory, _threads
from numbactc._validation import Targets
from numbactc._views import as_array, flat_view


class BestPaths(NamedTuple):
    """What an aligner finds. The path itself follows from the spans: outside of them is the blank."""

    scores: np.ndarray
    """(N,) float64 nats; -inf where no path fits, NaN where a score that counts is NaN or +inf."""
    spans: np.ndarray
    """(labels, 2) int64, in the order of `Targets.labels`: first frame of each, and the one behind its last. For
    utterances whose score is finite; elsewhere they mean nothing."""
    log_means: np.ndarray
    """(labels,) float64: mean score of each over its frames, likewise."""


def align(scores: Tensor, targets: Targets, wildcard_cost: float) -> BestPaths:
    """Best path of each utterance for scores (T, N, C) on either device."""
    utterances, labels = scores.shape[1], targets.labels.size
    found = BestPaths(np.empty(utterances), np.zeros((labels, 2), np.int64), np.empty(labels))
    _aligner(scores)(scores, targets, wildcard_cost, *found)
    return found


def _aligner(scores: Tensor) -> Callable[..., None]:
    if not scores.is_cuda:
        return _align_on_cpu
    from numbactc import _dispatch_alignment_cuda

    return _dispatch_alignment_cuda.align


def _align_on_cpu(
    scores: Tensor, targets: Targets, wildcard_cost: float, path_scores: np.ndarray, spans: np.ndarray,
    log_means: np.ndarray,
) -> None:  # fmt: skip
    from numbactc.kernels.cpu import align

    _, utterances, classes = scores.shape
    labels, starts, input_lengths, target_lengths, blank = targets
    storage, strides = flat_view(scores)

    def run(some: np.ndarray) -> None:
        scratch = np.empty(classes, np.float64 if scores.dtype == torch.float64 else np.float32)
        align.align(
            storage, strides, labels, starts, input_lengths, target_lengths, blank, wildcard_cost, some, scratch,
            path_scores, spans, log_means,
        )  # fmt: skip

    _threads.share(run, utterances, lambda: input_lengths * (8 + target_lengths))


def occupancies(scores: Tensor, targets: Targets, losses: Tensor) -> Tensor:
    """Posteriors of the targets' states for scores (T, N, C): (T, N, 2 S + 1), on the device of the scores.

    Args:
        losses: (N,) of the same scores; where it is inf there is no path, where NaN nothing to compute.
    """
    from numbactc.kernels.cpu import occupancy

    frames, utterances, classes = scores.shape
    labels, starts, input_lengths, target_lengths, blank = targets
    storage, strides = flat_view(scores.cpu())
    states = 2 * int(target_lengths.max(initial=0)) + 1
    real = np.dtype(np.float64 if scores.dtype == torch.float64 else np.float32)
    _memory.require("posteriors of states", frames * utterances * states * real.itemsize)
    out = np.zeros((frames, utterances, states), real)
    on_host = as_array(losses.cpu())

    def run(some: np.ndarray) -> None:
        occupancy.occupancies(
            storage, strides, classes, labels, starts, input_lengths, target_lengths, blank, on_host, some, out
        )

    _threads.share(run, utterances, lambda: 8 * input_lengths * (8 + target_lengths))
    return torch.from_numpy(out).to(scores.device)
