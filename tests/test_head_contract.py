"""A fused head keeps the loss's contract: what goes in and comes out, who is hurt by what, errors, the module."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import numbactc
from batches import Batch, on_threads, same_bits
from heads import Head, assert_close, gradients, random_head, truth
from processes import run_python
from test_errors import naming

VICTIM = 2


@pytest.fixture
def head() -> Head:
    """Four utterances; the third has 10 of 14 frames."""
    head = random_head(14, 4, 9, 5)
    head.batch.input_lengths[VICTIM] = 10
    head.batch.targets[VICTIM] = [3, 3, 4]
    return head


def without(head: Head, utterance: int) -> Head:
    """With nothing asked of one utterance, and no frames of it."""
    targets, lengths = list(head.batch.targets), list(head.batch.input_lengths)
    targets[utterance], lengths[utterance] = [], 0
    return Head(Batch(head.batch.scores, targets, lengths), *head.tensors)


def others(tensor: Tensor) -> Tensor:
    return tensor[:, [n for n in range(tensor.shape[1]) if n != VICTIM]]


def assert_no_part_of_the_victim(found: list[Tensor], head: Head) -> None:
    """Its hidden states have a gradient of exactly 0, and weight and bias that of the other utterances."""
    assert not found[0][:, VICTIM].any()
    _, slopes = truth(without(head, VICTIM), "sum")
    assert_close(found, slopes, 1e-5)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_an_infeasible_target_takes_no_part(head: Head, chunk_bytes: int) -> None:
    head.batch.targets[VICTIM] = [1] * 6  # needs 11 frames
    result, found = gradients(head, reduction="sum", chunk_bytes=chunk_bytes)
    assert result.item() == math.inf
    assert_no_part_of_the_victim(found, head)
    finite, same = gradients(head, reduction="sum", chunk_bytes=chunk_bytes, zero_infinity=True)
    assert finite.isfinite()
    assert all(map(same_bits, found, same))


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_a_target_whose_class_is_masked_takes_no_part(head: Head, reduction: str) -> None:
    """Only the recursion finds out, when the chunks have gone through the products."""
    for n, target in enumerate(head.batch.targets):
        head.batch.targets[n] = [3] if n == VICTIM else [8 if label == 3 else label for label in target]
    assert head.bias is not None
    head.bias[3] = -math.inf
    leaves = head.leaves()
    losses = head.loss(*leaves, reduction=reduction)
    grad = torch.ones(4) if reduction == "none" else None
    runs = [torch.autograd.grad(losses, [x for x in leaves if x is not None], grad, retain_graph=True) for _ in "12"]
    assert losses.max() == math.inf
    assert_no_part_of_the_victim(list(runs[0]), head)
    assert runs[0][2][3] == 0
    assert all(map(same_bits, *runs))


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("target", [[3, 3, 4], [1] * 6], ids=["feasible", "infeasible"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_nan_stays_with_its_utterance_and_with_what_all_share(
    head: Head, reduction: str, target: list[int], value: float
) -> None:
    """Weight and bias have it too, as they have without fusing: half of a step would be a wrong one."""
    head.batch.targets[VICTIM] = target
    grad = torch.ones(4) if reduction == "none" else None
    _, expected = gradients(head, grad, reduction=reduction)
    head.hidden[4, VICTIM, 1] = value
    leaves = head.leaves()
    result = head.loss(*leaves, reduction=reduction)
    assert result[VICTIM].isnan() if reduction == "none" else result.isnan()
    for _ in range(2):
        of_hidden, *shared = torch.autograd.grad(result, leaves, grad, retain_graph=True)  # type: ignore[arg-type]
        assert of_hidden[:10, VICTIM].isnan().all()
        assert not of_hidden[10:, VICTIM].any()
        assert same_bits(others(of_hidden), others(expected[0]))
        assert all(each.isnan().all() for each in shared)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30], ids=str)
def test_what_lies_beyond_the_input_length_is_not_read(head: Head, value: float) -> None:
    result, expected = gradients(head)
    for n, length in enumerate(head.batch.input_lengths):
        head.hidden[length:, n] = value
    again, found = gradients(head)
    assert same_bits(again, result)
    assert all(map(same_bits, found, expected))
    assert all(not found[0][length:, n].any() for n, length in enumerate(head.batch.input_lengths))


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_backward_twice_gives_the_same_bits(head: Head, reduction: str) -> None:
    """The first uses up what forward has left; what it returned is the caller's."""
    leaves = [x for x in head.leaves() if x is not None]
    grad = torch.randn(4) if reduction == "none" else torch.tensor(0.7)
    result = head.loss(*leaves, reduction=reduction, chunk_bytes=300)
    first = torch.autograd.grad(result, leaves, grad, retain_graph=True)
    kept = [each.clone() for each in first]
    for each in first:
        each.fill_(torch.nan)
    assert all(map(same_bits, torch.autograd.grad(result, leaves, grad, retain_graph=True), kept))
    doubled = torch.autograd.grad(result, leaves, 2 * grad)
    assert all(map(same_bits, doubled, [2 * each for each in kept]))


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
def test_any_gradient_of_the_result_reaches_all_three(head: Head) -> None:
    _, found = gradients(head, torch.tensor(-3.0))
    _, slopes = truth(head)
    assert_close(found, [-3 * each for each in slopes], 1e-5)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_second_derivative_is_refused(head: Head, reduction: str) -> None:
    leaves = [x for x in head.leaves() if x is not None]
    result = head.loss(*leaves, reduction=reduction).sum()
    gradient = torch.autograd.grad(result, leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        (result + gradient[1].square().sum()).backward()


def test_many_gradients_by_the_older_vmap_are_refused(head: Head) -> None:
    leaves = [x for x in head.leaves() if x is not None]
    result = head.loss(*leaves, reduction="none")
    with pytest.raises(NotImplementedError, match="one gradient at a time: is_grads_batched"):
        torch.autograd.grad(result, leaves, torch.ones(2, *result.shape), is_grads_batched=True)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
def test_torch_func_grad(head: Head) -> None:
    _, expected = gradients(head)
    found = torch.func.grad(lambda *tensors: head.loss(*tensors), argnums=(0, 1, 2))(*head.tensors)
    assert all(map(same_bits, found, expected))


def test_a_parameter_changed_before_backward_is_noticed(head: Head) -> None:
    leaves = head.leaves()
    weight = leaves[1]
    assert weight is not None
    result = head.loss(*leaves)
    with torch.no_grad():
        weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


def test_the_callers_tensors_are_left_alone(head: Head) -> None:
    before = [x.clone() for x in head.tensors if x is not None]
    gradients(head)
    assert all(map(same_bits, [x for x in head.tensors if x is not None], before))


def test_losses_overwritten_by_the_caller_do_not_reach_backward() -> None:
    head = random_head(14, 3, 9, 5, dtype=torch.float64)
    _, expected = gradients(head, torch.ones(3, dtype=torch.float64), reduction="none")
    leaves = [x for x in head.leaves() if x is not None]
    losses = head.loss(*leaves, reduction="none")
    losses.data.fill_(torch.nan)
    assert all(map(same_bits, torch.autograd.grad(losses.sum(), leaves), expected))


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
def test_a_single_utterance(head: Head) -> None:
    targets, lengths, counts = head.batch.arguments()
    hidden = head.hidden[:, 0].clone().requires_grad_()
    alone = targets[0], lengths[0], counts[0]
    losses = head.loss(reduction="none")
    for reduction in ("none", "sum", "mean"):
        loss = numbactc.linear_ctc_loss(hidden, head.weight, head.bias, *alone, reduction=reduction)
        assert loss.shape == ()
        expected = losses[0] / (counts[0].clamp(min=1) if reduction == "mean" else 1)
        torch.testing.assert_close(loss.detach(), expected)
        loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.shape == (14, 5)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
def test_layouts(head: Head) -> None:
    """batch_first, gaps between numbers, and a weight that is a transposed view; gradients have the input's layout."""
    result, (of_hidden, of_weight, _) = gradients(head)
    hidden = head.hidden.transpose(0, 1).contiguous().requires_grad_()
    weight = head.weight.t().contiguous().requires_grad_()
    arguments = head.batch.arguments()
    loss = numbactc.linear_ctc_loss(hidden, weight.t(), head.bias, *arguments, batch_first=True)
    loss.backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    assert hidden.grad.is_contiguous()
    torch.testing.assert_close(loss.detach(), result)
    torch.testing.assert_close(hidden.grad.transpose(0, 1), of_hidden)
    torch.testing.assert_close(weight.grad.t(), of_weight)

    gaps = torch.full((14, 9, 11), torch.nan)[:, 1::2, ::2][:, :4, :5].copy_(head.hidden).requires_grad_()
    (found,) = torch.autograd.grad(head.loss(gaps, head.weight, head.bias), gaps)
    torch.testing.assert_close(found, of_hidden)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (0, 0)], ids=str)
