"""Where tokens and words lie in an utterance: what `numbactc.forced_align` returns, and how tokens become words."""

import math
import operator
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple


class TokenSpan(NamedTuple):
    """One token of a target in its place.

    Attributes:
        token: the label, or the wildcard.
        start, end: frames: the token's are start to end - 1. At least one; no two tokens share a frame.
        confidence: geometric mean of the token's probability over its frames, the exponential of its mean score: from
            0 to 1 for normalised scores, whatever the number of frames.
        start_time, end_time: seconds, start and end times the frame duration; None where none was given.
    """

    token: int
    start: int
    end: int
    confidence: float
    start_time: float | None = None
    end_time: float | None = None


class WordSpan(NamedTuple):
    """Some tokens in a row that make up a word.

    Attributes:
        spans: of its tokens, at least one.
        start, end: frames: from the first token's first to the one behind the last token's last.
        confidence: geometric mean of the tokens' probabilities over their own frames; blanks between do not count.
        start_time, end_time: seconds, likewise; None where the tokens have none.
    """

    spans: tuple[TokenSpan, ...]
    start: int
    end: int
    confidence: float
    start_time: float | None = None
    end_time: float | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """The word as labels."""
        return tuple(span.token for span in self.spans)


def group_words(
    spans: Iterable[TokenSpan],
    *,
    separator: int | None = None,
    first_tokens: Collection[int] | None = None,
    lengths: Sequence[int] | None = None,
) -> list[WordSpan]:
    """Words of an aligned utterance, by exactly one of three rules.

    Args:
        spans: of an `Alignment`, in their order.
        separator: a token that stands between words and belongs to none, such as a space or wav2vec 2.0's "|". Two in a
            row make no empty word.
        first_tokens: tokens that begin a word, such as all pieces of a SentencePiece model that begin with "▁"; a set
            is searched fastest. What comes before the first of them is a word, too.
        lengths: how many tokens each word has, at least 1 each, in total as many as there are spans.

    Returns:
        The words in their order; none for no spans.

    Raises:
        TypeError: none or more than one of the three rules.
        ValueError: lengths that are not positive, or do not add up.

    Example:
        >>> from numbactc import TokenSpan, group_words
        >>> spans = [TokenSpan(7, 0, 2, 0.9), TokenSpan(1, 2, 3, 0.8), TokenSpan(5, 4, 6, 0.9), TokenSpan(3, 8, 9, 1.0)]
        >>> [(word.tokens, word.start, word.end) for word in group_words(spans, separator=1)]
        [((7,), 0, 2), ((5, 3), 4, 9)]
        >>> [word.tokens for word in group_words(spans, lengths=[3, 1])]
        [(7, 1, 5), (3,)]
    """
    spans = tuple(spans)
    if (separator is not None) + (first_tokens is not None) + (lengths is not None) != 1:
        raise TypeError("group_words takes exactly one of separator, first_tokens and lengths")
    if lengths is not None:
        edges = _edges_of_lengths(lengths, len(spans))
    elif first_tokens is not None:
        edges = [i for i, span in enumerate(spans) if i == 0 or span.token in first_tokens] + [len(spans)]
    else:
        separators = [i for i, span in enumerate(spans) if span.token == separator]
        words = [spans[i + 1 : j] for i, j in pairwise([-1, *separators, len(spans)])]
        return [_word(word) for word in words if word]
    return [_word(spans[i:j]) for i, j in pairwise(edges)]


def _edges_of_lengths(lengths: Sequence[int], count: int) -> list[int]:
    edges = [0]
    for n, length in enumerate(lengths):
        length = _integer(length)
        if length < 1:
            raise ValueError(f"lengths must be at least 1, got {length} for word {n}")
        edges.append(edges[-1] + length)
    if edges[-1] != count:
        raise ValueError(f"lengths must add up to the number of spans, {count}, got {edges[-1]}")
    return edges


def _integer(length: Any) -> int:
    try:
        return operator.index(length)
    except TypeError:
        raise TypeError(f"lengths must hold integers, got {length!r}") from None


def _word(spans: tuple[TokenSpan, ...]) -> WordSpan:
    first, last = spans[0], spans[-1]
    frames = sum(span.end - span.start for span in spans)
    log_mean = sum((span.end - span.start) * _log(span.confidence) for span in spans) / frames
    return WordSpan(spans, first.start, last.end, math.exp(log_mean), first.start_time, last.end_time)


def _log(confidence: float) -> float:
    return math.log(confidence) if confidence > 0 else -math.inf
