"""Beam search with a language model against brute force: every text, its exact probability, its score by the model."""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from test_beam_search import decode, texts_of

from numbactc import Hypothesis, Lexicon, NgramLM

EVERYTHING = 1500
"""A beam that holds every prefix of the small cases: (4**6 - 1) / 3 = 1365 at most."""

Text = tuple[int, ...]


class Extra(NamedTuple):
    """What a text has apart from its paths: all in all, and from the language model, unweighted."""

    total: float
    lm_score: float


def drawn_scores(frames: int, classes: int, peaky: float = 2.0) -> torch.Tensor:
    return (peaky * torch.randn(frames, classes, dtype=torch.float64)).log_softmax(-1)


def check(scores: torch.Tensor, blank: int, extra: Callable[[Text], Extra], **options: object) -> None:
    """A beam with room for all finds every text, in order, with the exact numbers."""
    exact = {text: known.log_prob for text, known in texts_of(scores, blank).items()}
    totals = {text: log_prob + extra(text).total for text, log_prob in exact.items()}
    expected = sorted((total for total in totals.values() if total > -math.inf), reverse=True)
    found = decode(scores, EVERYTHING, EVERYTHING, blank=blank, **options)
    assert [each.score for each in found if each.score > -math.inf] == pytest.approx(expected, abs=1e-9)
    for each in found[: len(expected)]:
        text = tuple(each.tokens.tolist())
        assert each.score == pytest.approx(totals[text], abs=1e-9)
        assert each.log_prob == pytest.approx(exact[text], abs=1e-9)
        assert each.lm_score == pytest.approx(extra(text).lm_score, abs=1e-9)


def drawn_model(labels: Sequence[str], order: int, smoothing: str = "witten-bell") -> NgramLM:
    tokens = [label for label in labels if label]
    texts = [random.choices(tokens, range(1, len(tokens) + 1), k=random.randrange(1, 6)) for _ in range(8)]
    return NgramLM.train(texts, order, labels=labels, smoothing=smoothing)


@pytest.mark.parametrize(("lm_weight", "token_bonus"), [(0.0, 0.7), (0.5, 0.0), (1.0, -0.7), (2.5, 1.5)])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_every_text_with_a_model_of_tokens(order: int, lm_weight: float, token_bonus: float) -> None:
    for frames, labels in [(5, ["", "a", "b"]), (4, ["a", "b", "", "c"]), (1, ["a", ""]), (5, ["a", "", "b", "c"])]:
        lm = drawn_model(labels, order)

        def extra(text: Text) -> Extra:
            lm_score = lm.score(text)  # noqa: B023
            return Extra(lm_weight * lm_score + token_bonus * len(text), lm_score)

        check(
            drawn_scores(frames, len(labels)), labels.index(""), extra,
            language_model=lm, lm_weight=lm_weight, token_bonus=token_bonus,
        )  # fmt: skip


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
def test_classes_that_the_model_does_not_know(smoothing: str) -> None:
    """They count as <unk>, in their own place and in the history of the next."""
    lm = NgramLM.train([["a", "x", "a"], ["x", "a"]], 3, labels=["", "a"], smoothing=smoothing)
    lm = lm.with_labels(["", "a", "?"])

    def extra(text: Text) -> Extra:
        return Extra(lm.score(text), lm.score(text))

    check(drawn_scores(5, 3), 0, extra, language_model=lm, lm_weight=1.0)


def test_no_frames() -> None:
    lm = drawn_model(["", "a"], 2)
    (only,) = decode(torch.zeros(0, 2), 10, 10, language_model=lm, lm_weight=0.5)
    assert only.tokens.numel() == 0 and only.log_prob == 0
    assert only.lm_score == pytest.approx(lm.score("")) and only.score == pytest.approx(0.5 * lm.score(""))


LETTERS = ["", " ", "a", "b"]
WORDS = ["a", "ab", "ba", "b"]


def words_of(text: Text, boundary: int) -> list[Text]:
    """What stands between boundaries; two in a row, one in front or behind make no word."""
    words: list[list[int]] = [[]]
    for token in text:
        words += [[]] if token == boundary else []
        if token != boundary:
            words[-1].append(token)
    return [tuple(word) for word in words if word]


def word_extra(
    lexicon: Lexicon, lm: NgramLM, weight: float, split: Callable[[Text], list[Text]], penalty: float = math.inf
) -> Callable[[Text], Extra]:
    """The rule for texts of words; of those that are spelled alike, each time the one that the model likes best."""
    spelled: dict[Text, list[str]] = {}
    for number, spelling in lexicon.spellings:
        spelled.setdefault(spelling, []).append(lexicon.words[number])

    def extra(text: Text) -> Extra:
        state, nats, paid = lm.start_state, 0.0, 0.0
        for word in split(text):
            if word not in spelled:
                paid += penalty * max(1.0, len(word) / 6)
            more, state = max(
                (lm.advance(state, name) for name in spelled.get(word, ["<unk>"])), key=lambda step: step[0]
            )
            nats += more
        nats += lm.advance(state, "</s>")[0]
        return Extra(-math.inf if paid == math.inf else weight * nats - paid, nats)

    return extra


