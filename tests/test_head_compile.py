"""torch.compile puts a model and its fused head into one graph, with the bits of the eager loss."""

from typing import Any

import pytest
import torch
from torch import Tensor

import numbactc
from batches import same_bits
from heads import Head, gradients, random_head
from test_compile import compiled


@pytest.fixture(autouse=True)
def forget_graphs() -> None:
    torch._dynamo.reset()


def in_a_graph(head: Head, grad: Tensor | None, **options: Any) -> tuple[Tensor, list[Tensor]]:
    """As `gradients`, with the loss between other operations of the same graph, which change no bit."""
    leaves = [x for x in head.leaves() if x is not None]

    def loss(hidden: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        return head.loss(hidden * 1.0, weight * 1.0, *bias, **options) * 1.0

    result = compiled(loss)(*leaves)
    return result.detach(), list(torch.autograd.grad(result, leaves, grad))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_same_bits_as_eager(reduction: str, bias: bool) -> None:
    head = random_head(12, 3, 9, 5, bias=bias)
    grad = torch.randn(3) if reduction == "none" else torch.tensor(0.7)
    options = {"reduction": reduction, "chunk_bytes": 180}
    result, found = in_a_graph(head, grad, **options)
    expected, slopes = gradients(head, grad, **options)
    assert same_bits(result, expected)
    assert all(map(same_bits, found, slopes))


def test_scores_that_leave_no_path() -> None:
    """Of which the graph learns nothing: it has as many tensors to keep as ever."""
    head = random_head(12, 3, 9, 5)
    assert head.bias is not None
    head.batch.targets[1], head.bias[3] = [3], -torch.inf
    options: dict[str, Any] = {"reduction": "sum", "zero_infinity": True}
    result, found = in_a_graph(head, torch.tensor(1.0), **options)
    expected, slopes = gradients(head, **options)
    assert head.loss(reduction="none")[1] == torch.inf
    assert same_bits(result, expected)
    assert all(map(same_bits, found, slopes))


def test_a_module_under_autocast() -> None:
    module, hidden = numbactc.LinearCTCLoss(5, 9, batch_first=True), torch.randn(2, 12, 5)
    rest = torch.tensor([[1, 2], [3, 3]]), torch.tensor([12, 9]), torch.tensor([2, 2])
    found = []
    for function in (module, compiled(module)):
        module.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            function(hidden, *rest).backward()
        assert module.weight.grad is not None
        found.append(module.weight.grad)
    assert same_bits(*found)


def test_without_a_gradient() -> None:
    head = random_head(12, 3, 9, 5)
    with torch.no_grad():
        result = compiled(lambda *tensors: head.loss(*tensors, reduction="none"))(*head.tensors)
    assert same_bits(result, head.loss(reduction="none"))
