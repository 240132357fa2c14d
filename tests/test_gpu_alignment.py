"""What only a GPU can show of alignments: the CPU's paths at any size, streams, threads, memory.

`make test-gpu` runs these after the tests of alignments have run on the GPU. Where there is none they are skipped.
"""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

import devices
import numbactc
from batches import Batch, random_batch
from numbactc import Alignment

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]

SHAPES = [
    (20, 3, 7, 5), (400, 4, 29, 100), (1500, 3, 32, 250), (3000, 2, 1024, 60), (900, 2, 30, 400), (3000, 2, 40, 1200),
]  # fmt: skip
"""T, N, C, L: one warp and several, one checkpoint and many, targets in registers and in memory."""

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def same(a: list[Alignment], b: list[Alignment]) -> bool:
    return all(
        one.score == other.score and one.spans == other.spans and torch.equal(one.path, other.path)
        for one, other in zip(a, b, strict=True)
    )


def align(batch: Batch, scores: Tensor, **options: Any) -> list[Alignment]:
    return numbactc.forced_align(scores, *batch.arguments(), blank=batch.blank, **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_cpus_paths_to_the_last_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch = random_batch(*shape, dtype=dtype)
    assert same(align(batch, batch.scores.cuda()), align(batch, batch.scores))
    rounded = Batch(batch.scores.round(), batch.targets, batch.input_lengths, batch.blank)
    assert same(align(rounded, rounded.scores.cuda()), align(rounded, rounded.scores))


def test_arguments_lie_anywhere() -> None:
    batch = random_batch(40, 3, 7, 9)
    truth = align(batch, batch.scores)
    scores, arguments = batch.scores.cuda(), batch.arguments()
    targets, frames, counts = (tensor.cuda() for tensor in arguments)
    assert same(numbactc.forced_align(scores, targets, frames, counts), truth)
    flat = batch.concatenated().cuda()
    assert same(numbactc.forced_align(scores, flat, batch.input_lengths, batch.target_lengths), truth)
    first = scores.transpose(0, 1).contiguous()
    assert same(numbactc.forced_align(first, *arguments, batch_first=True), truth)
    with pytest.raises(ValueError, match="got 41 for utterance 1"):
        numbactc.forced_align(scores, flat, torch.tensor([40, 41, 40], device="cuda"), batch.target_lengths)


def test_a_wildcard() -> None:
    batch = random_batch(300, 3, 20, 30)
    targets = [[-1, *target[:10], -1, *target[10:]] for target in batch.targets]
    starred = Batch(batch.scores, targets, [300] * 3)
    assert same(align(starred, batch.scores.cuda(), wildcard=-1), align(starred, batch.scores, wildcard=-1))


def test_a_hundred_runs_have_the_same_bits() -> None:
    batch = random_batch(1500, 4, 32, 250)
    scores = batch.scores.cuda()
    first = align(batch, scores)
    assert all(same(align(batch, scores), first) for _ in range(100))


def test_on_a_side_stream() -> None:
    """Scores that the side stream is still busy with: a kernel on any other stream would read what is not there yet."""
    batch = random_batch(400, 3, 29, 100)
    scores, stream = torch.full_like(batch.scores, torch.nan, device="cuda"), torch.cuda.Stream()
    ready = batch.scores.cuda()
    truth = align(batch, batch.scores)
    align(batch, ready)  # compiles
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        scores.copy_(ready)
        found = align(batch, scores)
    assert same(found, truth)


def test_two_threads_at_once() -> None:
    batch, results = random_batch(400, 3, 29, 100), []
    scores, truth = batch.scores.cuda(), align(batch, batch.scores)

    def work() -> None:
        for _ in range(20):
            results.append(align(batch, scores))

    devices.in_two_threads(work)
    assert len(results) == 40
    assert all(same(result, truth) for result in results)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_on_a_device_other_than_the_current_one() -> None:
    batch = random_batch(400, 3, 29, 100)
    assert same(align(batch, batch.scores.to("cuda:1")), align(batch, batch.scores))
    assert torch.cuda.current_device() == 0


def test_an_hour_of_speech_takes_less_than_50_megabytes() -> None:
    """T = 60,000, L = 8,000, beyond the scores; and all of it is given back."""
    batch = random_batch(60_000, 1, 30, 8_000)
    scores = batch.scores.cuda()
    align(batch, scores)
    gc.collect()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = align(batch, scores)
    assert torch.cuda.max_memory_allocated() - before < 50e6
    assert torch.cuda.memory_allocated() == before
    assert same(found, align(batch, batch.scores))


def test_posteriors_and_best_classes() -> None:
    batch = random_batch(300, 3, 20, 30)
    scores = batch.scores.log_softmax(-1)
    here = numbactc.posteriors(scores, *batch.arguments())
    there = numbactc.posteriors(scores.cuda(), *batch.arguments())
    assert there.states.is_cuda and there.classes.is_cuda
    torch.testing.assert_close(there.states.cpu(), here.states, rtol=0, atol=3e-6)
    torch.testing.assert_close(there.classes.cpu(), here.classes, rtol=0, atol=3e-6)
    for one, other in zip(numbactc.greedy_decode(scores.cuda()), numbactc.greedy_decode(scores), strict=True):
        assert torch.equal(one.tokens, other.tokens) and torch.equal(one.times, other.times)
        assert one.score == other.score
