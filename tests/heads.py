"""Projections and their losses for the tests, and what they should give: the unfused way in float64."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import numbactc
from batches import Batch, random_batch
from oracles import expected

Gradients = tuple[Tensor | None, ...]
"""Of hidden, weight and bias."""


@dataclass(frozen=True)
class Head:
    batch: Batch
    """Its scores are of no interest; targets and lengths are."""
    hidden: Tensor
    """(T, N, H)"""
    weight: Tensor
    bias: Tensor | None

    def loss(self, *tensors: Tensor | None, **options: Any) -> Tensor:
        """`linear_ctc_loss` of other tensors, or of its own."""
        hidden, weight, bias = (*tensors, None)[:3] if tensors else self.tensors
        assert hidden is not None
        assert weight is not None
        return numbactc.linear_ctc_loss(
            hidden, weight, bias, *self.batch.arguments(), blank=self.batch.blank, **options
        )

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.hidden, self.weight, self.bias

    def leaves(self) -> list[Tensor | None]:
        return [None if x is None else x.detach().clone().requires_grad_() for x in self.tensors]


def random_head(
    T: int, N: int, C: int, L: int, H: int = 5, dtype: torch.dtype = torch.float32, bias: bool = True, **options: Any
) -> Head:
    batch = random_batch(T, N, C, L, **options)
    hidden, weight, offsets = torch.randn(T, N, H), torch.randn(C, H), torch.randn(C)
    return Head(batch, hidden.to(dtype), weight.to(dtype), offsets.to(dtype) if bias else None)


def infeasible_target(frames: int) -> list[int]:
    """One label more than fits, with the blanks that equal neighbours need."""
    return [1] * random.randint(frames // 2 + 2, frames + 2)


def gradients(head: Head, grad: Tensor | None = None, **options: Any) -> tuple[Tensor, list[Tensor]]:
    """The result and the gradients of hidden, weight and, if there is one, bias; `grad` is d / d result."""
    leaves = head.leaves()
    result = head.loss(*leaves, **options)
    return result.detach(), list(torch.autograd.grad(result, [x for x in leaves if x is not None], grad))


def truth(head: Head, reduction: str = "mean", grad: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """The same in float64, from all logits at once and the recursion in log-space; a loss of inf has no gradient."""
    hidden, weight, bias = (None if x is None else x.detach().double() for x in head.tensors)
    assert hidden is not None
    assert weight is not None
    logits = torch.nn.functional.linear(hidden, weight, bias)
    batch = head.batch
    losses, slope = expected(logits, batch.targets, batch.input_lengths, batch.blank, with_logits=True)
    counts = torch.tensor(batch.target_lengths).clamp(min=1)
    result = losses
    weights = torch.ones_like(losses)
    if reduction == "mean":
        result, weights = (losses / counts).mean(), 1 / (counts.double() * len(counts))
    elif reduction == "sum":
        result = losses.sum()
    if grad is not None:
        weights = weights * grad
    slope = slope * weights[:, None]
    found = [slope @ weight, torch.einsum("tnc,tnh->ch", slope, hidden), slope.sum((0, 1))]
    return result, found[: 2 + (bias is not None)]


def assert_close(found: list[Tensor], expected: list[Tensor], relative: float) -> None:
    """Each within a part of the largest number in it, or of 1."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        largest = other.abs().max().item() if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=relative * max(1.0, largest))
