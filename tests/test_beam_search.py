"""Prefix beam search against brute force over all paths, and in every corner where peers have been caught."""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import numbactc
from numbactc import Hypothesis, _threads
from oracles import collapse, recursion

LAW = settings(derandomize=True, database=None, deadline=None, max_examples=40)

EVERYTHING = 2000
"""A beam that holds every prefix of the small cases: at most (3**7 - 1) / 2 = 1093, of 6 frames and 3 tokens."""


class Text(NamedTuple):
    """What brute force knows of a text."""

    log_prob: float
    best_path: tuple[int, ...]


def texts_of(scores: torch.Tensor, blank: int) -> dict[tuple[int, ...], Text]:
    """Every text that scores (T, C) give a probability, by enumeration of all paths."""
    T, C = scores.shape
    rows = scores.double().tolist()
    total: dict[tuple[int, ...], float] = {}
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path in itertools.product(range(C), repeat=T):
        score = sum(rows[t][c] for t, c in enumerate(path))
        text = tuple(collapse(path, blank))
        if score > -math.inf:
            total[text] = total.get(text, 0.0) + math.exp(score)
            best[text] = max(best.get(text, (-math.inf, path)), (score, path))
    return {text: Text(math.log(total[text]), best[text][1]) for text in total}


def begins(path: Sequence[int], blank: int) -> list[int]:
    """Frames of a path in which a token begins."""
    return [t for t, c in enumerate(path) if c != blank and (t == 0 or path[t - 1] != c)]


def probabilities(*rows: list[float]) -> torch.Tensor:
    """Log-probabilities (T, C)."""
    return torch.tensor(rows, dtype=torch.float64).log()


def decode(scores: torch.Tensor, beam_size: int = 100, n_best: int = 1, **keywords: object) -> list[Hypothesis]:
    """The hypotheses of one utterance (T, C)."""
    (hypotheses,) = numbactc.beam_search_decode(scores, None, beam_size, n_best, **keywords)  # type: ignore[arg-type]
    return hypotheses


def tokens_of(hypotheses: list[Hypothesis]) -> list[list[int]]:
    return [hypothesis.tokens.tolist() for hypothesis in hypotheses]


def assert_same(a: list[Hypothesis], b: list[Hypothesis]) -> None:
    """To the bit."""
    assert tokens_of(a) == tokens_of(b)
    assert [h.times.tolist() for h in a] == [h.times.tolist() for h in b]
    for field in ("score", "log_prob", "lm_score"):
        values = [[getattr(h, field) for h in hypotheses] for hypotheses in (a, b)]
        assert np.array_equal(*np.array(values).view(np.int64))


def assert_complete(hypotheses: list[Hypothesis], scores: torch.Tensor, blank: int) -> None:
    """Every text that there is, best first, with its probability and the frames of its best path."""
    truth = texts_of(scores, blank)
    assert sorted(tokens_of(hypotheses)) == sorted(map(list, truth))
    for hypothesis in hypotheses:
        text = truth[tuple(hypothesis.tokens.tolist())]
        assert hypothesis.score == pytest.approx(text.log_prob, abs=1e-10)
        assert hypothesis.log_prob == pytest.approx(text.log_prob, abs=1e-10)
        assert hypothesis.times.tolist() == begins(text.best_path, blank)
    assert all(a.score >= b.score for a, b in itertools.pairwise(hypotheses))
    assert hypotheses[0].score == pytest.approx(max(text.log_prob for text in truth.values()), abs=1e-10)


