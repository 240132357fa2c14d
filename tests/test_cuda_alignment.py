"""Alignments by the CUDA kernels' own source in the simulator: those of the CPU's, to the last bit, and brute force's.

The simulator raises for races, deadlocks and any access out of bounds or of what was never written, so each test here
is a test of that, too.
"""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

import devices
import numbactc
from batches import Batch, random_batch, random_target

if not devices.CAN_SIMULATE:
    pytest.skip("the simulator needs numba-cuda and greenlet", allow_module_level=True)

import simulated
from numbactc import _devices, _dispatch, _dispatch_alignment, _dispatch_alignment_cuda, _validation
from numbactc._dispatch_alignment import BestPaths
from numbactc.kernels.cuda import alignment_plan, plan
from numbactc.kernels.cuda.alignment_plan import BLOCK_FRAMES
from oracles import collapse

INF, NAN = math.inf, math.nan

LATTICES = [(1, 0, 6), (2, 0, 2), (2, 0, 3), (4, 0, 1), (1, 1, 2), (2, 1, 2), (4, 1, 1)]
"""Pairs a lane, tiled, warps: each holds, or tiles, 70 positions."""

WILDCARD_COST = 0.25


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> simulated.Memory:
    """Of the simulated GPU, whose threads run in another order for each test."""
    memory = simulated.install(monkeypatch)
    memory.seed = random.randrange(10**6)
    return memory


def targets_of(batch: Batch, wildcard: int | None = None) -> _validation.Targets:
    arguments = *batch.arguments(), batch.blank, False, False, wildcard
    return _validation.check_targets(batch.scores, *arguments)


def on_gpu(batch: Batch, wildcard: int | None = None) -> BestPaths:
    return _dispatch_alignment.align(batch.scores, targets_of(batch, wildcard), WILDCARD_COST)


def on_cpu(batch: Batch, wildcard: int | None = None) -> BestPaths:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_dispatch_alignment, "_aligner", lambda scores: _dispatch_alignment._align_on_cpu)
        return _dispatch_alignment.align(batch.scores, targets_of(batch, wildcard), WILDCARD_COST)


def assert_same(one: BestPaths, other: BestPaths, batch: Batch) -> None:
    """Bit for bit, where there is a path."""
    np.testing.assert_array_equal(one.scores, other.scores)
    # padded targets: a place for each column of each row
    width = len(one.log_means) // max(len(one.scores), 1)
    for n, count in enumerate(batch.target_lengths):
        if np.isfinite(one.scores[n]):
            labels = slice(n * width, n * width + count)
            np.testing.assert_array_equal(one.spans[labels], other.spans[labels])
            np.testing.assert_array_equal(one.log_means[labels], other.log_means[labels])


def check(batch: Batch, wildcard: int | None = None) -> BestPaths:
    found = on_gpu(batch, wildcard)
    assert_same(found, on_cpu(batch, wildcard), batch)
    return found


pytestmark = pytest.mark.usefixtures("memory")


def paths_of(target: list[int], T: int, blank: int) -> list[tuple[int, ...]]:
    """Every path that becomes the target, of three classes."""
    return [path for path in itertools.product(range(3), repeat=T) if collapse(path, blank) == target]


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_every_path_enumerated(blank: int) -> None:
    a, b = [c for c in range(3) if c != blank]
    targets = [[], [a], [a, b], [a, a], [b, a, b], [a, a, b]]
    batch = Batch(torch.randn(6, len(targets), 3).log_softmax(-1), targets, [6, 6, 5, 6, 3, 5], blank)
    alignments = numbactc.forced_align(batch.scores, *batch.arguments(), blank)
    for n, alignment in enumerate(alignments):
        frames = batch.input_lengths[n]
        rows = batch.scores[:frames, n].double()
        best = max(
            sum(rows[t, c].item() for t, c in enumerate(path)) for path in paths_of(targets[n], frames, blank)
        )
        path = alignment.path.tolist()
        assert collapse(path, blank) == targets[n]
        assert alignment.score == pytest.approx(best, rel=1e-14)
        assert alignment.score == pytest.approx(sum(rows[t, c].item() for t, c in enumerate(path)), rel=1e-14)
    check(batch)


