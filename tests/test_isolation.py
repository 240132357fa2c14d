"""One bad utterance spoils itself and nobody else, and no utterance can tell in what company it is."""

import math

import numpy as np
import pytest
import torch

from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits

pytestmark = pytest.mark.usefixtures("device")

VICTIM = 3
NAN_WITH_A_PAYLOAD: float = np.array(0x7FF8_0000_2000_0001).view(np.float64).item()
"""A NaN has digits of its own, here the last one of a float32 and of a float64. Arithmetic on bits would see them."""

BAD = [math.nan, math.inf, NAN_WITH_A_PAYLOAD]
BAD_IDS = ["nan", "+inf", "nan-with-a-payload"]


@pytest.fixture
def batch() -> Batch:
    batch = random_batch(24, 8, 7, 8)
    batch.input_lengths[VICTIM] = 20
    batch.targets[VICTIM] = [1, 2, 2, 5]
    return batch


def others(values: torch.Tensor, dim: int) -> torch.Tensor:
    keep = [n for n in range(values.shape[dim]) if n != VICTIM]
    return values.index_select(dim, torch.tensor(keep))


def with_score(batch: Batch, frame: int, label: int, value: float) -> Batch:
    scores = batch.scores.clone()
    scores[frame, VICTIM, label] = value
    return Batch(scores, batch.targets, batch.input_lengths)


@pytest.mark.parametrize("value", BAD, ids=BAD_IDS)
@pytest.mark.parametrize("frame", [0, 9, 19], ids=["first", "middle", "last"])
@pytest.mark.parametrize("label", [0, 2, 6], ids=["blank", "label", "class-not-in-target"])
def test_a_score_that_is_no_number(entry: Loss, batch: Batch, label: int, frame: int, value: float) -> None:
    """Loss and gradient of that utterance are NaN over its own frames; everything else keeps its bits."""
    losses, gradient = loss_and_gradient(entry, batch)
    spoilt_losses, spoilt_gradient = loss_and_gradient(entry, with_score(batch, frame, label, value))
    assert math.isnan(spoilt_losses[VICTIM])
    assert spoilt_gradient[:20, VICTIM].isnan().all()
    assert not spoilt_gradient[20:, VICTIM].any()
    assert same_bits(others(spoilt_losses, 0), others(losses, 0))
    assert same_bits(others(spoilt_gradient, 1), others(gradient, 1))


@pytest.mark.parametrize("value", BAD, ids=BAD_IDS)
def test_a_bad_score_is_found_wherever_it_stands_in_a_long_row(entry: Loss, value: float) -> None:
    """One in each utterance: in a vector's first lane, in its last, and in what is left after all vectors."""
    classes = [0, 1, 7, 8, 15, 16, 31, 63, 64, 127, 128, 290, 299]
    batch = Batch(torch.randn(3, len(classes), 300), [[1, 2]] * len(classes), [3] * len(classes))
    for n, label in enumerate(classes):
        batch.scores[1, n, label] = value
    losses, gradient = loss_and_gradient(entry, batch)
    assert losses.isnan().all()
    assert gradient.isnan().all()


@pytest.mark.parametrize("value", BAD, ids=BAD_IDS)
def test_a_bad_score_is_found_among_masked_ones(entry: Loss, value: float) -> None:
    classes = [0, 1, 5, 20, 39]
    batch = Batch(torch.randn(3, len(classes), 40), [[1, 2]] * len(classes), [3] * len(classes))
    batch.scores[1] = -math.inf
    for n, label in enumerate(classes):
        batch.scores[1, n, label] = value
    losses, gradient = loss_and_gradient(entry, batch)
    assert losses.isnan().all()
    assert gradient.isnan().all()


@pytest.mark.parametrize("target", [[], [1, 2]], ids=str)
def test_every_score_is_nan(entry: Loss, batch: Batch, target: list[int]) -> None:
    losses, gradient = loss_and_gradient(entry, batch)
    scores = batch.scores.clone()
    scores[:, VICTIM] = math.nan
    targets = [target if n == VICTIM else t for n, t in enumerate(batch.targets)]
    spoilt_losses, spoilt_gradient = loss_and_gradient(entry, Batch(scores, targets, batch.input_lengths))
    assert math.isnan(spoilt_losses[VICTIM])
    assert spoilt_gradient[:20, VICTIM].isnan().all()
    assert same_bits(others(spoilt_losses, 0), others(losses, 0))
    assert same_bits(others(spoilt_gradient, 1), others(gradient, 1))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=["nan", "+inf", "-inf"])
