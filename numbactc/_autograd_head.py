"""The loss of a projection as a differentiable function; as `_autograd.py` for the loss of scores."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from numbactc import _head
from numbactc._transforms import FirstDerivative, are_active, is_batched


def linear_ctc(hidden: Tensor, weight: Tensor, bias: Tensor | None, call: _head.Call) -> Tensor:
    """The loss of hidden states (T, N, H); what a gradient needs is done only where one can be asked for."""
    inputs = hidden, weight, bias
    if not (torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)):
        return _head.forward(*inputs, call, (False,) * 3)[0]
    if are_active():
        result: Tensor = TransformableLinearCTC.apply(*inputs, call)[0]
    else:
        result = LinearCTC.apply(*inputs, call)
    return result


class LinearCTC(Function):
    """hidden, weight, bias -> result."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, call: _head.Call) -> Tensor:
        result, kept, dense = _head.forward(hidden, weight, bias, call, ctx.needs_input_grad[:3])
        ctx.save_for_backward(hidden, weight, bias, *kept)
        # not with the others: the first backward makes the gradients out of these, in place, and a second one has none
        ctx.call, ctx.dense = call, [dense]
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, *kept = ctx.saved_tensors
        if is_batched(grad_outputs[0]):
            raise NotImplementedError(
                "linear_ctc_loss has one gradient at a time: is_grads_batched and vectorize must be False"
            )
        dense = ctx.dense.pop() if ctx.dense else None
        rest = hidden, weight, bias, grad_outputs[0], ctx.call, dense, ctx.needs_input_grad[:3], *kept
        if torch.is_grad_enabled():
            return *LinearCTCGradient.apply(*rest), None
        return *LinearCTCGradient.forward(*rest), None


class TransformableLinearCTC(Function):
    """The same for torch.func.grad and its kin, which must see what is saved as results: -> result, *kept."""

    @staticmethod
    def forward(hidden: Tensor, weight: Tensor, bias: Tensor | None, call: _head.Call) -> tuple[Tensor, ...]:
        result, kept, _ = _head.forward(hidden, weight, bias, call, (True,) * 3, ahead=False)
        return result, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.call = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])
        ctx.dense = []

    backward = LinearCTC.backward


class LinearCTCGradient(FirstDerivative):
    """(hidden, weight, bias, d / d result) -> their gradients."""

    @staticmethod
    def forward(
        hidden: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, call: _head.Call,
        dense: _head.Gradients | None, wanted: tuple[bool, ...], *kept: Tensor,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        return tuple(_head.backward(hidden, weight, bias, grad, list(kept), call, dense, wanted))
