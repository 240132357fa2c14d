"""The CUDA kernels' own source in a simulator: the corners of the definition, and whatever targets and lengths hold."""


import pytest
import torch

from batches import Batch, random_batch, random_target, same_bits
from cuda_checks import INF, NAN, assert_same, check, run
from cuda_simulator import pipeline
from numbactc.kernels.cuda import facts


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


def test_a_masked_path_does_not_hide_one_that_is_less_likely(normalise: bool) -> None:
    """Probability 0 in one frame and 1 in the others, beside paths of 2**-1e7 in each of several frames."""
    L, masked = 12, 6
    scores = torch.full((L + 1, 1, L + 2), -8e6)
    scores[:, :, L + 1] = 0.0
    for label in range(1, L + 1):
        scores[label - 1, 0, label] = -INF if label == masked else 0.0
    result = check(Batch(scores, [list(range(1, L + 1))], [L + 1]), normalise)
    assert 4e7 < result.losses.item() < INF


def test_labels_and_blanks_masked_until_their_time(normalise: bool) -> None:
    """Zeros times zeros, frame after frame: their exponents stay in 32 bits, below that of the path that comes."""
    scores = torch.randn(12, 1, 9)
    scores[:, :, 0] = -INF
    for label in range(1, 9):
        scores[: label - 1, 0, label] = -INF
    check(Batch(scores, [list(range(1, 9))], [12]), normalise)


@pytest.mark.parametrize("T", [40, 47, 64, 96])
def test_a_target_too_unlikely_for_the_range_of_exponents_has_no_path(T: int) -> None:
    """And no gradient: nothing of one that states no longer hold. 47 frames of this make 2**-(2**29)."""
    scores = torch.full((T, 1, 3), -8e6)
    scores[:, :, 2] = 0.0
    result = run(Batch(scores, [[1]], [T]), normalise=True)
    assert result.gradient is not None
    if T < 45:
        torch.testing.assert_close(result.losses, torch.tensor([8e6 * T]).double(), rtol=1e-6, atol=0)
        assert result.gradient[:, 0, 2].eq(1).all() and result.gradient[:, 0, :2].sum(-1).eq(-1).all()
    else:
        assert result.outcomes == [facts.INFEASIBLE]
        assert result.losses.tolist() == [INF] and not result.gradient.any()


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
