"""Prefix beam search against brute force over all paths, and in every corner where peers have been caught."""

import itertools
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import numbactc
from beams import (
    EVERYTHING,
    LAW,
    assert_complete,
    assert_same,
    model_like,
    probabilities,
    reference_beams,
    reference_search,
    search,
    small_cases,
    texts_of,
    tokens_of,
)
from numbactc import _dispatch_beam
from oracles import recursion


@LAW
@given(small_cases())
def test_a_beam_that_holds_everything_finds_every_text_with_its_probability(case: tuple[torch.Tensor, int]) -> None:
    scores, blank = case
    assert_complete(search(scores, EVERYTHING, EVERYTHING, blank=blank), scores, blank)


def test_the_best_sum_is_not_the_best_path() -> None:
    """Graves 2012, figure 7.6."""
    scores = probabilities([0.6, 0.4], [0.6, 0.4])
    (best,) = search(scores)
    assert best.tokens.tolist() == [1]
    assert math.exp(best.score) == pytest.approx(0.64, abs=1e-12)
    assert math.exp(best.log_prob) == pytest.approx(0.64, abs=1e-12)
    assert numbactc.greedy_decode(scores)[0].tokens.tolist() == []


def test_equal_tokens_need_a_blank_between() -> None:
    never_blank = probabilities([0, 1, 0], [0, 1, 0], [0, 1, 0])
    assert tokens_of(search(never_blank, n_best=100)) == [[1]]
    scores = probabilities([0.1, 0.9], [0.2, 0.8], [0.1, 0.9])
    found = {tuple(h.tokens.tolist()): math.exp(h.score) for h in search(scores, n_best=100)}
    assert found[1, 1] == pytest.approx(0.9 * 0.2 * 0.9, abs=1e-12)


def test_hard_zeros_and_ones() -> None:
    found = search(probabilities([0, 1, 0], [1, 0, 0], [0, 1, 0]), n_best=100)
    assert tokens_of(found) == [[1, 1]]
    assert found[0].times.tolist() == [0, 2]
    assert found[0].score == found[0].log_prob == 0.0


def test_a_blank_that_cannot_occur() -> None:
    scores = probabilities([0, 0.3, 0.7], [0, 0.6, 0.4], [0, 0.45, 0.55])
    assert_complete(search(scores, n_best=100), scores, 0)


def test_one_frame() -> None:
    scores = probabilities([0.2, 0.5, 0.3])
    found = search(scores, n_best=10)
    assert tokens_of(found) == [[1], [2], []]
    assert [math.exp(h.score) for h in found] == pytest.approx([0.5, 0.3, 0.2])
    assert [h.times.tolist() for h in found] == [[0], [0], []]


def test_no_frames() -> None:
    (only,) = search(torch.zeros(0, 3), n_best=5)
    assert (only.tokens.tolist(), only.times.tolist(), only.score, only.log_prob) == ([], [], 0.0, 0.0)
    assert str(only.log_prob) == "0.0"


def test_no_utterances() -> None:
    assert numbactc.beam_search_decode(torch.zeros(4, 0, 3)) == []
    assert numbactc.beam_search_decode(torch.zeros(4, 0, 3), [], 10, 5) == []


def test_the_blank_alone() -> None:
    (only,) = search(torch.full((4, 1), -0.5), n_best=5)
    assert (only.tokens.tolist(), only.score) == ([], -2.0)


