"""What PyTorch's users have asked of its CTC loss, or found wrong in it, asked of ours: each test names the issue.

The numbers are of github.com/pytorch/pytorch/issues. Many are settled there by now.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import numbactc
from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits
from closeness import assert_accurate, assert_right_gradient, assert_right_losses, with_logits
from oracles import expected

pytestmark = [pytest.mark.usefixtures("device"), pytest.mark.simulated]


def assert_right(entry: Loss, batch: Batch) -> None:
    losses, gradient = loss_and_gradient(entry, batch)
    truth, slope = expected(
        batch.scores, batch.targets, batch.input_lengths, batch.blank, with_logits=with_logits(entry)
    )
    assert_right_losses(losses, truth)
    assert_right_gradient(gradient, slope)


def test_an_empty_target_has_a_loss_and_a_gradient(entry: Loss) -> None:
    """18215: beside another target, and where all are empty and the tensor of targets is, too (150995)."""
    assert_right(entry, Batch(torch.randn(2, 2, 3, dtype=torch.float64), [[1, 2], []], [2, 2]))
    scores, none = torch.randn(9, 2, 5).log_softmax(-1), torch.zeros(0, dtype=torch.int64)
    losses = entry(scores, none, [9, 9], [0, 0], reduction="none")
    assert_right_losses(losses, -scores[:, :, 0].double().sum(0))


def test_an_utterance_without_frames(entry: Loss) -> None:
    """81459: 0 for an empty target and inf for any other, whatever the rest of the batch has."""
    batch = Batch(torch.randn(5, 3, 4), [[], [1, 2], [3]], [0, 0, 5])
    losses, gradient = loss_and_gradient(entry, batch)
    assert losses[:2].tolist() == [0.0, math.inf]
    assert losses[2].isfinite()
    assert not gradient[:, :2].any()


def test_batches_without_utterances_or_frames(entry: Loss) -> None:
    """150835: PyTorch once crashed, and now refuses them; they have a well-defined loss."""
    none = torch.zeros(0, dtype=torch.int64)
    assert entry(torch.zeros(0, 0, 4), none, none, none, reduction="none").shape == (0,)
    assert entry(torch.zeros(0, 2, 4), none, [0, 0], [0, 0], reduction="sum") == 0


@pytest.mark.slow_to_simulate
@pytest.mark.parametrize("labels", [255, 256, 257])
@pytest.mark.parametrize("form", ["padded", "concatenated"])
def test_as_many_labels_as_cudnn_can_have_and_more(entry: Loss, form: str, labels: int) -> None:
    """53505, 131656: 255 is the most there; 256 were an error, which suspected input that is not contiguous."""
    batch = random_batch(600, 2, 10, labels)
    targets = batch.padded() if form == "padded" else batch.concatenated().int()
    truth, _ = expected(batch.scores, batch.targets, batch.input_lengths, with_logits=with_logits(entry))
    for scores in (batch.scores, batch.scores.permute(2, 1, 0).contiguous().permute(2, 1, 0)):
        assert_right_losses(entry(scores, targets, *batch.arguments()[1:], reduction="none"), truth)


@pytest.mark.slow_to_simulate
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_gradient_of_more_labels_than_a_block_has_threads(entry: Loss, dtype: torch.dtype) -> None:
    """27442: it was wrong from 1,024 labels on in float32, and from 896 in float64."""
    batch = random_batch(1600, 1, 4, 1100, dtype=dtype)
    if dtype == torch.float32:
        assert_accurate(entry, batch)
    else:
        _, gradient = loss_and_gradient(entry, batch)
        _, slope = expected(batch.scores, batch.targets, batch.input_lengths, with_logits=with_logits(entry))
        torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-9)


def test_lengths_that_differ(entry: Loss) -> None:
    """14401: the gradient of the shorter utterance was wrong; 25057: others in the batch made a difference."""
    batch = Batch(torch.randn(4, 2, 5), [[1, 1], [1, 2]], [4, 2])
    assert_right(entry, batch)
    losses, gradient = loss_and_gradient(entry, batch)
    for n, length in enumerate(batch.input_lengths):
        loss, alone = loss_and_gradient(entry, batch.select([n]))
        assert same_bits(loss, losses[n : n + 1])
        assert same_bits(alone[:, 0], gradient[:length, n])


def test_a_target_that_does_not_fit_is_inf_and_never_nan(entry: Loss) -> None:
    """14335: models were full of NaN after one such utterance."""
    losses, gradient = loss_and_gradient(entry, Batch(torch.randn(6, 2, 5), [[1, 1, 1, 1], [2, 3]], [6, 6]))
    assert losses[0] == math.inf
    assert losses[1].isfinite()
    assert not gradient[:, 0].any()
    assert gradient[:, 1].isfinite().all()


@pytest.mark.parametrize("form", ["padded", "concatenated"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_zero_infinity_is_heard(entry: Loss, reduction: str, form: str) -> None:
    """176910: cuDNN's loss ignored it; 49046: its backward crashed where a target had more labels than frames."""
    batch = Batch(torch.randn(4, 2, 5), [[1, 2, 3, 4, 1, 2], [3]], [4, 4])
    targets = batch.padded() if form == "padded" else batch.concatenated()
    scores = batch.scores.clone().requires_grad_()
    loss = entry(scores, targets, *batch.arguments()[1:], reduction=reduction, zero_infinity=True)
    alone = entry(batch.select([1]).scores, torch.tensor([[3]]), [4], [1], reduction="sum")
    assert loss.sum().item() == pytest.approx(alone.item() / (2 if reduction == "mean" else 1), rel=1e-6)
    loss.sum().backward()
    assert scores.grad is not None
    assert not scores.grad[:, 0].any()
    assert scores.grad[:, 1].any()


