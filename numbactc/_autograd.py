"""The loss as a differentiable function; its gradient is written to memory of its own and can be asked for twice."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from numbactc import _devices


def ctc(scores: Tensor, problem: _devices.Problem) -> Tensor:
    """Losses (N,) in float64 of scores (T, N, C); what a gradient needs is done only where one can be asked for."""
    if not (torch.is_grad_enabled() and scores.requires_grad):
        return _devices.forward(scores, problem, keep=False)[0]
    # the form that torch.func wants takes longer at every call, for it inspects its own signature
    transformed = torch._C._are_functorch_transforms_active()
    losses: Tensor = TransformableCTC.apply(scores, problem)[0] if transformed else CTC.apply(scores, problem)
    return losses


class CTC(Function):
    """scores -> losses."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, problem: _devices.Problem) -> Tensor:
        losses, saved = _devices.forward(scores, problem, keep=True)
        # with the scores, for a loss that is kept after its backward must not keep them all
        ctx.save_for_backward(scores, *saved)
        ctx.problem = problem
        return losses

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        scores, *saved = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _devices.backward(scores, grad_outputs[0], saved, ctx.problem), None
        return CTCGradient.apply(scores, grad_outputs[0], ctx.problem, *saved), None


class TransformableCTC(Function):
    """The same for torch.func.grad and its kin, which must see what is saved as results: scores -> losses, *saved."""

    @staticmethod
    def forward(scores: Tensor, problem: _devices.Problem) -> tuple[Tensor, ...]:
        losses, saved = _devices.forward(scores, problem, keep=True)
        return losses, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _devices.Problem], output: tuple[Tensor, ...]) -> None:
        scores, problem = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(scores, *output[1:])
        ctx.problem = problem

    backward = CTC.backward


class CTCGradient(Function):
    """(scores, d / d losses) -> d / d scores, with a derivative that says that there is none.

    `once_differentiable` would not do: where d / d losses is a constant, as under a mean, it returns a gradient without
    history, and a penalty on that gradient would be left out of training without a word.
    """

    @staticmethod
    def forward(scores: Tensor, grad_losses: Tensor, problem: _devices.Problem, *saved: Tensor) -> Tensor:
        return _devices.backward(scores, grad_losses, list(saved), problem)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise RuntimeError("numbactc cannot differentiate the CTC loss twice: its second derivative is not implemented")
