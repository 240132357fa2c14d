"""From a language model, a lexicon and hotwords to the arrays that beam search scores with."""

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from numbactc._hotwords import Hotwords
from numbactc.kernels.automata import Automaton, Trie

if TYPE_CHECKING:
    from numbactc.kernels.packed import Packed


MOST_GAINED = 500.0
"""Nats by which a token may raise the score: the search multiplies probabilities, and float64 ends at e^709."""


class Model(NamedTuple):
    """A language model."""

    automaton: Automaton
    size: int
    """Words in its vocabulary."""
    begin_state: int
    end: int
    unknown: int
    highest: np.ndarray
    """(V,) what `highest` says."""
    token_words: np.ndarray | None
    """(C,) int32, for a model of tokens."""


class Words(NamedTuple):
    """A lexicon."""

    trie: Trie
    numbers: np.ndarray
    """int32, of its words in the language model, if that is one of words."""
    boundary: int | None
    first_tokens: np.ndarray
    """int64, those that begin a word, where there is no boundary."""
    penalty: float


class Extras(NamedTuple):
    """What is to be scored, apart from paths."""

    classes: int
    lm_weight: float = 0.0
    token_bonus: float = 0.0
    word_bonus: float = 0.0
    model: Model | None = None
    words: Words | None = None
    hotwords: Hotwords | None = None
    hot_boundary: int = -1


def highest(automaton: Automaton, size: int) -> np.ndarray:
    """(V,) float64, nats: no word has more than this after any history.

    A word has the log-probability of one of its arcs, plus what backing off to it adds: less than nothing as a rule.
    """
    most = np.zeros(automaton.backoffs.size)
    for _ in range(automaton.backoffs.size):
        more = np.maximum(0.0, automaton.backoffs + most[automaton.backoff_states])
        more[0] = 0.0
        if np.array_equal(more, most):
            break
        most = more
    words = np.arange(automaton.log_probs.size)
    slots = np.flatnonzero(automaton.keys >= 0)
    words[automaton.arcs[slots]] = automaton.keys[slots] % size
    values: np.ndarray = np.full(size, -np.inf)
    np.maximum.at(values, words, automaton.log_probs)
    values += most.max()
    return values


def scorer(extras: Extras) -> "Packed":
    """A packed `Scorer`."""
    from numbactc.kernels.cpu import scoring
    from numbactc.kernels.packed import Packed

    classes, model, words, hotwords = extras.classes, extras.model, extras.words, extras.hotwords
    hot = None if hotwords is None else _automaton(hotwords)
    ceilings = _ceilings(extras, hot)
    if ceilings.max(initial=0.0) > MOST_GAINED:
        raise ValueError(
            "bonuses, and what a language_model may add by backing off, must raise the score by at most "
            f"{MOST_GAINED:g} nats a token, got {ceilings.max():g}"
        )
    of_tokens = model is not None and model.token_words is not None
    given = scoring.Scorer(
        active=_active(extras),
        token_bonus=extras.token_bonus,
        word_bonus=extras.word_bonus,
        ceilings=ceilings,
        unit=scoring.NO_MODEL if model is None else scoring.OF_TOKENS if of_tokens else scoring.OF_WORDS,
        weight=extras.lm_weight,
        model=_no_automaton() if model is None else Packed(model.automaton),
        words=0 if model is None else model.size,
        begin_state=0 if model is None else model.begin_state,
        end=0 if model is None else model.end,
        unknown=0 if model is None else model.unknown,
        token_words=np.zeros(1, np.int32) if model is None or model.token_words is None else model.token_words,
        has_lexicon=words is not None,
        lexicon=_no_trie() if words is None else Packed(words.trie),
        lexicon_words=np.zeros(1, np.int32) if words is None else words.numbers,
        kinds=_kinds(words, classes),
        penalty=math.inf if words is None else words.penalty,
        has_hotwords=hotwords is not None,
        hotwords=_no_automaton() if hot is None else Packed(hot),
        stakes=np.zeros(1) if hotwords is None else hotwords.stakes,
        hot_state=0 if hotwords is None else hotwords.start,
        hot_boundary=extras.hot_boundary,
    )
    return Packed(given)


def _active(extras: Extras) -> bool:
    return bool(extras.model or extras.words or extras.hotwords or extras.token_bonus)


def _ceilings(extras: Extras, hot: Automaton | None) -> np.ndarray:
    """(C,) nats, the most that a token gains by itself and by the word that it ends; (0,) if nothing is scored."""
    if not _active(extras):
        return np.zeros(0)
    most = np.full(extras.classes, extras.token_bonus)
    model, words = extras.model, extras.words
    if model is not None and model.token_words is not None and extras.lm_weight > 0:
        most += extras.lm_weight * model.highest[model.token_words]
    if words is not None:
        by_word = extras.word_bonus
        if model is not None and model.token_words is None and extras.lm_weight > 0:
            by_word += extras.lm_weight * max(model.highest[words.numbers].max(), model.highest[model.unknown])
        most[_kinds(words, extras.classes) != 0] += max(0.0, by_word)
    if hot is not None:
        most += highest(hot, extras.classes)
    return most


def _kinds(words: Words | None, classes: int) -> np.ndarray:
    from numbactc.kernels.cpu import scoring

    kinds = np.full(classes, scoring.INSIDE, np.int8)
    if words is not None and words.boundary is not None:
        kinds[words.boundary] = scoring.BOUNDARY
    elif words is not None:
        kinds[words.first_tokens] = scoring.BEGINS
    return kinds


def _automaton(hotwords: Hotwords) -> Automaton:
    """The automaton in the form of a language model's, whose words are the classes."""
    from numbactc.kernels.cpu import hashing, scoring

    keys = np.full(hashing.capacity(hotwords.arcs.size), hashing.EMPTY, np.int64)
    arcs = np.zeros(keys.size, np.int32)
    scoring.tabulate(keys, arcs, hotwords.arcs)
    return Automaton(keys, arcs, hotwords.gains, hotwords.next_states, hotwords.losses, hotwords.shorter)


@cache
def _no_automaton() -> "Packed":
    from numbactc.kernels.packed import Packed

    integers, numbers = np.zeros(1, np.int32), np.zeros(1)
    return Packed(Automaton(np.zeros(1, np.int64), integers, numbers, integers, numbers, integers))


@cache
def _no_trie() -> "Packed":
    from numbactc.kernels.packed import Packed

    integers = np.zeros(1, np.int32)
    return Packed(Trie(np.zeros(1, np.int64), integers, integers, integers))
