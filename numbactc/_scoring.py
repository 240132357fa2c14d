"""What a decoder is to score apart from paths: every check of it, and the numbers that a search takes."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numbactc import _hotwords
from numbactc._dispatch_scoring import Extras, Model, Words
from numbactc._validation import check_integer, check_number
from numbactc.language_model import NgramLM
from numbactc.lexicon import Lexicon


def check_extras(
    classes: int,
    blank: int,
    language_model: Any,
    lm_weight: Any,
    token_bonus: Any,
    word_bonus: Any,
    lexicon: Any,
    unknown_penalty: Any,
    hotwords: Any,
    boundary: Any,
) -> Extras:
    """The arguments of `beam_search_decode` of these names, for scores of C classes."""
    lm_weight = check_number("lm_weight", lm_weight, "at least 0")
    boundary = _check_boundary(boundary, lexicon, classes, blank)
    words = _words(lexicon, language_model, unknown_penalty, classes, blank)
    word_bonus = check_number("word_bonus", word_bonus)
    if word_bonus and words is None:
        raise ValueError(f"word_bonus must be 0 without a lexicon, got {word_bonus}")
    hot = _check_hotwords(hotwords, classes, blank, boundary)
    return Extras(
        classes,
        lm_weight,
        check_number("token_bonus", token_bonus),
        word_bonus,
        _model(language_model, classes, words),
        words,
        _hotwords.build(hot, classes, boundary) if hot else None,
        -1 if boundary is None else boundary,
    )


def _model(language_model: Any, classes: int, words: Words | None) -> Model | None:
    if language_model is None:
        return None
    if not isinstance(language_model, NgramLM):
        raise TypeError(f"language_model must be an NgramLM, got {type(language_model).__name__}")
    token_words = language_model.token_words
    if token_words is not None and token_words.size != classes:
        raise ValueError(f"language_model must have a label for each of C = {classes} classes, got {token_words.size}")
    if token_words is None and words is None:
        raise ValueError("lexicon must say how words are spelled for a language_model of words, got None")
    return Model(
        language_model.automaton,
        len(language_model.vocabulary),
        language_model.start_state,
        language_model.end,
        language_model.unknown,
        language_model.highest,
        token_words,
    )


def _words(lexicon: Any, language_model: Any, unknown_penalty: Any, classes: int, blank: int) -> Words | None:
    if lexicon is None:
        if unknown_penalty is not None:
            raise ValueError(f"unknown_penalty must be None without a lexicon, got {unknown_penalty!r}")
        return None
    if not isinstance(lexicon, Lexicon):
        raise TypeError(f"lexicon must be a Lexicon, got {type(lexicon).__name__}")
    if lexicon.tokens[-1] >= classes:
        raise ValueError(f"lexicon must have tokens below C = {classes}, got {lexicon.tokens[-1]}")
    if blank in lexicon.tokens:
        raise ValueError(f"lexicon must not have the blank, {blank}, among its tokens")
    of_words = isinstance(language_model, NgramLM) and language_model.unit == "word"
    return Words(
        lexicon.trie,
        (language_model.numbers(lexicon.words) if of_words else np.zeros(len(lexicon))).astype(np.int32),
        lexicon.boundary,
        np.zeros(0, np.int64) if lexicon.boundary is not None else _first_tokens(lexicon),
        math.inf if unknown_penalty is None else check_number("unknown_penalty", unknown_penalty, "at least 0"),
    )


def _first_tokens(lexicon: Lexicon) -> np.ndarray:
    """The tokens that begin a word; none may be inside of one, or it would not be clear where a word ends."""
    first = {tokens[0] for _, tokens in lexicon.spellings}
    for word, tokens in lexicon.spellings:
        inside = first.intersection(tokens[1:])
        if inside:
            raise ValueError(
                "lexicon must have a boundary, or tokens that begin words and are nowhere else in one, "
                f"got {min(inside)} inside of {lexicon.words[word]!r}"
            )
    return np.array(sorted(first), np.int64)


def _check_boundary(boundary: object, lexicon: Any, classes: int, blank: int) -> int | None:
    of_lexicon = lexicon.boundary if isinstance(lexicon, Lexicon) else None
    if boundary is None:
        return of_lexicon
    boundary = check_integer("boundary", boundary, " or None")
    if not 0 <= boundary < classes or boundary == blank:
        raise ValueError(
            f"boundary must be from 0 to C - 1, where C = {classes}, and not the blank, {blank}, got {boundary}"
        )
    if isinstance(lexicon, Lexicon) and boundary != of_lexicon:
        raise ValueError(f"boundary must be that of the lexicon, {of_lexicon}, got {boundary}")
    return boundary


def _check_hotwords(
    hotwords: Any, classes: int, blank: int, boundary: int | None
) -> dict[tuple[int, ...], float]:
    """Each hotword's tokens, and its bonus in nats."""
    if hotwords is None:
        return {}
    if not isinstance(hotwords, Mapping):
        raise TypeError(f"hotwords must be a mapping of tokens to nats, got {type(hotwords).__name__}")
    checked = {}
    for word, bonus in hotwords.items():
        tokens = _check_tokens(word)
        wrong = [token for token in tokens if not 0 <= token < classes or token == blank]
        if wrong:
            raise ValueError(
                f"hotwords must have tokens from 0 to C - 1, where C = {classes}, and not the blank, {blank}, "
                f"got {wrong[0]} in {tokens}"
            )
        if boundary is not None and boundary in (tokens[0], tokens[-1]):
            raise ValueError(f"hotwords must not begin or end with the boundary, {boundary}, got {tokens}")
        checked[tokens] = check_number("hotwords' bonuses", bonus)
    return checked


def _check_tokens(word: Any) -> tuple[int, ...]:
    if not isinstance(word, Sequence) or isinstance(word, str):
        raise TypeError(f"hotwords must be sequences of tokens, got {word!r}")
    try:
        tokens = tuple(map(operator.index, word))
    except TypeError:
        raise TypeError(f"hotwords must be sequences of integers, got {word!r}") from None
    if not tokens:
        raise ValueError("hotwords must have at least one token, got none")
    return tokens
