"""From torch tensors on the CPU to its kernels: memory, views, threads.

Nothing else knows both sides. Numba is imported by the first call, not with the package.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbactc import _memory, _threads, _validation
from numbactc._validation import Targets
from numbactc._views import as_array, flat_view, recycled


class Saved(NamedTuple):
    """What the forward half leaves for the backward half; the largest has a number for each frame and target class."""

    losses: np.ndarray
    row_stats: np.ndarray
    class_counts: np.ndarray
    classes: np.ndarray
    posteriors: np.ndarray


class Problem:
    """One call: its targets, and whether scores are to be normalised."""

    def __init__(self, targets: Targets, normalise: bool) -> None:
        self.targets = targets
        self.normalise = normalise

    def label_counts(self) -> Tensor:
        """(N,) labels of each utterance, at least 1: what a mean divides its loss by."""
        return torch.from_numpy(self.targets.target_lengths.clip(min=1))


def prepare(
    scores: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: Any,
    normalise: bool,
    unbatched: bool,
    check: bool,
) -> Problem:
    """A checked call for scores (T, N, C); on a CPU the values are always checked."""
    checked = _validation.check_targets(scores, targets, input_lengths, target_lengths, blank, unbatched)
    return Problem(checked, normalise)


def forward(scores: Tensor, problem: Problem, keep: bool, zeroed: bool = False) -> tuple[Tensor, list[Tensor]]:
    """As `_devices.forward`."""
    from numbactc.kernels.cpu import batch, lattice

    frames, utterances, classes_in_row = scores.shape
    labels, starts, input_lengths, target_lengths, blank = problem.targets
    storage, strides = flat_view(scores)
    real = _arithmetic(scores)
    columns = int(batch.padded(min(max(target_lengths.tolist(), default=0), classes_in_row - 1) + 1))
    saved = Saved(
        losses=np.empty(utterances),
        row_stats=_memory.empty("row_stats", (utterances, 2, frames), real),
        class_counts=np.empty(utterances, np.int64),
        classes=np.empty((utterances, columns), np.int64),
        posteriors=_memory.empty("posteriors", (utterances, frames, columns), real),
    )
    if zeroed:
        for array in saved:
            array.fill(0)

    def run(some: np.ndarray) -> None:
        batch.forward(
            storage, strides, classes_in_row, labels, starts, input_lengths, target_lengths, blank,
            problem.normalise, lattice.CHECKPOINT_BYTES if keep else 0, some, *saved,
        )  # fmt: skip

    _threads.share(run, utterances, lambda: input_lengths * (classes_in_row + 8 * target_lengths))
    losses = torch.from_numpy(saved.losses.copy())
    return losses, [torch.from_numpy(array) for array in (input_lengths, *saved)] if keep else []


def backward(scores: Tensor, grad_losses: Tensor, saved: list[Tensor], problem: Problem) -> Tensor:
    """As `_devices.backward`."""
    from numbactc.kernels.cpu import batch

    lengths, *left = [tensor.numpy() for tensor in saved]
    frames, utterances, classes_in_row = scores.shape
    storage, strides = flat_view(scores)
    gradient, flat, gradient_strides = _empty_like(scores)
    weights = np.array(as_array(grad_losses), dtype=_arithmetic(scores))

    def run(some: np.ndarray) -> None:
        batch.backward(
            storage, strides, lengths, problem.normalise, some, *left,
            weights, flat, gradient_strides, classes_in_row,
        )  # fmt: skip

    _threads.share(run, utterances, lambda: np.full(utterances, frames * classes_in_row))
    return gradient


def problem_for_backward(
    scores: Tensor, width: int, concatenated: bool, blank: int, normalise: bool
) -> Problem:
    """As `_devices.problem_for_backward`."""
    none = np.empty(0, np.int64)
    return Problem(Targets(none, none, none, none, blank), normalise)


def fake_saved(scores: Tensor, width: int, concatenated: bool) -> list[Tensor]:
    """As `_devices.fake_saved`; the number of classes follows from the longest target."""
    frames, utterances, _ = scores.shape
    real = torch.float64 if scores.dtype == torch.float64 else torch.float32
    columns = torch.library.get_ctx().new_dynamic_size()
    return [
        scores.new_empty(utterances, dtype=torch.int64),
        scores.new_empty(utterances, dtype=torch.float64),
        scores.new_empty(utterances, 2, frames, dtype=real),
        scores.new_empty(utterances, dtype=torch.int64),
        scores.new_empty(utterances, columns, dtype=torch.int64),
        scores.new_empty(utterances, frames, columns, dtype=real),
    ]


def _arithmetic(scores: Tensor) -> Any:
    return np.float64 if scores.dtype == torch.float64 else np.float32


def _empty_like(scores: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Memory for a gradient (T, N, C), rows contiguous, utterances outermost if they are so in scores."""
    frames, utterances, classes = scores.shape
    tensor = recycled("gradient", scores.numel(), scores.dtype)
    if scores.stride(0) < scores.stride(1):
        gradient = tensor.view(utterances, frames, classes).transpose(0, 1)
    else:
        gradient = tensor.view(frames, utterances, classes)
    return gradient, flat_view(tensor)[0], np.array(gradient.stride(), np.int64)
