"""Sizes at the edge: long targets against a closed form, strides beyond 2**31, and more memory than there is."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import numbactc
from batches import Loss, loss_and_gradient, random_batch, same_bits
from numbactc import _dispatch, _memory
from numbactc._views import flat_view

T, L, C = 24_000, 20_000, 30


def target_of(length: int) -> list[int]:
    """Labels without equal neighbours."""
    return list(itertools.islice(itertools.cycle(range(1, C)), length))


def log_paths(frames: int, labels: int) -> float:
    """Of how many paths become such a target: a choice of 2 L out of T + L."""
    return math.log(math.comb(frames + labels, 2 * labels))


def test_a_target_of_20000_labels(entry: Loss) -> None:
    """Where all classes are as likely the loss says how many paths there are, which is a binomial."""
    scores = torch.full((T, 1, C), -math.log(C), dtype=torch.float64, requires_grad=True)
    loss = entry(scores, torch.tensor([target_of(L)]), [T], [L], reduction="sum")
    assert loss.item() == pytest.approx(T * math.log(C) - log_paths(T, L), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert gradient.isfinite().all()
    assert float(gradient.sum()) == pytest.approx(0.0 if entry is numbactc.ctc_loss_with_logits else -T, abs=1e-6)


def test_an_alignment_of_20000_labels() -> None:
    """Blanks between all labels are the best there is, and which ones is known: each label has one frame or two."""
    target = target_of(L)
    path = [c for label in target for c in ([label] if label % 5 else [label, 0])]
    scores = torch.full((len(path), C), -10.0)
    scores[range(len(path)), path] = -1.0
    [alignment] = numbactc.forced_align(scores, torch.tensor(target), [len(path)], [L])
    assert alignment.path.tolist() == path
    assert alignment.score == -float(len(path))
    assert len(alignment.spans) == L


FAR = 2**31 + 64


def far_apart(scores: Tensor) -> Tensor:
    """The same numbers with the frames so far apart that offsets need more than 32 bits; what lies between is reserved,
    and never touched."""
    strides = 2**31 // (len(scores) - 1), scores.shape[2], 1
    return torch.empty(FAR, dtype=scores.dtype).as_strided(scores.shape, strides).copy_(scores)


@pytest.fixture
def near_and_far() -> tuple[Tensor, Tensor]:
    scores = torch.randn(9, 2, 6).log_softmax(-1).bfloat16()
    far = far_apart(scores)
    assert far.stride(0) * (len(far) - 1) >= 2**31 - len(far)
    return scores, far


def test_alignments_of_scores_beyond_32_bits(near_and_far: tuple[Tensor, Tensor]) -> None:
    arguments = torch.tensor([[1, 2, 2], [5, 3, 0]]), [9, 8], [3, 2]
    here, there = (numbactc.forced_align(scores, *arguments) for scores in near_and_far)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.path, other.path)
        assert one[1:] == other[1:]
    for one, other in zip(*(numbactc.posteriors(scores, *arguments) for scores in near_and_far), strict=True):
        assert same_bits(one, other)


def test_decoding_scores_beyond_32_bits(near_and_far: tuple[Tensor, Tensor]) -> None:
    for decode in (numbactc.greedy_decode, numbactc.beam_search_decode):
        here, there = (decode(scores) for scores in near_and_far)
        assert str(here) == str(there)


def test_a_gradient_beyond_32_bits(entry: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(9, 2, 6, 3, dtype=torch.bfloat16)
    _, truth = loss_and_gradient(entry, batch)

    def empty_like(scores: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
        gradient = far_apart(torch.zeros_like(scores))
        return gradient, flat_view(gradient)[0], np.array(gradient.stride(), np.int64)

    monkeypatch.setattr(_dispatch, "_empty_like", empty_like)
    leaf = batch.scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(entry(leaf, *batch.arguments(), reduction="sum"), leaf)
    assert same_bits(gradient.contiguous(), truth)


CALLS = {
    "loss": lambda scores: numbactc.ctc_loss(scores, torch.tensor([[1]]), [3], [1]),
    "logits": lambda scores: numbactc.ctc_loss_with_logits(scores, torch.tensor([[1]]), [3], [1]),
    "posteriors": lambda scores: numbactc.posteriors(scores, torch.tensor([[1]]), [3], [1]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_what_no_memory_can_hold_is_refused_with_its_size(call: Any) -> None:
    """Scores of 2**36 frames, all of them the same; the table of their sums alone would take half a terabyte."""
    scores = torch.zeros(1, 1, 2).expand(2**36, 1, 2)
    with pytest.raises(MemoryError, match=r"would take \d+\.\d GiB, and \d+\.\d GiB of memory are available"):
        call(scores)
    # nothing is left behind, and the next call is as any other
    assert call(torch.zeros(3, 1, 2)) is not None


def test_frames_beyond_all_lengths_take_no_memory() -> None:
    [path] = numbactc.greedy_decode(torch.zeros(1, 1, 2).expand(2**40, 1, 2), [3])
    assert path.score == 0.0


@pytest.mark.parametrize(
    ("there", "size", "fits"),
    [(2**30, 2**30, True), (2**30, 2**30 + 1, False), (0, _memory.LARGE - 1, True), (None, 2**60, True)],
)
def test_only_what_is_large_is_compared_with_what_is_there(
    there: int | None, size: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system says nothing, nothing is refused."""
    monkeypatch.setattr(_memory, "available", lambda: there)
    if fits:
        _memory.require("a test", size)
    else:
        with pytest.raises(MemoryError, match=r"^a test would take 1\.0 GiB, and 1\.0 GiB of memory are available$"):
            _memory.require("a test", size)


def test_a_buffer_that_is_used_again_needs_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of training that takes more than half of the memory goes well a second time."""
    asked: list[int] = []
    monkeypatch.setattr(_memory, "require", lambda purpose, size: asked.append(size))
    scores = torch.randn(200, 4, 100, requires_grad=True)
    for _ in range(3):
        numbactc.ctc_loss_with_logits(scores, torch.ones(4, 3, dtype=torch.int64), [200] * 4, [3] * 4).backward()
        scores.grad = None
        steps = len(asked)
    assert steps == len(asked)
    _memory._buffers.pop("gradient", None)


def test_what_a_container_may_have_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable:   600 kB\nSwapFree:  100 kB\n")
    monkeypatch.setattr(_memory, "MEMINFO", meminfo)
    monkeypatch.setattr(_memory, "CGROUP", tmp_path)
    assert _memory.available() == 700 * 1024
    files = {"max": "500000\n", "current": "400000\n", "stat": "inactive_file 7\nactive_file 30\nanon 9\n"}
    for name, text in files.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert _memory.available() == 100_037
    (tmp_path / "memory.max").write_text("max\n")
    assert _memory.available() == 700 * 1024
    meminfo.unlink()
    assert _memory.available() is None
