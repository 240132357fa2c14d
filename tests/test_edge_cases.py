"""The corners of the definition: empty targets, no frames, nothing that fits, one class, masked classes."""

import itertools
import math

import pytest
import torch

import numbactc
from batches import Batch, Loss, loss_and_gradient, same_bits
from closeness import assert_right_gradient, assert_right_losses, with_logits
from oracles import expected

pytestmark = [pytest.mark.usefixtures("device"), pytest.mark.simulated]

INF = math.inf


def assert_right(entry: Loss, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    losses, gradient = loss_and_gradient(entry, batch)
    truth, slope = expected(
        batch.scores, batch.targets, batch.input_lengths, batch.blank, with_logits=with_logits(entry)
    )
    assert_right_losses(losses, truth)
    assert_right_gradient(gradient, slope)
    return losses, gradient


def test_empty_target_is_minus_the_sum_of_log_blank(entry: Loss) -> None:
    batch = Batch(torch.randn(6, 1, 4).log_softmax(-1), [[]], [6], blank=2)
    losses, gradient = assert_right(entry, batch)
    assert losses.item() == pytest.approx(-batch.scores[:, 0, 2].sum().item(), rel=1e-6)
    if entry is numbactc.ctc_loss:
        assert (gradient[:, 0, 2] == -1).all()
        assert not gradient[:, 0, [0, 1, 3]].any()


def test_every_target_of_the_batch_is_empty(entry: Loss) -> None:
    scores = torch.randn(5, 3, 4)
    for targets in (torch.zeros(3, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)):
        losses = entry(scores, targets, [5, 4, 0], [0, 0, 0], reduction="none")
        truth, _ = expected(scores, [[]] * 3, [5, 4, 0], with_logits=with_logits(entry))
        assert_right_losses(losses, truth)


def test_empty_target_and_no_frames_cost_nothing(entry: Loss) -> None:
    losses, gradient = loss_and_gradient(entry, Batch(torch.randn(3, 1, 4), [[]], [0]))
    assert losses.tolist() == [0.0]
    assert not gradient.any()


def test_no_frames_for_a_label(entry: Loss) -> None:
    losses, gradient = loss_and_gradient(entry, Batch(torch.randn(3, 1, 4), [[1]], [0]))
    assert losses.tolist() == [INF]
    assert not gradient.any()


def test_scores_without_a_single_frame(entry: Loss) -> None:
    """T = 0 in the tensor itself."""
    losses, gradient = loss_and_gradient(entry, Batch(torch.zeros(0, 2, 4), [[], [1]], [0, 0]))
    assert losses.tolist() == [0.0, INF]
    assert gradient.shape == (0, 2, 4)


@pytest.mark.parametrize("T", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("target", [[1, 2, 3, 1, 2, 3], [1, 1, 1, 1], [1, 2, 2, 2], [3, 3, 1, 1, 2]], ids=str)
def test_infeasible_is_inf_with_a_gradient_of_zero(entry: Loss, target: list[int], T: int) -> None:
    losses, gradient = loss_and_gradient(entry, Batch(torch.randn(T, 1, 4), [target], [T]))
    assert losses.tolist() == [INF]
    assert not gradient.any()


@pytest.mark.parametrize("target", [[1, 2, 3], [1, 1, 1], [1, 2, 2], [3, 3, 1, 1, 2]], ids=str)
def test_exactly_as_many_frames_as_needed(entry: Loss, target: list[int]) -> None:
    T = len(target) + sum(a == b for a, b in itertools.pairwise(target))
    losses, gradient = assert_right(entry, Batch(torch.randn(T, 1, 4), [target], [T]))
    assert math.isfinite(losses.item())
    assert gradient.any()


@pytest.mark.parametrize("weight", [1.0, -3.0, 0.0])
def test_infeasible_gradient_is_zero_under_any_grad_output(entry: Loss, weight: float) -> None:
    batch = Batch(torch.randn(2, 1, 4), [[1, 1]], [2])
    assert not loss_and_gradient(entry, batch, torch.tensor([weight]))[1].any()


def test_zero_infinity_replaces_only_infinite_losses(entry: Loss) -> None:
    scores = torch.randn(4, 3, 3, requires_grad=True)
    targets, lengths = torch.tensor([[1, 2, 0], [1, 1, 1], [2, 0, 0]]), ([4, 4, 4], [2, 3, 1])
    plain = entry(scores, targets, *lengths, reduction="none")
    zeroed = entry(scores, targets, *lengths, reduction="none", zero_infinity=True)
    assert plain[1] == INF
    assert zeroed[1] == 0
    assert same_bits(plain[[0, 2]].detach(), zeroed[[0, 2]].detach())
    zeroed.sum().backward()
    assert scores.grad is not None
    assert not scores.grad[:, 1].any()
    assert scores.grad[:, [0, 2]].any()


def test_an_empty_batch(entry: Loss) -> None:
    """Torch's own ctc_loss refuses N = 0; a sum of nothing is 0 and a mean of nothing is NaN, as for any tensor."""
    none = torch.zeros(0, dtype=torch.int64)
    arguments = none.view(0, 2), none, none
    for T in (0, 5):
        scores = torch.zeros(T, 0, 4, requires_grad=True)
        losses = entry(scores, *arguments, reduction="none")
        assert losses.shape == (0,)
        assert entry(scores, *arguments, reduction="sum").item() == 0.0
        assert math.isnan(entry(scores, *arguments, reduction="mean").item())
        losses.sum().backward()
        assert scores.grad is not None
        assert scores.grad.shape == (T, 0, 4)


def test_blank_is_the_only_class(entry: Loss) -> None:
    losses, gradient = assert_right(entry, Batch(torch.randn(5, 2, 1), [[], []], [5, 3]))
    if with_logits(entry):
        assert losses.tolist() == [0.0, 0.0]
        assert gradient.abs().max() <= 1e-6


def test_one_frame_and_one_label(entry: Loss) -> None:
    assert_right(entry, Batch(torch.randn(1, 1, 3), [[2]], [1]))


def test_masked_classes_have_a_gradient_of_zero(entry: Loss) -> None:
    scores = torch.randn(12, 2, 6)
    scores[:, :, 5] = -INF  # never allowed, in no target
    scores[3, 0, 1] = scores[4, 0, 0] = scores[5, 1, 2] = -INF  # in the target or the blank, now and then
    losses, gradient = assert_right(entry, Batch(scores, [[1, 2, 3], [2, 4, 4]], [12, 12]))
    assert losses.isfinite().all()
    assert not gradient[scores == -INF].any()


def test_a_masked_blank_keeps_nothing_of_what_round_off_leaves(entry: Loss) -> None:
    """The labels' posteriors of such a frame sum to 1 but for the last digits."""
    scores = torch.randn(12, 40, 6)
    scores[3::4, :, 0] = -INF
    targets = torch.randint(1, 6, (40, 4)).tolist()
    _, gradient = loss_and_gradient(entry, Batch(scores, targets, [12] * 40))
    assert not gradient[3::4, :, 0].any()


def test_a_frame_where_only_one_class_is_allowed(entry: Loss) -> None:
    scores = torch.randn(9, 1, 4)
    scores[4, 0, [0, 1, 3]] = -INF
    losses, _ = assert_right(entry, Batch(scores, [[1, 2, 3]], [9]))
    assert losses.isfinite().all()


def test_a_masked_label_leaves_no_path(entry: Loss) -> None:
    scores = torch.randn(9, 1, 4)
    scores[:, 0, 2] = -INF
    losses, gradient = loss_and_gradient(entry, Batch(scores, [[1, 2, 3]], [9]))
    assert losses.tolist() == [INF]
    assert not gradient.any()


@pytest.mark.parametrize("frame", [0, 3, 6])
@pytest.mark.parametrize("target", [[], [1, 2]], ids=str)
def test_a_frame_entirely_masked_leaves_no_path(entry: Loss, target: list[int], frame: int) -> None:
    scores = torch.randn(7, 1, 4)
    scores[frame] = -INF
    losses, gradient = loss_and_gradient(entry, Batch(scores, [target], [7]))
    assert losses.tolist() == [INF]
    assert not gradient.any()


@pytest.mark.parametrize("finite_mask", [-1e8, -1e9, -1e15, -1e30, torch.finfo(torch.float32).min], ids=str)
def test_a_large_finite_mask_acts_like_minus_infinity(entry: Loss, finite_mask: float) -> None:
    """Too far below its frame a score counts as impossible, so finfo.min and its like are masks too."""
    scores = torch.randn(12, 2, 6)
    mask = torch.zeros(12, 2, 6, dtype=torch.bool)
    mask[:, :, 5] = mask[3, 0, 1] = mask[4, 0, 0] = True
    mask[:, 1, 2] = True  # a label of the second target: nothing fits any more
    results = []
    for value in (-INF, finite_mask):
        batch = Batch(scores.masked_fill(mask, value), [[1, 2, 3], [2, 4, 4]], [12, 12])
        results.append(loss_and_gradient(entry, batch))
    assert results[0][0][1] == results[1][0][1] == INF
    assert same_bits(results[0][0], results[1][0])
    assert same_bits(results[0][1], results[1][1])


def test_frames_beyond_the_input_length_have_a_gradient_of_exactly_zero(entry: Loss) -> None:
    batch = Batch(torch.randn(10, 3, 4), [[1, 2], [3], [1, 1, 1]], [10, 4, 0])
    _, gradient = loss_and_gradient(entry, batch)
    assert not gradient[4:, 1].any()
    assert not gradient[:, 2].any()
    assert gradient[:4, 1].any()


@pytest.mark.slow_to_simulate
@pytest.mark.parametrize("T", [10_000, 100_000])
def test_many_frames_neither_overflow_nor_underflow(entry: Loss, T: int) -> None:
    scores = torch.randn(T, 1, 5)
    truth, _ = expected(scores, [[1, 2, 3, 3, 4]], [T], with_logits=with_logits(entry))
    losses, gradient = loss_and_gradient(entry, Batch(scores, [[1, 2, 3, 3, 4]], [T]))
    torch.testing.assert_close(losses.double(), truth, rtol=1e-7, atol=0)
    assert gradient.isfinite().all()
