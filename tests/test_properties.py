"""Laws that hold for every batch, tried on those that Hypothesis draws; it reports the smallest that breaks one."""

import itertools
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import numbactc
from batches import Batch, Loss, loss_and_gradient, same_bits
from closeness import assert_right_gradient, assert_right_losses, with_logits
from oracles import best_path, expected, normalised

pytestmark = pytest.mark.usefixtures("device")

LAW = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

STEP = 1 / 64  # scores are multiples of it, so that sums and shifts of them are exact in float32


@st.composite
def batches(draw: st.DrawFn, feasible: bool = False) -> Batch:
    """One to four utterances of up to 14 frames and 6 labels in 2 to 6 classes.

    Some do not fit, and some scores are -inf, unless `feasible`.
    """
    C = draw(st.integers(2, 6))
    blank = draw(st.integers(0, C - 1))
    labels = st.sampled_from([c for c in range(C) if c != blank])
    targets, lengths = [], []
    for _ in range(draw(st.integers(1, 4))):
        target = draw(st.lists(labels, max_size=6))
        needed = len(target) + sum(a == b for a, b in itertools.pairwise(target))
        targets.append(target)
        lengths.append(draw(st.integers(needed if feasible else 0, 14)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    spread = draw(st.sampled_from([1.0, 8.0, 60.0]))
    scores = torch.randn(max(lengths), len(targets), C, generator=generator) * spread
    scores = (scores / STEP).round() * STEP
    if not feasible and draw(st.booleans()):
        scores = scores.masked_fill(torch.rand(scores.shape, generator=generator) < 0.1, -torch.inf)
    return Batch(scores, targets, lengths, blank)


def assert_same_results(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert same_bits(a[0], b[0])
    assert same_bits(a[1], b[1])


def assert_close_results(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Two right float32 answers: each may be off by as much as `closeness` allows."""
    torch.testing.assert_close(a[0], b[0], rtol=2e-7, atol=2e-6)
    torch.testing.assert_close(a[1], b[1], rtol=0, atol=6e-6)


@LAW
@given(batch=batches())
def test_batch_equals_one_by_one(entry: Loss, batch: Batch) -> None:
    losses, gradient = loss_and_gradient(entry, batch)
    for n, length in enumerate(batch.input_lengths):
        lonely = loss_and_gradient(entry, batch.select([n]))
        assert_same_results(lonely, (losses[n : n + 1], gradient[:length, n : n + 1]))
    assert all(not gradient[length:, n].any() for n, length in enumerate(batch.input_lengths))


@LAW
@given(batch=batches(), seed=st.integers(0, 99))
def test_order_in_the_batch_is_irrelevant(entry: Loss, batch: Batch, seed: int) -> None:
    order = random.Random(seed).sample(range(len(batch.targets)), len(batch.targets))
    losses, gradient = loss_and_gradient(entry, batch)
    assert_same_results(loss_and_gradient(entry, batch.select(order)), (losses[order], gradient[:, order]))


@LAW
@given(batch=batches(), frames=st.integers(0, 9), value=st.sampled_from([0.0, 1e30, -torch.inf, torch.nan]))
def test_padding_of_scores_is_irrelevant(entry: Loss, batch: Batch, frames: int, value: float) -> None:
    T, N, C = batch.scores.shape
    scores = torch.cat([batch.scores, torch.full((frames, N, C), value)])
    for n, length in enumerate(batch.input_lengths):
        scores[length:, n] = value
    losses, gradient = loss_and_gradient(entry, Batch(scores, batch.targets, batch.input_lengths, batch.blank))
    assert_same_results((losses, gradient[:T]), loss_and_gradient(entry, batch))
    assert not gradient[T:].any()


@LAW
@given(batch=batches(), fill=st.sampled_from([-1, 0, 10**9, -(2**63)]), extra=st.integers(0, 5))
def test_padding_of_targets_is_irrelevant(entry: Loss, batch: Batch, fill: int, extra: int) -> None:
    """Whatever stands behind a target; and without it, in concatenated form."""
    keywords = {"blank": batch.blank, "reduction": "none"}
    truth = entry(batch.scores, *batch.arguments(), **keywords)
    for targets in (batch.padded(fill, extra), batch.concatenated(), batch.concatenated(torch.int32)):
        losses = entry(batch.scores, targets, batch.input_lengths, batch.target_lengths, **keywords)
        assert same_bits(losses, truth)


@LAW
@given(batch=batches(feasible=True), shift=st.integers(-200, 200))
def test_a_shift_of_a_frames_logits_changes_nothing(batch: Batch, shift: int) -> None:
    shifts = (torch.arange(len(batch.scores)) % 3 - 1).view(-1, 1, 1) * float(shift)
    shifted = Batch(batch.scores + shifts, batch.targets, batch.input_lengths, batch.blank)
    entry = numbactc.ctc_loss_with_logits
    assert_close_results(loss_and_gradient(entry, shifted), loss_and_gradient(entry, batch))


@LAW
@given(batch=batches(feasible=True))
def test_rows_of_the_gradient_sum_to_zero(batch: Batch) -> None:
    _, gradient = loss_and_gradient(numbactc.ctc_loss_with_logits, batch)
    assert (gradient.double().sum(-1).abs() <= 1e-6).all()


@LAW
@given(batch=batches(), seed=st.integers(0, 99))
def test_renaming_classes_commutes(entry: Loss, batch: Batch, seed: int) -> None:
    C = batch.scores.shape[2]
    order = random.Random(seed).sample(range(C), C)  # new class i is old class order[i]
    targets = [[order.index(label) for label in target] for target in batch.targets]
    renamed = Batch(batch.scores[:, :, order], targets, batch.input_lengths, order.index(batch.blank))
    losses, gradient = loss_and_gradient(entry, batch)
    assert_close_results(loss_and_gradient(entry, renamed), (losses, gradient[:, :, order]))


@LAW
@given(batch=batches())
def test_a_sum_over_paths_costs_no_more_than_the_best_path(entry: Loss, batch: Batch) -> None:
    losses, _ = loss_and_gradient(entry, batch)
    frames = batch.scores.double()
    if with_logits(entry):
        frames = normalised(frames)
    for n, (target, length) in enumerate(zip(batch.targets, batch.input_lengths, strict=True)):
        bound = best_path(frames[:length, n].numpy(), target, batch.blank)
        assert losses[n].item() <= bound + 1e-7 * abs(bound) + 1e-6


@LAW
@given(batch=batches())
def test_time_may_run_backwards(entry: Loss, batch: Batch) -> None:
    """Scores and target both reversed: the same paths, so alpha and beta trade places."""
    losses, gradient = loss_and_gradient(entry, batch)
    scores, slope = batch.scores.clone(), gradient.clone()
    for n, length in enumerate(batch.input_lengths):
        scores[:length, n] = batch.scores[:length, n].flip(0)
        slope[:length, n] = gradient[:length, n].flip(0)
    backwards = Batch(scores, [target[::-1] for target in batch.targets], batch.input_lengths, batch.blank)
    assert_close_results(loss_and_gradient(entry, backwards), (losses, slope))


@LAW
@given(batch=batches())
def test_results_are_the_oracles(entry: Loss, batch: Batch) -> None:
    losses, gradient = loss_and_gradient(entry, batch)
    truth, slope = expected(
        batch.scores, batch.targets, batch.input_lengths, batch.blank, with_logits=with_logits(entry)
    )
    assert_right_losses(losses, truth)
    assert_right_gradient(gradient, slope)


@LAW
@given(batch=batches())
def test_results_are_numbers(entry: Loss, batch: Batch) -> None:
    """No NaN from finite scores, and a gradient inside [-1, 1]."""
    losses, gradient = loss_and_gradient(entry, batch)
    assert not losses.isnan().any()
    assert (gradient.abs() <= 1 + 1e-6).all()
    assert not gradient[:, losses.isinf()].any()
