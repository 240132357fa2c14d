"""`patch_torch`: what calls PyTorch's CTC loss runs numbactc's, gets what it would get, and PyTorch's own back."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss as imported_before

import numbactc
from batches import Batch, random_batch, same_bits
from numbactc import loss
from patching import calls_of_ours, functional, nothing_is_left_behind, small_batch  # noqa: F401


def through_log_softmax(function: Callable[..., Tensor], batch: Batch, *rest: Any, **options: Any) -> list[Tensor]:
    """[loss, gradient of the logits]"""
    logits = batch.scores.clone().requires_grad_()
    value = function(logits.log_softmax(-1), *(rest or batch.arguments()), **options)
    value.sum().backward()
    assert logits.grad is not None
    return [value.detach(), logits.grad]


def assert_close(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-5)


def module(*arguments: Any, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    result: Tensor = nn.CTCLoss(blank, reduction, zero_infinity)(*arguments)
    return result


def below(*arguments: Any, reduction: str = "mean", **options: Any) -> Tensor:
    function: Callable[..., Tensor] = torch.ctc_loss
    return function(*arguments, reduction=("none", "mean", "sum").index(reduction), **options)


@pytest.mark.parametrize("function", [functional, imported_before, module, below], ids=lambda f: f.__name__)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_whatever_way_it_is_called(
    calls: list[str], function: Callable[..., Tensor], reduction: str, dtype: torch.dtype
) -> None:
    batch = random_batch(12, 3, 6, 4, blank=5, dtype=dtype)
    theirs = through_log_softmax(function, batch, blank=5, reduction=reduction)
    assert not calls
    with numbactc.patch_torch():
        ours = through_log_softmax(function, batch, blank=5, reduction=reduction)
    assert len(calls) == 1
    assert [each.dtype for each in ours] == [each.dtype for each in theirs]
    assert_close(ours, theirs)


def test_modules_that_exist_already(calls: list[str], batch: Batch) -> None:
    criterion = nn.CTCLoss()
    with numbactc.patch_torch():
        through_log_softmax(criterion, batch)
        through_log_softmax(copy.deepcopy(criterion), batch)
    assert len(calls) == 2


@pytest.mark.parametrize("form", ["lists", "tuples", "scalars", "int32", "concatenated", "unbatched"])
def test_every_form_that_torch_takes(calls: list[str], form: str) -> None:
    batch = random_batch(12, 1 if form in ("scalars", "unbatched") else 3, 6, 4)
    targets, inputs, labels = batch.arguments()
    scores = batch.scores
    rest: tuple[Any, ...] = targets, inputs, labels
    if form in ("lists", "tuples"):
        make: Any = list if form == "lists" else tuple
        rest = targets, make(batch.input_lengths), make(batch.target_lengths)
    elif form in ("scalars", "unbatched"):
        scores = scores[:, 0]
        rest = targets[0], *((inputs[0], labels[0]) if form == "scalars" else (inputs, labels))
    elif form == "int32":
        rest = targets.int(), inputs.int(), labels.int()
    else:
        rest = batch.concatenated(), inputs, labels
    same = Batch(scores, batch.targets, batch.input_lengths)
    theirs = through_log_softmax(functional, same, *rest, reduction="none")
    with numbactc.patch_torch():
        ours = through_log_softmax(functional, same, *rest, reduction="none")
    assert len(calls) == 1
    assert ours[0].shape == theirs[0].shape
    assert_close(ours, theirs)


@pytest.mark.parametrize("make", [torch.log_softmax, lambda x, dim: x.softmax(dim).log()], ids=["log_softmax", "log"])
def test_whatever_normalises_has_torchs_gradient(batch: Batch, make: Callable[[Tensor, int], Tensor]) -> None:
    def gradient() -> Tensor:
        logits = batch.scores.clone().requires_grad_()
        functional(make(logits, -1), *batch.arguments()).backward()
        assert logits.grad is not None
        return logits.grad

    theirs = gradient()
    with numbactc.patch_torch():
        assert_close([gradient()], [theirs])


def test_the_gradient_of_log_probs_differs_by_their_softmax() -> None:
    """As documented: within each utterance's frames, and only before a log_softmax."""
    batch = Batch(torch.randn(6, 2, 4).log_softmax(-1), [[1, 2], [3]], [6, 4])

    def gradient() -> Tensor:
        log_probs = batch.scores.clone().requires_grad_()
        functional(log_probs, *batch.arguments(), reduction="sum").backward()
        assert log_probs.grad is not None
        return log_probs.grad

    theirs = gradient()
    with numbactc.patch_torch():
        ours = gradient()
    softmax = batch.scores.exp()
    softmax[4:, 1] = 0
    torch.testing.assert_close(ours + softmax, theirs, rtol=0, atol=1e-6)


