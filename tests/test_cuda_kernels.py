"""The CUDA kernels' own source in a simulator, against the oracles, and against itself in other company.

The simulator raises for races, deadlocks and any access out of bounds or of what was never written, so each test here
is a test of that, too. Threads take turns in an order that its seed decides.
"""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from batches import Batch, random_batch, random_target, same_bits
from cuda_checks import NAN, assert_right, assert_same, check, run
from cuda_simulator import pipeline
from numbactc.kernels.cuda import plan
from oracles import enumeration, expected

LATTICES = [(1, 0, 6), (2, 0, 2), (2, 0, 3), (4, 0, 1), (1, 1, 2), (2, 1, 2), (4, 1, 2)]
"""Pairs a lane, tiled, warps: each holds, or tiles, 90 positions."""


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_every_path_enumerated(normalise: bool, blank: int) -> None:
    a, b = [c for c in range(3) if c != blank]
    targets = [[], [a], [a, b], [a, a], [b, a, b], [a, a, b]]
    batch = Batch(torch.randn(6, len(targets), 3), targets, [6, 6, 5, 6, 3, 5], blank)
    check(batch, normalise, enumeration)


@pytest.mark.parametrize(("T", "L"), [(31, 8), (32, 15), (33, 33), (48, 20), (70, 33)])
def test_lengths_around_chunks_and_warps(normalise: bool, T: int, L: int) -> None:
    check(random_batch(T, 2, 5, min(L, T), blank=1), normalise)


@pytest.mark.parametrize("classes", [1, 2, 31, 33, 130, 264])
def test_sizes_of_rows(normalise: bool, classes: int) -> None:
    """Fewer classes than lanes, vectors of scores or none, a table of classes or of labels."""
    check(random_batch(4, 2, classes, 0 if classes == 1 else 3), normalise)


def test_rows_that_several_warps_share(normalise: bool) -> None:
    check(random_batch(2, 1, 2052, 2), normalise)


def test_rows_that_sixteen_warps_share(normalise: bool) -> None:
    check(random_batch(1, 1, 16388, 1), normalise)


@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_any_division_among_threads_gives_the_same_bits(lattice: tuple[int, int, int]) -> None:
    """Pairs a lane, warps, tiles: the plan chooses them by shape, so they must not show."""
    batch = Batch(torch.randn(66, 1, 5), [random_target(61, 5, 0, 66)], [66])
    plain = run(batch, True)
    assert_right(plain, batch, True)
    assert_same(run(batch, True, lattice=lattice), plain)


@pytest.mark.parametrize("lattice", [(1, 0, 6), (1, 1, 2)], ids=str)
def test_any_division_in_float64(lattice: tuple[int, int, int]) -> None:
    batch = Batch(torch.randn(66, 1, 5, dtype=torch.float64), [random_target(61, 5, 0, 66)], [66])
    plain = run(batch, True)
    assert_right(plain, batch, True)
    assert_same(run(batch, True, lattice=lattice), plain)


