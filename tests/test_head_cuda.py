"""The fused head's way on a GPU, where the host sees neither lengths nor labels: on a simulated one, or a real one."""

import math

import pytest
import torch
from torch import Tensor

import numbactc
from batches import same_bits
from heads import Head, assert_close, gradients, random_head, truth

pytestmark = [pytest.mark.simulated, pytest.mark.usefixtures("device")]


@pytest.fixture
def head() -> Head:
    return random_head(10, 4, 8, 4)


@pytest.mark.parametrize("where", ["label", "blank", "negative", "input_length", "target_length"])
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_bad_arguments_are_nan_and_hurt_nobody_else(head: Head, where: str, reduction: str, device: str) -> None:
    if device == "cpu":
        pytest.skip("there they are an error")
    targets, input_lengths, target_lengths = head.batch.arguments()
    targets = torch.nn.functional.pad(targets.clamp(min=1), (0, 6), value=1)
    target_lengths = target_lengths.clamp(min=1)
    good = targets, input_lengths.clone(), target_lengths.clone()
    good[1][2], good[2][2] = 0, 1  # no path: a loss of inf, no part in any gradient
    if where == "input_length":
        input_lengths[2] = 11
    elif where == "target_length":
        target_lengths[2] = 12
    else:
        targets = targets.clone()
        targets[2, 0] = {"label": 8, "blank": head.batch.blank, "negative": -1}[where]

    def found(targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden, weight, bias = leaves = head.leaves()
        assert hidden is not None
        assert weight is not None
        result = numbactc.linear_ctc_loss(
            hidden, weight, bias, targets, input_lengths, target_lengths, head.batch.blank, reduction
        )
        grad = torch.ones(4) if reduction == "none" else None
        return result.detach(), list(torch.autograd.grad(result, [x for x in leaves if x is not None], grad))

    result, slopes = found(targets, input_lengths, target_lengths)
    expected, others = found(*good)
    assert result.flatten()[2 if reduction == "none" else 0].isnan()
    if reduction == "none":
        keep = torch.tensor([0, 1, 3])
        assert same_bits(result[keep], expected[keep])
    assert all(map(same_bits, slopes, others))
    assert slopes[0][:, 2].eq(0).all()


def test_concatenated_targets(head: Head) -> None:
    lengths = torch.tensor(head.batch.input_lengths), torch.tensor(head.batch.target_lengths)
    arguments = *head.tensors, head.batch.concatenated(), *lengths, head.batch.blank
    assert same_bits(numbactc.linear_ctc_loss(*arguments, reduction="none"), head.loss(reduction="none"))


@pytest.mark.parametrize("target", [[1] * 5, [1, 2, 1, 2, 1, 2], [7, 7, 1, 7, 7], []], ids=str)
def test_labels_that_come_again(target: list[int]) -> None:
    head = random_head(20, 2, 8, 4)
    head.batch.targets[0], head.batch.input_lengths[0] = target, 20
    found, expected = gradients(head), truth(head)
    assert math.isclose(found[0].item(), expected[0].item(), rel_tol=1e-5)
    assert_close(found[1], expected[1], 1e-5)


@pytest.mark.parametrize("mask", [-math.inf, -1e9, torch.finfo(torch.float32).min], ids=str)
def test_a_mask_of_every_class_of_a_target(head: Head, mask: float) -> None:
    """Then none of them is likely next to the others, either."""
    assert head.bias is not None
    head.batch.targets[2], head.bias[:] = [3], torch.tensor([0.0] * 7 + [1.0])
    head.bias[[head.batch.blank, 3]] = mask
    losses, _ = gradients(head, torch.ones(4), reduction="none")
    total, slopes = gradients(head, reduction="sum", zero_infinity=True)
    assert losses[2] == math.inf
    assert total.isfinite()
    assert slopes[0][:, 2].eq(0).all()


def test_concatenated_targets_that_end_too_early(head: Head, device: str) -> None:
    if device == "cpu":
        pytest.skip("there they are an error")
    head.batch.targets[3], head.batch.input_lengths[3] = [1, 2], 10
    lengths = torch.tensor(head.batch.input_lengths), torch.tensor(head.batch.target_lengths)
    targets = head.batch.concatenated()
    arguments = *head.tensors, targets[:-1], *lengths, head.batch.blank
    losses = numbactc.linear_ctc_loss(*arguments, reduction="none")
    assert losses[-1].isnan()
    assert same_bits(losses[:-1], head.loss(reduction="none")[:-1])