def test_what_does_not_fit_has_no_gradient_in_place_of_nan() -> None:
    batch = Batch(torch.randn(3, 2, 4), [[1, 1, 1], [2]], [3, 3])
    theirs = through_log_softmax(functional, batch, reduction="none")
    assert theirs[1][:, 0].isnan().all()
    zeroed = through_log_softmax(functional, batch, zero_infinity=True)
    with numbactc.patch_torch():
        ours = through_log_softmax(functional, batch, reduction="none")
        assert_close(through_log_softmax(functional, batch, zero_infinity=True), zeroed)
    assert torch.equal(ours[0].isinf(), theirs[0].isinf())
    assert not ours[1][:, 0].any()
    torch.testing.assert_close(ours[1][:, 1], theirs[1][:, 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_needs_no_cast(calls: list[str], batch: Batch, dtype: torch.dtype) -> None:
    scores = batch.scores.to(dtype)
    with pytest.raises(RuntimeError, match="not implemented for"):
        functional(scores, *batch.arguments())
    with numbactc.patch_torch():
        assert functional(scores, *batch.arguments()).dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert functional(scores, *batch.arguments()).dtype == torch.float32
    assert len(calls) == 2


MISTAKES: dict[str, Callable[[dict[str, Any]], object]] = {
    "too few lengths": lambda call: call.update(input_lengths=call["input_lengths"][:1]),
    "an input length beyond T": lambda call: call.update(input_lengths=torch.tensor([13, 1, 1])),
    "a negative input length": lambda call: call.update(input_lengths=[12, -1, 12]),
    "a target length beyond S": lambda call: call.update(target_lengths=torch.tensor([9, 1, 1])),
    "a negative target length": lambda call: call.update(target_lengths=[1, 1, -2]),
    "too few labels": lambda call: call.update(targets=torch.tensor([1, 2])),
    "a blank beyond C": lambda call: call.update(blank=6),
    "lengths in float": lambda call: call.update(input_lengths=torch.ones(3)),
    "targets of three dimensions": lambda call: call.update(targets=torch.ones(3, 1, 1, dtype=torch.int64)),
    "no tensor": lambda call: call.update(log_probs=[0.0]),
    "one length": lambda call: call.update(input_lengths=12, target_lengths=1),
    "scores of integers": lambda call: call.update(log_probs=torch.ones(12, 3, 6, dtype=torch.int64)),
    "sparse scores": lambda call: call.update(log_probs=call["log_probs"].to_sparse()),
    "scores without memory": lambda call: call.update(log_probs=call["log_probs"].to("meta")),
    "an unknown reduction": lambda call: call.update(reduction="average"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_errors_are_torchs(batch: Batch, mistake: str) -> None:
    """Of its type and with its text, so that what catches them still does; and no warning about it."""
    names = "targets", "input_lengths", "target_lengths"
    call = {"log_probs": batch.scores.log_softmax(-1), **dict(zip(names, batch.arguments(), strict=True))}
    MISTAKES[mistake](call)
    raised = []
    for patched in (False, True):
        patch = numbactc.patch_torch() if patched else None
        with pytest.raises((RuntimeError, TypeError, ValueError)) as error:
            functional(**call)
        raised.append((error.type, str(error.value)))
        if patch:
            patch.undo()
    assert raised[0] == raised[1]


@pytest.mark.parametrize("row", [[1, 9], [9, 0], [0, 9], [0, -1]], ids=str)
def test_a_label_that_is_no_class_never_reaches_torch(row: list[int]) -> None:
    """It would read memory that is not the scores'; with the blank beside it, too, for which torch runs otherwise."""
    with numbactc.patch_torch(), pytest.raises(RuntimeError, match=r"targets must be from 0 to C - 1, where C = 4"):
        functional(torch.randn(5, 2, 4), torch.tensor([[1, 2], row]), [5, 5], [2, 2])


def test_padding_may_be_anything(calls: list[str]) -> None:
    with numbactc.patch_torch():
        targets = torch.tensor([[1, 2, -100], [3, 0, -1], [0, 99, 0]])
        functional(torch.randn(5, 3, 4), targets, [5, 5, 5], [2, 1, 0])
    assert len(calls) == 1


FALLBACKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "targets must be from 0 to C - 1": lambda call: call.update(targets=torch.tensor([[1, 0], [2, 3], [3, 3]])),
    "input_lengths must be int32 or int64": lambda call: call.update(input_lengths=torch.tensor([9] * 3).short()),
    "targets must be int32 or int64": lambda call: call.update(targets=torch.tensor([[1, 2]] * 3).to(torch.uint8)),
}


@pytest.mark.parametrize("reason", FALLBACKS)
def test_what_numbactc_refuses_is_torchs_with_one_warning(reason: str) -> None:
    call: dict[str, Any] = {
        "targets": torch.tensor([[1, 2], [2, 3], [3, 3]]), "input_lengths": [9] * 3, "target_lengths": [2] * 3
    }  # fmt: skip
    FALLBACKS[reason](call)
    if isinstance(call["input_lengths"], Tensor):
        call["target_lengths"] = torch.tensor(call["target_lengths"])
    scores = torch.randn(9, 3, 4).log_softmax(-1)
    theirs = functional(scores, **call)
    with numbactc.patch_torch():
        with pytest.warns(UserWarning, match=rf"PyTorch's CTC loss runs .*: {reason}"):
            assert same_bits(functional(scores, **call), theirs)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(2):
                assert same_bits(functional(scores, **call), theirs)


def test_other_values_of_one_reason_are_not_told_again() -> None:
    scores = torch.randn(9, 2, 4).log_softmax(-1)
    with numbactc.patch_torch(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for targets in ([[1, 0], [2, 3]], [[1, 1], [0, 3]]):  # the blank, at other places
            functional(scores, torch.tensor(targets), [9, 9], [2, 2])
    assert len(told) == 1
    assert "got 0 at position 1 of utterance 0" in str(told[0].message)


def test_a_gpu_without_its_compiler_has_torchs_loss(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    def refuse(*arguments: object) -> Tensor:
        raise ModuleNotFoundError("numba-cuda is not installed")

    theirs = functional(batch.scores.log_softmax(-1), *batch.arguments())
    monkeypatch.setattr(loss, "ctc_loss", refuse)
    with numbactc.patch_torch(), pytest.warns(UserWarning, match="numba-cuda is not installed"):
        assert same_bits(functional(batch.scores.log_softmax(-1), *batch.arguments()), theirs)


def test_an_error_within_numbactc_is_an_error(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    def broken(*arguments: object) -> Tensor:
        raise AssertionError("a bug")

    monkeypatch.setattr(loss, "ctc_loss", broken)
    with numbactc.patch_torch(), pytest.raises(AssertionError, match="a bug"):
        functional(batch.scores, *batch.arguments())
