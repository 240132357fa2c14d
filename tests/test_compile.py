"""torch.compile puts a model and the loss into one graph, with the values and bits of the eager loss."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import devices
import numbactc
from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits

pytestmark = pytest.mark.usefixtures("device")

FORWARD = torch.ops.numbactc.ctc.default
BACKWARD = torch.ops.numbactc.ctc_gradient.default


@pytest.fixture(autouse=True)
def forget_graphs() -> None:
    torch._dynamo.reset()


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """One graph, without a backend's own code generation, which takes half a minute the first time."""
    result: Callable[..., Any] = torch.compile(function, fullgraph=True, backend="aot_eager", **options)
    return result


def in_a_graph(entry: Loss, **options: Any) -> Loss:
    """The loss between other operations of the same graph, which change no bit."""
    return compiled(lambda scores, *rest, **keywords: entry(scores * 1.0, *rest, **keywords) * 1.0, **options)


@pytest.mark.cpu_only
def test_what_moves_tensors_to_a_gpu_can_be_compiled(entry: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each test here would fail where there is a GPU, for the sake of `devices.py`."""
    batch = random_batch(12, 3, 6, 5)
    truth = loss_and_gradient(entry, batch)
    monkeypatch.setattr(devices, "GPU", "cpu")
    monkeypatch.setattr(numbactc.loss, "_loss", devices.on_cuda(numbactc.loss._loss))
    for one, other in zip(loss_and_gradient(in_a_graph(entry), batch), truth, strict=True):
        assert same_bits(one, other)


@pytest.mark.parametrize("form", ["padded", "concatenated", "lists"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_same_bits_as_eager(entry: Loss, reduction: str, form: str) -> None:
    batch = random_batch(12, 3, 6, 5)
    targets, *lengths = batch.arguments()
    if form == "concatenated":
        targets = batch.concatenated()
    rest = (targets, batch.input_lengths, batch.target_lengths) if form == "lists" else (targets, *lengths)
    results = []
    for loss in (entry, in_a_graph(entry)):
        scores = batch.scores.clone().requires_grad_()
        value = loss(scores, *rest, reduction=reduction, zero_infinity=True)
        value.sum().backward()
        assert scores.grad is not None
        results.append((value.detach(), scores.grad))
    assert same_bits(results[0][0], results[1][0])
    assert same_bits(results[0][1], results[1][1])


def test_single_utterance_and_batch_first(entry: Loss) -> None:
    batch = random_batch(9, 1, 5, 3)
    truth = entry(batch.scores, *batch.arguments())
    targets, *lengths = batch.arguments()
    unbatched = in_a_graph(entry)(batch.scores[:, 0], targets[0], lengths[0][0], lengths[1][0])
    assert same_bits(unbatched, truth)
    transposed = in_a_graph(entry)(batch.scores.transpose(0, 1), targets, *lengths, batch_first=True)
    assert same_bits(transposed, truth)


def test_without_a_gradient(entry: Loss) -> None:
    batch = random_batch(9, 2, 5, 3)
    with torch.no_grad():
        assert same_bits(in_a_graph(entry)(batch.scores, *batch.arguments()), entry(batch.scores, *batch.arguments()))


@pytest.mark.simulated
def test_other_sizes_and_lengths_in_the_same_graph(entry: Loss) -> None:
    """With dynamic shapes nothing is compiled again, and the longest target, which sizes memory, may change."""
    loss = in_a_graph(entry, dynamic=True)
    counter = torch._dynamo.utils.counters["stats"]
    graphs = []
    for T, N, L in [(12, 3, 5), (15, 4, 7), (9, 2, 2)]:
        batch = random_batch(T, N, 8, L)
        losses, gradient = loss_and_gradient(loss, batch)
        truth, slope = loss_and_gradient(entry, batch)
        assert same_bits(losses, truth)
        assert same_bits(gradient, slope)
        graphs.append(counter["unique_graphs"])
    assert graphs[0] == graphs[-1]


def test_a_module_with_the_loss_inside() -> None:
    class Recogniser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(4, 6)
            self.loss = numbactc.CTCLossWithLogits()

        def forward(self, frames: torch.Tensor, *rest: Any) -> torch.Tensor:
            loss: torch.Tensor = self.loss(self.projection(frames), *rest)
            return loss

    model, frames = Recogniser(), torch.randn(10, 2, 4)
    rest = torch.tensor([[1, 2], [3, 3]]), torch.tensor([10, 9]), torch.tensor([2, 2])
    gradients = []
    for function in (model, compiled(model)):
        model.zero_grad()
        function(frames, *rest).backward()
        gradients.append(model.projection.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


# Inductor's own imports warn, and so does its search for a compiler
@pytest.mark.filterwarnings("ignore")
def test_with_the_default_backend() -> None:
    projection, frames = nn.Linear(4, 6), torch.randn(10, 2, 4)
    rest = torch.tensor([[1, 2], [3, 3]]), torch.tensor([10, 9]), torch.tensor([2, 2])

    def loss(frames: torch.Tensor, *rest: Any) -> torch.Tensor:
        return numbactc.ctc_loss(projection(frames).log_softmax(-1), *rest)

    gradients = []
    for function in (loss, torch.compile(loss, fullgraph=True)):
        projection.zero_grad()
        function(frames, *rest).backward()
        gradients.append(projection.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


def test_bad_values_are_still_refused(entry: Loss) -> None:
    """Values are not known while the graph is made, so the operator looks at them each time it runs."""
    loss, scores = in_a_graph(entry), torch.randn(9, 1, 5)
    assert loss(scores, torch.tensor([[1]]), torch.tensor([9]), torch.tensor([1]), check=True).isfinite()
    with pytest.raises(ValueError, match="targets must be from 0 to C - 1, where C = 5"):
        loss(scores, torch.tensor([[7]]), torch.tensor([9]), torch.tensor([1]), check=True)


def operator_arguments(batch: Batch, keep: bool, unbatched: bool = False) -> tuple[Any, ...]:
    scores = batch.scores.clone().requires_grad_(keep)
    return scores, *batch.arguments(), batch.blank, True, unbatched, False, keep


@pytest.mark.simulated
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # 2.15's
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_opcheck_of_the_loss(keep: bool, dtype: torch.dtype) -> None:
    torch.library.opcheck(FORWARD, operator_arguments(random_batch(9, 3, 5, 4, dtype=dtype), keep))


def test_opcheck_of_the_gradient() -> None:
    batch = random_batch(9, 3, 5, 4)
    with torch.no_grad():
        losses, _, saved = FORWARD(*operator_arguments(batch, keep=True))
    for scores in (batch.scores, batch.scores.transpose(0, 1).contiguous().transpose(0, 1)):
        torch.library.opcheck(BACKWARD, (scores, torch.randn_like(losses), saved, 4, False, 0, True))


@pytest.mark.parametrize("layout", ["(T, N, C)", "(N, T, C)", "strided"])
def test_what_the_compiler_is_told_of_the_gradient(layout: str) -> None:
    """Its strides too, which opcheck does not compare, and on which compiled code relies."""
    batch = random_batch(9, 3, 5, 4)
    scores = batch.scores
    if layout == "(N, T, C)":
        scores = scores.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "strided":
        scores = torch.stack([scores, scores], -1)[..., 0]
    losses, _, saved = FORWARD(scores, *batch.arguments(), batch.blank, True, False, False, True)
    rest = 4, False, 0, True
    gradient = BACKWARD(scores, losses, saved, *rest)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(each) for each in (scores, losses, *saved)]
        told = BACKWARD(fake[0], fake[1], fake[2:], *rest)
    assert (told.shape, told.stride(), told.dtype) == (gradient.shape, gradient.stride(), gradient.dtype)


def test_a_second_derivative_of_the_operator_is_refused() -> None:
    arguments = operator_arguments(random_batch(9, 3, 5, 4), keep=True)
    losses, *_ = FORWARD(*arguments)
    (gradient,) = torch.autograd.grad(losses.sum(), arguments[0], create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        gradient.sum().backward()