@st.composite
def small_cases(draw: st.DrawFn, largest_classes: int = 4) -> tuple[torch.Tensor, int]:
    """Scores (T, C) and a blank, small enough for brute force; some scores are -inf, though never all of a frame."""
    T, C = draw(st.integers(1, 6)), draw(st.integers(1, largest_classes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    scores = torch.randn(T, C, dtype=torch.float64, generator=generator) * draw(st.sampled_from([0.3, 2.0, 10.0]))
    if draw(st.booleans()):
        masked = torch.rand(T, C, generator=generator) < 0.3
        masked[range(T), scores.argmax(1)] = False
        scores = scores.masked_fill(masked, -math.inf)
    return scores.log_softmax(1) if draw(st.booleans()) else scores, draw(st.integers(0, C - 1))


@LAW
@given(small_cases())
def test_a_beam_that_holds_everything_finds_every_text_with_its_probability(case: tuple[torch.Tensor, int]) -> None:
    scores, blank = case
    assert_complete(decode(scores, EVERYTHING, EVERYTHING, blank=blank), scores, blank)


def test_the_best_sum_is_not_the_best_path() -> None:
    """Graves 2012, figure 7.6."""
    scores = probabilities([0.6, 0.4], [0.6, 0.4])
    (best,) = decode(scores)
    assert best.tokens.tolist() == [1]
    assert math.exp(best.score) == pytest.approx(0.64, abs=1e-12)
    assert math.exp(best.log_prob) == pytest.approx(0.64, abs=1e-12)
    assert numbactc.greedy_decode(scores)[0].tokens.tolist() == []


def test_equal_tokens_need_a_blank_between() -> None:
    never_blank = probabilities([0, 1, 0], [0, 1, 0], [0, 1, 0])
    assert tokens_of(decode(never_blank, n_best=100)) == [[1]]
    scores = probabilities([0.1, 0.9], [0.2, 0.8], [0.1, 0.9])
    found = {tuple(h.tokens.tolist()): math.exp(h.score) for h in decode(scores, n_best=100)}
    assert found[1, 1] == pytest.approx(0.9 * 0.2 * 0.9, abs=1e-12)


def test_hard_zeros_and_ones() -> None:
    found = decode(probabilities([0, 1, 0], [1, 0, 0], [0, 1, 0]), n_best=100)
    assert tokens_of(found) == [[1, 1]]
    assert found[0].times.tolist() == [0, 2]
    assert found[0].score == found[0].log_prob == 0.0


def test_a_blank_that_cannot_occur() -> None:
    scores = probabilities([0, 0.3, 0.7], [0, 0.6, 0.4], [0, 0.45, 0.55])
    assert_complete(decode(scores, n_best=100), scores, 0)


def test_one_frame() -> None:
    scores = probabilities([0.2, 0.5, 0.3])
    found = decode(scores, n_best=10)
    assert tokens_of(found) == [[1], [2], []]
    assert [math.exp(h.score) for h in found] == pytest.approx([0.5, 0.3, 0.2])
    assert [h.times.tolist() for h in found] == [[0], [0], []]


def test_no_frames() -> None:
    (only,) = decode(torch.zeros(0, 3), n_best=5)
    assert (only.tokens.tolist(), only.times.tolist(), only.score, only.log_prob) == ([], [], 0.0, 0.0)
    assert str(only.log_prob) == "0.0"


def test_no_utterances() -> None:
    assert numbactc.beam_search_decode(torch.zeros(4, 0, 3)) == []
    assert numbactc.beam_search_decode(torch.zeros(4, 0, 3), [], 10, 5) == []


def test_the_blank_alone() -> None:
    (only,) = decode(torch.full((4, 1), -0.5), n_best=5)
    assert (only.tokens.tolist(), only.score) == ([], -2.0)


Masses = dict[tuple[int, ...], tuple[float, float]]


def following(beam: Masses, row: list[float], beam_size: int, blank: int) -> Masses:
    """The beam after one more frame, as the textbook has it: dictionaries of prefixes, probabilities as they are."""
    sums: dict[tuple[int, ...], list[float]] = {}
    for prefix, (blank_mass, label_mass) in beam.items():
        sums.setdefault(prefix, [0.0, 0.0])[0] += (blank_mass + label_mass) * row[blank]
        for token, p in enumerate(row):
            if token != blank:
                repeats = prefix[-1:] == (token,)
                if repeats:
                    sums[prefix][1] += label_mass * p
                longer = sums.setdefault((*prefix, token), [0.0, 0.0])
                longer[1] += (blank_mass if repeats else blank_mass + label_mass) * p
    best = sorted(sums.items(), key=lambda item: -sum(item[1]))[:beam_size]
    return {prefix: (b, l) for prefix, (b, l) in best if b + l > 0}


def reference_beams(scores: torch.Tensor, beam_size: int, blank: int = 0) -> Iterator[dict[tuple[int, ...], float]]:
    """The prefixes in the beam after each frame, and their log-probabilities."""
    beam: Masses = {(): (1.0, 0.0)}
    scale = 0.0
    for row in scores.double().exp().tolist():
        beam = following(beam, row, beam_size, blank)
        largest = max(map(sum, beam.values()))
        scale += math.log(largest)
        beam = {prefix: (b / largest, l / largest) for prefix, (b, l) in beam.items()}
        yield {prefix: scale + math.log(b + l) for prefix, (b, l) in beam.items()}


def reference_search(scores: torch.Tensor, beam_size: int) -> dict[tuple[int, ...], float]:
    *_, last = reference_beams(scores, beam_size)
    return last


def model_like(T: int, C: int, sharpness: float) -> torch.Tensor:
    """Log-probabilities (T, C) in float64, most of them blank, as of a trained model."""
    scores = torch.randn(T, C, dtype=torch.float64) * sharpness
    scores[:, 0] += 2 * sharpness
    return scores.log_softmax(1)


@pytest.mark.parametrize("beam_size", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("sharpness", [0.5, 1.5, 4.0])
def test_nothing_is_pruned_but_by_the_beams_size(beam_size: int, sharpness: float) -> None:
    """The beam is the textbook's, prefix for prefix: no bound is too tight, whatever order candidates come in."""
    for C in (2, 5, 40):
        scores = model_like(40, C, sharpness)
        truth = reference_search(scores, beam_size)
        found = decode(scores, beam_size, beam_size)
        assert sorted(tokens_of(found)) == sorted(map(list, truth))
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(truth[tuple(hypothesis.tokens.tolist())], abs=1e-10)


def test_more_candidates_than_there_is_room_for() -> None:
    """A first frame in which thousands of classes are about equally likely."""
    scores = (torch.randn(4, 3000, dtype=torch.float64) * 0.1).log_softmax(1)
    truth = reference_search(scores, 20)
    assert sorted(tokens_of(decode(scores, 20, 20))) == sorted(map(list, truth))


def test_equally_likely_candidates_fill_the_beam() -> None:
    for beam_size in (1, 5, 99, 100):
        found = decode(torch.zeros(1, 100), beam_size, beam_size)
        assert len(found) == beam_size
        assert len({tuple(tokens) for tokens in tokens_of(found)}) == beam_size
    assert len(decode(torch.zeros(30, 4), 50, 50)) == 50


def comebacks(scores: torch.Tensor, beam_size: int) -> int:
    """How often a prefix enters the beam again while an extension of it is there, which it left behind."""
    count = 0
    seen: set[tuple[int, ...]] = set()
    before: set[tuple[int, ...]] = set()
    for beam in reference_beams(scores, beam_size):
        parents = {prefix[:-1] for prefix in before if prefix in beam}
        count += len((set(beam) - before) & seen & parents)
        seen |= set(beam)
        before = set(beam)
    return count


def test_a_pruned_prefix_that_comes_back_merges_with_itself() -> None:
    """It meets the extension that stayed in the beam, and its paths through it count for it: no second one appears."""
    met = 0
    for _ in range(100):
        scores = (torch.randn(25, 3, dtype=torch.float64) * 1.5).log_softmax(1)
        met += comebacks(scores, 4)
        truth = reference_search(scores, 4)
        found = decode(scores, 4, 4)
        assert sorted(tokens_of(found)) == sorted(map(list, truth))
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(truth[tuple(hypothesis.tokens.tolist())], abs=1e-10)
    assert met > 20


def test_no_text_is_found_twice_in_long_utterances_with_small_beams() -> None:
    """Prefixes come and go a thousand times; nodes are collected and tables rebuilt on the way."""
    scores = (torch.randn(3000, 4) * 0.7).log_softmax(1)
    for beam_size in (2, 5, 30):
        found = decode(scores, beam_size, beam_size)
        assert len({tuple(tokens) for tokens in tokens_of(found)}) == beam_size
        truth = reference_search(scores, beam_size)
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(truth[tuple(hypothesis.tokens.tolist())], abs=1e-8)


def test_times_are_increasing_frames_of_their_tokens() -> None:
    """On a path through its own tokens; of a sure model, the path that was drawn."""
    path = [0, 0, 3, 3, 0, 3, 1, 2, 2, 0, 0, 1]
    scores = torch.full((12, 4), -6.0)
    scores[range(12), path] = 0.0
    (best,) = decode(scores.log_softmax(1), 8)
    assert best.tokens.tolist() == [3, 3, 1, 2, 1]
    assert best.times.tolist() == [2, 5, 6, 7, 11]
    for hypothesis in decode(model_like(500, 6, 1.0), 50, 50):
        assert all(a < b for a, b in itertools.pairwise(hypothesis.times.tolist()))


def test_a_token_begins_where_it_is_likely_not_where_it_was_first_thought_of() -> None:
    scores = probabilities([0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.05, 0.95], [0.95, 0.05])
    assert decode(scores)[0].times.tolist() == [3]


def test_flat_scores_of_many_frames_keep_their_best_path() -> None:
    """A sum of so many paths that the best one is no part of it: 2**-2000."""
    (best,) = decode(torch.full((2000, 2), 0.5).log(), 4)
    assert len(best.times) == len(best.tokens) > 0
    assert all(a < b for a, b in itertools.pairwise(best.times.tolist()))


@pytest.mark.parametrize("n_best", [1, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_log_prob_is_exact_and_never_below_what_the_beam_found(dtype: torch.dtype, n_best: int) -> None:
    scores = torch.stack([model_like(60, 8, 1.0), model_like(60, 8, 0.5)], 1).to(dtype)
    lengths = [60, 41]
    for n, hypotheses in enumerate(numbactc.beam_search_decode(scores, lengths, 6, n_best)):
        assert len(hypotheses) == n_best
        for hypothesis in hypotheses:
            frames = scores[: lengths[n], n].double().numpy()
            exact = -recursion(frames, hypothesis.tokens.tolist(), 0).loss
            assert hypothesis.log_prob == pytest.approx(exact, abs=1e-9)
            assert hypothesis.score < hypothesis.log_prob + 1e-10


def test_scores_of_any_size_neither_overflow_nor_vanish() -> None:
    """Sums far outside of the range of float64, and rows that are not normalised."""
    for shift in (-900.0, 500.0):
        scores = model_like(400, 5, 1.0)
        for plain, moved in zip(decode(scores, 20, 20), decode(scores + shift, 20, 20), strict=True):
            assert plain.tokens.tolist() == moved.tokens.tolist()
            assert moved.score == pytest.approx(plain.score + 400 * shift, rel=1e-12)


def test_a_prefix_may_be_very_unlikely() -> None:
    (best, second) = decode(torch.tensor([[0.0, -500.0]], dtype=torch.float64), n_best=2)
    assert (best.score, second.score) == (0.0, -500.0)


@pytest.mark.parametrize("n_best", [1, 3])
@pytest.mark.parametrize(
    ("value", "score"), [(-math.inf, "-inf"), (math.nan, "nan"), (math.inf, "nan")], ids=["-inf", "nan", "inf"]
)
def test_a_frame_without_a_path_leaves_the_empty_text_and_hurts_no_neighbour(
    value: float, score: str, n_best: int
) -> None:
    scores = torch.randn(6, 3, 4)
    expected = numbactc.beam_search_decode(scores[:, 1:], None, 10, n_best)
    scores[2, 0] = value
    bad, *good = numbactc.beam_search_decode(scores, None, 10, n_best)
    (only,) = bad
    assert only.tokens.tolist() == only.times.tolist() == []
    assert str(only.score) == str(only.log_prob) == score
    for a, b in zip(good, expected, strict=True):
        assert_same(a, b)


def test_a_nan_after_an_impasse_is_still_a_nan() -> None:
    scores = torch.zeros(4, 3)
    scores[1] = -math.inf
    scores[3, 2] = math.nan
    assert math.isnan(decode(scores)[0].score) and math.isnan(decode(scores)[0].log_prob)


def test_a_state_that_met_a_nan_serves_the_next_utterance() -> None:
    scores = torch.randn(5, 2, 3)
    expected = decode(scores[:, 1])
    scores[0, 0, 0] = math.nan
    assert_same(numbactc.beam_search_decode(scores)[1], expected)


def test_thresholds_change_nothing_where_they_prune_nothing() -> None:
    scores = model_like(50, 6, 1.0)
    assert_same(decode(scores, 9, 9), decode(scores, 9, 9, beam_threshold=1e6, token_threshold=-1e6))


def test_a_beam_threshold_drops_what_is_too_far_below_the_best() -> None:
    scores = probabilities([0.5, 0.3, 0.2])
    assert tokens_of(decode(scores, n_best=3, beam_threshold=math.log(0.5 / 0.29))) == [[], [1]]
    assert tokens_of(decode(scores, n_best=3, beam_threshold=math.log(0.5 / 0.31))) == [[]]
    assert tokens_of(decode(scores, n_best=3, beam_threshold=0)) == [[]]


def test_a_token_threshold_keeps_unlikely_classes_from_extending() -> None:
    scores = probabilities([0.5, 0.3, 0.2])
    assert tokens_of(decode(scores, n_best=3, token_threshold=math.log(0.25))) == [[], [1]]
    assert tokens_of(decode(probabilities([0.1, 0.5, 0.4]), n_best=3, token_threshold=-0.1)) == [[1], []]


@LAW
@given(small_cases(largest_classes=3), st.integers(1, 12))
def test_a_beam_finds_no_more_than_there_is(case: tuple[torch.Tensor, int], beam_size: int) -> None:
    scores, blank = case
    truth = texts_of(scores, blank)
    for hypothesis in decode(scores, beam_size, beam_size, blank=blank):
        text = truth[tuple(hypothesis.tokens.tolist())]
        assert hypothesis.log_prob == pytest.approx(text.log_prob, abs=1e-10)
        assert hypothesis.score <= text.log_prob + 1e-10


@LAW
@given(small_cases(largest_classes=3))
def test_a_beam_that_holds_more_is_no_worse_where_it_holds_everything(case: tuple[torch.Tensor, int]) -> None:
    scores, blank = case
    best = decode(scores, EVERYTHING, blank=blank)[0].log_prob
    for beam_size in (1, 2, 4, 8):
        assert decode(scores, beam_size, blank=blank)[0].log_prob <= best + 1e-10


@LAW
@given(small_cases(largest_classes=4), st.integers(0, 99))
def test_renaming_tokens_commutes(case: tuple[torch.Tensor, int], seed: int) -> None:
    scores, blank = case
    C = scores.shape[1]
    order = random.Random(seed).sample(range(C), C)  # new class i is old class order[i]
    renamed = decode(scores[:, order], EVERYTHING, 5, blank=order.index(blank))
    for a, b in zip(decode(scores, EVERYTHING, 5, blank=blank), renamed, strict=True):
        assert a.tokens.tolist() == [order[token] for token in b.tokens.tolist()]
        assert a.times.tolist() == b.times.tolist()
        assert a.score == pytest.approx(b.score, abs=1e-12)


@LAW
@given(st.integers(1, 5), st.integers(0, 2**16), st.integers(1, 20))
def test_batch_equals_one_by_one_and_padding_is_irrelevant(N: int, seed: int, beam_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(12, N, 5, generator=generator)
    lengths = torch.randint(0, 13, (N,), generator=generator)
    padded = scores.clone()
    for n in range(N):
        padded[lengths[n] :, n] = math.nan
    n_best = 1 + seed % beam_size
    for n, hypotheses in enumerate(numbactc.beam_search_decode(padded, lengths, beam_size, n_best)):
        assert_same(hypotheses, decode(scores[: lengths[n], n], beam_size, n_best))


def test_layouts_and_forms_of_lengths() -> None:
    scores = torch.randn(9, 3, 5)
    expected = numbactc.beam_search_decode(scores, [9, 4, 6], 10, 2)
    wide = torch.full((3, 5, 2, 9), math.nan)
    wide[:, :, 1] = scores.permute(1, 2, 0)
    for found in (
        numbactc.beam_search_decode(scores.transpose(0, 1).contiguous(), [9, 4, 6], 10, 2, batch_first=True),
        numbactc.beam_search_decode(wide[:, :, 1].permute(2, 0, 1), torch.tensor([9, 4, 6]), 10, 2),
        numbactc.beam_search_decode(torch._neg_view(-scores), torch.tensor([9, 4, 6], dtype=torch.int32), 10, 2),
    ):
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_are_decoded_as_their_values_in_float64(dtype: torch.dtype) -> None:
    scores = torch.randn(30, 7).to(dtype)
    for a, b in zip(decode(scores, 10, 10), decode(scores.double(), 10, 10), strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        assert a.score == b.score
        assert a.log_prob == pytest.approx(b.log_prob, abs=1e-9)


@pytest.mark.parametrize("n_best", [1, 4])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch, n_best: int) -> None:
    monkeypatch.setattr(_threads, "SMALLEST_SHARE", 1)
    scores = torch.randn(40, 7, 6)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(numbactc.beam_search_decode(scores, None, 12, n_best))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert_same(a, b)


def test_the_callers_scores_are_left_alone() -> None:
    scores = torch.randn(6, 2, 3, requires_grad=True)
    before = scores.detach().clone()
    numbactc.beam_search_decode(scores)
    assert torch.equal(scores.detach(), before)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"lengths": [4]}, ValueError, r"lengths must have shape \(2,\), got \(1,\)"),
        ({"lengths": [4, 5]}, ValueError, r"lengths must be from 0 to 4 \(T\), got 5 for utterance 1"),
        ({"lengths": [4, 0.5]}, TypeError, r"lengths must hold integers, got \[4, 0.5\]"),
        ({"beam_size": 0}, ValueError, "beam_size must be at least 1, got 0"),
        ({"beam_size": 2.5}, TypeError, "beam_size must be an integer, got 2.5"),
        ({"n_best": 0}, ValueError, r"n_best must be from 1 to 100 \(beam_size\), got 0"),
        ({"n_best": 101}, ValueError, r"n_best must be from 1 to 100 \(beam_size\), got 101"),
        ({"blank": 3}, ValueError, "blank must be from 0 to C - 1, where C = 3, got 3"),
        ({"beam_threshold": -1}, ValueError, "beam_threshold must be finite and at least 0, got -1.0"),
        ({"beam_threshold": math.nan}, ValueError, "beam_threshold must be finite and at least 0, got nan"),
        ({"token_threshold": math.inf}, ValueError, "token_threshold must be finite, got inf"),
        ({"token_threshold": "low"}, TypeError, "token_threshold must be a number, got 'low'"),
    ],
)
def test_what_is_wrong_is_said(keywords: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbactc.beam_search_decode(torch.zeros(4, 2, 3), **keywords)  # type: ignore[arg-type]
