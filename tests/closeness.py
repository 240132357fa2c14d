"""How near to an oracle is near enough."""

import torch

import numbactc
from batches import Batch, Loss, loss_and_gradient
from oracles import expected, recursion, torch_float64

LOSS_RELATIVE, LOSS_FLOOR = 1e-7, 1e-6
"""Half a unit in the last place of a float32 is 6e-8 of it; 1e-7 leaves 4e-8 for the arithmetic before."""

GRADIENT_BOUND = 3e-6
"""Absolute, as entries lie in [-1, 1]."""


def assert_right_losses(losses: torch.Tensor, truth: torch.Tensor) -> None:
    relative, floor = (1e-12, 1e-12) if losses.dtype == torch.float64 else (LOSS_RELATIVE, LOSS_FLOOR)
    torch.testing.assert_close(losses.double(), truth, rtol=relative, atol=floor)


def assert_right_gradient(gradient: torch.Tensor, truth: torch.Tensor) -> None:
    bound = 1e-12 if gradient.dtype == torch.float64 else GRADIENT_BOUND
    torch.testing.assert_close(gradient.double(), truth, rtol=0, atol=bound)


def with_logits(entry: Loss) -> bool:
    return entry is numbactc.ctc_loss_with_logits


def errors(entry: Loss, batch: Batch) -> tuple[float, float]:
    """How far a float32 batch is off: (losses beyond their floor, as a part of the loss; gradient)."""
    losses, gradient = loss_and_gradient(entry, batch)
    oracle = recursion if batch.scores.isinf().any() else torch_float64
    truth, slope = expected(
        batch.scores, batch.targets, batch.input_lengths, batch.blank, with_logits=with_logits(entry), oracle=oracle
    )
    assert truth.isfinite().all()
    assert losses.isfinite().all()
    beyond_floor = ((losses.double() - truth).abs() - LOSS_FLOOR).clamp(min=0)
    return (beyond_floor / truth.abs()).nan_to_num(0).max().item(), (gradient.double() - slope).abs().max().item()


def assert_accurate(entry: Loss, batch: Batch) -> None:
    loss_error, gradient_error = errors(entry, batch)
    assert loss_error <= LOSS_RELATIVE
    assert gradient_error <= GRADIENT_BOUND