def test_nothing_to_do(shape: tuple[int, int]) -> None:
    T, N = shape
    tensors = [torch.randn(T, N, 5), torch.randn(4, 5), torch.randn(4)]
    for reduction, expected in (("sum", 0.0), ("mean", 0.0 if N else math.nan)):
        leaves = [x.clone().requires_grad_() for x in tensors]
        rest = torch.zeros(N, 0, dtype=torch.int64), [0] * N, [0] * N
        result = numbactc.linear_ctc_loss(leaves[0], leaves[1], leaves[2], *rest, reduction=reduction)
        result.backward()
        torch.testing.assert_close(result.item(), expected, equal_nan=True)
        assert all(leaf.grad is not None and not leaf.grad.any() for leaf in leaves)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
def test_one_class(head: Head) -> None:
    """The blank alone: a loss of 0, and no gradient."""
    alone = Head(Batch(torch.empty(5, 1, 0), [[]], [5]), torch.randn(5, 1, 3), torch.randn(1, 3), torch.randn(1))
    result, found = gradients(alone)
    assert result.item() == 0
    assert not any(each.any() for each in found)


def test_any_number_of_threads(head: Head) -> None:
    found = on_threads(lambda: gradients(head, reduction="sum")[1], 1, 2, 5)
    for each in found[1:]:
        assert_close(each, found[0], 1e-6)