@pytest.mark.parametrize("beam_size", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("sharpness", [0.5, 1.5, 4.0])
def test_nothing_is_pruned_but_by_the_beams_size(beam_size: int, sharpness: float) -> None:
    """The beam is the textbook's, prefix for prefix: no bound is too tight, whatever order candidates come in."""
    for C in (2, 5, 40):
        scores = model_like(40, C, sharpness)
        truth = reference_search(scores, beam_size)
        found = search(scores, beam_size, beam_size)
        assert sorted(tokens_of(found)) == sorted(map(list, truth))
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(truth[tuple(hypothesis.tokens.tolist())], abs=1e-10)


def test_more_candidates_than_there_is_room_for() -> None:
    """A first frame in which thousands of classes are about equally likely."""
    scores = (torch.randn(4, 3000, dtype=torch.float64) * 0.1).log_softmax(1)
    truth = reference_search(scores, 20)
    assert sorted(tokens_of(search(scores, 20, 20))) == sorted(map(list, truth))


def test_equally_likely_candidates_fill_the_beam() -> None:
    for beam_size in (1, 5, 99, 100):
        found = search(torch.zeros(1, 100), beam_size, beam_size)
        assert len(found) == beam_size
        assert len({tuple(tokens) for tokens in tokens_of(found)}) == beam_size
    assert len(search(torch.zeros(30, 4), 50, 50)) == 50


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
        found = search(scores, 4, 4)
        assert sorted(tokens_of(found)) == sorted(map(list, truth))
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(truth[tuple(hypothesis.tokens.tolist())], abs=1e-10)
    assert met > 20


def test_prefixes_are_found_again_in_larger_arrays() -> None:
    scores = model_like(40, 5, 1.0)
    whole = numbactc.BeamSearch(5, 10)
    inside = whole.advance(whole.start(), scores)._search
    inside._set(_dispatch_beam._doubled(inside._state))
    inside.advance(scores.unsqueeze(1), 0, 0)
    prefixes = inside._state["prefixes"]
    nodes = range(1, prefixes["used"][0])
    assert len(nodes) > 40
    taken = prefixes["keys"] >= 0
    found = dict(zip(prefixes["keys"][taken].tolist(), prefixes["nodes"][taken].tolist(), strict=True))
    assert found == {int(prefixes["parent"][node]) * 5 + int(prefixes["token"][node]): node for node in nodes}


def test_no_text_is_found_twice_in_long_utterances_with_small_beams() -> None:
    """Prefixes come and go a thousand times; nodes are collected and tables rebuilt on the way."""
    scores = (torch.randn(3000, 4) * 0.7).log_softmax(1)
    for beam_size in (2, 5, 30):
        found = search(scores, beam_size, beam_size)
        assert len({tuple(tokens) for tokens in tokens_of(found)}) == beam_size
        truth = reference_search(scores, beam_size)
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(truth[tuple(hypothesis.tokens.tolist())], abs=1e-8)


def test_times_are_increasing_frames_of_their_tokens() -> None:
    """On a path through its own tokens; of a sure model, the path that was drawn."""
    path = [0, 0, 3, 3, 0, 3, 1, 2, 2, 0, 0, 1]
    scores = torch.full((12, 4), -6.0)
    scores[range(12), path] = 0.0
    (best,) = search(scores.log_softmax(1), 8)
    assert best.tokens.tolist() == [3, 3, 1, 2, 1]
    assert best.times.tolist() == [2, 5, 6, 7, 11]
    for hypothesis in search(model_like(500, 6, 1.0), 50, 50):
        assert all(a < b for a, b in itertools.pairwise(hypothesis.times.tolist()))


def test_a_token_begins_where_it_is_likely_not_where_it_was_first_thought_of() -> None:
    scores = probabilities([0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.05, 0.95], [0.95, 0.05])
    assert search(scores)[0].times.tolist() == [3]


def test_flat_scores_of_many_frames_keep_their_best_path() -> None:
    """A sum of so many paths that the best one is no part of it: 2**-2000."""
    (best,) = search(torch.full((2000, 2), 0.5).log(), 4)
    assert len(best.times) == len(best.tokens) > 0
    assert all(a < b for a, b in itertools.pairwise(best.times.tolist()))


@pytest.mark.parametrize("n_best", [1, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_log_prob_is_exact_and_never_below_what_the_beam_found(dtype: torch.dtype, n_best: int) -> None:
    scores = torch.stack([model_like(60, 8, 1.0), model_like(60, 8, 0.5)], 1).to(dtype)
    lengths = [60, 41]
    for n, hypotheses in enumerate(numbactc.beam_search_decode(scores, lengths, 6, n_best, rescore=False)):
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
        for plain, moved in zip(search(scores, 20, 20), search(scores + shift, 20, 20), strict=True):
            assert plain.tokens.tolist() == moved.tokens.tolist()
            assert moved.score == pytest.approx(plain.score + 400 * shift, rel=1e-12)


def test_a_prefix_may_be_very_unlikely() -> None:
    (best, second) = search(torch.tensor([[0.0, -500.0]], dtype=torch.float64), n_best=2)
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
    assert math.isnan(search(scores)[0].score) and math.isnan(search(scores)[0].log_prob)


def test_a_state_that_met_a_nan_serves_the_next_utterance() -> None:
    scores = torch.randn(5, 2, 3)
    expected = search(scores[:, 1])
    scores[0, 0, 0] = math.nan
    assert_same(numbactc.beam_search_decode(scores, rescore=False)[1], expected)


def test_thresholds_change_nothing_where_they_prune_nothing() -> None:
    scores = model_like(50, 6, 1.0)
    assert_same(search(scores, 9, 9), search(scores, 9, 9, beam_threshold=1e6, token_threshold=-1e6))


def test_a_beam_threshold_drops_what_is_too_far_below_the_best() -> None:
    scores = probabilities([0.5, 0.3, 0.2])
    assert tokens_of(search(scores, n_best=3, beam_threshold=math.log(0.5 / 0.29))) == [[], [1]]
    assert tokens_of(search(scores, n_best=3, beam_threshold=math.log(0.5 / 0.31))) == [[]]
    assert tokens_of(search(scores, n_best=3, beam_threshold=0)) == [[]]


def test_a_token_threshold_keeps_unlikely_classes_from_extending() -> None:
    scores = probabilities([0.5, 0.3, 0.2])
    assert tokens_of(search(scores, n_best=3, token_threshold=math.log(0.25))) == [[], [1]]
    assert tokens_of(search(probabilities([0.1, 0.5, 0.4]), n_best=3, token_threshold=-0.1)) == [[1], []]


@LAW
@given(small_cases(largest_classes=3), st.integers(1, 12))
def test_a_beam_finds_no_more_than_there_is(case: tuple[torch.Tensor, int], beam_size: int) -> None:
    scores, blank = case
    truth = texts_of(scores, blank)
    for hypothesis in search(scores, beam_size, beam_size, blank=blank):
        text = truth[tuple(hypothesis.tokens.tolist())]
        assert hypothesis.log_prob == pytest.approx(text.log_prob, abs=1e-10)
        assert hypothesis.score <= text.log_prob + 1e-10


@LAW
@given(small_cases(largest_classes=3))
def test_a_beam_that_holds_more_is_no_worse_where_it_holds_everything(case: tuple[torch.Tensor, int]) -> None:
    scores, blank = case
    best = search(scores, EVERYTHING, blank=blank)[0].log_prob
    for beam_size in (1, 2, 4, 8):
        assert search(scores, beam_size, blank=blank)[0].log_prob <= best + 1e-10


@LAW
@given(small_cases(largest_classes=4), st.integers(0, 99))
def test_renaming_tokens_commutes(case: tuple[torch.Tensor, int], seed: int) -> None:
    scores, blank = case
    C = scores.shape[1]
    order = random.Random(seed).sample(range(C), C)  # new class i is old class order[i]
    renamed = search(scores[:, order], EVERYTHING, 5, blank=order.index(blank))
    for a, b in zip(search(scores, EVERYTHING, 5, blank=blank), renamed, strict=True):
        assert a.tokens.tolist() == [order[token] for token in b.tokens.tolist()]
        assert a.times.tolist() == b.times.tolist()
        assert a.score == pytest.approx(b.score, abs=1e-12)
