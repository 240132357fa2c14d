"""`patch_torch` while it is there: undone in any order, in all threads, for modes, traces and compiled models."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import numbactc
from batches import Batch, same_bits
from patching import TORCHS, calls_of_ours, functional, nothing_is_left_behind, small_batch  # noqa: F401


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