def call(**changes: Any) -> Tensor:
    """A right call for T = 6, N = 2, C = 5, H = 3, but for what is changed."""
    arguments: dict[str, Any] = {
        "hidden": torch.zeros(6, 2, 3), "weight": torch.zeros(5, 3), "bias": torch.zeros(5),
        "targets": torch.tensor([[1, 2], [3, 0]]), "input_lengths": [6, 5], "target_lengths": [2, 1],
    }  # fmt: skip
    return numbactc.linear_ctc_loss(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "error", "parts"),
    [
        ({"hidden": torch.zeros(6)}, ValueError, ["hidden", "(T, N, H) or (T, H)", "(6,)"]),
        ({"hidden": torch.zeros(6, 2, 3).long()}, TypeError, ["hidden", "torch.int64"]),
        ({"hidden": torch.zeros(6, 2, 3, device="meta")}, NotImplementedError, ["hidden", "meta"]),
        ({"weight": [[0.0]]}, TypeError, ["weight", "list"]),
        ({"weight": torch.zeros(5, 4)}, ValueError, ["weight", "(C, 3)", "(5, 4)"]),
        ({"weight": torch.zeros(3)}, ValueError, ["weight", "(C, 3)", "(3,)"]),
        ({"weight": torch.zeros(5, 3).double()}, TypeError, ["weight", "torch.float32", "torch.float64"]),
        ({"bias": torch.zeros(4)}, ValueError, ["bias", "(5,)", "(4,)"]),
        ({"bias": 0.0}, TypeError, ["bias", "float"]),
        ({"bias": torch.zeros(5, device="meta")}, ValueError, ["bias", "cpu", "meta"]),
        ({"targets": torch.tensor([[1, 5], [3, 0]])}, ValueError, ["targets", "C = 5", "utterance 0"]),
        ({"input_lengths": [6, 7]}, ValueError, ["input_lengths", "from 0 to 6", "7", "utterance 1"]),
        ({"target_lengths": [2]}, ValueError, ["target_lengths", "(2,)", "(1,)"]),
        ({"blank": 5}, ValueError, ["blank", "C = 5"]),
        ({"reduction": "max"}, ValueError, ["reduction", "'max'"]),
        ({"chunk_bytes": 0}, ValueError, ["chunk_bytes", "at least 1", "0"]),
        ({"chunk_bytes": 1.5}, TypeError, ["chunk_bytes", "1.5"]),
    ],
)  # fmt: skip
def test_errors(changes: dict[str, Any], error: type[Exception], parts: list[str]) -> None:
    assert call().isfinite()
    with pytest.raises(error, match=naming(*parts)):
        call(**changes)