def test_a_loss_that_nobody_differentiates_spoils_no_gradient(entry: Loss) -> None:
    """21680: NaN came from an infinite loss, though backward was asked of another utterance's."""
    scores = torch.randn(6, 2, 5, requires_grad=True)
    losses = entry(scores, torch.tensor([[1, 1, 1, 1], [2, 3, 0, 0]]), [6, 6], [4, 2], reduction="none")
    losses[1].backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert not scores.grad[:, 0].any()


@pytest.mark.slow_to_simulate
@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0])
def test_models_that_are_very_sure(entry: Loss, spread: float) -> None:
    """21680: gradients became NaN where scores lay hundreds of nats apart."""
    assert_accurate(entry, random_batch(40, 2, 6, 9, scale=spread))


@pytest.mark.slow_to_simulate
def test_the_gradient_is_the_losss_own(entry: Loss) -> None:
    """52241, 82545, 127608, 181534: PyTorch's is one of what comes before a log_softmax; gradcheck fails on it."""
    log_probs = torch.randn(3, 1, 3, dtype=torch.float64).log_softmax(-1).requires_grad_()
    rest = torch.tensor([[1]]), torch.tensor([3]), torch.tensor([1])
    assert torch.autograd.gradcheck(lambda scores: entry(scores, *rest), log_probs)


@pytest.mark.slow_to_simulate
def test_what_comes_after_the_loss_weighs_its_gradient(entry: Loss) -> None:
    """11750, 21961, 25833: grad_output was ignored."""
    batch = random_batch(10, 2, 6, 3)
    once = loss_and_gradient(entry, batch)[1]
    weighings: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda losses: 2 * losses.sum(),
        lambda losses: losses.mean(),
        lambda losses: (losses / 3).sum(),
    ]
    for weigh in weighings:
        scores = batch.scores.clone().requires_grad_()
        losses = entry(scores, *batch.arguments(), reduction="none")
        weight = torch.autograd.grad(weigh(losses), losses, retain_graph=True)[0][0].item()
        (gradient,) = torch.autograd.grad(weigh(losses), scores)
        torch.testing.assert_close(gradient, weight * once, rtol=1e-6, atol=1e-7)


