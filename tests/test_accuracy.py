"""How far float32 may be from float64, at the sizes and for the scores where float32 log-space loses its digits.

The bounds are absolute for gradients, whose entries lie in [-1, 1], and relative for losses: 1e-7 of a loss is less
than two roundings of a float32. The floor is for confident models, whose loss is a small difference of large scores.
"""

import itertools

import pytest
import torch

import numbactc
from batches import Batch, Loss, loss_and_gradient, random_batch, random_target
from closeness import GRADIENT_BOUND, LOSS_RELATIVE, assert_accurate, errors, with_logits
from oracles import expected, torch_float64

pytestmark = pytest.mark.usefixtures("device")

SIZES = [
    # T, N, C, L
    pytest.param(150, 8, 28, 40, id="characters"),
    pytest.param(400, 4, 29, 100, id="speech"),
    pytest.param(1500, 2, 32, 250, id="long-speech"),
    pytest.param(750, 2, 1024, 60, id="subwords"),
    pytest.param(400, 2, 5000, 40, id="many-classes"),
]


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize(("T", "N", "C", "L"), SIZES)
def test_random_scores(entry: Loss, T: int, N: int, C: int, L: int, scale: float) -> None:
    batch = random_batch(T, N, C, L, scale=scale)
    if entry is numbactc.ctc_loss:
        batch = Batch(batch.scores.log_softmax(-1), batch.targets, batch.input_lengths)
    assert_accurate(entry, batch)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_unnormalised_scores(scale: float) -> None:
    assert_accurate(numbactc.ctc_loss, random_batch(400, 4, 29, 100, scale=scale))


@pytest.mark.parametrize("spare", [0, 1, 2, 9])
def test_hardly_more_frames_than_the_target_needs(entry: Loss, spare: int) -> None:
    """The paths keep to a narrow band of the lattice, and most states lie on none of them."""
    targets = [random_target(L, 4, 0, 400) for L in (97, 150, 200)]
    lengths = [len(target) + sum(a == b for a, b in itertools.pairwise(target)) + spare for target in targets]
    assert_accurate(entry, Batch(torch.randn(max(lengths), 3, 4), targets, lengths))


def test_float64_keeps_its_digits(entry: Loss) -> None:
    batch = random_batch(1500, 2, 32, 250, dtype=torch.float64)
    losses, gradient = loss_and_gradient(entry, batch)
    truth, slope = expected(
        batch.scores, batch.targets, batch.input_lengths, with_logits=with_logits(entry), oracle=torch_float64
    )
    torch.testing.assert_close(losses, truth, rtol=1e-13, atol=1e-11)
    torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-10)


@pytest.mark.parametrize("depth", [350.0, 660.0, 680.0, 690.0, 693.0, 700.0, 708.0, 745.0, 800.0])
def test_float64_keeps_its_digits_near_its_smallest_number(depth: float) -> None:
    """exp(-693) is 2**-1000, and float64 ends at 2**-1022: a probability there has all of its digits."""
    scores = torch.tensor([[0.0, -depth], [0.0, -depth + 0.3], [0.0, -depth - 0.2]], dtype=torch.float64).unsqueeze(1)
    batch = Batch(scores, [[1]], [3])
    truth, slope = expected(scores, batch.targets, batch.input_lengths, with_logits=False)
    losses, gradient = loss_and_gradient(numbactc.ctc_loss, batch)
    torch.testing.assert_close(losses, truth, rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-12)


def test_an_hour_of_audio() -> None:
    """T = 40,000 and L = 2,000: a probability near 1e-38000; float32 log-space has no digit of its gradient right.

    One oracle serves both losses: on raw scores their posteriors are the same, and the losses differ by the normaliser.
    """
    T, L, C = 40_000, 2_000, 32
    batch = random_batch(T, 1, C, L)
    answer = torch_float64(batch.scores[:, 0].double().numpy(), batch.targets[0], 0)
    assert torch.tensor(answer.posteriors).sum(-1).sub(1).abs().max() <= 1e-9
    log_normaliser = batch.scores[:, 0].double().logsumexp(-1)
    softmax = batch.scores[:, 0].double().softmax(-1)

    losses, gradient = loss_and_gradient(numbactc.ctc_loss, batch)
    assert losses.item() == pytest.approx(answer.loss, rel=LOSS_RELATIVE)
    assert (gradient[:, 0].double() + torch.from_numpy(answer.posteriors)).abs().max() <= GRADIENT_BOUND

    losses, gradient = loss_and_gradient(numbactc.ctc_loss_with_logits, batch)
    truth = answer.loss + log_normaliser.sum().item()
    assert truth > 3_000 * 2.303
    assert losses.item() == pytest.approx(truth, rel=LOSS_RELATIVE)
    assert (gradient[:, 0].double() - (softmax - torch.from_numpy(answer.posteriors))).abs().max() <= GRADIENT_BOUND


def test_masked_classes_cost_no_digits(entry: Loss) -> None:
    batch = random_batch(300, 3, 29, 60, ragged=False)
    mask = torch.rand(300, 3, 29) < 0.2
    mask[:, :, 0] = False
    assert_accurate(entry, Batch(batch.scores.masked_fill(mask, -torch.inf), batch.targets, batch.input_lengths))


@pytest.mark.parametrize("offset", [-5000.0, 5000.0])
def test_logits_far_from_zero(offset: float) -> None:
    """A common offset leaves float32 scores few digits, but those are the caller's: what is left is used exactly."""
    batch = random_batch(200, 3, 29, 50)
    shifted = Batch(batch.scores + offset, batch.targets, batch.input_lengths)
    assert_accurate(numbactc.ctc_loss_with_logits, shifted)


def test_more_accurate_than_torch_in_the_same_dtype() -> None:
    """The reason for scaled numbers: a hundred times closer to float64 than float32 log-space, at T = 1,500."""
    batch = random_batch(1500, 2, 32, 250, ragged=False)
    _, ours = errors(numbactc.ctc_loss_with_logits, batch)
    logits = batch.scores.clone().requires_grad_()
    targets, input_lengths, target_lengths = batch.arguments()
    torch.nn.functional.ctc_loss(
        logits.log_softmax(-1), targets, input_lengths, target_lengths, reduction="sum"
    ).backward()
    assert logits.grad is not None
    _, slope = expected(batch.scores, batch.targets, batch.input_lengths, with_logits=True, oracle=torch_float64)
    theirs = (logits.grad.double() - slope).abs().max().item()
    assert ours * 100 <= theirs