def test_the_module_is_a_linear_layer_and_its_loss(head: Head) -> None:
    layer = nn.Linear(5, 9)
    module = numbactc.LinearCTCLoss(5, 9, reduction="sum", zero_infinity=True)
    module.load_state_dict(layer.state_dict())
    assert same_bits(module.logits(head.hidden), layer(head.hidden))
    loss = module(head.hidden, *head.batch.arguments())
    expected = Head(head.batch, head.hidden, layer.weight.detach(), layer.bias.detach())
    result, (_, of_weight, of_bias) = gradients(expected, reduction="sum")
    assert same_bits(loss.detach(), result)
    loss.backward()
    assert module.bias.grad is not None
    assert same_bits(module.bias.grad, of_bias)
    assert module.weight.grad is not None
    assert same_bits(module.weight.grad, of_weight)
    assert type(module.weight.grad) is torch.Tensor


def test_the_modules_options_reach_the_loss(head: Head) -> None:
    arguments = torch.tensor([[1, 2]]), [14], [2]
    module = numbactc.LinearCTCLoss(
        5, 9, bias=False, blank=8, reduction="none", batch_first=True, chunk_bytes=77, dtype=torch.float64
    )
    hidden = torch.randn(1, 14, 5, dtype=torch.float64)
    expected = numbactc.ctc_loss_with_logits(module.logits(hidden), *arguments, 8, "none", batch_first=True)
    torch.testing.assert_close(module(hidden, *arguments), expected)
    shown = repr(module)
    for part in ("in_features=5", "num_classes=9", "bias=False", "blank=8", "batch_first=True", "chunk_bytes=77"):
        assert part in shown
    with pytest.raises(ValueError, match="chunk_bytes"):
        numbactc.LinearCTCLoss(5, 9, chunk_bytes=-1)


MEMORY = """
import torch, numbactc
from benchmarks.memory import read_mark, start_mark, trim
torch.set_num_threads(1)
T, N, C, H = 200, 4, 20_000, 16
weight, bias = torch.randn(C, H, requires_grad=True), torch.zeros(C, requires_grad=True)
hidden = torch.randn(T, N, H, requires_grad=True)
rest = torch.randint(1, C, (N, 9)), [T] * N, [9] * N
def step(frames, reduction):
    hidden.grad = weight.grad = bias.grad = None
    loss = numbactc.linear_ctc_loss(
        hidden[:frames], weight, bias, rest[0], [frames] * N, rest[2], 0, reduction, chunk_bytes=4_000_000
    )
    loss.sum().backward()
    return loss
for reduction in ("mean", "none"):
    step(20, reduction)
    trim()
    before, method = start_mark()
    step(T, reduction)
    print(read_mark(method) - before)
"""


def test_logits_are_never_in_memory_together() -> None:
    """64 MB of logits, and as much for their gradient, which is not there either; chunks of 4 MB."""
    for extra in run_python(MEMORY).split():
        assert int(extra) < 16_000_000
