"""Which dispatch serves a tensor: `_dispatch` on the CPU, `_dispatch_cuda` on a GPU; their functions are the same.

A problem is one call: its targets and options, and what its forward half left for the backward half.
"""

from types import ModuleType
from typing import Any, Protocol

from torch import Tensor

from numbactc import _dispatch


class Problem(Protocol):
    def label_counts(self) -> Tensor:
        """(N,) labels of each utterance, at least 1: what a mean divides its loss by."""


def of(scores: Tensor) -> ModuleType:
    if not scores.is_cuda:
        return _dispatch
    from numbactc import _dispatch_cuda

    return _dispatch_cuda


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
    """A problem for scores (T, N, C), its arguments checked."""
    problem: Problem = of(scores).prepare(
        scores, targets, input_lengths, target_lengths, blank, normalise, unbatched, check
    )
    return problem


def forward(scores: Tensor, problem: Problem, keep: bool, zeroed: bool = False) -> Tensor:
    """Losses (N,) in nats, float64; with `keep`, problem is ready for `backward`, with `zeroed` no memory undefined."""
    losses: Tensor = of(scores).forward(scores, problem, keep, zeroed)
    return losses


def backward(scores: Tensor, grad_losses: Tensor, problem: Problem) -> Tensor:
    """d / d scores (T, N, C), given d / d losses (N,): new memory, every element written."""
    gradient: Tensor = of(scores).backward(scores, grad_losses, problem)
    return gradient


def tensors_of(problem: Problem, scores: Tensor) -> list[Tensor]:
    """What `problem_of` makes a problem of again, ready for `backward`."""
    tensors: list[Tensor] = of(scores).tensors_of(problem)
    return tensors


def problem_of(
    tensors: list[Tensor], scores: Tensor, width: int, concatenated: bool, blank: int, normalise: bool
) -> Problem:
    """Args: tensors: of `tensors_of`. width, concatenated: S, or how many labels, and whether in one row."""
    problem: Problem = of(scores).problem_of(tensors, scores, width, concatenated, blank, normalise)
    return problem


def fake_tensors(scores: Tensor, width: int, concatenated: bool) -> list[Tensor]:
    """`tensors_of` without values, for torch.compile."""
    tensors: list[Tensor] = of(scores).fake_tensors(scores, width, concatenated)
    return tensors
