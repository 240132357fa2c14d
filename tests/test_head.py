"""A projection fused with its loss has the values and gradients of the two, in chunks of any size."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import numbactc
from batches import Batch, same_bits
from heads import Head, assert_close, gradients, random_head, truth
from numbactc import _dispatch_head

REDUCTIONS = ["none", "sum", "mean"]
EXACT = {torch.float32: 1e-5, torch.float64: 1e-12}
HALF = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
"""Half a unit in the last place of 1."""


@st.composite
def heads(draw: st.DrawFn) -> tuple[Head, dict[str, Any]]:
    """Up to four utterances of up to 12 frames and 6 labels, which need not fit; and a size of chunks."""
    C, H = draw(st.integers(2, 40)), draw(st.integers(1, 6))
    blank = draw(st.integers(0, C - 1))
    labels = st.sampled_from([c for c in range(C) if c != blank])
    targets = draw(st.lists(st.lists(labels, max_size=6), min_size=1, max_size=4))
    lengths = [draw(st.integers(0, 12)) for _ in targets]
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    T, N = max(lengths) + draw(st.integers(0, 2)), len(targets)
    hidden = normal(N, T, H).transpose(0, 1) if draw(st.booleans()) else normal(T, N, H)
    batch = Batch(torch.empty(T, N, 0), targets, lengths, blank)
    head = Head(batch, hidden, normal(C, H) * 2, normal(C) if draw(st.booleans()) else None)
    row = C * dtype.itemsize
    return head, {
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "chunk_bytes": draw(st.sampled_from([1, row, 3 * row, 7 * row + 1, 1 << 20])),
    }


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@settings(
    derandomize=True, database=None, deadline=None, max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(heads())
def test_equal_to_float64_of_the_unfused(drawn: tuple[Head, dict[str, Any]]) -> None:
    head, options = drawn
    relative = EXACT[head.hidden.dtype]
    grad = None
    if options["reduction"] == "none":
        grad = torch.linspace(-1, 2, len(head.batch.targets), dtype=head.hidden.dtype)
    result, found = gradients(head, grad, **options)
    losses, slopes = truth(head, options["reduction"], grad)
    torch.testing.assert_close(result.double(), losses, rtol=max(relative, 1e-7), atol=relative)
    assert_close(found, slopes, relative)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(reduction: str, bias: bool) -> None:
    head = random_head(7, 3, 5, 3, 2, dtype=torch.float64, bias=bias)
    leaves = [x for x in head.leaves() if x is not None]

    def loss(hidden: Tensor, weight: Tensor, offsets: Tensor | None = None) -> Tensor:
        return head.loss(hidden, weight, offsets, reduction=reduction, chunk_bytes=4 * 5 * 8)

    assert torch.autograd.gradcheck(loss, leaves, eps=1e-6, atol=1e-7, rtol=1e-5, nondet_tol=0.0)


def sizes_of_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which each chunk adds its frames."""
    sizes: list[int] = []
    visit = _dispatch_head._visit

    def spy(logits: Tensor, *rest: Any) -> None:
        sizes.append(len(logits))
        visit(logits, *rest)

    monkeypatch.setattr(_dispatch_head, "_visit", spy)
    return sizes


@pytest.mark.parametrize(("chunk_bytes", "rows"), [(1, 1), (1199, 2), (1200, 3), (1 << 26, 1000)])
def test_chunks_keep_to_their_memory_and_to_the_frames_there_are(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, rows: int
) -> None:
    head, sizes = random_head(30, 4, 100, 6), sizes_of_chunks(monkeypatch)
    gradients(head, chunk_bytes=chunk_bytes)
    assert sum(sizes) == sum(head.batch.input_lengths) < 120
    assert rows >= max(sizes) >= min(rows, sum(sizes))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_no_product_is_done_twice(monkeypatch: pytest.MonkeyPatch, reduction: str) -> None:
    head, sizes = random_head(30, 4, 100, 6, ragged=False), sizes_of_chunks(monkeypatch)
    gradients(head, reduction=reduction)
    assert sum(sizes) == 120


