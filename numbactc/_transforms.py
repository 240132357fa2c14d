"""The loss under torch.func: `grad`, `vmap`, `jacrev` and what is made of them.

They want a function of tensors, whose results are all that is saved. Its calls take longer than those of `_autograd`,
and it computes the gradient along with the losses.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from numbactc import _devices
from numbactc._validation import NO_FORWARD_MODE, NO_SECOND_DERIVATIVE, Lengths


def are_active() -> bool:
    return torch._C._are_functorch_transforms_active()


def is_batched(tensor: Tensor) -> bool:
    """Whether it stands for many, in the older vmap of `is_grads_batched` and of `jacobian(vectorize=True)`."""
    return torch._C._functorch.is_legacy_batchedtensor(tensor)


def ctc(
    scores: Tensor, targets: Any, input_lengths: Lengths, target_lengths: Lengths, *options: Any
) -> tuple[Tensor, Callable[[], Tensor]]:
    """As `_ops.ctc`."""
    lengths = [each if isinstance(each, Tensor) else torch.tensor(each) for each in (input_lengths, target_lengths)]
    losses, counts, _ = TransformableCTC.apply(scores, targets, *lengths, *options)
    return losses, lambda: counts


class TransformableCTC(Function):
    """scores (T, N, C) and the rest of a call -> losses (N,), label counts (N,), gradient of each loss (T, N, C)."""

    @staticmethod
    def forward(scores: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        problem = _devices.prepare(scores, *rest)
        losses, saved = _devices.forward(scores, problem, keep=True)
        gradient = _devices.backward(scores, torch.ones_like(losses), saved, problem)
        return losses, problem.label_counts(), gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, counts, gradient = output
        ctx.mark_non_differentiable(counts, gradient)
        ctx.save_for_backward(inputs[0], gradient)
        ctx.others = len(inputs) - 1

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return Weighted.apply(*ctx.saved_tensors, grad_outputs[0]), *[None] * ctx.others

    @staticmethod
    def jvp(ctx: Any, *tangents: object) -> Any:
        raise NotImplementedError(NO_FORWARD_MODE)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, ...]:
        """A batch of batches is a larger batch."""
        *options, unbatched, check = arguments[4:]
        scores, targets, *lengths = (
            _in_front(each, dim, info.batch_size) for each, dim in zip(arguments[:4], in_dims[:4], strict=True)
        )
        # of single utterances each has a row
        targets = targets.flatten(1) if unbatched else targets.flatten(0, 1)
        rest = targets, *(each.flatten() for each in lengths), *options, False, check
        losses, counts, gradient = TransformableCTC.apply(scores.transpose(0, 1).flatten(1, 2), *rest)
        shape = scores.shape[0], scores.shape[2]
        return (losses.view(shape), counts.view(shape), gradient.unflatten(1, shape)), (0, 0, 1)


class FirstDerivative(Function):
    """What a backward half is, with derivatives that say that there are none."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise RuntimeError(NO_SECOND_DERIVATIVE)

    @staticmethod
    def jvp(ctx: Any, *tangents: object) -> Any:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)


class Weighted(FirstDerivative):
    """(scores, gradient of each loss, d / d losses) -> d / d scores."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, gradient: Tensor, grad_losses: Tensor) -> Tensor:
        return (gradient * grad_losses.unsqueeze(-1)).to(gradient.dtype)


def _in_front(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """With the dimension that is mapped over in front."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
