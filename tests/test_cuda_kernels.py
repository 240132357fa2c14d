"""The CUDA kernels' own source in a simulator, against the oracles, and against itself in other company.

The simulator raises for races, deadlocks and any access out of bounds or of what was never written, so each test here
is a test of that, too. Threads take turns in an order that its seed decides.
"""

import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from batches import Batch, random_batch, random_target, same_bits
from closeness import LOSS_RELATIVE
from cuda_simulator import pipeline
from cuda_simulator.pipeline import Result
from numbactc.kernels.cuda import facts, plan
from oracles import Oracle, enumeration, expected, recursion

INF, NAN = math.inf, math.nan

GRADIENT_BOUND = 1e-6
"""Absolute; a third of what the CPU's kernels are held to. float32 arithmetic on T <= 100 frames stays below 4e-7."""

LOSS_FLOOR = 2e-6
"""Nats. A row's sum is float32, with exp2 to 2**-22: some 1e-7 a frame, and frames add up at random."""

LATTICES = [(1, 0, 6), (2, 0, 2), (2, 0, 3), (4, 0, 1), (1, 1, 2), (2, 1, 2), (4, 1, 2)]
"""Pairs a lane, tiled, warps: each holds, or tiles, 90 positions."""


@pytest.fixture(params=[False, True], ids=["log_probs", "logits"])
def normalise(request: pytest.FixtureRequest) -> bool:
    answer: bool = request.param
    return answer


def run(
    batch: Batch,
    normalise: bool,
    weights: Tensor | None = None,
    lattice: tuple[int, int, int] | None = None,
    seed: int | None = None,
    extra: int = 0,
) -> Result:
    """Losses, and the gradient of their weighted sum; weights of one if none are given."""
    return pipeline.ctc(
        batch.scores,
        batch.padded(extra=extra),
        torch.tensor(batch.input_lengths),
        torch.tensor(batch.target_lengths),
        batch.blank,
        normalise=normalise,
        grad_losses=torch.ones(len(batch.targets), dtype=torch.float64) if weights is None else weights,
        seed=random.randrange(10**6) if seed is None else seed,
        lattice=lattice,
    )


def assert_right(result: Result, batch: Batch, normalise: bool, oracle: Oracle = recursion) -> None:
    truth, slope = expected(
        batch.scores, batch.targets, batch.input_lengths, batch.blank, with_logits=normalise, oracle=oracle
    )
    assert result.gradient is not None
    double = batch.scores.dtype == torch.float64
    relative, floor, bound = (1e-12, 1e-12, 1e-12) if double else (LOSS_RELATIVE, LOSS_FLOOR, GRADIENT_BOUND)
    torch.testing.assert_close(result.losses, truth, rtol=relative, atol=floor)
    torch.testing.assert_close(result.gradient.double(), slope, rtol=0, atol=bound)


def assert_same(one: Result, other: Result) -> None:
    assert one.gradient is not None and other.gradient is not None
    assert same_bits(one.losses, other.losses)
    assert same_bits(one.gradient, other.gradient)


def check(batch: Batch, normalise: bool, oracle: Oracle = recursion) -> Result:
    result = run(batch, normalise)
    assert_right(result, batch, normalise, oracle)
    return result


# values


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


# corners


def test_empty_targets_and_no_frames(normalise: bool) -> None:
    batch = Batch(torch.randn(5, 4, 3), [[], [], [1], [2, 1]], [5, 0, 0, 4], blank=0)
    result = check(batch, normalise)
    assert result.losses[1:3].tolist() == [0.0, INF]
    assert result.outcomes == [facts.GOOD, facts.GOOD, facts.INFEASIBLE, facts.GOOD]


def test_no_labels_at_all(normalise: bool) -> None:
    check(Batch(torch.randn(5, 2, 3), [[], []], [5, 3]), normalise)


def test_scores_without_a_frame(normalise: bool) -> None:
    result = run(Batch(torch.zeros(0, 2, 4), [[], [1]], [0, 0]), normalise)
    assert result.losses.tolist() == [0.0, INF]


@pytest.mark.parametrize("T", [1, 2, 3])
def test_infeasible(normalise: bool, T: int) -> None:
    batch = Batch(torch.randn(T, 3, 4), [[1, 2, 3, 1], [1, 1, 1], [3, 3]], [T] * 3)
    result = run(batch, normalise)
    assert result.losses[:2].tolist() == [INF, INF]
    assert result.gradient is not None and not result.gradient[:, :2].any()
    assert result.losses.isfinite().tolist() == [False, False, T == 3]