@pytest.mark.parametrize(("lm_weight", "penalty"), [(0.0, None), (0.8, None), (0.8, 0.0), (2.0, 3.0)])
@pytest.mark.parametrize("order", [1, 3])
def test_every_text_with_a_model_of_words(order: int, lm_weight: float, penalty: float | None) -> None:
    lexicon = Lexicon.from_characters(WORDS, LETTERS)
    lm = NgramLM.train([random.choices(WORDS, k=random.randrange(1, 5)) for _ in range(8)] + [["b", "zzz"]], order)
    extra = word_extra(lexicon, lm, lm_weight, lambda text: words_of(text, 1), math.inf if penalty is None else penalty)
    for frames in (1, 3, 5):
        scores = drawn_scores(frames, len(LETTERS))
        check(scores, 0, extra, language_model=lm, lexicon=lexicon, lm_weight=lm_weight, unknown_penalty=penalty)


def test_words_that_are_spelled_alike() -> None:
    lexicon = Lexicon([("red", [2]), ("read", [2]), ("a", [3]), ("reed", [2, 2])], boundary=1)
    lm = NgramLM.train(["a read a red", "red a a", "a reed red"], 2)
    extra = word_extra(lexicon, lm, 1.2, lambda text: words_of(text, 1))
    check(drawn_scores(5, 4), 0, extra, language_model=lm, lexicon=lexicon, lm_weight=1.2)


def test_words_that_begin_with_a_token_of_their_own() -> None:
    """BPE: no boundary; classes 1 and 2 begin words, 3 goes on with one."""
    lexicon = Lexicon({"a": [1], "ax": [1, 3], "b": [2], "axx": [1, 3, 3]})
    lm = NgramLM.train(["a ax b", "b b a", "axx"], 2)

    def split(text: Text) -> list[Text]:
        words: list[list[int]] = []
        for token in text:
            if token != 3 or not words:
                words.append([])
            words[-1].append(token)
        return [tuple(word) for word in words]

    for _ in range(3):
        extra = word_extra(lexicon, lm, 0.9, split)
        check(drawn_scores(5, 4), 0, extra, language_model=lm, lexicon=lexicon, lm_weight=0.9)


def test_a_lexicon_alone() -> None:
    """Without a model only words of the lexicon come out, and nothing else changes."""
    lexicon = Lexicon.from_characters(["ab", "b"], LETTERS)
    spellings = {spelling for _, spelling in lexicon.spellings}

    def extra(text: Text) -> Extra:
        return Extra(0.0 if set(words_of(text, 1)) <= spellings else -math.inf, 0.0)

    check(drawn_scores(5, 4), 0, extra, lexicon=lexicon)


@pytest.mark.parametrize("beam_size", [1, 3, 10])
def test_a_small_beam_tells_the_truth_about_what_it_finds(beam_size: int) -> None:
    """Its own score is at most the exact one; log_prob and lm_score are exact whatever was lost."""
    labels = ["", "a", "b", "c"]
    lm = drawn_model(labels, 3, "kneser-ney")
    for _ in range(10):
        scores = drawn_scores(6, 4, 1.0)
        exact = {text: known.log_prob for text, known in texts_of(scores, 0).items()}
        found = decode(scores, beam_size, beam_size, language_model=lm, lm_weight=0.7, token_bonus=0.2)
        for each in found:
            text = tuple(each.tokens.tolist())
            assert each.log_prob == pytest.approx(exact[text], abs=1e-9)
            assert each.lm_score == pytest.approx(lm.score(text), abs=1e-9)
            assert each.score <= each.log_prob + 0.7 * each.lm_score + 0.2 * len(text) + 1e-9
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_a_model_changes_the_answer() -> None:
    """Scores that leave it open are settled by the model: "the" against "teh"."""
    labels = ["", *"eht"]
    scores = torch.full((3, 4), 0.01, dtype=torch.float64)
    scores[0, 3], scores[1, 1], scores[1, 2], scores[2, 1], scores[2, 2] = 1.0, 0.6, 0.4, 0.4, 0.6
    lm = NgramLM.train(["the", "he", "the the"], 3, labels=labels)

    def text_of(best: Hypothesis) -> str:
        return "".join(labels[token] for token in best.tokens.tolist())

    assert text_of(decode(scores.log())[0]) == "teh"
    assert text_of(decode(scores.log(), language_model=lm, lm_weight=1.0)[0]) == "the"
