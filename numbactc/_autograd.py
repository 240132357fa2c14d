"""The loss as a differentiable function; its gradient is written to memory of its own and can be asked for twice."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from numbactc import _devices


def ctc(scores: Tensor, problem: _devices.Problem) -> Tensor:
    """Losses (N,) in float64 of scores (T, N, C); what a gradient needs is done only where one can be asked for."""
    if not (torch.is_grad_enabled() and scores.requires_grad):
        return _devices.forward(scores, problem, keep=False)
    # the form that torch.func wants costs a tenth of a millisecond more a call, for it inspects its own signature
    function = TransformableCTC if torch._C._are_functorch_transforms_active() else CTC
    losses: Tensor = function.apply(scores, problem)
    return losses


class CTC(Function):
    """scores -> losses."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, problem: _devices.Problem) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.problem = problem
        return _devices.forward(scores, problem, keep=True)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (scores,) = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _devices.backward(scores, grad_outputs[0], ctx.problem), None
        return CTCGradient.apply(scores, grad_outputs[0], ctx.problem), None


class TransformableCTC(CTC):
    """The same for torch.func.grad and its kin."""

    @staticmethod
    def forward(scores: Tensor, problem: _devices.Problem) -> Tensor:  # type: ignore[override]
        return _devices.forward(scores, problem, keep=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _devices.Problem], output: Tensor) -> None:
        scores, problem = inputs
        ctx.save_for_backward(scores)
        ctx.problem = problem


class CTCGradient(Function):
    """(scores, d / d losses) -> d / d scores, with a derivative that says that there is none.

    `once_differentiable` would not do: where d / d losses is a constant, as under a mean, it returns a gradient without
    history, and a penalty on that gradient would be left out of training without a word.
    """

    @staticmethod
    def forward(scores: Tensor, grad_losses: Tensor, problem: _devices.Problem) -> Tensor:
        return _devices.backward(scores, grad_losses, problem)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, _devices.Problem], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise RuntimeError("numbactc cannot differentiate the CTC loss twice: its second derivative is not implemented")
