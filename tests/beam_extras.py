"""What tests of search with extras share: models, and every text with what it gains, by brute force."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import settings

from beams import EVERYTHING, search, texts_of
from numbactc import Hypothesis, NgramLM

LAW = settings(derandomize=True, database=None, deadline=None, max_examples=25)

BLANK, SPACE, A, B = range(4)
LABELS = ["<blank>", " ", "a", "b"]

Score = tuple[float, float]
"""What a text gains: all in all but for the language model's part, and from the language model, unweighted."""


def scores_of(seed: int, T: int = 6, C: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(T, C, dtype=torch.float64, generator=generator) * 1.5).log_softmax(1)


def assert_complete(
    found: list[Hypothesis], scores: torch.Tensor, weight: float, gain: Callable[[Sequence[int]], Score]
) -> None:
    """Every text that may be, with its score; those of a gain of -inf may not."""
    truth = {}
    for text, (log_prob, _) in texts_of(scores, BLANK).items():
        total, nats = gain(text)
        if total > -math.inf:
            truth[text] = (log_prob, nats, log_prob + total + weight * nats)
    assert len(found) == len(truth)
    for hypothesis in found:
        log_prob, nats, score = truth[tuple(hypothesis.tokens.tolist())]
        assert hypothesis.log_prob == pytest.approx(log_prob, abs=1e-10)
        assert hypothesis.lm_score == pytest.approx(nats, abs=1e-10)
        assert hypothesis.score == pytest.approx(score, abs=1e-10)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def everything(scores: torch.Tensor, **keywords: Any) -> list[Hypothesis]:
    return search(scores, EVERYTHING, EVERYTHING, **keywords)


CHARACTERS = ["ab a", "a b ab", "abba ab", "b", "aa bab"]


def character_model(order: int = 3) -> NgramLM:
    return NgramLM.train(CHARACTERS, order, labels=LABELS, smoothing="witten-bell")


def word_model() -> NgramLM:
    return NgramLM.train(["a ab", "ab a a", "b ab", "ba", "a b a"], 2, smoothing="witten-bell")


def words_of(text: Sequence[int]) -> list[tuple[int, ...]]:
    """What stands between the spaces of a text."""
    words: list[list[int]] = [[]]
    for token in text:
        if token == SPACE:
            words.append([])
        else:
            words[-1].append(token)
    return [tuple(word) for word in words if word]


def spelled(word: Sequence[int]) -> str:
    return "".join(LABELS[token] for token in word)
