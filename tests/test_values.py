"""Losses are the oracles': every short case by enumeration, longer ones by recursion, in float32 and float64."""

import itertools
import math

import pytest
import torch

import numbactc
from batches import (
    Batch,
    Loss,
    loss_and_gradient,
    random_batch,
)
from closeness import assert_right_gradient, assert_right_losses, with_logits
from oracles import enumeration, expected, recursion

pytestmark = pytest.mark.usefixtures("device")

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def losses_of(entry: Loss, batch: Batch) -> torch.Tensor:
    return entry(batch.scores, *batch.arguments(), blank=batch.blank, reduction="none")


@DTYPES
@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("T", [1, 2, 3, 5, 7])
def test_every_target_of_up_to_four_labels(entry: Loss, T: int, blank: int, dtype: torch.dtype) -> None:
    """Two labels and a blank: all 31 targets of L <= 4 in one batch, those that do not fit included."""
    labels = [c for c in range(3) if c != blank]
    targets = [list(target) for L in range(5) for target in itertools.product(labels, repeat=L)]
    scores = (torch.randn(T, 1, 3, dtype=torch.float64) * 2).to(dtype).expand(T, len(targets), 3)
    truth = _enumerate_once(scores[:, :1], targets, blank, with_logits(entry))
    batch = Batch(scores, targets, [T] * len(targets), blank)
    assert_right_losses(losses_of(entry, batch), truth)


def _enumerate_once(scores: torch.Tensor, targets: list[list[int]], blank: int, logits: bool) -> torch.Tensor:
    frames = scores[:, 0].double()
    if logits:
        frames = frames.log_softmax(-1)
    losses = [enumeration(frames.numpy(), target, blank).loss for target in targets]
    return torch.tensor(losses, dtype=torch.float64)


@DTYPES
@pytest.mark.parametrize(
    ("T", "N", "C", "L", "blank"),
    [
        (12, 5, 4, 5, 0),
        (31, 3, 2, 7, 1),
        (33, 4, 7, 33, 3),  # as many labels as frames
        (64, 3, 33, 16, 32),
        (65, 2, 5, 31, 0),
        (100, 3, 257, 17, 128),  # more classes than one block of anything
    ],
)
def test_ragged_batches(entry: Loss, T: int, N: int, C: int, L: int, blank: int, dtype: torch.dtype) -> None:
    batch = random_batch(T, N, C, L, blank=blank, dtype=dtype)
    truth, _ = expected(batch.scores, batch.targets, batch.input_lengths, blank, with_logits=with_logits(entry))
    assert_right_losses(losses_of(entry, batch), truth)


@pytest.mark.parametrize("L", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65])
def test_around_the_widths_of_vectors(entry: Loss, L: int) -> None:
    """A vectorised loop has a main part and a rest; both, and neither, must be right, in L and in C."""
    batch = random_batch(2 * L, 2, L + 1, L, ragged=False)
    truth, gradient = expected(batch.scores, batch.targets, batch.input_lengths, with_logits=with_logits(entry))
    losses, actual = loss_and_gradient(entry, batch)
    assert_right_losses(losses, truth)
    assert_right_gradient(actual, gradient)


def test_repeats_need_a_blank_between_them(entry: Loss) -> None:
    """A skip over the blank of a repeated label would raise the probability; T is long enough for it to show."""
    targets = [[1, 1, 1, 1], [1, 2, 1, 2], [1, 1, 2, 2], [2, 1, 1, 2]]
    scores = torch.randn(12, 1, 3).expand(12, 4, 3)
    truth, _ = expected(scores, targets, [12] * 4, with_logits=with_logits(entry))
    assert len({round(loss, 3) for loss in truth.tolist()}) == 4
    assert_right_losses(losses_of(entry, Batch(scores, targets, [12] * 4)), truth)


def test_a_number_worked_out_by_hand() -> None:
    """Uniform over three classes, three frames: five of the 27 paths spell [1, 2]."""
    arguments = torch.tensor([[1, 2]]), torch.tensor([3]), torch.tensor([2])
    log_probs = torch.full((3, 1, 3), -math.log(3))
    assert numbactc.ctc_loss(log_probs, *arguments, reduction="sum").item() == pytest.approx(math.log(27 / 5), rel=1e-7)
    logits = torch.full((3, 1, 3), 1000.0)
    loss = numbactc.ctc_loss_with_logits(logits, *arguments, reduction="sum")
    assert loss.item() == pytest.approx(math.log(27 / 5), rel=1e-7)


def test_unnormalised_scores_are_not_normalised() -> None:
    """`ctc_loss` adds what it is given: raising every score by one takes one nat a frame off the loss."""
    batch = random_batch(20, 3, 5, 6, dtype=torch.float64)
    raised = Batch(batch.scores + 1, batch.targets, batch.input_lengths)
    difference = losses_of(numbactc.ctc_loss, batch) - losses_of(numbactc.ctc_loss, raised)
    torch.testing.assert_close(difference, torch.tensor(batch.input_lengths).double(), rtol=1e-12, atol=1e-12)


def test_logits_are_log_softmax_then_loss() -> None:
    batch = random_batch(30, 4, 9, 8, dtype=torch.float64)
    normalised = Batch(batch.scores.log_softmax(-1), batch.targets, batch.input_lengths)
    assert_right_losses(losses_of(numbactc.ctc_loss_with_logits, batch), losses_of(numbactc.ctc_loss, normalised))


def test_a_loss_of_log_probabilities_may_be_negative() -> None:
    """Only `ctc_loss_with_logits` clamps at zero: weights above one make a legal negative loss."""
    scores = torch.full((4, 1, 2), 3.0)
    truth = recursion(scores[:, 0].double().numpy(), [1], 0).loss
    assert truth < -12
    assert losses_of(numbactc.ctc_loss, Batch(scores, [[1]], [4])).item() == pytest.approx(truth, rel=1e-7)


def test_round_off_never_gives_a_negative_loss() -> None:
    """All but 1e-8 of the probability spells the target: less than a float32 softmax is off, in either direction."""
    logits = torch.zeros(2, 1000, 2)
    logits[:, :, 1] = 9 + torch.randn(2, 1000) / 2
    batch = Batch(logits, [[1]] * 1000, [2] * 1000)
    losses = losses_of(numbactc.ctc_loss_with_logits, batch)
    truth, _ = expected(batch.scores, batch.targets, batch.input_lengths, with_logits=True)
    assert_right_losses(losses, truth)
    assert (losses >= 0).all()


@pytest.mark.parametrize("margin", [20.0, 60.0, 500.0, 3000.0])
def test_logits_never_give_a_negative_loss(margin: float) -> None:
    logits = torch.zeros(50, 8, 20)
    logits[:, :, 0] = margin + torch.rand(50, 8)
    losses = losses_of(numbactc.ctc_loss_with_logits, Batch(logits, [[]] * 8, [50] * 8))
    assert (losses >= 0).all()
    assert losses.max() <= 50 * 19 * math.exp(-margin) + 1e-6