@pytest.mark.slow_to_simulate
@pytest.mark.parametrize("targets_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("lengths_dtype", [torch.int32, torch.int64, list, tuple], ids=str)
@pytest.mark.parametrize("form", ["padded", "concatenated"])
def test_dtypes_and_forms_of_integers_choose_no_other_loss(
    entry: Loss, form: str, lengths_dtype: object, targets_dtype: torch.dtype
) -> None:
    """22234: they chose between cuDNN and other kernels, and what fitted one was an error in the other; 152421: where
    int32 lengths lay on the CPU.
    """
    batch = random_batch(10, 3, 6, 4)
    targets = (batch.padded if form == "padded" else batch.concatenated)(dtype=targets_dtype)
    both = batch.input_lengths, batch.target_lengths
    if isinstance(lengths_dtype, torch.dtype):
        lengths = [torch.tensor(each, dtype=lengths_dtype) for each in both]
    else:
        lengths = [lengths_dtype(each) for each in both]  # type: ignore[operator]
    truth = entry(batch.scores, *batch.arguments(), reduction="none")
    assert same_bits(entry(batch.scores, targets, *lengths, reduction="none"), truth)


@pytest.mark.parametrize("label", [6, 100, -1, 2**31 - 1, -(2**62)])
def test_a_label_that_is_no_class_is_refused(entry: Loss, label: int) -> None:
    """193794: heap corruption in backward; 174602: results of memory beyond the scores; 191568, 20522: on a GPU."""
    targets = torch.tensor([[3, 5, label, 1]])
    with pytest.raises(ValueError, match=rf"targets .* got {label} at position 2 of utterance 0"):
        entry(torch.randn(9, 1, 6), targets, torch.tensor([9]), torch.tensor([4]), check=True)


@pytest.mark.parametrize("name", ["input_lengths", "target_lengths"])
@pytest.mark.parametrize("length", [-1, -5570080269274466818, 10, 2**62])
def test_a_length_out_of_range_is_refused(entry: Loss, name: str, length: int) -> None:
    """51732, 88047: segmentation faults and writes beyond memory, where lengths were negative."""
    lengths = {"input_lengths": torch.tensor([9, 9]), "target_lengths": torch.tensor([2, 2])}
    lengths[name] = torch.tensor([2, length])
    with pytest.raises(ValueError, match=rf"{name} .* got {length} for utterance 1"):
        entry(torch.randn(9, 2, 6), torch.tensor([[3, 5], [1, 1]]), **lengths, check=True)


def test_targets_refilled_before_backward(entry: Loss) -> None:
    """192454: with other labels backward read memory that was not its own."""
    batch = random_batch(10, 2, 6, 4)
    scores, arguments = batch.scores.clone().requires_grad_(), batch.arguments()
    losses = entry(scores, *arguments, reduction="none")
    arguments[0].fill_(2**31 - 1)
    losses.sum().backward()
    assert scores.grad is not None
    assert same_bits(scores.grad, loss_and_gradient(entry, batch)[1])


def test_a_second_derivative_is_refused(entry: Loss) -> None:
    """70108: PyTorch has none either, and says so."""
    scores = torch.randn(9, 1, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(entry(scores, torch.tensor([[1]]), [9], [1]), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative is not implemented"):
        gradient.square().sum().backward()


@pytest.mark.slow_to_simulate
def test_the_same_bits_each_time(entry: Loss) -> None:
    """17798, 78475: PyTorch's gradient on a GPU differs from run to run, and is an error in deterministic mode."""
    batch = random_batch(60, 3, 8, 20, ragged=False)
    first = loss_and_gradient(entry, batch)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(5):
            again = loss_and_gradient(entry, batch)
            assert same_bits(again[0], first[0])
            assert same_bits(again[1], first[1])
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.slow_to_simulate
def test_a_module_with_targets_of_its_own_compiles_into_one_graph() -> None:
    """183396: PyTorch's loss is none that torch.compile can put into a graph."""

    class Recogniser(nn.Module):
        targets: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.loss = numbactc.CTCLoss(zero_infinity=True, reduction="sum")
            self.register_buffer("targets", torch.tensor([1, 2], dtype=torch.int32))

        def forward(self, scores: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = self.loss(scores.log_softmax(2), self.targets, [2, 2], [2, 0])
            return loss

    torch._dynamo.reset()
    model, scores = Recogniser(), torch.randn(2, 2, 3, dtype=torch.float64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(scores), model(scores))
