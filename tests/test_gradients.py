"""Gradients are the true derivatives of the losses: by finite differences, by oracles, and under any grad_output."""

import math
from collections.abc import Callable

import pytest
import torch

import numbactc
from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits
from closeness import assert_right_gradient, with_logits
from oracles import enumeration, expected

pytestmark = pytest.mark.usefixtures("device")


def check(function: Callable[[torch.Tensor], torch.Tensor], scores: torch.Tensor) -> None:
    """Finite differences in float64, a hundred times tighter than gradcheck's own tolerance; the same bits twice."""
    scores = scores.clone().requires_grad_()
    assert torch.autograd.gradcheck(function, scores, eps=1e-6, atol=1e-7, rtol=1e-5, nondet_tol=0.0)


@pytest.mark.parametrize("blank", [0, 2, 3])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_gradcheck_directly(entry: Loss, blank: int, reduction: str) -> None:
    """No log_softmax in between: scores that do not sum to one are legal, and the derivative is still the true one."""
    batch = random_batch(8, 3, 4, 3, blank=blank, scale=2.0, dtype=torch.float64)
    check(lambda scores: entry(scores, *batch.arguments(), blank=blank, reduction=reduction), batch.scores)


@pytest.mark.parametrize("target", [[], [1], [1, 1], [1, 2, 1], [1, 1, 2, 2], [2, 2, 2]], ids=str)
def test_gradcheck_of_one_target(entry: Loss, target: list[int]) -> None:
    batch = Batch(torch.randn(7, 1, 3, dtype=torch.float64), [target], [7])
    check(lambda scores: entry(scores, *batch.arguments(), reduction="sum"), batch.scores)


def test_gradcheck_with_zero_infinity(entry: Loss) -> None:
    batch = Batch(torch.randn(4, 2, 3, dtype=torch.float64), [[1, 2], [1, 1, 1]], [4, 4])
    check(lambda scores: entry(scores, *batch.arguments(), zero_infinity=True), batch.scores)


@pytest.mark.parametrize("target", [[], [1], [1, 1], [1, 2, 1], [2, 1, 1, 2]], ids=str)
def test_gradient_equals_enumeration(entry: Loss, target: list[int]) -> None:
    batch = Batch(torch.randn(6, 1, 3, dtype=torch.float64) * 2, [target], [6])
    _, truth = expected(
        batch.scores, batch.targets, batch.input_lengths, with_logits=with_logits(entry), oracle=enumeration
    )
    _, gradient = loss_and_gradient(entry, batch)
    assert_right_gradient(gradient, truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_gradient_equals_recursion(entry: Loss, scale: float, dtype: torch.dtype) -> None:
    for T, N, C, L, blank in [(15, 4, 5, 7, 4), (40, 3, 3, 20, 0), (70, 2, 40, 30, 11)]:
        batch = random_batch(T, N, C, L, blank=blank, scale=scale, dtype=dtype)
        _, truth = expected(batch.scores, batch.targets, batch.input_lengths, blank, with_logits=with_logits(entry))
        _, gradient = loss_and_gradient(entry, batch)
        assert gradient.dtype == dtype
        assert_right_gradient(gradient, truth)


def test_a_label_that_occurs_many_times_collects_all_its_posteriors(entry: Loss) -> None:
    batch = Batch(torch.randn(60, 1, 4), [[1, 2, 1, 1, 3, 1, 2, 1, 1, 1, 2, 1]], [60])
    _, truth = expected(batch.scores, batch.targets, batch.input_lengths, with_logits=with_logits(entry))
    _, gradient = loss_and_gradient(entry, batch)
    assert_right_gradient(gradient, truth)


def test_through_log_softmax_both_losses_have_torchs_gradient() -> None:
    batch = random_batch(30, 4, 7, 9, dtype=torch.float64)
    arguments = batch.arguments()
    gradients = []
    functions: list[tuple[Loss, bool]] = [
        (torch.nn.functional.ctc_loss, True),
        (numbactc.ctc_loss, True),
        (numbactc.ctc_loss_with_logits, False),
    ]
    for function, normalise in functions:
        logits = batch.scores.clone().requires_grad_()
        function(logits.log_softmax(-1) if normalise else logits, *arguments, reduction="mean").backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=0, atol=1e-12)


def test_rows_sum_to_zero_with_logits_and_to_minus_one_without() -> None:
    batch = random_batch(200, 3, 29, 50, ragged=False)
    _, gradient = loss_and_gradient(numbactc.ctc_loss_with_logits, batch)
    assert gradient.double().sum(-1).abs().max() <= 2e-6
    _, gradient = loss_and_gradient(numbactc.ctc_loss, batch)
    assert (gradient.double().sum(-1) + 1).abs().max() <= 1e-6
    assert (gradient <= 0).all()


def test_every_weight_in_grad_output_is_respected(entry: Loss) -> None:
    """Zero, negative, tiny and huge weights scale each utterance's gradient and no other."""
    batch = random_batch(20, 6, 5, 6)
    _, ones = loss_and_gradient(entry, batch)
    weights = torch.tensor([0.0, -1.0, 2.5, 1e-20, 1e20, 1.0])
    _, weighted = loss_and_gradient(entry, batch, weights)
    assert not weighted[:, 0].any()
    assert same_bits(weighted[:, 5], ones[:, 5])
    torch.testing.assert_close(weighted[:, 1], -ones[:, 1], rtol=0, atol=0)
    for n in (2, 3, 4):
        torch.testing.assert_close(weighted[:, n] / weights[n], ones[:, n], rtol=1e-6, atol=1e-7)


def test_grad_output_may_be_expanded_or_strided(entry: Loss) -> None:
    batch = random_batch(10, 4, 5, 3)
    values = torch.randn(4)
    strided = torch.stack([values, torch.full((4,), math.nan)], dim=1)[:, 0]
    assert strided.stride() == (2,)
    assert same_bits(loss_and_gradient(entry, batch, strided)[1], loss_and_gradient(entry, batch, values)[1])
    expanded = torch.tensor(0.5).expand(4)
    assert same_bits(
        loss_and_gradient(entry, batch, expanded)[1], loss_and_gradient(entry, batch, torch.full((4,), 0.5))[1]
    )


def test_mean_divides_by_target_length_and_batch(entry: Loss) -> None:
    """The gradient of the mean is that of `none` weighted by 1 / (N max(L, 1))."""
    batch = Batch(torch.randn(9, 3, 4, dtype=torch.float64), [[1, 2, 3], [], [2]], [9, 8, 7])
    scores = batch.scores.clone().requires_grad_()
    entry(scores, *batch.arguments(), reduction="mean").backward()
    _, truth = loss_and_gradient(entry, batch, torch.tensor([1 / 9, 1 / 3, 1 / 3], dtype=torch.float64))
    torch.testing.assert_close(scores.grad, truth, rtol=1e-14, atol=1e-16)


def test_a_step_against_the_gradient_lowers_the_loss(entry: Loss) -> None:
    batch = random_batch(50, 2, 10, 20)
    losses, gradient = loss_and_gradient(entry, batch)
    stepped = Batch(batch.scores - 0.1 * gradient, batch.targets, batch.input_lengths)
    assert (loss_and_gradient(entry, stepped)[0] < losses).all()