def test_masked_classes_and_frames(normalise: bool) -> None:
    scores = torch.randn(12, 4, 6)
    scores[:, :, 5] = scores[3, 0, 1] = scores[4, 0, 0] = scores[5, 1, 2] = -INF
    scores[:, 2, 2] = scores[6, 3] = -INF  # a label of the third target, and a whole frame of the fourth
    batch = Batch(scores, [[1, 2, 3], [2, 4, 4], [1, 2, 3], [1]], [12] * 4)
    result = check(batch, normalise)
    assert result.losses.isinf().tolist() == [False, False, True, True]
    assert result.gradient is not None and not result.gradient[scores == -INF].any()


def test_a_masked_blank_has_a_gradient_of_zero(normalise: bool) -> None:
    """Labels leave it what round-off has left of 1, in half of the frames."""
    scores = torch.randn(30, 2, 7)
    scores[:, :, 0] = -INF
    result = check(Batch(scores, [[1, 2, 3, 4, 5, 6, 1, 2], [4, 5, 4, 6, 1]], [30, 30]), normalise)
    assert result.gradient is not None and not result.gradient[:, :, 0].any()


@pytest.mark.parametrize("mask", [-1e9, -1e30, torch.finfo(torch.float32).min], ids=str)
def test_a_large_finite_mask_is_a_mask(normalise: bool, mask: float) -> None:
    scores = torch.randn(8, 1, 6)
    where = torch.zeros(8, 1, 6, dtype=torch.bool)
    where[:, :, 5] = where[3, 0, 1] = where[4, 0, 0] = True
    results = [run(Batch(scores.masked_fill(where, value), [[1, 2]], [8]), normalise) for value in (-INF, mask)]
    assert_same(*results)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_nan_stays_in_its_utterance(normalise: bool, bad: float) -> None:
    batch = random_batch(10, 3, 5, 3, ragged=False)
    clean = run(batch, normalise)
    scores = batch.scores.clone()
    scores[4, 1, 4] = bad
    batch = Batch(scores, [[1, 2], [1, 2, 3], [2, 2]], [10, 8, 10])
    clean = run(Batch(scores.nan_to_num(0.0, 0.0), batch.targets, batch.input_lengths), normalise)
    result = run(batch, normalise)
    assert result.outcomes == [facts.GOOD, facts.NOT_A_NUMBER, facts.GOOD]
    assert result.gradient is not None and clean.gradient is not None
    assert result.losses[1].isnan() and result.gradient[:8, 1].isnan().all() and not result.gradient[8:, 1].any()
    assert same_bits(result.losses[[0, 2]], clean.losses[[0, 2]])
    assert same_bits(result.gradient[:, [0, 2]], clean.gradient[:, [0, 2]])


def test_nan_beyond_a_length_is_not_read(normalise: bool) -> None:
    batch = random_batch(10, 2, 5, 3)
    scores = batch.scores.clone()
    scores[batch.input_lengths[1] :, 1] = NAN
    assert_same(run(Batch(scores, batch.targets, batch.input_lengths), normalise), run(batch, normalise))


def test_nan_in_an_infeasible_utterance(normalise: bool) -> None:
    scores = torch.randn(2, 1, 3)
    scores[0, 0, 2] = NAN
    assert run(Batch(scores, [[1, 1]], [2]), normalise).losses.isnan().all()


@pytest.mark.parametrize("margin", [30.0, 500.0])
def test_confident_models(normalise: bool, margin: float) -> None:
    """Right about one utterance, wrong about the other: neighbouring states differ by far more than float32 holds."""
    T, target = 40, random_target(9, 6, 0, 40)
    scores = torch.randn(T, 2, 6)
    for n, said in enumerate([target, random_target(9, 6, 0, T)]):
        for j, label in enumerate(said):
            scores[4 * j : 4 * j + 2, n, label] += margin
            scores[4 * j + 2 : 4 * j + 4, n, 0] += margin
    check(Batch(scores, [target, target], [T, T]), normalise)


def test_a_blank_and_a_label_too_small_for_float32(normalise: bool) -> None:
    scores = torch.randn(24, 2, 5)
    scores[:, 0, 0] -= 300.0
    scores[:, 1, 3] -= 1e6
    check(Batch(scores, [[1, 1, 2, 2], [1, 3, 3, 2]], [24, 24]), normalise)


def test_equal_labels_of_a_model_that_is_sure(normalise: bool) -> None:
    """The first of two equal labels holds all the mass, but the second is reached through the blank alone."""
    scores = torch.randn(40, 1, 4)
    scores[:20, 0, 1] += 60.0
    scores[20:, 0, 0] += 60.0
    check(Batch(scores, [[1, 1, 1, 2]], [40]), normalise)


def test_many_frames() -> None:
    """Rounding must not add up from frame to frame, least of all where one path has nearly all the probability."""
    T = 1200
    scores = torch.randn(T, 1, 3)
    scores[::2, 0, 0] += 3.0
    scores[1::2, 0, 1:] += 2.0
    check(Batch(scores, [[1, 2] * 10], [T]), normalise=True)


