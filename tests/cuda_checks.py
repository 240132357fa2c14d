"""How the CUDA kernels' source is run and compared: by `cuda_simulator.pipeline`, with the oracles."""

import math
import random

import torch
from torch import Tensor

from batches import Batch, same_bits
from closeness import LOSS_RELATIVE
from cuda_simulator import pipeline
from cuda_simulator.pipeline import Result
from oracles import Oracle, expected, recursion

INF, NAN = math.inf, math.nan

GRADIENT_BOUND = 1e-6
"""Absolute; a third of what the CPU's kernels are held to. float32 arithmetic on T <= 100 frames stays below 4e-7."""

LOSS_FLOOR = 2e-6
"""Nats. A row's sum is float32, with exp2 to 2**-22: some 1e-7 a frame, and frames add up at random."""


def run(
    batch: Batch,
    normalise: bool,
    weights: Tensor | None = None,
    lattice: tuple[int, int, int] | None = None,
    seed: int | None = None,
    extra: int = 0,
) -> Result:
    """Losses, and the gradient of their weighted sum; weights of one if none are given."""
    return pipeline.ctc(
        batch.scores,
        batch.padded(extra=extra),
        torch.tensor(batch.input_lengths),
        torch.tensor(batch.target_lengths),
        batch.blank,
        normalise=normalise,
        grad_losses=torch.ones(len(batch.targets), dtype=torch.float64) if weights is None else weights,
        seed=random.randrange(10**6) if seed is None else seed,
        lattice=lattice,
    )


def assert_right(result: Result, batch: Batch, normalise: bool, oracle: Oracle = recursion) -> None:
    truth, slope = expected(
        batch.scores, batch.targets, batch.input_lengths, batch.blank, with_logits=normalise, oracle=oracle
    )
    assert result.gradient is not None
    double = batch.scores.dtype == torch.float64
    relative, floor, bound = (1e-12, 1e-12, 1e-12) if double else (LOSS_RELATIVE, LOSS_FLOOR, GRADIENT_BOUND)
    torch.testing.assert_close(result.losses, truth, rtol=relative, atol=floor)
    torch.testing.assert_close(result.gradient.double(), slope, rtol=0, atol=bound)


def assert_same(one: Result, other: Result) -> None:
    assert one.gradient is not None and other.gradient is not None
    assert same_bits(one.losses, other.losses)
    assert same_bits(one.gradient, other.gradient)


def check(batch: Batch, normalise: bool, oracle: Oracle = recursion) -> Result:
    result = run(batch, normalise)
    assert_right(result, batch, normalise, oracle)
    return result
