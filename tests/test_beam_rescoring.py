"""Texts of the last beam, ranked by their exact log-probabilities: see `rescore` of beam_search_decode."""

import itertools
import math

import pytest
import torch

import numbactc
from beam_extras import character_model, scores_of
from beams import EVERYTHING, assert_same, decode, model_like, tokens_of

NARROW = 6


@pytest.mark.parametrize("sharpness", [0.3, 1.0])
def test_without_extras_a_score_is_the_exact_log_probability(sharpness: float) -> None:
    scores = model_like(80, 8, sharpness)
    found = decode(scores, NARROW, NARROW, rescore=False)
    rescored = decode(scores, NARROW, NARROW)
    assert sorted(tokens_of(rescored)) == sorted(tokens_of(found))
    for hypothesis in rescored:
        assert hypothesis.score == pytest.approx(hypothesis.log_prob, abs=1e-9)
    assert all(a.score >= b.score for a, b in itertools.pairwise(rescored))
    assert rescored[0].log_prob == max(hypothesis.log_prob for hypothesis in found)
    assert_same(decode(scores, NARROW, 2), rescored[:2])


def test_it_finds_a_better_first_hypothesis_than_the_beam_had() -> None:
    gains = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randn(80, 8, dtype=torch.float64, generator=generator).log_softmax(1)
        (plain,), (rescored,) = decode(scores, NARROW, rescore=False), decode(scores, NARROW)
        gains.append(rescored.log_prob - plain.log_prob)
    assert min(gains) >= 0
    assert max(gains) > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_what_extras_add_stays_as_it_is(seed: int) -> None:
    """A text that a narrow beam holds has the score that it has in a beam that holds everything."""
    scores = scores_of(seed)
    extras = {
        "language_model": character_model(), "lm_weight": 0.7, "token_bonus": 0.4, "hotwords": {(1, 2): 1.5, (3,): 0.5}
    }  # fmt: skip
    truth = {tuple(h.tokens.tolist()): h for h in decode(scores, EVERYTHING, EVERYTHING, **extras)}
    rescored = decode(scores, NARROW, NARROW, **extras)
    for hypothesis in rescored:
        exact = truth[tuple(hypothesis.tokens.tolist())]
        assert hypothesis.score == pytest.approx(exact.score, abs=1e-9)
        assert hypothesis.lm_score == pytest.approx(exact.lm_score, abs=1e-9)
    assert all(a.score >= b.score for a, b in itertools.pairwise(rescored))


def test_in_pieces() -> None:
    scores = model_like(60, 8, 0.5)
    search = numbactc.BeamSearch(8, NARROW, 3)
    state = search.start()
    for chunk in scores.split(7):
        state = search.advance(state, chunk)
    assert_same(search.finish(state), decode(scores, NARROW, 3))
    with pytest.raises(ValueError, match=r"rescore must be False without exact_log_probs, got True"):
        numbactc.BeamSearch(8, exact_log_probs=False, rescore=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bad_frame_hurts_no_neighbour(value: float) -> None:
    scores = torch.stack([model_like(20, 5, 1.0), model_like(20, 5, 0.5)], 1)
    expected = numbactc.beam_search_decode(scores, None, NARROW, 2)[1]
    scores[3, 0] = value
    (spoilt,), others = numbactc.beam_search_decode(scores, None, NARROW, 2)
    assert spoilt.tokens.tolist() == []
    assert spoilt.score == -math.inf if value == -math.inf else math.isnan(spoilt.score)
    assert_same(others, expected)
