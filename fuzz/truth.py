"""What scores and a target must give, by the definition, in float64: slow, simple, and without numbactc."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from oracles import Array, normalised, recursion

IMPOSSIBLE = -(2.0**24) * math.log(2)
"""Nats from which on a class counts as one that cannot occur."""


ULPS = 8


class Loss(NamedTuple):
    value: float
    gradient: Array
    """(T, C) by the scores."""
    error: float
    """How far off both may be: what float64 leaves of sums of such numbers."""


def loss(frames: Tensor, labels: list[int], blank: int, with_logits: bool) -> Loss:
    """Of one utterance's scores (T, C) in float64."""
    gradient = np.full(tuple(frames.shape), math.nan)
    if (frames.isnan() | (frames == math.inf)).any():
        return Loss(math.nan, gradient, 0.0)
    if with_logits:
        frames = normalised(frames)
        frames = frames.masked_fill(frames < IMPOSSIBLE, -math.inf)
    scores = frames.numpy()
    best = scores[:, sorted({blank, *labels})].max(1)
    with np.errstate(invalid="ignore"):
        # what is added back keeps its digits, and the recursion its own, whatever the scores
        less = np.where(np.isfinite(best), best, 0.0)[:, None]
        lattice = np.where(scores - less < IMPOSSIBLE, -math.inf, scores - less)
    answer = recursion(lattice, labels, blank)
    if answer.loss == math.inf:
        return Loss(math.inf, np.zeros_like(gradient), 0.0)
    softmax = np.exp(scores) if with_logits else 0.0
    lowest = np.where(np.isfinite(lattice), lattice, 0.0).min(1)
    error = ULPS * 2.0**-53 * (np.abs(lowest).sum() + np.abs(best).sum())
    return Loss(answer.loss - math.fsum(best.tolist()), softmax - answer.posteriors, float(error))


class Losses(NamedTuple):
    values: Tensor
    """(N,) float64"""
    gradient: Tensor
    """(T, N, C) of their sum."""
    error: float
    """The largest of them."""


def losses(scores: Tensor, labels: list[list[int]], lengths: list[int], blank: int, with_logits: bool) -> Losses:
    """Of a batch (T, N, C)."""
    values, gradient = torch.zeros(scores.shape[1]).double(), torch.zeros(scores.shape).double()
    largest = 0.0
    for n, (target, length) in enumerate(zip(labels, lengths, strict=True)):
        value, slope, error = loss(scores[:length, n].double(), target, blank, with_logits)
        values[n], gradient[:length, n], largest = value, torch.from_numpy(slope), max(largest, error)
    return Losses(values, gradient, largest)


class Reduced(NamedTuple):
    result: Tensor
    slopes: Tensor
    """(N,) of the result by each loss; 0 where no path fits."""


def reduced(values: Tensor, labels: list[list[int]], reduction: str, zero_infinity: bool) -> Reduced:
    """As all losses say it."""
    infinite = values == math.inf
    counts = torch.tensor([max(len(target), 1) for target in labels], dtype=torch.float64)
    values = values.masked_fill(infinite & zero_infinity, 0.0)
    slopes = torch.ones_like(values)
    result = values
    if reduction == "mean":
        result, slopes = (values / counts).mean(), 1 / (counts * len(counts))
    elif reduction == "sum":
        result = values.sum()
    return Reduced(result, slopes.masked_fill(infinite, 0.0))