def test_a_target_too_long_for_registers() -> None:
    """The plan's own tiles: more positions than the most warps hold."""
    L = plan.capacity(4, plan.MOST_LATTICE_WARPS) + 3
    batch = Batch(torch.randn(L + 1, 1, 3), [[1, 2] * (L // 2) + [1] * (L % 2)], [L + 1])
    call = plan.Call(L + 1, 1, 3, L, False, "float32", True, False)
    assert plan.plan(call).forward[-1].kernel.options[2] == 1
    # two frames are enough to see that launches fit together; whether tiles are right, the tests above say
    short = Batch(batch.scores[:2], [[1, 2]], [2])
    assert_same(run(short, True, extra=L), run(short, True))


def test_repeats(normalise: bool) -> None:
    targets = [[1, 1, 2, 2, 2, 1], [2, 2], [1, 1, 1, 1]]
    check(Batch(torch.randn(40, 3, 4), targets, [40, 3, 7]), normalise)


def test_a_class_that_occurs_many_times(normalise: bool) -> None:
    check(Batch(torch.randn(36, 1, 300), [[7, 9] * 6 + [7]], [36]), normalise)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes(normalise: bool, dtype: torch.dtype) -> None:
    batch = random_batch(20, 2, 6, 5, dtype=dtype)
    result = run(batch, normalise)
    assert result.gradient is not None and result.gradient.dtype == dtype
    if dtype == torch.float64:
        assert_right(result, batch, normalise)
        return
    exact = Batch(batch.scores.float(), batch.targets, batch.input_lengths)
    single = run(exact, normalise)
    assert_right(single, exact, normalise)
    assert single.gradient is not None
    assert same_bits(result.losses, single.losses)
    assert same_bits(result.gradient, single.gradient.to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_vectors_of_other_dtypes(dtype: torch.dtype) -> None:
    classes = 32 * plan.VECTOR_BYTES // dtype.itemsize
    batch = random_batch(2, 1, classes, 2, dtype=dtype)
    result, again = run(batch, True), run(_shifted(batch), True)
    assert_same(result, again)
    exact = Batch(batch.scores.double(), batch.targets, batch.input_lengths)
    _, slope = expected(exact.scores, batch.targets, batch.input_lengths, with_logits=True)
    assert result.gradient is not None
    bound = 1e-12 if dtype == torch.float64 else torch.finfo(dtype).eps
    torch.testing.assert_close(result.gradient.double(), slope, rtol=0, atol=bound)


def test_without_a_gradient(normalise: bool) -> None:
    batch = random_batch(40, 2, 5, 9)
    arguments = batch.padded(), torch.tensor(batch.input_lengths), torch.tensor(batch.target_lengths)
    result = pipeline.ctc(batch.scores, *arguments, normalise=normalise)
    assert result.gradient is None
    assert same_bits(result.losses, run(batch, normalise).losses)


def test_weights(normalise: bool) -> None:
    batch = random_batch(12, 3, 5, 4)
    plain, weighted = run(batch, normalise), run(batch, normalise, torch.tensor([2.0, 0.0, -0.5], dtype=torch.float64))
    assert plain.gradient is not None and weighted.gradient is not None
    torch.testing.assert_close(weighted.gradient, plain.gradient * torch.tensor([2.0, 0.0, -0.5])[:, None])
    one = torch.ones(1, dtype=torch.float64).expand(3)
    assert_same(run(batch, normalise, one), plain)


def test_alone_and_in_a_batch(normalise: bool) -> None:
    """Whatever stands beside an utterance, however much padding there is, in whatever order threads run."""
    batch = random_batch(37, 3, 6, 11)
    together = run(batch, normalise, extra=50)
    assert together.gradient is not None
    for n in range(3):
        frames = batch.input_lengths[n]
        alone = run(batch.select([n]), normalise)
        assert alone.gradient is not None
        assert same_bits(together.losses[n : n + 1], alone.losses)
        assert same_bits(together.gradient[:frames, n], alone.gradient[:, 0])


def test_padding_in_time_changes_nothing(normalise: bool) -> None:
    batch = random_batch(20, 2, 5, 6)
    longer = Batch(torch.cat([batch.scores, torch.full((50, 2, 5), NAN)]), batch.targets, batch.input_lengths)
    short, long = run(batch, normalise), run(longer, normalise)
    assert short.gradient is not None and long.gradient is not None
    assert same_bits(short.losses, long.losses)
    assert same_bits(short.gradient, long.gradient[:20])


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_threads_changes_nothing(seed: int) -> None:
    generator = torch.Generator().manual_seed(1)
    batch = Batch(torch.randn(34, 2, 5, generator=generator), [[1, 2, 3, 3], [4] * 9], [34, 30])
    assert_same(run(batch, True, seed=seed, lattice=(1, 0, 2)), run(batch, True, seed=100, lattice=(1, 0, 2)))


def _shifted(batch: Batch) -> Batch:
    """The same scores one element further in memory, where no vector of them is aligned."""
    T, N, C = batch.scores.shape
    memory = torch.empty(T * N * C + 1, dtype=batch.scores.dtype)
    scores = memory[1:].view(T, N, C).copy_(batch.scores)
    wide = torch.empty(T, N, C + 1, dtype=batch.scores.dtype)
    wide[:, :, 1:] = scores
    return Batch(wide[:, :, 1:], batch.targets, batch.input_lengths, batch.blank)


def _layouts(scores: Tensor) -> Sequence[Tensor]:
    T, N, C = scores.shape
    batch_first = scores.transpose(0, 1).contiguous().transpose(0, 1)
    classes_first = scores.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    gaps = torch.full((T, 2 * N, 2 * C), NAN)[:, ::2, ::2].copy_(scores)
    return batch_first, classes_first, gaps


@pytest.mark.parametrize("classes", [5, 132])
def test_any_layout_of_scores(normalise: bool, classes: int) -> None:
    batch = random_batch(6, 2, classes, 2)
    plain = run(batch, normalise)
    assert_same(run(_shifted(batch), normalise), plain)
    for scores in _layouts(batch.scores):
        assert_same(run(Batch(scores, batch.targets, batch.input_lengths), normalise), plain)