def test_losses_that_nobody_differentiates_take_no_second_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    head, sizes = random_head(30, 4, 100, 6, ragged=False), sizes_of_chunks(monkeypatch)
    leaves = head.leaves()
    losses = head.loss(*leaves, reduction="none")
    sizes.clear()
    losses[2].backward()
    assert sum(sizes) == 30
    assert leaves[0] is not None
    assert leaves[0].grad is not None
    assert leaves[0].grad[:, 2].any()
    assert not leaves[0].grad[:, [0, 1, 3]].any()


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("frozen", list(itertools.product([False, True], repeat=3)), ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_only_what_is_asked_for_has_a_gradient(reduction: str, frozen: tuple[bool, ...]) -> None:
    head = random_head(12, 3, 9, 4)
    _, slopes = gradients(head, torch.ones(3) if reduction == "none" else None, reduction=reduction)
    leaves = [x.requires_grad_(not still) for x, still in zip(head.leaves(), frozen, strict=True) if x is not None]
    result = head.loss(*leaves, reduction=reduction)
    assert result.requires_grad == (not all(frozen))
    if result.requires_grad:
        result.sum().backward()
    for leaf, slope, still in zip(leaves, slopes, frozen, strict=True):
        assert leaf.grad is None if still else leaf.grad is not None and same_bits(leaf.grad, slope)


def test_a_layer_without_use_for_gradients_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """No softmax, no further product, the same loss."""
    head = random_head(12, 3, 9, 4)
    leaves = head.leaves()
    loss = head.loss(*leaves)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("a gradient was begun")

    monkeypatch.setattr("numbactc._head._add_product", refuse)
    monkeypatch.setattr("numbactc._head._put_product", refuse)
    with torch.no_grad():
        assert same_bits(head.loss(*leaves), loss.detach())
    with torch.inference_mode():
        assert same_bits(head.loss().clone(), loss.detach())
    assert not head.loss().requires_grad


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_half_precision(dtype: torch.dtype, reduction: str) -> None:
    """The result is float32, gradients have the dtype of their tensor; the truth starts from the same numbers."""
    head = random_head(40, 4, 30, 8, 16, dtype=dtype)
    grad = torch.ones(4) if reduction == "none" else None
    result, found = gradients(head, grad, reduction=reduction, chunk_bytes=20 * 30 * 2)
    losses, slopes = truth(head, reduction, grad)
    assert result.dtype == torch.float32
    assert [each.dtype for each in found] == [dtype] * 3
    # logits are rounded, as those of a linear layer in this dtype are
    torch.testing.assert_close(result.double(), losses, rtol=4 * HALF[dtype], atol=0)
    assert_close(found, slopes, 40 * HALF[dtype])


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
def test_half_precision_does_not_lose_what_a_large_batch_divides_by() -> None:
    """The mean over 512 utterances of one frame: each part of the gradient is at the end of what float16 can hold."""
    N, C = 512, 3000
    head = random_head(1, N, C, 0, 4, dtype=torch.float16)
    _, found = gradients(head)
    _, slopes = truth(head)
    assert 1 / (N * C) < 2**-20
    torch.testing.assert_close(found[2].double(), slopes[2], rtol=2e-3, atol=6e-8)


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_sure_model_in_half_precision_keeps_its_small_gradient(dtype: torch.dtype) -> None:
    """Softmax and posterior are both nearly 1: their difference is taken in float32."""
    hidden, weight = torch.full((8, 1, 1), 1.0, dtype=dtype), torch.zeros(3, 1, dtype=dtype)
    head = Head(Batch(torch.empty(8, 1, 0), [[]], [8]), hidden, weight, torch.tensor([10.0, 0.0, 0.0], dtype=dtype))
    _, found = gradients(head)
    _, slopes = truth(head)
    assert 0 < slopes[2].abs().max() < 1e-2
    torch.testing.assert_close(found[2].double(), slopes[2], rtol=4 * HALF[dtype], atol=1e-6)


def test_autocast() -> None:
    """As `linear` under autocast: products in bfloat16; but gradients of float32 parameters are float32 sums."""
    head = random_head(60, 4, 30, 8, 16)
    logits = [torch.nn.functional.linear(*(x.bfloat16() for x in head.leaves() if x is not None))]
    truth_of_the_same_logits = numbactc.ctc_loss_with_logits(logits[0], *head.batch.arguments())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result, found = gradients(head)
    assert same_bits(result, truth_of_the_same_logits.detach())
    assert [each.dtype for each in found] == [torch.float32] * 3
    _, slopes = truth(head)
    assert_close(found, slopes, 0.02)


def test_autocast_adds_chunks_up_in_float32() -> None:
    """300 equal parts, one a chunk: in bfloat16 a sum of quarters stops growing at 64."""
    batch = Batch(torch.empty(300, 1, 0), [[]], [300])
    head = Head(batch, torch.ones(300, 1, 1), torch.zeros(4, 1), torch.zeros(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, found = gradients(head, chunk_bytes=1)
    _, slopes = truth(head)
    assert_close(found, slopes, 1e-3)


def test_autocast_leaves_float64_alone() -> None:
    head = random_head(9, 2, 5, 3, dtype=torch.float64)
    expected = gradients(head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result, found = gradients(head)
    assert same_bits(result, expected[0])
    assert all(map(same_bits, found, expected[1]))


@pytest.mark.simulated
@pytest.mark.usefixtures("device")
def test_the_same_bits_on_every_run() -> None:
    head = random_head(100, 4, 200, 20, 16)
    runs = [gradients(head, chunk_bytes=50 * 800) for _ in range(3)]
    for result, found in runs[1:]:
        assert same_bits(result, runs[0][0])
        assert all(map(same_bits, found, runs[0][1]))
