"""`patch_torch`: what calls PyTorch's CTC loss runs numbactc's, gets what it would get, and PyTorch's own back."""

import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss as imported_before
from torch.overrides import TorchFunctionMode

import numbactc
from batches import Batch, random_batch, same_bits
from numbactc import integrations, loss

TORCHS = torch.ctc_loss


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reasons that other tests were warned of are new again, and PyTorch's loss is its own in the end."""
    monkeypatch.setattr(integrations, "_reasons", set())
    yield
    assert torch.ctc_loss is TORCHS


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each call of numbactc's loss."""
    made: list[str] = []
    ours = loss.ctc_loss

    def counted(*arguments: Any, **keywords: Any) -> Tensor:
        made.append("ctc_loss")
        return ours(*arguments, **keywords)

    monkeypatch.setattr(loss, "ctc_loss", counted)
    return made


@pytest.fixture
def batch() -> Batch:
    return random_batch(12, 3, 6, 4)


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


def functional(*arguments: Any, **options: Any) -> Tensor:
    return nn.functional.ctc_loss(*arguments, **options)


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
    with pytest.raises(NotImplementedError):
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


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_patches_may_be_undone_in_any_order(calls: list[str], batch: Batch, order: tuple[int, ...]) -> None:
    patches = [numbactc.patch_torch() for _ in range(3)]
    for which in order:
        assert torch.ctc_loss is not TORCHS
        functional(batch.scores, *batch.arguments())
        patches[which].undo()
        patches[which].undo()  # which does nothing more
    assert torch.ctc_loss is TORCHS
    functional(batch.scores, *batch.arguments())
    assert len(calls) == 3


def test_an_error_inside_ends_the_patch() -> None:
    with pytest.raises(KeyError), numbactc.patch_torch():
        raise KeyError
    assert torch.ctc_loss is TORCHS


def test_a_patch_is_not_used_twice() -> None:
    patch = numbactc.patch_torch()
    with patch:
        pass
    with pytest.raises(RuntimeError, match="has been undone"), patch:
        pass


def test_somebody_elses_replacement_is_not_lost(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    def another(*arguments: Any) -> Tensor:
        return torch.zeros(())

    patch = numbactc.patch_torch()
    with monkeypatch.context() as their:
        their.setattr(torch, "ctc_loss", another)
        with pytest.raises(RuntimeError, match="has been replaced since"):
            patch.undo()
        assert torch.ctc_loss is another
    patch.undo()
    with monkeypatch.context() as their:
        their.setattr(torch, "ctc_loss", another)
        with numbactc.patch_torch():
            assert functional(batch.scores.log_softmax(-1), *batch.arguments()) > 0
        assert torch.ctc_loss is another


def test_it_holds_in_all_threads(calls: list[str], batch: Batch) -> None:
    """As those of DataParallel, or of a server."""
    with numbactc.patch_torch():
        threads = [threading.Thread(target=functional, args=(batch.scores, *batch.arguments())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(calls) == 4


def test_many_threads_patch_at_once(batch: Batch) -> None:
    truth = functional(batch.scores.log_softmax(-1), *batch.arguments())
    wrong: list[object] = []

    def work() -> None:
        for _ in range(100):
            with numbactc.patch_torch():
                if torch.ctc_loss is TORCHS:
                    wrong.append("the patch of another thread's end was this one's")
        value = functional(batch.scores.log_softmax(-1), *batch.arguments())
        if not torch.allclose(value, truth):
            wrong.append(value)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_torch_function_is_asked(calls: list[str], batch: Batch) -> None:
    """Subclasses keep their type, and modes see a call of torch.ctc_loss."""

    class Named(Tensor):
        pass

    class Seeing(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    seen: list[Any] = []
    with numbactc.patch_torch():
        assert isinstance(functional(batch.scores.as_subclass(Named), *batch.arguments()), Named)
        assert isinstance(torch.ctc_loss(batch.scores.as_subclass(Named), *batch.arguments()), Named)
        with Seeing():
            torch.ctc_loss(batch.scores, *batch.arguments())
        assert torch.ctc_loss in seen
        with torch.device("cpu"):
            functional(batch.scores, *batch.arguments())
    assert len(calls) == 4


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_scripts_and_traces_hold_torchs_loss(batch: Batch) -> None:
    arguments = batch.scores.log_softmax(-1), *batch.arguments()
    theirs = nn.CTCLoss()(*arguments)
    with numbactc.patch_torch():
        assert same_bits(torch.jit.script(nn.CTCLoss())(*arguments), theirs)
        with pytest.warns(UserWarning, match="PyTorch's CTC loss runs .* trace"):
            traced = torch.jit.trace(nn.CTCLoss(), arguments)
    assert same_bits(traced(*arguments), theirs)


@pytest.mark.filterwarnings("ignore")  # Dynamo looks at the gradient of what a graph returns, which warns
def test_compiled_models_run_it_between_their_graphs(calls: list[str], batch: Batch) -> None:
    """torch.compile has no graph with a ctc_loss of PyTorch's: it breaks there, and goes on behind it."""
    torch._dynamo.reset()
    projection = nn.Linear(6, 6)

    def step(frames: Tensor) -> Tensor:
        return 2 * functional(projection(frames).log_softmax(-1), *batch.arguments())

    compiled, gradients = torch.compile(step, backend="aot_eager"), []
    for patched in (False, True):
        patch = numbactc.patch_torch() if patched else None
        projection.zero_grad()
        compiled(batch.scores).backward()
        gradients.append(projection.weight.grad)
        if patch:
            patch.undo()
    assert len(calls) >= 1
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)
