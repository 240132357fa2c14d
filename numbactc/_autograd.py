"""The loss as a differentiable function; its gradient is written to memory of its own and can be asked for twice."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from numbactc import _devices, _transforms
from numbactc._validation import NO_FORWARD_MODE, NO_SECOND_DERIVATIVE


def ctc(scores: Tensor, problem: _devices.Problem) -> Tensor:
    """Losses (N,) in float64 of scores (T, N, C); what a gradient needs is done only where one can be asked for."""
    if forward_ad.unpack_dual(scores).tangent is not None:
        raise NotImplementedError(NO_FORWARD_MODE)
    if not (torch.is_grad_enabled() and scores.requires_grad):
        return _devices.forward(scores, problem, keep=False)[0]
    losses: Tensor = CTC.apply(scores, problem)
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
        if _transforms.is_batched(grad_outputs[0]):
            return _of_each_weight(scores, grad_outputs[0], saved, ctx.problem), None
        if not (torch.is_grad_enabled() or _transforms.are_active()):
            return _devices.backward(scores, grad_outputs[0], saved, ctx.problem), None
        return CTCGradient.apply(scores, grad_outputs[0], ctx.problem, *saved), None


def _of_each_weight(scores: Tensor, weights: Tensor, saved: list[Tensor], problem: _devices.Problem) -> Tensor:
    """d / d scores for many d / d losses at once, which no kernel sees: the gradient is linear in them."""
    if torch.is_grad_enabled():
        raise RuntimeError(NO_SECOND_DERIVATIVE)
    ones = scores.new_ones(scores.shape[1], dtype=weights.dtype)
    return _transforms.Weighted.forward(scores, _devices.backward(scores, ones, saved, problem), weights)


class CTCGradient(_transforms.FirstDerivative):
    """(scores, d / d losses) -> d / d scores, with a derivative that says that there is none.

    `once_differentiable` would not do: where d / d losses is a constant, as under a mean, it returns a gradient without
    history, and a penalty on that gradient would be left out of training without a word.
    """

    @staticmethod
    def forward(scores: Tensor, grad_losses: Tensor, problem: _devices.Problem, *saved: Tensor) -> Tensor:
        return _devices.backward(scores, grad_losses, list(saved), problem)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], scores: Tensor, weights: Tensor, *rest: Any) -> tuple[Tensor, int]:
        """For losses that were computed outside of torch.func: only d / d losses is mapped over."""
        return torch.stack([CTCGradient.apply(scores, each, *rest) for each in weights.unbind(in_dims[1])]), 0
