"""Which dispatch serves a tensor: `_dispatch` on the CPU, `_dispatch_cuda` on a GPU; their functions are the same.

A problem is one call: its targets and options. What its forward half leaves for the backward half are tensors, for
autograd to hold and to free.
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


def forward(scores: Tensor, problem: Problem, keep: bool, zeroed: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Losses (N,) in nats, float64, and what `backward` needs: nothing without `keep`.

    With `zeroed` no memory of the latter is undefined.
    """
    result: tuple[Tensor, list[Tensor]] = of(scores).forward(scores, problem, keep, zeroed)
    return result


def backward(scores: Tensor, grad_losses: Tensor, saved: list[Tensor], problem: Problem) -> Tensor:
    """d / d scores (T, N, C), given d / d losses (N,): new memory, every element written."""
    gradient: Tensor = of(scores).backward(scores, grad_losses, saved, problem)
    return gradient


def problem_for_backward(
    scores: Tensor, width: int, concatenated: bool, blank: int, normalise: bool
) -> Problem:
    """As much of a problem as `backward` asks for.

    Args:
        width, concatenated: S, or how many labels, and whether in one row.
    """
    problem: Problem = of(scores).problem_for_backward(scores, width, concatenated, blank, normalise)
    return problem


def fake_saved(scores: Tensor, width: int, concatenated: bool) -> list[Tensor]:
    """What `forward` saves without values, for torch.compile."""
    tensors: list[Tensor] = of(scores).fake_saved(scores, width, concatenated)
    return tensors