@pytest.mark.parametrize("T", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("L", [1, 8, 31])
def test_lengths_around_chunks_and_warps(T: int, L: int) -> None:
    check(random_batch(T, 2, 5, min(L, T), blank=1))


@pytest.mark.parametrize("T", [BLOCK_FRAMES - 1, BLOCK_FRAMES, BLOCK_FRAMES + 1, 2 * BLOCK_FRAMES + 5])
def test_lengths_around_checkpoints(T: int) -> None:
    """Few labels, each over many frames."""
    batch = Batch(torch.randn(T, 2, 4), [random_target(9, 4, 0, T), [3]], [T, T])
    assert np.isfinite(check(batch).scores).all()


def test_a_path_that_moves_as_far_as_it_can_between_checkpoints() -> None:
    """It rests in the first blank, then enters a label a frame, over the whole width of a stretch and beyond."""
    T, L = 2 * BLOCK_FRAMES, BLOCK_FRAMES + 20
    scores = torch.zeros(T, 1, 4)
    scores[: T - L, 0, 0] = 9.0
    scores[T - L :, 0, 0] = -9.0
    batch = Batch(scores, [[1, 2] * (L // 2)], [T])
    found = check(batch)
    np.testing.assert_array_equal(found.spans[:, 0], np.arange(T - L, T))


@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_any_division_among_threads_gives_the_same_path(
    lattice: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs a lane, warps, tiles: the plan chooses them by the longest target, so they must not show."""
    divide(monkeypatch, lattice)
    check(Batch(torch.randn(75, 1, 4), [random_target(61, 4, 0, 75)], [75]))
    check(Batch(torch.randn(75, 2, 4).round(), [random_target(65, 4, 0, 75), [1, 2]], [75, 40]))


@pytest.mark.parametrize("lattice", [(1, 0, 1), (1, 1, 1)], ids=str)
def test_origins_survive_more_than_one_checkpoint(
    lattice: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    divide(monkeypatch, lattice)
    T = 2 * BLOCK_FRAMES + 30
    check(Batch(torch.randn(T, 1, 3).round(), [random_target(20, 3, 0, T)], [T]))


def divide(monkeypatch: pytest.MonkeyPatch, lattice: tuple[int, int, int]) -> None:
    """Another division of the positions than the plan's."""
    monkeypatch.setattr(alignment_plan, "lattice_shape", lambda positions: lattice)
    monkeypatch.setattr(_dispatch_alignment_cuda, "plan_of", alignment_plan.alignment_plan)


def test_a_target_too_long_for_registers() -> None:
    """The plan's own tiles, with room for the states of positions that come and go."""
    L = plan.capacity(plan.MOST_PAIRS, plan.MOST_LATTICE_WARPS) + 3
    what = alignment_plan.alignment_plan(alignment_plan.AlignmentCall(L, 1, L, L, "float32"))
    assert next(launch for launch in what.launches if launch.kernel.name == "viterbi").kernel.options[2] == 1
    batch = Batch(torch.randn(18, 2, 3), [[1, 2] * (L // 2), [2, 1, 1]], [18, 18])
    assert check(batch).scores[0] == -INF


def test_ties() -> None:
    """Scores of few values, as in half precision: most paths have an equal one beside them."""
    for L in (3, 9, 20):
        check(Batch(torch.randint(-2, 1, (40, 2, 4)).float(), [random_target(L, 4, 0, 40), [1, 1]], [40, 40]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes(dtype: torch.dtype) -> None:
    check(random_batch(40, 2, 6, 12, dtype=dtype, scale=3.0))


def test_empty_targets_no_frames_and_what_does_not_fit() -> None:
    batch = Batch(torch.randn(5, 6, 3), [[], [], [1], [2, 1], [1, 1, 1], [2, 2]], [5, 0, 0, 4, 4, 3])
    found = check(batch)
    assert found.scores[1:3].tolist() == [0.0, -INF]
    assert found.scores[4] == -INF
    check(Batch(torch.randn(5, 2, 3), [[], []], [5, 3]))
    check(Batch(torch.randn(0, 2, 3), [[], [1]], [0, 0]))


@pytest.mark.parametrize("shape", [(5, 0, 3), (0, 0, 3)])
def test_no_utterance(shape: tuple[int, ...]) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert numbactc.forced_align(torch.zeros(shape), none, none, none) == []


def test_masked_classes_and_frames() -> None:
    scores = torch.randn(20, 3, 5)
    scores[:, 0, 2] = scores[4, 1, 0] = scores[7, 2] = -INF
    found = check(Batch(scores, [[1, 2, 3], [2, 4, 4], [1]], [20] * 3))
    assert np.isfinite(found.scores).tolist() == [False, True, False]


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("where", [0, 3])
def test_what_is_no_number_stays_in_its_utterance(bad: float, where: int) -> None:
    """In the scores of the blank or a label; not in those of a class that the target lacks, or beyond the length."""
    scores = torch.randn(20, 4, 5)
    scores[17, 1, where] = bad
    scores[4, 2, 4] = scores[18:, 2] = bad
    found = check(Batch(scores, [[1, 2], [2, 3], [1, 3], [1, 1]], [20, 20, 18, 20]))
    assert np.isnan(found.scores).tolist() == [False, True, False, False]


def test_no_number_and_no_path() -> None:
    scores = torch.randn(2, 1, 3)
    scores[1, 0, 1] = NAN
    assert np.isnan(check(Batch(scores, [[1, 1]], [2])).scores[0])


def test_a_wildcard() -> None:
    targets = [[-1], [1, -1, 2], [-1, -1], [2, 1, -1, 1]]
    batch = Batch(torch.randn(24, 4, 4), targets, [24, 24, 20, 11])
    found = check(batch, wildcard=-1)
    begin, end = found.spans[0]
    best = batch.scores[begin:end, 0].double().amax(-1)
    assert found.log_means[0] == pytest.approx(best.mean().item() - WILDCARD_COST)


def test_a_wildcard_meets_what_is_no_number() -> None:
    """In any class: the best of them cannot be known."""
    scores = torch.randn(9, 3, 4)
    scores[2, 0, 3] = NAN
    scores[2, 1, 3] = INF
    scores[2, 2, 3] = NAN
    found = check(Batch(scores, [[1, -1], [-1, 1], [1, 2]], [9, 9, 9]), wildcard=-1)
    assert np.isnan(found.scores).tolist() == [True, True, False]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_threads_changes_nothing(
    seed: int, memory: simulated.Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    divide(monkeypatch, (1, 0, 3))
    generator = torch.Generator().manual_seed(1)
    batch = Batch(torch.randn(60, 2, 4, generator=generator).round(), [[1, 2, 3] * 15, [3] * 9], [60, 30])
    memory.seed = seed
    check(batch)


def test_concatenated_targets_and_their_order() -> None:
    """Padding, the form of targets and the company change no bit of an utterance."""
    batch = random_batch(30, 3, 6, 9)
    whole = numbactc.forced_align(batch.scores, *batch.arguments())
    lengths = batch.input_lengths, batch.target_lengths
    forms = [batch.concatenated(), batch.padded(fill=99, extra=7), batch.padded(dtype=torch.int32)]
    for targets in forms:
        again = numbactc.forced_align(batch.scores, targets, *lengths)
        assert all(same(a, b) for a, b in zip(again, whole, strict=True))
    for n in range(3):
        alone = batch.select([n])
        [alignment] = numbactc.forced_align(alone.scores, *alone.arguments())
        assert same(alignment, whole[n])


def same(a: numbactc.Alignment, b: numbactc.Alignment) -> bool:
    return a.score == b.score and a.spans == b.spans and torch.equal(a.path, b.path)


def layouts(scores: Tensor) -> list[Tensor]:
    T, N, C = scores.shape
    batch_first = scores.transpose(0, 1).contiguous().transpose(0, 1)
    classes_first = scores.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    gaps = torch.full((2 * T, 2 * N, 2 * C), NAN)[::2, ::2, ::2].copy_(scores)
    return [batch_first, classes_first, gaps]


def test_any_layout_of_scores() -> None:
    batch = random_batch(20, 2, 5, 7)
    found = check(batch)
    for scores in layouts(batch.scores):
        other = Batch(scores, batch.targets, batch.input_lengths)
        assert_same(on_gpu(other), found, batch)


BAD = [("label", -1), ("label", 6), ("label", 0), ("label", 2**40), ("input_length", 31), ("input_length", -1)]


@pytest.mark.parametrize(("where", "value"), BAD, ids=str)
def test_what_slips_through_the_hosts_checks_is_never_an_index(where: str, value: int) -> None:
    """The kernels look for themselves: NaN for that utterance, the same bits for its neighbours."""
    batch = Batch(torch.randn(30, 3, 5), [[1, 2, 3, 4], [4, 3, 2, 1], [2, 2, 1, 1]], [30, 30, 30])
    targets, clean = targets_of(batch), on_gpu(batch)
    {"label": targets.labels[4:], "input_length": targets.input_lengths[1:]}[where][0] = value
    found = _dispatch_alignment.align(batch.scores, targets, WILDCARD_COST)
    assert np.isnan(found.scores).tolist() == [False, True, False]
    others = [0, 1, 2, 3, 8, 9, 10, 11]
    np.testing.assert_array_equal(found.scores[[0, 2]], clean.scores[[0, 2]])
    np.testing.assert_array_equal(found.spans[others], clean.spans[others])
    np.testing.assert_array_equal(found.log_means[others], clean.log_means[others])


def test_posteriors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of classes by the loss's kernels, of states on the CPU: what each state adds to its class, both say."""
    batch = random_batch(12, 2, 5, 4, ragged=False)
    there = numbactc.posteriors(batch.scores, *batch.arguments())
    monkeypatch.setattr(_devices, "of", lambda scores: _dispatch)
    here = numbactc.posteriors(batch.scores, *batch.arguments())
    torch.testing.assert_close(there.classes, here.classes, rtol=0, atol=1e-6)
    torch.testing.assert_close(there.states, here.states, rtol=0, atol=1e-6)
    torch.testing.assert_close(there.classes[:, :, 0], there.states[:, :, ::2].sum(-1), rtol=0, atol=1e-6)


def test_memory_does_not_grow_with_frames_times_labels() -> None:
    """A twelfth of a byte for each frame and position; 3 bits of a table would be four times that, its states 192."""
    T, L = 60_000, 8_000
    what = alignment_plan.alignment_plan(alignment_plan.AlignmentCall(T, 1, L, L, "float32"))
    assert what.scratch_bytes < T * (L + 1) / 11
    assert what.results_bytes < 20 * L


def test_too_many_frames_for_a_grid() -> None:
    scores = torch.zeros(1, 1, 3).expand(2**24, 1, 3)
    with pytest.raises(ValueError, match=r"at most 15728400 frames .* got T = 16777216"):
        numbactc.forced_align(scores, torch.tensor([[1]]), [2], [1])
