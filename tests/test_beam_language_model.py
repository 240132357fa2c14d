"""Beam search with language models of every order, drawn and read, against brute force: all texts in their order.

`test_beam_scoring.py` has lexicons and hotwords; here the model itself is in question.
"""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from arpa_files import arpa_of, drawn_ngrams
from beams import search, texts_of
from numbactc import Lexicon, NgramLM

EVERYTHING = 1500
"""A beam that holds every prefix of the small cases: (4**6 - 1) / 3 = 1365 at most."""

Text = tuple[int, ...]


def drawn_scores(frames: int, classes: int, peaky: float = 2.0) -> torch.Tensor:
    return (peaky * torch.randn(frames, classes, dtype=torch.float64)).log_softmax(-1)


def check(
    scores: torch.Tensor,
    blank: int,
    lm_score: Callable[[Text], float],
    weight: float,
    bonus: float = 0.0,
    **others: Any,
) -> None:
    """A beam with room for all finds every text, in order, with the exact numbers."""
    exact = {text: known.log_prob for text, known in texts_of(scores, blank).items()}
    totals = {text: log_prob + weight * lm_score(text) + bonus * len(text) for text, log_prob in exact.items()}
    found = search(scores, EVERYTHING, EVERYTHING, blank=blank, lm_weight=weight, token_bonus=bonus, **others)
    assert [each.score for each in found] == pytest.approx(sorted(totals.values(), reverse=True), abs=1e-9)
    for each in found:
        text = tuple(each.tokens.tolist())
        assert each.score == pytest.approx(totals[text], abs=1e-9)
        assert each.log_prob == pytest.approx(exact[text], abs=1e-9)
        assert each.lm_score == pytest.approx(lm_score(text), abs=1e-9)


def drawn_model(labels: Sequence[str], order: int, smoothing: str = "witten-bell") -> NgramLM:
    tokens = [label for label in labels if label]
    texts = [random.choices(tokens, range(1, len(tokens) + 1), k=random.randrange(1, 6)) for _ in range(8)]
    return NgramLM.train(texts, order, labels=labels, smoothing=smoothing)


@pytest.mark.parametrize(("weight", "bonus"), [(0.0, 0.7), (0.5, 0.0), (1.0, -0.7), (2.5, 1.5)])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_every_text_with_a_trained_model(order: int, weight: float, bonus: float) -> None:
    for frames, labels in [(5, ["", "a", "b"]), (4, ["a", "b", "", "c"]), (1, ["a", ""]), (5, ["a", "", "b", "c"])]:
        lm = drawn_model(labels, order)
        check(drawn_scores(frames, len(labels)), labels.index(""), lm.score, weight, bonus, language_model=lm)


@pytest.mark.parametrize("gaps", ["none", "suffixes", "any"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_text_with_a_model_from_a_file(tmp_path: Path, order: int, gaps: str) -> None:
    """Positive back-offs, missing histories, probabilities that sum to anything: what is written counts."""
    (tmp_path / "lm.arpa").write_text(arpa_of(drawn_ngrams(order, gaps)), encoding="utf-8")
    lm = NgramLM.read(tmp_path / "lm.arpa", labels=["", "a", "b", "ü"], cache=False)
    check(drawn_scores(5, 4), 0, lm.score, 0.8, 0.3, language_model=lm)


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
def test_classes_that_the_model_does_not_know(smoothing: str) -> None:
    """They count as <unk>, in their own place and in the history of the next."""
    lm = NgramLM.train([["a", "x", "a"], ["x", "a"]], 3, labels=["", "a"], smoothing=smoothing)
    lm = lm.with_labels(["", "a", "?"])
    check(drawn_scores(5, 3), 0, lm.score, 1.0, language_model=lm)


def test_no_frames() -> None:
    lm = drawn_model(["", "a"], 2)
    (only,) = search(torch.zeros(0, 2), 10, 10, language_model=lm, lm_weight=0.5)
    assert only.tokens.numel() == 0 and only.log_prob == 0
    assert only.lm_score == pytest.approx(lm.score("")) and only.score == pytest.approx(0.5 * lm.score(""))


def test_words_that_are_spelled_alike() -> None:
    """Each time the one that the model likes best, and its history goes on."""
    lexicon = Lexicon([("red", [1]), ("read", [1]), ("a", [2]), ("an", [2])])
    lm = NgramLM.train(["a read a red", "red a a", "an red an"], 3)

    def lm_score(text: Text) -> float:
        state, nats = lm.start_state, 0.0
        for token in text:
            steps = [lm.advance(state, word) for word in (["red", "read"], ["a", "an"])[token - 1]]
            more, state = max(steps, key=lambda step: step[0])
            nats += more
        return nats + lm.advance(state, "</s>")[0]

    for _ in range(3):
        check(drawn_scores(6, 3), 0, lm_score, 1.2, language_model=lm, lexicon=lexicon)


@pytest.mark.parametrize("beam_size", [1, 3, 10])
def test_a_small_beam_tells_the_truth_about_what_it_finds(beam_size: int) -> None:
    """Its own score is at most the exact one; log_prob and lm_score are exact whatever was lost."""
    lm = drawn_model(["", "a", "b", "c"], 3, "kneser-ney")
    for _ in range(10):
        scores = drawn_scores(6, 4, 1.0)
        exact = {text: known.log_prob for text, known in texts_of(scores, 0).items()}
        found = search(scores, beam_size, beam_size, language_model=lm, lm_weight=0.7, token_bonus=0.2)
        for each in found:
            text = tuple(each.tokens.tolist())
            assert each.log_prob == pytest.approx(exact[text], abs=1e-9)
            assert each.lm_score == pytest.approx(lm.score(text), abs=1e-9)
            assert each.score <= each.log_prob + 0.7 * each.lm_score + 0.2 * len(text) + 1e-9
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_a_model_settles_what_the_scores_leave_open() -> None:
    labels = ["", *"eht"]
    scores = torch.full((3, 4), 0.01, dtype=torch.float64)
    scores[0, 3], scores[1, 1], scores[1, 2], scores[2, 1], scores[2, 2] = 1.0, 0.6, 0.4, 0.4, 0.6
    lm = NgramLM.train(["the", "he", "the the"], 3, labels=labels)
    for weight, text in ((0.0, "teh"), (1.0, "the")):
        (best,) = search(scores.log(), language_model=lm, lm_weight=weight)
        assert "".join(labels[token] for token in best.tokens.tolist()) == text
        assert math.isclose(best.lm_score, lm.score(text))
