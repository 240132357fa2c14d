"""Batches of utterances, and the one way in which the tests ask for a loss and its gradient."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

Loss = Callable[..., Tensor]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batch:
    scores: Tensor
    """(T, N, C)"""
    targets: list[list[int]]
    input_lengths: list[int]
    blank: int = 0

    @property
    def target_lengths(self) -> list[int]:
        return [len(target) for target in self.targets]

    def padded(self, fill: int = -1, extra: int = 0, dtype: torch.dtype = torch.int64) -> Tensor:
        """Targets (N, S); `fill` stands where no label is, in `extra` more columns than the longest target needs."""
        padded = torch.full((len(self.targets), max(self.target_lengths, default=0) + extra), fill, dtype=dtype)
        for n, target in enumerate(self.targets):
            padded[n, : len(target)] = torch.tensor(target, dtype=dtype)
        return padded

    def concatenated(self, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor([label for target in self.targets for label in target], dtype=dtype)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor]:
        """(targets, input_lengths, target_lengths) in the commonest form."""
        return self.padded(), torch.tensor(self.input_lengths), torch.tensor(self.target_lengths)

    def select(self, utterances: Sequence[int]) -> "Batch":
        """Some of the utterances, in this order, in frames no longer than they need."""
        lengths = [self.input_lengths[n] for n in utterances]
        scores = self.scores[: max(lengths, default=0), list(utterances)].clone()
        return replace(self, scores=scores, targets=[self.targets[n] for n in utterances], input_lengths=lengths)


def random_target(L: int, C: int, blank: int, T: int) -> list[int]:
    """L labels that fit in T frames: neighbours are the same as often as chance has it, while there is room."""
    labels = [c for c in range(C) if c != blank]
    target: list[int] = []
    room = T - L
    while len(target) < L:
        label = random.choice(labels)
        repeats = bool(target) and label == target[-1]
        if repeats and room == 0:
            if len(labels) == 1:
                break
            continue
        room -= repeats
        target.append(label)
    return target


def random_batch(
    T: int,
    N: int,
    C: int,
    L: int,
    *,
    blank: int = 0,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    ragged: bool = True,
) -> Batch:
    """Scores ~ N(0, scale**2); the first utterance has all T frames and L labels, the others fewer if `ragged`."""
    input_lengths, targets = [], []
    for n in range(N):
        frames = T if n == 0 or not ragged else random.randint(min(L, T), T)
        labels = L if n == 0 or not ragged else random.randint(0, min(L, frames))
        input_lengths.append(frames)
        targets.append(random_target(labels, C, blank, frames))
    scores = (torch.randn(T, N, C, dtype=torch.float64) * scale).to(dtype)
    return Batch(scores, targets, input_lengths, blank)


def loss_and_gradient(entry: Loss, batch: Batch, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Losses (N,) and the gradient (T, N, C) of their weighted sum; weights of one if none are given."""
    scores = batch.scores.detach().clone().requires_grad_()
    losses = entry(scores, *batch.arguments(), blank=batch.blank, reduction="none")
    losses.backward(torch.ones_like(losses) if weights is None else weights)
    assert scores.grad is not None
    return losses.detach(), scores.grad


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit: unlike `torch.equal`, NaN equals itself and -0.0 differs from 0.0."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8))


def on_threads(compute: Callable[[], Result], *counts: int) -> list[Result]:
    """What is computed with each number of torch's threads."""
    before = torch.get_num_threads()
    results = []
    try:
        for threads in counts:
            torch.set_num_threads(threads)
            results.append(compute())
    finally:
        torch.set_num_threads(before)
    return results
