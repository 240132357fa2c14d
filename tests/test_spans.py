"""Tokens become words by a separator, by the tokens that begin words, or by how many each has."""

import math
from typing import Any

import pytest

from numbactc import TokenSpan, WordSpan, group_words

BAR = 4
SPANS = [
    TokenSpan(7, 0, 2, 0.9, 0.0, 0.04),
    TokenSpan(BAR, 2, 3, 0.8, 0.04, 0.06),
    TokenSpan(5, 4, 6, 0.5, 0.08, 0.12),
    TokenSpan(3, 8, 9, 1.0, 0.16, 0.18),
]


def tokens(words: list[WordSpan]) -> list[tuple[int, ...]]:
    return [word.tokens for word in words]


def test_a_word_reaches_from_its_first_token_to_its_last() -> None:
    first, second = group_words(SPANS, separator=BAR)
    assert (first.start, first.end, first.start_time, first.end_time) == (0, 2, 0.0, 0.04)
    assert (second.start, second.end, second.start_time, second.end_time) == (4, 9, 0.08, 0.18)
    assert second.spans == tuple(SPANS[2:])


def test_confidence_is_the_mean_over_frames_not_over_tokens() -> None:
    """0.5 for two frames and 1.0 for one."""
    assert group_words(SPANS, separator=BAR)[1].confidence == pytest.approx(0.25 ** (1 / 3))
    impossible = [TokenSpan(1, 0, 1, 0.0), TokenSpan(2, 1, 2, 1.0)]
    assert group_words(impossible, lengths=[2])[0].confidence == 0.0


def test_separators_make_no_empty_words() -> None:
    bar = TokenSpan(BAR, 0, 1, 1.0)
    assert tokens(group_words([bar, bar, *SPANS, bar], separator=BAR)) == [(7,), (5, 3)]
    assert group_words([bar], separator=BAR) == []
    assert tokens(group_words(SPANS, separator=99)) == [(7, BAR, 5, 3)]


def test_first_tokens_begin_words() -> None:
    assert tokens(group_words(SPANS, first_tokens={7, 5})) == [(7, BAR), (5, 3)]
    assert tokens(group_words(SPANS, first_tokens=[5])) == [(7, BAR), (5, 3)], "what comes before is a word, too"
    assert tokens(group_words(SPANS, first_tokens=())) == [(7, BAR, 5, 3)]


def test_lengths_count_tokens() -> None:
    assert tokens(group_words(SPANS, lengths=[1, 3])) == [(7,), (BAR, 5, 3)]


@pytest.mark.parametrize("rule", [{"separator": 1}, {"first_tokens": {1}}, {"lengths": []}], ids=str)
def test_no_spans_are_no_words(rule: dict[str, Any]) -> None:
    assert group_words([], **rule) == []


def test_spans_without_times_make_words_without() -> None:
    [word] = group_words([TokenSpan(1, 0, 2, 0.5)], lengths=[1])
    assert word.start_time is None and word.end_time is None and math.isclose(word.confidence, 0.5)


@pytest.mark.parametrize(
    "rule, error, message",
    [
        ({}, TypeError, "exactly one of separator, first_tokens and lengths"),
        ({"separator": 1, "lengths": [4]}, TypeError, "exactly one of"),
        ({"lengths": [1, 2]}, ValueError, "lengths must add up to the number of spans, 4, got 3"),
        ({"lengths": [4, 0]}, ValueError, "lengths must be at least 1, got 0 for word 1"),
        ({"lengths": [2.0, 2]}, TypeError, "lengths must hold integers, got 2.0"),
    ],
)
def test_errors(rule: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        group_words(SPANS, **rule)