def test_what_lies_beyond_the_input_length_is_not_read(entry: Loss, batch: Batch, value: float) -> None:
    losses, gradient = loss_and_gradient(entry, batch)
    scores = batch.scores.clone()
    for n, length in enumerate(batch.input_lengths):
        scores[length:, n] = value
    spoilt_losses, spoilt_gradient = loss_and_gradient(entry, Batch(scores, batch.targets, batch.input_lengths))
    assert same_bits(spoilt_losses, losses)
    assert same_bits(spoilt_gradient, gradient)


def test_zero_infinity_does_not_hide_nan(entry: Loss, batch: Batch) -> None:
    spoilt = with_score(batch, 5, 0, math.nan)
    losses = entry(spoilt.scores, *spoilt.arguments(), reduction="none", zero_infinity=True)
    assert math.isnan(losses[VICTIM])
    assert others(losses, 0).isfinite().all()


@pytest.mark.parametrize("trouble", ["too-many-labels", "masked-frame", "no-frames"])
def test_an_infeasible_utterance(entry: Loss, batch: Batch, trouble: str) -> None:
    losses, gradient = loss_and_gradient(entry, batch)
    scores, targets, input_lengths = batch.scores.clone(), list(batch.targets), list(batch.input_lengths)
    if trouble == "too-many-labels":
        targets[VICTIM] = [1] * 15
    elif trouble == "masked-frame":
        scores[4, VICTIM] = -math.inf
    else:
        input_lengths[VICTIM] = 0
    spoilt_losses, spoilt_gradient = loss_and_gradient(entry, Batch(scores, targets, input_lengths))
    assert spoilt_losses[VICTIM] == math.inf
    assert not spoilt_gradient[:, VICTIM].any()
    assert same_bits(others(spoilt_losses, 0), others(losses, 0))
    assert same_bits(others(spoilt_gradient, 1), others(gradient, 1))


def test_the_gradient_of_a_mean_survives_an_infeasible_utterance(entry: Loss, batch: Batch) -> None:
    """The mean is inf, but each gradient is finite: training may go on from the others."""
    batch.targets[VICTIM] = [1] * 15
    scores = batch.scores.clone().requires_grad_()
    loss = entry(scores, *batch.arguments())
    assert loss.item() == math.inf
    loss.backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert not scores.grad[:, VICTIM].any()
    assert others(scores.grad, 1).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_an_utterance_has_the_same_bits_alone_and_in_any_order(entry: Loss, dtype: torch.dtype) -> None:
    """Alone it also comes in fewer frames and with a narrower target matrix."""
    batch = random_batch(90, 9, 37, 25, dtype=dtype)
    losses, gradient = loss_and_gradient(entry, batch)
    for n, length in enumerate(batch.input_lengths):
        lonely_loss, lonely_gradient = loss_and_gradient(entry, batch.select([n]))
        assert same_bits(lonely_loss, losses[n : n + 1])
        assert same_bits(lonely_gradient[:, 0], gradient[:length, n])
    order = torch.randperm(9).tolist()
    shuffled_losses, shuffled_gradient = loss_and_gradient(entry, batch.select(order))
    assert same_bits(shuffled_losses, losses[order])
    assert same_bits(shuffled_gradient, gradient[:, order])


def test_a_second_run_has_the_same_bits(entry: Loss) -> None:
    batch = random_batch(120, 4, 50, 30)
    first, second = loss_and_gradient(entry, batch), loss_and_gradient(entry, batch)
    assert same_bits(first[0], second[0])
    assert same_bits(first[1], second[1])


def test_a_small_call_after_a_large_one_finds_no_leftovers(entry: Loss) -> None:
    """A workspace that is kept between calls must not leak from one into the next."""
    small = random_batch(10, 2, 5, 3)
    before = loss_and_gradient(entry, small)
    loss_and_gradient(entry, random_batch(200, 6, 60, 50, scale=30.0))
    after = loss_and_gradient(entry, small)
    assert same_bits(before[0], after[0])
    assert same_bits(before[1], after[1])
