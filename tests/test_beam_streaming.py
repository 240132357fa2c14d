"""A search in pieces is the search in one piece, bit for bit."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import numbactc
from beams import assert_same, decode, model_like
from numbactc import BeamSearch, Hypothesis, Lexicon, NgramLM


def in_pieces(search: BeamSearch, scores: torch.Tensor, lengths: list[int]) -> list[Hypothesis]:
    state = search.start()
    for chunk in scores.split(lengths):
        state = search.advance(state, chunk)
    assert state.frames == len(scores)
    return search.finish(state)


def extras() -> dict[str, Any]:
    labels = ["<blank>", " ", "a", "b"]
    return {
        "language_model": NgramLM.train(["a ab", "b ab a"], 2, smoothing="witten-bell"),
        "lexicon": Lexicon.from_characters(["a", "ab", "b"], labels),
        "unknown_penalty": 2.0,
        "word_bonus": 0.5,
        "hotwords": {(2, 3): 1.0},
    }


@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=8), st.integers(0, 2**16), st.integers(1, 12), st.booleans())
def test_however_it_is_cut(lengths: list[int], seed: int, beam_size: int, scored: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(sum(lengths), 4, generator=generator).log_softmax(1)
    keywords = extras() if scored else {}
    n_best = 1 + seed % beam_size
    search = BeamSearch(4, beam_size, n_best, **keywords)
    assert_same(in_pieces(search, scores, lengths), decode(scores, beam_size, n_best, **keywords))


@pytest.mark.parametrize("scored", [False, True], ids=["plain", "scored"])
def test_while_memory_is_collected_and_grows(scored: bool) -> None:
    """Frame by frame through what in one piece fills the tree of prefixes many times."""
    scores = (torch.randn(2500, 4) * 0.7).log_softmax(1)
    keywords = extras() if scored else {}
    search = BeamSearch(4, 40, 3, **keywords)
    assert_same(in_pieces(search, scores, [1] * 2500), decode(scores, 40, 3, **keywords))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_in_any_dtype_and_layout(dtype: torch.dtype) -> None:
    scores = model_like(30, 6, 1.0).to(dtype)
    wide = torch.full((6, 60), math.nan, dtype=dtype)
    wide[:, ::2] = scores.T
    assert_same(in_pieces(BeamSearch(6, 10, 10), wide[:, ::2].T, [11, 19]), decode(scores, 10, 10))


def test_states_are_never_changed() -> None:
    """Two ways on from one state, one of them twice, and back to the state itself."""
    scores, other = model_like(20, 5, 1.0), model_like(20, 5, 1.0)
    search = BeamSearch(5, 8, 8)
    middle = search.advance(search.start(), scores[:10])
    before = search.finish(middle)
    first = search.finish(search.advance(middle, scores[10:]))
    assert_same(search.finish(search.advance(middle, other)), decode(torch.cat([scores[:10], other]), 8, 8))
    assert_same(search.finish(search.advance(middle, scores[10:])), first)
    assert_same(search.finish(middle), before)
    assert_same(first, decode(scores, 8, 8))
    assert_same(before, decode(scores[:10], 8, 8))


def test_the_callers_buffer_may_be_used_again() -> None:
    scores = model_like(12, 5, 1.0)
    search = BeamSearch(5, 8)
    buffer = torch.empty(4, 5, dtype=torch.float64)
    state = search.start()
    for chunk in scores.split(4):
        buffer.copy_(chunk)
        state = search.advance(state, buffer)
    buffer.fill_(math.nan)
    assert_same(search.finish(state), decode(scores, 8))


def test_before_the_first_frame() -> None:
    search = BeamSearch(3)
    assert_same(search.finish(search.start()), decode(torch.zeros(0, 3)))


@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
def test_a_bad_frame_is_never_forgotten(value: float) -> None:
    scores = model_like(9, 4, 1.0)
    scores[4] = value
    found = in_pieces(BeamSearch(4, 5, 5), scores, [2, 2, 1, 1, 3])
    assert_same(found, decode(scores, 5, 5))
    assert not math.isfinite(found[0].score)


def test_without_exact_log_probs_no_scores_are_kept() -> None:
    scores = model_like(50, 6, 1.0)
    search = BeamSearch(6, 10, 4, exact_log_probs=False)
    state = search.start()
    for chunk in scores.split(7):
        state = search.advance(state, chunk)
        assert sum(kept.numel() for kept in state._chunks) == 0
    for found, whole in zip(search.finish(state), decode(scores, 10, 4, rescore=False), strict=True):
        assert math.isnan(found.log_prob)
        assert found.tokens.tolist() == whole.tokens.tolist()
        assert found.times.tolist() == whole.times.tolist()
        assert found.score == whole.score


def test_many_threads_share_a_search() -> None:
    search = BeamSearch(6, 20, 2)
    utterances = [model_like(60, 6, 1.0) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda scores: in_pieces(search, scores, [10] * 6), utterances))
    for scores, found in zip(utterances, together, strict=True):
        assert_same(found, decode(scores, 20, 2))


@pytest.mark.parametrize(
    ("chunk", "error", "message"),
    [
        (torch.zeros(4, 3), ValueError, r"log_probs must have shape \(T, 5\), got \(4, 3\)"),
        (torch.zeros(4, 1, 5), ValueError, r"log_probs must have shape \(T, 5\), got \(4, 1, 5\)"),
        (torch.zeros(4, 5).double(), ValueError, "must be torch.float32 as the frames before, got torch.float64"),
        ([[0.0] * 5], TypeError, "log_probs must be a tensor, got list"),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_what_is_wrong_with_a_chunk_is_said(chunk: Any, error: type[Exception], message: str, exact: bool) -> None:
    search = BeamSearch(5, exact_log_probs=exact)
    state = search.advance(search.start(), torch.zeros(2, 5))
    with pytest.raises(error, match=message):
        search.advance(state, chunk)


@pytest.mark.parametrize("other", [BeamSearch(9), BeamSearch(5, 7), BeamSearch(5, blank=4)])
def test_a_state_of_another_kind_of_search_is_refused(other: BeamSearch) -> None:
    """Its arrays have other sizes: reading on would go beyond the scores."""
    search, same = BeamSearch(5), BeamSearch(5)
    with pytest.raises(ValueError, match=r"state must be of a search with the same classes.*\(5, 0, 100, .*, got \("):
        search.advance(other.start(), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="state must be of a search with the same classes"):
        search.finish(other.start())
    assert search.finish(search.advance(same.start(), torch.zeros(3, 5)))


def test_what_is_wrong_with_a_search_is_said_before_it_starts() -> None:
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        BeamSearch(0)
    with pytest.raises(ValueError, match="blank must be from 0 to C - 1, where C = 5, got 5"):
        BeamSearch(5, blank=5)
    with pytest.raises(ValueError, match=r"n_best must be from 1 to 10 \(beam_size\), got 11"):
        BeamSearch(5, 10, 11)
    with pytest.raises(ValueError, match="lexicon must have tokens below C = 2, got 3"):
        BeamSearch(2, **extras() | {"hotwords": None})
    assert numbactc.BeamSearch(5).classes == 5
