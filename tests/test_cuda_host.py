"""The host's side of a GPU, on one that is simulated: where lengths and targets may lie, what is checked, and when."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import devices
import numbactc
from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits

if not devices.CAN_SIMULATE:
    pytest.skip("the simulator needs numba-cuda and greenlet", allow_module_level=True)

import simulated
from numbactc import _validation_cuda, _views_cuda

NAMES = ("targets", "input_lengths", "target_lengths")


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which of the tensors are taken for tensors on the GPU: change it."""
    simulated.install(monkeypatch)
    names = set(NAMES)

    def is_on_gpu(name: str, value: object, scores: Tensor) -> bool:
        return name in names and isinstance(value, Tensor)

    monkeypatch.setattr(_validation_cuda, "_is_on_gpu", is_on_gpu)
    return names


@pytest.mark.parametrize("there", [(), *((name,) for name in NAMES), NAMES[:2], NAMES[1:], NAMES], ids=", ".join)
def test_lengths_and_targets_lie_anywhere(there: tuple[str, ...], on_gpu: set[str]) -> None:
    batch = random_batch(9, 3, 5, 4)
    losses, gradient = loss_and_gradient(numbactc.ctc_loss_with_logits, batch)
    on_gpu &= set(there)
    actual, actual_gradient = loss_and_gradient(numbactc.ctc_loss_with_logits, batch)
    assert same_bits(actual, losses)
    assert same_bits(actual_gradient, gradient)


@pytest.mark.parametrize("refilled", NAMES)
def test_what_was_copied_from_the_cpu_may_be_refilled(refilled: str, on_gpu: set[str]) -> None:
    on_gpu.clear()
    batch = random_batch(9, 3, 5, 4)
    truth = loss_and_gradient(numbactc.ctc_loss, batch)[1]
    scores, arguments = batch.scores.clone().requires_grad_(), batch.arguments()
    loss = numbactc.ctc_loss(scores, *arguments, reduction="sum")
    arguments[NAMES.index(refilled)].fill_(1)
    loss.backward()
    assert scores.grad is not None
    assert same_bits(scores.grad, truth)


def call(**changes: Any) -> Tensor:
    """A right call, but for what is changed; nothing asks to wait for the GPU."""
    arguments = {
        "targets": torch.tensor([[1, 2], [3, 4]]),
        "input_lengths": torch.tensor([6, 5]),
        "target_lengths": torch.tensor([2, 2]),
    }
    return numbactc.ctc_loss(torch.zeros(6, 2, 5), **(arguments | changes), reduction="none")


@pytest.mark.parametrize(
    ("changes", "there", "message"),
    [
        ({"input_lengths": [7, 5]}, "targets", "input_lengths must be from 0 to 6"),
        ({"target_lengths": [2, 3]}, "targets", "target_lengths must be from 0 to 2"),
        ({"target_lengths": [-1, 2]}, "targets, input_lengths", "got -1 for utterance 0"),
        ({"target_lengths": [2, 1], "targets": torch.tensor([1, 2, 3, 4])}, "targets", "= 3 labels, got 4"),
        ({"targets": torch.tensor([[1, 2], [3, 5]])}, "", "got 5 at position 1 of utterance 1"),
        ({"input_lengths": torch.tensor([6.0, 5.0])}, "input_lengths", "input_lengths must be int32 or int64"),
        ({"input_lengths": torch.tensor([6])}, "input_lengths", r"input_lengths must have shape \(2,\)"),
        ({"targets": torch.zeros(3, 2).long()}, "targets", r"targets must have shape \(2, S\)"),
    ],
    ids=str,
)
def test_what_the_host_knows_is_always_checked(
    changes: dict[str, Any], there: str, message: str, on_gpu: set[str]
) -> None:
    on_gpu &= set(there.split(", "))
    with pytest.raises((ValueError, TypeError), match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_lengths": torch.tensor([6, 7])}, "got 7 for utterance 1"),
        ({"target_lengths": torch.tensor([2, -1])}, "got -1 for utterance 1"),
        ({"targets": torch.tensor([[1, 2], [3, 5]])}, "got 5 at position 1 of utterance 1"),
        ({"targets": torch.tensor([[1, 2], [2**40, 3]])}, "at position 0 of utterance 1"),
        ({"targets": torch.tensor([[1, 2], [0, 3]])}, "not the blank"),
    ],
    ids=str,
)
def test_what_lies_on_the_gpu_is_checked_there(changes: dict[str, Any], message: str) -> None:
    """NaN for that utterance and for no other; an error only for those who would wait for it."""
    assert same_bits(call()[0], call(**changes)[0])
    assert call(**changes)[1].isnan()
    with pytest.raises(ValueError, match=message):
        call(**changes, check=True)


def test_a_capture_takes_nothing_from_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be replayed as it was; and nothing can be waited for."""
    monkeypatch.setattr(_validation_cuda, "_is_capturing", lambda device: True)
    assert call().isfinite().all()
    with pytest.raises(RuntimeError, match="input_lengths must be on cpu while a graph is captured"):
        call(input_lengths=[6, 5])
    with pytest.raises(RuntimeError, match="input_lengths and target_lengths must be"):
        call(input_lengths=[6, 5], target_lengths=[2, 2])
    with pytest.raises(RuntimeError, match="check=True waits"):
        call(check=True)


def test_a_bad_utterance_has_a_gradient_of_zero() -> None:
    batch = Batch(torch.randn(6, 2, 5), [[1, 2], [3, 7]], [6, 6])
    good = Batch(batch.scores, [[1, 2], [3, 4]], [6, 6])
    losses, gradient = loss_and_gradient(numbactc.ctc_loss, batch)
    assert losses[1].isnan()
    assert not gradient[:, 1].any()
    assert same_bits(gradient[:, 0], loss_and_gradient(numbactc.ctc_loss, good)[1][:, 0])


def test_devices_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name in NAMES:
        with pytest.raises(ValueError, match=f"{name} must be on cpu, as the scores are, or on cpu, got meta"):
            _validation_cuda._is_on_gpu(name, torch.zeros(2, device="meta"), torch.zeros(2))


def test_a_fake_tensor_is_not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no memory, and would give a kernel the address 0 without a word."""
    monkeypatch.undo()
    with FakeTensorMode():
        fake = torch.zeros(3)
    with pytest.raises(RuntimeError, match="fake"):
        _views_cuda.address(fake)
    real = torch.zeros(8)[3:]
    assert _views_cuda.address(real) == real.data_ptr()


def test_too_many_frames_for_a_grid(entry: Loss) -> None:
    scores = torch.zeros(1, 1, 3).expand(2**31, 1, 3)
    with pytest.raises(ValueError, match=r"T \* N must be below 2\*\*31"):
        entry(scores, torch.tensor([[1]]), [2], [1])