def test_a_steep_front(normalise: bool) -> None:
    scores = torch.randn(36, 1, 5)
    scores[:18, :, 0] += 150.0
    check(Batch(scores, [random_target(30, 5, 0, 36)], [36]), normalise)


# the same bits


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


# targets and lengths


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_forms_of_targets(dtype: torch.dtype) -> None:
    batch = Batch(torch.randn(18, 4, 9), [[1, 2, 2], [], [5, 4, 3, 2, 1], [8]], [18, 3, 17, 9])
    plain = run(batch, True)
    frames, counts = torch.tensor(batch.input_lengths, dtype=dtype), torch.tensor(batch.target_lengths, dtype=dtype)
    ones = torch.ones(4, dtype=torch.float64)
    padded = batch.padded(fill=10**6, dtype=dtype)
    transposed = padded.t().contiguous().t()
    flat = batch.concatenated(dtype)
    spaced = torch.stack([flat, flat], 1)[:, 0]
    for targets in (padded, transposed, flat, spaced):
        assert_same(pipeline.ctc(batch.scores, targets, frames, counts, normalise=True, grad_losses=ones), plain)
    two = torch.stack([frames, counts], 1)
    strided = pipeline.ctc(batch.scores, flat, two[:, 0], two[:, 1], normalise=True, grad_losses=ones)
    assert_same(strided, plain)
    longer = torch.cat([flat, flat])
    assert_same(pipeline.ctc(batch.scores, longer, frames, counts, normalise=True, grad_losses=ones, form=2), plain)


def test_concatenated_targets_of_few_labels_and_many_classes() -> None:
    batch = Batch(torch.randn(18, 3, 40), [[1, 2, 2], [30], [39, 4]], [18, 3, 17])
    ones = torch.ones(3, dtype=torch.float64)
    lengths = torch.tensor(batch.input_lengths), torch.tensor(batch.target_lengths)
    result = pipeline.ctc(batch.scores, batch.concatenated(), *lengths, normalise=True, grad_losses=ones)
    assert_same(result, run(batch, True))


BAD = [
    ("label", -1), ("label", 5), ("label", 0), ("label", 2**40 + 1), ("label", -(2**63)),
    ("input_length", -1), ("input_length", 13), ("input_length", 2**32 + 3), ("input_length", -(2**40)),
    ("target_length", -1), ("target_length", 5), ("target_length", 2**32 + 2), ("target_length", 2**62),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value"), BAD, ids=str)
def test_bad_arguments_make_one_loss_nan(where: str, value: int) -> None:
    """Nothing is read or written out of bounds, which the simulator sees to, and neighbours keep their bits."""
    scores = torch.randn(12, 3, 5)
    targets = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1], [2, 2, 1, 1]])
    frames, counts = torch.tensor([12, 10, 12]), torch.tensor([4, 3, 4])
    ones = torch.ones(3, dtype=torch.float64)
    clean = pipeline.ctc(scores, targets, frames, counts, normalise=True, grad_losses=ones)
    {"label": targets[1], "input_length": frames[1:], "target_length": counts[1:]}[where][0] = value
    result = pipeline.ctc(scores, targets, frames, counts, normalise=True, grad_losses=ones)
    assert result.outcomes == [facts.GOOD, facts.BAD, facts.GOOD]
    assert result.losses[1].isnan()
    assert result.gradient is not None and clean.gradient is not None
    assert not result.gradient[:, 1].any()
    assert same_bits(result.losses[[0, 2]], clean.losses[[0, 2]])
    assert same_bits(result.gradient[:, [0, 2]], clean.gradient[:, [0, 2]])


@pytest.mark.parametrize("counts", [[3, 4], [3, 2], [-1, 5], [3, 2**62]], ids=str)
def test_concatenated_lengths_that_do_not_add_up(counts: list[int]) -> None:
    """Where they do not, nobody's labels can be known."""
    ones = torch.ones(2, dtype=torch.float64)
    targets, frames = torch.tensor([1, 2, 3, 4, 1, 2]), torch.tensor([9, 9])
    scores = torch.randn(9, 2, 5)
    result = pipeline.ctc(scores, targets, frames, torch.tensor(counts), normalise=True, grad_losses=ones)
    assert result.outcomes == [facts.BAD, facts.BAD]
    assert result.gradient is not None and not result.gradient.any()


def test_padding_of_targets_may_hold_anything() -> None:
    batch = Batch(torch.randn(9, 2, 5), [[1], [2, 3, 4]], [9, 9])
    targets = batch.padded(fill=-(2**62))
    lengths = torch.tensor(batch.input_lengths), torch.tensor(batch.target_lengths)
    result = pipeline.ctc(batch.scores, targets, *lengths, normalise=True)
    assert same_bits(result.losses, run(batch, True).losses)
